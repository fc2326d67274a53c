package bridge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/auth"
	"postern/auth/token"
	"postern/auth/vault"
	"postern/bridge/certificate/certificatetest"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/expiry"
)

const day = 24 * time.Hour

// told keeps what a sink hears of one kind, as "what days level".
type told struct {
	mu   sync.Mutex
	list []string
}

func (s *told) Handle(_ context.Context, e event.Event) {
	if e.Kind != event.ExpiryNear {
		return
	}
	var what string
	var days int64
	for _, a := range e.Attrs {
		switch a.Key {
		case "what":
			what = a.Value.String()
		case "days":
			days = a.Value.Int64()
		case "remedy":
			if a.Value.String() == "" {
				what += " without a remedy"
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf("%s %d %s", what, days, e.Level))
}

func (s *told) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// fixedProvider gives a token and never a new refresh token, unless dead.
type fixedProvider struct {
	mu    sync.Mutex
	dead  bool
	asked int
}

func (p *fixedProvider) Refresh(context.Context, token.Secret, token.Resource) (token.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.dead {
		return token.Grant{}, &token.Error{Text: "the token endpoint cannot be reached"}
	}
	now := time.Now()
	return token.Grant{Token: token.Token{Access: "access", Fetched: now, Expiry: now.Add(time.Hour)}}, nil
}

func (p *fixedProvider) ClientCredentials(ctx context.Context, r token.Resource) (token.Grant, error) {
	return p.Refresh(ctx, "", r)
}

func (p *fixedProvider) set(dead bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = dead
	return p.asked
}

// TestUpkeep runs the hall's task for some months: the idle sign-in is used weekly, and what ends is told of 30, 14, 7, 3
// and 1 days before, and when it has ended.
func TestUpkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		cfg := &config.Config{
			Providers: []config.Provider{{Name: "contoso", ClientSecret: config.SecretRef{Kind: "vault", Name: "contoso"}, ClientSecretExpires: began.Add(40 * day)}},
			Accounts:  []config.Account{{Name: "erp", Provider: "contoso", Login: "erp@contoso.test"}, {Name: "app", Provider: "contoso", SignIn: "app-only"}},
		}
		v, err := vault.Open(t.TempDir(), vault.Options{Getenv: func(string) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		p := &fixedProvider{}
		accounts, err := auth.New(auth.Options{Providers: map[string]auth.Provider{"contoso": p}, Vault: v, Accounts: []auth.Account{
			{Name: "erp", Provider: "contoso", Login: "erp@contoso.test", Resources: []token.Resource{token.Graph}},
			{Name: "app", Provider: "contoso", AppOnly: true, Resources: []token.Resource{token.Graph}}}})
		if err != nil {
			t.Fatal(err)
		}
		defer accounts.Close(t.Context())
		if _, err := accounts.SignIn(t.Context(), "erp", "refresh"); err != nil {
			t.Fatal(err)
		}
		sink := &told{}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newUpkeep(func() *config.Config { return cfg }, accounts, event.NewBus(sink)).run(ctx) }()

		time.Sleep(9 * day)
		if list := sink.take(); list != nil {
			t.Errorf("told %v before anything was near", list)
		}
		time.Sleep(33 * day)
		want := []string{"client secret 29 WARN", "client secret 13 WARN", "client secret 6 ERROR", "client secret 2 ERROR", "client secret 0 ERROR", "client secret 0 ERROR"}
		// At the very hour the 30th day begins, or within the hour after it: days counts whole days.
		got := sink.take()
		for i := range got {
			got[i] = strings.NewReplacer(" 30 ", " 29 ", " 14 ", " 13 ", " 7 ", " 6 ", " 3 ", " 2 ", " 1 ", " 0 ").Replace(got[i])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if n := p.set(true); n < 6 || n > 8 {
			t.Errorf("%d requests in six weeks; want one a week", n)
		}
		// From now on no refresh works, and the sign-in dies 90 days after it last did.
		time.Sleep(95 * day)
		var signIns []string
		for _, s := range sink.take() {
			if strings.HasPrefix(s, "sign-in") {
				signIns = append(signIns, s)
			}
		}
		if len(signIns) != 6 {
			t.Errorf("told of the sign-in: %v; want six warnings", signIns)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestExpiries(t *testing.T) {
	keys := certificatetest.Keys()
	old, fresh := certificatetest.Certificate(t, keys[0], 10), certificatetest.Certificate(t, keys[1], 400)
	file := filepath.Join(t.TempDir(), "c.pem")
	if err := os.WriteFile(file, []byte(certificatetest.PEM(old)+certificatetest.KeyPEM(t, keys[0])+certificatetest.PEM(fresh)+certificatetest.KeyPEM(t, keys[1])), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ref := config.SecretRef{Kind: "vault", Name: "s"}
	cfg := &config.Config{Providers: []config.Provider{
		{Name: "secret", ClientSecret: ref, ClientSecretExpires: now.Add(10 * day)},
		{Name: "unknown", ClientSecret: ref},
		{Name: "cert", Certificates: []string{file}},
		{Name: "broken", Certificates: []string{file + ".none"}},
	}}
	states := []auth.State{
		{Account: "a", Provider: "secret", AppOnly: true},
		{Account: "b", Provider: "secret", Login: "b@x", SignedIn: true, Used: now.Add(-85 * day)},
		{Account: "c", Provider: "unknown", Login: "c@x", SignedIn: true, Used: now},
		{Account: "d", Provider: "cert", AppOnly: true},
		{Account: "e", Provider: "broken", AppOnly: true},
		{Account: "f", Provider: "unknown", Login: "f@x"},
	}
	got := map[string]string{}
	all := expiries(cfg, states, now)
	for account, list := range all {
		for _, e := range list {
			got[account] += fmt.Sprintf("%s %d %v; ", e.What, int(e.At.Sub(now).Round(time.Hour)/day), e.Near)
			if e.Remedy == "" {
				t.Errorf("%s of %s has no remedy", e.What, account)
			}
		}
	}
	want := map[string]string{
		"a": "client secret 10 true; ",
		"b": "sign-in 5 true; client secret 10 true; ",
		"c": "sign-in 90 false; ",
		"d": "certificate 400 false; ", // the last of a roll-over counts
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(expiry.Once(all)); n != 4 {
		t.Errorf("%d in all; want 4, the secret that two accounts share once", n)
	}
}
