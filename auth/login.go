package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"postern/auth/token"
	"postern/auth/vault"
)

// login is one provider's sign-in, or one provider's app: what accounts share.
type login struct {
	key     loginKey
	members atomic.Pointer[members] // another configuration is another value
	store   Store
	now     func() time.Time
	notify  func(context.Context, Change)
	fly     func(func(context.Context)) bool

	// turn holds one value while somebody asks the token endpoint or writes the sign-in: every resource of a login uses
	// the same rotating refresh token, and two at once could lose the newer one.
	turn chan struct{}

	mu      sync.Mutex // guards what follows; never held over the network or the disk
	cells   map[token.Resource]*cell
	unsaved *unsaved  // nil: what the store has is current
	mended  int       // how often failures were forgotten; a request begun before that proves nothing any more
	used    time.Time // when this process last used the refresh token
}

func newLogin(a *Accounts, key loginKey) *login {
	return &login{
		key: key, store: a.secrets.Store, now: a.now, notify: a.notify, fly: a.fly,
		turn:  make(chan struct{}, 1),
		cells: map[token.Resource]*cell{},
	}
}

// take waits for the turn; leave gives it back.
func (l *login) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *login) leave() { <-l.turn }

// cell returns the place of a resource's token. l.mu must be held.
func (l *login) cell(r token.Resource) *cell {
	c := l.cells[r]
	if c == nil {
		c = &cell{}
		l.cells[r] = c
	}
	return c
}

// token returns the cached token where it is good. One that is past its due time is still handed out while its successor
// is fetched; without a good one the caller waits.
func (l *login) token(ctx context.Context, r token.Resource) (token.Secret, *token.Error) {
	l.catchUp(ctx)
	l.mu.Lock()
	c, now := l.cell(r), l.now()
	access, good := c.good(now)
	if good && !c.due(now) {
		l.mu.Unlock()
		return access, nil
	}
	if c.flight == nil {
		err := c.cooling(now)
		if err == nil {
			err = l.start(r, c)
		}
		if err != nil {
			l.mu.Unlock()
			if good {
				return access, nil
			}
			return "", err
		}
	}
	f := c.flight
	l.mu.Unlock()
	if good {
		return access, nil
	}
	select {
	case <-f.done:
		return f.access, f.err
	case <-ctx.Done():
		return "", &token.Error{Text: "gave up waiting for a token", Err: ctx.Err()}
	}
}

// flight is one request to the token endpoint, for all who wait for it. Its results are set before done is closed.
type flight struct {
	done   chan struct{}
	access token.Secret
	err    *token.Error
}

// start begins a flight. l.mu must be held.
func (l *login) start(r token.Resource, c *cell) *token.Error {
	f := &flight{done: make(chan struct{})}
	if !l.fly(func(ctx context.Context) { l.fetch(ctx, r, f) }) {
		return &token.Error{Text: "no new token: Postern is stopping"}
	}
	c.flight = f
	return nil
}

// fetch is a flight's goroutine. It runs under the cabinet's own context, because those who wait come and go.
func (l *login) fetch(ctx context.Context, r token.Resource, f *flight) {
	if err := l.take(ctx); err != nil {
		f.err = &token.Error{Text: "no new token: Postern is stopping", Err: err}
		l.land(r, f)
		return
	}
	l.mu.Lock()
	mended := l.mended
	l.mu.Unlock()
	began := l.now()
	grant, failed, changes := l.ask(ctx, r)
	now := l.now()
	asked := func(ch *Change) {
		ch.Resource, ch.Took = r, now.Sub(began)
		if p, ok := l.is().provider.(interface{ Host() string }); ok {
			ch.Host = p.Host()
		}
	}
	l.mu.Lock()
	c := l.cell(r)
	if failed == nil {
		failed = c.set(grant, now)
	}
	if failed == nil {
		f.access = grant.Access
		changes = append(changes, l.change(Refreshed, func(ch *Change) { asked(ch); ch.Expiry = grant.Expiry }))
	} else {
		f.err = failed
		if mended == l.mended && c.fail(failed, now) {
			changes = append(changes, l.change(Failed, func(ch *Change) { asked(ch); ch.Err = failed.For(l.is().accounts[0]) }))
		}
	}
	l.mu.Unlock()
	l.tell(ctx, changes) // within the turn, so that they are heard in order
	l.leave()
	l.land(r, f)
}

