package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postern/auth/token"
)

// Result is what a sign-in came to.
type Result struct {
	User   string                          // who signed in, as the provider says; "" where it does not
	Works  []token.Resource                // for which a token came, in the account's order
	Failed map[token.Resource]*token.Error // for which none came, and why
	Scopes map[token.Resource][]string     // what was granted, by resource that works
}

// SignIn takes a refresh token that was made for the account's login: it is tried for each resource that the account can
// use, and kept if at least one token came and the person is the login, as far as anybody can tell. All accounts of that
// login use it from then on. Otherwise nothing changes, and a former sign-in goes on. The error is a *token.Error, also
// when the sign-in works but cannot be written: then it is used from memory. Once begun it does not end with ctx, because
// the token may already be used up.
func (a *Accounts) SignIn(ctx context.Context, account string, refresh token.Secret) (Result, error) {
	acc, l, err := a.delegated(account)
	if err != nil {
		return Result{}, err
	}
	if refresh == "" {
		return Result{}, &token.Error{Person: true, Text: "the refresh token is empty"}
	}
	if err := l.take(ctx); err != nil {
		return Result{}, &token.Error{Text: "the sign-in was cancelled before it began", Err: err}
	}
	ctx = context.WithoutCancel(ctx)
	result, changes, failed := l.signIn(ctx, acc, refresh)
	l.tell(ctx, changes)
	l.leave()
	if failed != nil {
		return result, failed.For(account)
	}
	return result, nil
}

// delegated returns an account that a person signs in for.
func (a *Accounts) delegated(account string) (Account, *login, error) {
	set := a.set.Load()
	for _, acc := range set.accounts {
		switch {
		case acc.Name != account:
		case acc.AppOnly:
			return acc, nil, &token.Error{Person: true,
				Text:   fmt.Sprintf("account %s is app-only: nobody signs in for it", account),
				Remedy: "set the client secret of provider " + acc.Provider + " instead"}
		default:
			return acc, set.logins[account], nil
		}
	}
	return Account{}, nil, &token.Error{Person: true, Text: fmt.Sprintf("account %q is not known", account),
		Remedy: "run: postern accounts"}
}

// signIn does it. The turn must be held.
func (l *login) signIn(ctx context.Context, acc Account, refresh token.Secret) (Result, []Change, *token.Error) {
	result := Result{Failed: map[token.Resource]*token.Error{}, Scopes: map[token.Resource][]string{}}
	s := signIn{Refresh: refresh}
	identified, wrong := l.identify(ctx, acc.Name, &s)
	if wrong != nil {
		return result, nil, wrong
	}
	grants := map[token.Resource]token.Grant{}
	var first *token.Error
	for _, r := range acc.Resources {
		grant, err := l.refresh(ctx, s, r)
		if err != nil {
			result.Failed[r] = err.For(acc.Name)
			if first == nil || err.Person && !first.Person {
				first = err
			}
			continue
		}
		if grant.Refresh != "" {
			s = s.rotated(grant)
		}
		if grant.User != "" && !identified {
			s.User = grant.User
		}
		grants[r] = grant
		result.Works = append(result.Works, r)
		result.Scopes[r] = grant.Scopes
	}
	result.User = s.User
	if len(grants) == 0 {
		if first == nil {
			first = &token.Error{Person: true, Text: "the account can use no resource", Remedy: "check its transport"}
		}
		return result, nil, first
	}
	if !identified && s.User != "" && !strings.EqualFold(s.User, l.is().shown) {
		return Result{}, nil, l.wrongPerson(acc.Name, s.User)
	}
	changes := l.keepNew(&s)
	l.publish(grants, result.Failed)
	changes = append(changes, l.change(SignedIn, func(c *Change) { c.User = s.User }))
	return result, changes, l.notWritten()
}

// keepNew dates the sign-in after the one that it replaces, and keeps it.
func (l *login) keepNew(s *signIn) []Change {
	now := l.now()
	s.SignedIn = later(now, s.SignedIn)
	if has, err := l.load(); err == nil {
		s.SignedIn = later(now, has.SignedIn)
	}
	s.Received = later(now, s.Received)
	l.touch()
	return l.keep(*s)
}

// publish puts the new tokens in their places and remembers what did not work.
func (l *login) publish(grants map[token.Resource]token.Grant, failed map[token.Resource]*token.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, c := range l.cells {
		c.failure = nil
	}
	for r, g := range grants {
		if err := l.cell(r).set(g, now); err != nil {
			l.cell(r).fail(err, now)
		}
	}
	for r, err := range failed {
		l.cell(r).fail(err, now)
	}
}

// notWritten returns the error of a sign-in that is in memory only.
func (l *login) notWritten() *token.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsaved == nil {
		return nil
	}
	return notStored(errors.New(l.unsaved.err.Error()))
}
