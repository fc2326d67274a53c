// Package auth is the key cabinet: it hands out access tokens that work, keeps the refresh tokens behind them current,
// and says who must act when it cannot. It must not know mail, HTTP or what a vendor's scopes are called. The hall gives
// it providers and a vault, hands a Source to each transport, and lets the command line sign in and set secrets through
// it. Every failure is a *token.Error, by errors.As; one that a person must mend carries the remedy with the account's
// name. No path of it deletes a refresh token.
package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/auth/token"
	"postern/auth/vault"
)

// Provider asks one app registration's token endpoint. Errors are *token.Error. It bounds its own requests in time, and
// is safe for concurrent use.
type Provider interface {
	// Refresh redeems a refresh token. The grant's Refresh is "" where the old one stays in use.
	Refresh(ctx context.Context, refresh token.Secret, r token.Resource) (token.Grant, error)
	// ClientCredentials gets a token for the app itself.
	ClientCredentials(ctx context.Context, r token.Resource) (token.Grant, error)
}

// Store keeps named values at rest; *vault.Vault is one, whose comments are the contract. Errors are told apart by
// vault.ErrNotFound, vault.ErrChanged and vault.ErrDamaged. Safe for concurrent use.
type Store interface {
	Get(name string) (value []byte, rev uint64, err error)
	Swap(name string, old uint64, value []byte) (rev uint64, err error)
	List() []vault.Info
}

// Account is what a mailbox of the configuration means here.
type Account struct {
	Name      string
	Provider  string           // a key of Options.Providers
	Login     string           // who signs in; accounts of one provider and login share the sign-in. Unused if AppOnly
	AppOnly   bool             // the app's own credential instead of a person's sign-in
	Resources []token.Resource // what its transports can use, the preferred one first
	Drafts    bool             // a sign-in asks for leave to make drafts too
}

// Options of New.
type Options struct {
	Providers map[string]Provider
	Accounts  []Account
	Vault     Store
	Now       func() time.Time // default time.Now
	// Notify hears of changes, from any goroutine, those of one login in order. It must not block for long, because the
	// login's next refresh waits for it, nor call SignIn or Keep. nil: nobody hears.
	Notify func(context.Context, Change)
}

// ChangeKind says what a Change is about.
type ChangeKind int

const (
	SignedIn  ChangeKind = iota // a person's sign-in was accepted
	Refreshed                   // a new access token is there
	Failed                      // no new access token, for a reason other than last time's
	NotStored                   // a refresh token could not be written to the vault; it is used from memory
	Stored                      // it could be, after all
	SignedOut                   // a person had the sign-in deleted
)

// Change is something that the administrator's log should hold.
type Change struct {
	Kind     ChangeKind
	Accounts []string // every account that shares the login
	Provider string
	Login    string         // "" if app-only
	Resource token.Resource // of Refreshed and Failed
	Expiry   time.Time      // of Refreshed
	User     string         // of SignedIn: who, where it is known
	Host     string         // of Refreshed and Failed: who was asked; "" where the provider does not say
	Took     time.Duration  // likewise: how long
	Err      *token.Error   // of Failed and NotStored
}

// Accounts is the cabinet. Safe for concurrent use.
type Accounts struct {
	secrets Secrets
	now     func() time.Time
	notify  func(context.Context, Change)
	set     atomic.Pointer[accountSet]

	stop    context.Context // ends what is under way when Close must not wait any longer
	cancel  context.CancelFunc
	mu      sync.Mutex // guards closed, so that no refresh starts once Close waits
	closed  bool
	flights sync.WaitGroup
}

// New checks that every account is known by one name and has its provider; it asks nobody anything.
func New(o Options) (*Accounts, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Notify == nil {
		o.Notify = func(context.Context, Change) {}
	}
	a := &Accounts{
		secrets: Secrets{Store: o.Vault},
		now:     o.Now,
		notify:  o.Notify,
	}
	a.stop, a.cancel = context.WithCancel(context.Background())
	plan, err := a.Prepare(o)
	if err != nil {
		a.cancel()
		return nil, err
	}
	plan.Commit()
	return a, nil
}

// loginKey is what a refresh token belongs to. App-only tokens belong to the provider alone.
type loginKey struct {
	provider string
	login    string // in lower case: Entra does not tell cases apart
	appOnly  bool
}

func keyOf(a Account) loginKey {
	if a.AppOnly {
		return loginKey{provider: a.Provider, appOnly: true}
	}
	return loginKey{provider: a.Provider, login: strings.ToLower(a.Login)}
}

// Source returns the account's source of tokens. A name that is not known gives a Source that only fails.
func (a *Accounts) Source(account string) *Source {
	return &Source{account: account, login: a.set.Load().logins[account]}
}

// Source gives tokens for one account. Safe for concurrent use.
type Source struct {
	account string
	login   *login
}

// Token returns an access token for the resource that is valid for at least one more minute. Whoever asks while it is
// being fetched waits for the same request; ctx ends the waiting, never the request. The error is a *token.Error that
// names the account in its remedy; where waiting helps, RetryAfter says how long nothing will be asked again.
func (s *Source) Token(ctx context.Context, r token.Resource) (token.Secret, error) {
	if s.login == nil {
		return "", &token.Error{Person: true, Text: "account " + s.account + " is not known", Remedy: "check the configuration"}
	}
	access, err := s.login.token(ctx, r)
	if err != nil {
		return "", err.For(s.account)
	}
	return access, nil
}

// Refused tells that the server did not accept this token although it should be good: it is dropped if it still is the
// current one, and the next Token fetches another.
func (s *Source) Refused(r token.Resource, refused token.Secret) {
	if s.login != nil {
		s.login.refuse(r, refused)
	}
}

// Recheck forgets the remembered failures of the account's login, so that the next Token asks again at once: a person has
// mended something, or wants to know now.
func (a *Accounts) Recheck(account string) {
	if l := a.set.Load().logins[account]; l != nil {
		l.forgetFailures()
	}
}

// Keep writes down the refresh tokens that the vault could not take before, and returns why it still cannot. The hall
// calls it every 30 seconds and before Close. Without such a token it does nothing.
func (a *Accounts) Keep(ctx context.Context) error {
	var errs []error
	for l := range a.eachLogin {
		if !l.hasUnsaved() {
			continue
		}
		if err := l.take(ctx); err != nil {
			return err
		}
		errs = append(errs, l.saveAgain(ctx))
		l.leave()
	}
	return errors.Join(errs...)
}

// Close waits for the requests under way, because a refresh that is cut off may lose a rotated token; when ctx ends it
// cuts them off. Token fails from then on, unless a token is cached.
func (a *Accounts) Close(ctx context.Context) {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	done := make(chan struct{})
	go func() {
		a.flights.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	a.cancel()
	<-done
}

// fly runs f in a goroutine that Close waits for. It reports false once the cabinet is closed.
func (a *Accounts) fly(f func(context.Context)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.flights.Go(func() { f(a.stop) })
	return true
}