// land ends the flight for those who wait.
func (l *login) land(r token.Resource, f *flight) {
	l.mu.Lock()
	l.cell(r).flight = nil
	l.mu.Unlock()
	close(f.done)
}

// ask gets a token from the provider and keeps the refresh token that came with it. The turn must be held.
func (l *login) ask(ctx context.Context, r token.Resource) (token.Grant, *token.Error, []Change) {
	if l.key.appOnly {
		grant, err := l.is().provider.ClientCredentials(ctx, r)
		return grant, asError(err), nil
	}
	was, err := l.load()
	if err != nil {
		return token.Grant{}, err, nil
	}
	grant, err := l.refresh(ctx, was, r)
	if err != nil && err.Person {
		// Another process may have signed in, or used the refresh token up, since it was read.
		if is, e := l.load(); e == nil && is.Refresh != was.Refresh {
			was = is
			grant, err = l.refresh(ctx, was, r)
		}
	}
	if err != nil {
		return token.Grant{}, err, nil
	}
	l.touch()
	if grant.Refresh == "" || grant.Refresh == was.Refresh {
		return grant, nil, l.noteUse(was)
	}
	// The new refresh token is on the disk before the access token is used: on a server that revokes the old one, a
	// crash in between would cost the sign-in.
	return grant, nil, l.keep(was.rotated(grant))
}

func (l *login) refresh(ctx context.Context, s signIn, r token.Resource) (token.Grant, *token.Error) {
	grant, err := l.is().provider.Refresh(ctx, s.Refresh, r)
	return grant, asError(err)
}

// asError makes a *token.Error of whatever a provider returned. An unknown failure may pass.
func asError(err error) *token.Error {
	if err == nil {
		return nil
	}
	var known *token.Error
	if errors.As(err, &known) {
		return known
	}
	return &token.Error{Text: "the provider failed in an unknown way", Err: err}
}

// load returns the sign-in in use, from memory where the store could not take it.
func (l *login) load() (signIn, *token.Error) {
	l.mu.Lock()
	u := l.unsaved
	l.mu.Unlock()
	if u != nil {
		return u.signIn, nil
	}
	s, _, err := readSignIn(l.store, l.key.entry())
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, vault.ErrDamaged):
		text := fmt.Sprintf("the sign-in of %s is damaged in the vault", l.is().shown)
		return s, &token.Error{Person: true, Text: text, Remedy: signInRemedy, Err: err}
	case errors.Is(err, vault.ErrNotFound):
		return s, &token.Error{Person: true, Text: "needs sign-in", Remedy: signInRemedy, Err: err}
	}
	return s, &token.Error{Text: fmt.Sprintf("the sign-in of %s cannot be read", l.is().shown), Err: err}
}

const signInRemedy = "run: postern signin " + token.AnyAccount

func (l *login) refuse(r token.Resource, refused token.Secret) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.cell(r); c.grant.Access == refused {
		c.grant = token.Grant{}
	}
}

func (l *login) forgetFailures() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mended++
	for _, c := range l.cells {
		c.failure = nil
	}
}

// change makes a Change of this login, which fill completes.
func (l *login) change(kind ChangeKind, fill func(*Change)) Change {
	c := Change{Kind: kind, Accounts: l.is().accounts, Provider: l.key.provider, Login: l.is().shown}
	if l.key.appOnly {
		c.Login = ""
	}
	fill(&c)
	return c
}

func (l *login) tell(ctx context.Context, changes []Change) {
	for _, c := range changes {
		l.notify(ctx, c)
	}
}
