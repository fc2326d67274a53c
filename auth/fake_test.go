package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/auth/token"
	"postern/auth/vault"
)

// rotation is what a server does with refresh tokens.
type rotation int

const (
	rotateAndKeep   rotation = iota // a new one each time, the old one stays good: Entra
	rotateAndRevoke                 // a new one each time, the old one dies with all of its family if used again
	neverNew                        // none comes back: Google
)

// server is a provider with refresh tokens of its own. Tokens are "access-N" and "refresh-N".
type server struct {
	rotation  rotation
	life      time.Duration
	refreshIn time.Duration
	delay     time.Duration // of each request
	user      string

	mu       sync.Mutex // guards what follows
	good     map[string]bool
	lacks    map[token.Resource]bool // nobody consented
	trouble  error                   // answers every request
	count    int
	requests []string // "graph refresh-1"
	active   int
	overlap  bool // two requests at once
}

func newServer() *server {
	return &server{life: time.Hour, good: map[string]bool{"refresh-0": true}, lacks: map[token.Resource]bool{}}
}

func (s *server) Refresh(ctx context.Context, refresh token.Secret, r token.Resource) (token.Grant, error) {
	if err := s.begin(ctx, fmt.Sprintf("%s %s", r, refresh.Reveal())); err != nil {
		return token.Grant{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	switch {
	case s.trouble != nil:
		return token.Grant{}, s.trouble
	case !s.good[refresh.Reveal()]:
		return token.Grant{}, &token.Error{Code: "invalid_grant", Person: true, Text: "the sign-in was revoked", Remedy: signInRemedy}
	case s.lacks[r]:
		return token.Grant{}, &token.Error{Code: "invalid_grant", Number: 65001, Person: true, Text: "nobody has consented", Remedy: signInRemedy}
	}
	g := s.grant()
	g.User = s.user
	if s.rotation != neverNew {
		g.Refresh = token.Secret(fmt.Sprintf("refresh-%d", s.count))
		s.good[g.Refresh.Reveal()] = true
	}
	if s.rotation == rotateAndRevoke {
		delete(s.good, refresh.Reveal())
	}
	return g, nil
}

func (s *server) ClientCredentials(ctx context.Context, r token.Resource) (token.Grant, error) {
	if err := s.begin(ctx, string(r)+" app"); err != nil {
		return token.Grant{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.trouble != nil {
		return token.Grant{}, s.trouble
	}
	return s.grant(), nil
}

func (s *server) begin(ctx context.Context, request string) error {
	s.mu.Lock()
	s.requests = append(s.requests, request)
	s.active++
	s.overlap = s.overlap || s.active > 1
	s.mu.Unlock()
	select {
	case <-time.After(s.delay):
		return nil
	case <-ctx.Done():
		return &token.Error{Text: "cut off", Err: ctx.Err()}
	}
}

func (s *server) grant() token.Grant {
	s.count++
	now := time.Now()
	return token.Grant{RefreshIn: s.refreshIn, Token: token.Token{
		Access: token.Secret(fmt.Sprintf("access-%d", s.count)), Fetched: now, Expiry: now.Add(s.life), Scopes: []string{"Mail.Send"}}}
}

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = err
}

func (s *server) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// disk is a vault that can be full, and that no test may see lose a sign-in.
type disk struct {
	*vault.Vault
	t    *testing.T
	full error
}

func (d *disk) Swap(name string, old uint64, value []byte) (uint64, error) {
	if strings.HasPrefix(name, "token/") && value == nil {
		d.t.Errorf("%s was deleted", name)
	}
	if d.full != nil {
		return 0, d.full
	}
	return d.Vault.Swap(name, old, value)
}

// cabinet is a cabinet with one server, the accounts "erp" and "scan" of one login, and "app", which is app-only.
type cabinet struct {
	*Accounts
	t       *testing.T
	server  *server
	dir     string
	disk    *disk
	mu      sync.Mutex // guards changes
	changes []Change
}

var errFull = errors.New("no space left on device")

var both = []token.Resource{token.Graph, token.SMTP}

// newCabinet opens one; signed says whether refresh-0 is in its vault.
func newCabinet(t *testing.T, s *server, signed bool) *cabinet {
	t.Helper()
	c := &cabinet{t: t, server: s, dir: t.TempDir()}
	c.open()
	if signed {
		key := loginKey{provider: "contoso", login: "svc@contoso.test"}
		if _, err := c.disk.Swap(key.entry(), 0, []byte(`{"refresh":"refresh-0","signed_in":"2000-01-01T00:00:00Z","received":"2000-01-01T00:00:00Z"}`)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// open opens vault and cabinet, as a new process would.
func (c *cabinet) open() {
	c.t.Helper()
	v, err := vault.Open(c.dir, vault.Options{Getenv: func(string) string { return "" }})
	if err != nil {
		c.t.Fatal(err)
	}
	c.disk = &disk{Vault: v, t: c.t}
	c.Accounts, err = New(Options{
		Providers: map[string]Provider{"contoso": c.server},
		Accounts: []Account{
			{Name: "erp", Provider: "contoso", Login: "svc@contoso.test", Resources: both},
			{Name: "scan", Provider: "contoso", Login: "SVC@contoso.test", Resources: both[:1]},
			{Name: "app", Provider: "contoso", AppOnly: true, Resources: both},
		},
		Vault: c.disk,
		Notify: func(_ context.Context, ch Change) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.changes = append(c.changes, ch)
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// kinds returns the kinds of change since the last call.
func (c *cabinet) kinds() (kinds []ChangeKind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.changes {
		kinds = append(kinds, ch.Kind)
	}
	c.changes = nil
	return kinds
}

func (c *cabinet) token(account string, r token.Resource) (string, *token.Error) {
	c.t.Helper()
	access, err := c.Source(account).Token(context.Background(), r)
	if err == nil {
		return access.Reveal(), nil
	}
	var e *token.Error
	if !errors.As(err, &e) {
		c.t.Errorf("Token: %T (%v); want *token.Error", err, err)
		e = &token.Error{Err: err}
	}
	return "", e
}

func (c *cabinet) want(account string, r token.Resource, want string) {
	c.t.Helper()
	if got, err := c.token(account, r); err != nil || got != want {
		c.t.Errorf("Token(%s, %s) = %q, %v; want %q", account, r, got, err, want)
	}
}

// kept returns the refresh token in the vault.
func (c *cabinet) kept() string {
	c.t.Helper()
	s, _, err := readSignIn(c.disk, "token/contoso/svc@contoso.test")
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Refresh.Reveal()
}
