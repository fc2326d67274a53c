package auth

import (
	"testing"

	"postern/auth/token"
)

// TestPlan: a login that stays keeps its token over a change of accounts, another provider's is not gone on with, and a
// plan that is wrong changes nothing.
func TestPlan(t *testing.T) {
	s := newServer()
	c := newCabinet(t, s, true)
	c.want("erp", token.Graph, "access-1")
	was := c.set.Load()
	first := was.accounts[0]
	same := map[string]Provider{first.Provider: s}
	second := first
	second.Name = "second"
	var ofOne []Account
	for _, a := range was.accounts {
		if a.Provider == first.Provider && !a.AppOnly {
			ofOne = append(ofOne, a)
		}
	}
	ofOne = append(ofOne, second)

	if _, err := c.Prepare(Options{Accounts: ofOne}); err == nil || c.set.Load() != was {
		t.Errorf("Prepare without the provider = %v; want an error, and nothing changed", err)
	}
	p, err := c.Prepare(Options{Providers: same, Accounts: ofOne})
	if err != nil {
		t.Fatal(err)
	}
	if c.set.Load() != was {
		t.Error("a plan is in force before Commit")
	}
	p.Commit()
	c.want("second", token.Graph, "access-1")
	if n := s.asked(); n != 1 {
		t.Errorf("%d requests; want the token that was there", n)
	}
	if got := c.logins()["second"].is().accounts; len(got) != len(ofOne) {
		t.Errorf("the login is of %q; want all %d accounts", got, len(ofOne))
	}

	other := newServer()
	other.good = map[string]bool{"refresh-1": true}
	p, err = c.Prepare(Options{Providers: map[string]Provider{first.Provider: other}, Accounts: ofOne})
	if err != nil {
		t.Fatal(err)
	}
	p.Commit()
	c.want("second", token.Graph, "access-1") // the other server's first
	if n := other.asked(); n != 1 {
		t.Errorf("the other provider was asked %d times; want 1: its own token is needed", n)
	}

	if p, err = c.Prepare(Options{Providers: map[string]Provider{first.Provider: other}, Accounts: ofOne[:1]}); err != nil {
		t.Fatal(err)
	}
	p.Commit()
	if _, err := c.Source("second").Token(t.Context(), token.Graph); err == nil {
		t.Error("an account that was removed still gets tokens")
	}
}

func (c *cabinet) logins() map[string]*login { return c.set.Load().logins }
