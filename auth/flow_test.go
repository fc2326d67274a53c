package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"postern/auth/token"
	"postern/auth/vault"
)

// signer is a server that people can sign in to.
type signer struct {
	*server
	person   token.Person
	lost     error // of Identify
	pending  bool
	wants    []token.Wants
	redeemed []token.Proof
}

func (s *signer) Offer(w token.Wants) (token.Offer, error) {
	s.wants = append(s.wants, w)
	return token.Offer{Authorize: "https://login.test"}, nil
}

func (s *signer) DeviceCode(_ context.Context, w token.Wants) (token.DeviceCode, error) {
	s.wants = append(s.wants, w)
	return token.DeviceCode{Device: "device", Resources: w.Resources}, nil
}

func (s *signer) Redeem(_ context.Context, p token.Proof) (token.Grant, error) {
	s.redeemed = append(s.redeemed, p)
	if s.pending {
		return token.Grant{}, &token.Error{Code: "authorization_pending", Text: "not yet"}
	}
	return token.Grant{Refresh: "refresh-9"}, nil
}

func (s *signer) Identify(ctx context.Context, refresh token.Secret) (token.Person, token.Grant, error) {
	g, err := s.Refresh(ctx, refresh, "directory")
	if err == nil {
		err = s.lost
	}
	return s.person, g, err
}

// signerCabinet has the accounts "erp" (Graph, drafts), "scan" (SMTP) of one login, and "app", which is app-only.
func signerCabinet(t *testing.T, s *signer) (*Accounts, *vault.Vault) {
	t.Helper()
	v, err := vault.Open(t.TempDir(), vault.Options{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{
		Providers: map[string]Provider{"contoso": s},
		Accounts: []Account{
			{Name: "erp", Provider: "contoso", Login: "svc@contoso.test", Resources: both[:1], Drafts: true},
			{Name: "scan", Provider: "contoso", Login: "SVC@contoso.test", Resources: both[1:]},
			{Name: "app", Provider: "contoso", AppOnly: true, Resources: both},
		},
		Vault: v,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, v
}

func newSigner() *signer {
	s := &signer{server: newServer(), person: token.Person{Name: "svc@contoso.test", Addresses: []string{"svc@contoso.test"}}}
	s.good["refresh-9"] = true
	return s
}

func TestASignInIsForAllAccountsOfTheLogin(t *testing.T) {
	s := newSigner()
	a, _ := signerCabinet(t, s)
	_, shares, err := a.Offer("scan")
	if err != nil || !slices.Equal(shares, []string{"scan", "erp"}) {
		t.Errorf("Offer is for %v, %v; want the asking account first", shares, err)
	}
	if w := s.wants[0]; !slices.Equal(w.Resources, []token.Resource{token.SMTP, token.Graph}) || !w.Drafts || w.Login != "SVC@contoso.test" {
		t.Errorf("asked for %+v; want what both need, the asking account's first", w)
	}
	if _, err := a.DeviceCode(context.Background(), "erp", token.SMTP); err != nil || !slices.Equal(s.wants[1].Resources, both[1:]) {
		t.Errorf("a second round asked for %+v, %v", s.wants[1], err)
	}
	for _, account := range []string{"app", "nobody"} {
		_, _, err := a.Offer(account)
		var e *token.Error
		if !errors.As(err, &e) || !e.Person {
			t.Errorf("Offer(%s) = %v", account, err)
		}
	}
	c := newCabinet(t, newServer(), false)
	if _, _, err := c.Offer("erp"); err == nil || !strings.Contains(err.Error(), "--refresh-token -") {
		t.Errorf("a provider without a sign-in of its own: %v", err)
	}
}

func TestRedeem(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*signer)
		kept   string // user in the vault; "" for nothing
		err    string
	}{
		{"the login", nil, "svc@contoso.test", ""},
		{"the login by another of its addresses", func(s *signer) {
			s.person = token.Person{Name: "upn@contoso.test", Addresses: []string{"upn@contoso.test", "Svc@Contoso.test"}}
		}, "upn@contoso.test", ""},
		{"another person", func(s *signer) {
			s.person = token.Person{Name: "admin@contoso.test", Addresses: []string{"admin@contoso.test"}}
		}, "", "admin@contoso.test signed in, but the login of account erp is svc@contoso.test; nothing was stored"},
		{"nobody to ask, and the id token names the login", func(s *signer) { s.lost, s.user = errors.New("503"), "SVC@contoso.test" }, "SVC@contoso.test", ""},
		{"nobody to ask, and the id token names another", func(s *signer) { s.lost, s.user = errors.New("503"), "admin@contoso.test" }, "",
			"admin@contoso.test signed in, but"},
		{"a server that revokes used tokens, and /me is down", func(s *signer) {
			s.rotation, s.lost, s.user = rotateAndRevoke, errors.New("503"), "svc@contoso.test"
		}, "svc@contoso.test", ""},
		{"nobody has approved yet", func(s *signer) { s.pending = true }, "", "not yet"},
		{"no consent for mail", func(s *signer) { s.lacks[token.Graph] = true }, "", "nobody has consented"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigner()
				if tc.change != nil {
					tc.change(s)
				}
				a, v := signerCabinet(t, s)
				result, err := a.Redeem(t.Context(), "erp", token.Proof{Code: "code", Verifier: "verifier", RedirectURI: "http://localhost:1"})
				if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
					t.Errorf("Redeem = %v; want %q", err, tc.err)
				}
				in, _, err := readSignIn(v, "token/contoso/svc@contoso.test")
				if (err == nil) != (tc.kept != "") || in.User != tc.kept || tc.err == "" && result.User != tc.kept {
					t.Errorf("kept %+v, %v, and said %q; want %q", in.User, err, result.User, tc.kept)
				}
				if err == nil {
					if _, err := a.Source("scan").Token(t.Context(), token.SMTP); err != nil {
						t.Errorf("the other account's token: %v", err)
					}
				}
			})
		})
	}
	a, _ := signerCabinet(t, newSigner())
	if _, err := a.Redeem(t.Context(), "erp", token.Proof{}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("Redeem of nothing = %v", err)
	}
}

func TestSignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := newSigner()
		a, v := signerCabinet(t, s)
		if _, err := a.SignOut(ctx, "erp"); err == nil || !strings.Contains(err.Error(), "nobody is signed in") {
			t.Errorf("SignOut before a sign-in = %v", err)
		}
		if _, err := a.SignIn(ctx, "erp", "refresh-9"); err != nil {
			t.Fatal(err)
		}
		names, err := a.SignOut(ctx, "scan")
		if err != nil || !slices.Equal(names, []string{"scan", "erp"}) {
			t.Errorf("SignOut = %v, %v", names, err)
		}
		if list := v.List(); len(list) != 0 {
			t.Errorf("the vault still has %v", list)
		}
		asked := s.asked()
		_, err = a.Source("erp").Token(ctx, token.Graph)
		var e *token.Error
		if !errors.As(err, &e) || e.Error() != "needs sign-in; run: postern signin erp" || s.asked() != asked {
			t.Errorf("Token after the sign-out = %v; want no cached one, and nobody asked", err)
		}
		if _, err := a.SignIn(ctx, "erp", "refresh-9"); err != nil {
			t.Errorf("SignIn after the sign-out: %v", err)
		}
		if _, err := a.Source("erp").Token(ctx, token.Graph); err != nil {
			t.Errorf("Token after signing in again: %v", err)
		}
		if _, err := a.SignOut(ctx, "app"); err == nil {
			t.Error("SignOut of an app-only account")
		}
	})
	t.Run("a sign-in that is in memory only, and a disk that is full", func(t *testing.T) {
		s := newServer()
		s.good["refresh-9"] = true
		c := newCabinet(t, s, false)
		c.disk.full = errFull
		if _, err := c.SignIn(t.Context(), "erp", "refresh-9"); err == nil {
			t.Fatal("the disk was not full")
		}
		if _, err := c.SignOut(t.Context(), "erp"); err != nil {
			t.Errorf("SignOut = %v", err)
		}
		if err := c.Keep(t.Context()); err != nil {
			t.Errorf("Keep writes the deleted sign-in: %v", err)
		}
	})
	t.Run("a vault that cannot be written keeps the sign-in", func(t *testing.T) {
		c := newCabinet(t, newServer(), true)
		_, err := (&login{key: loginKey{provider: "contoso", login: "svc@contoso.test"}, store: unwritable{c.disk.Vault}}).drop()
		if !errors.Is(err, errFull) || c.kept() != "refresh-0" {
			t.Errorf("drop = %v; want the disk's error, and the sign-in still there", err)
		}
	})
}

// unwritable is a vault on a full disk.
type unwritable struct{ *vault.Vault }

func (unwritable) Swap(string, uint64, []byte) (uint64, error) { return 0, errFull }
