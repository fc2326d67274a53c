package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/auth/token"
	"postern/auth/vault"
)

// Signer is a Provider that people can sign in to by themselves. Errors are *token.Error; all of it is safe for
// concurrent use.
type Signer interface {
	// Offer says what a sign-in asks for, and where. It asks nobody.
	Offer(w token.Wants) (token.Offer, error)
	// DeviceCode begins a sign-in on another machine.
	DeviceCode(ctx context.Context, w token.Wants) (token.DeviceCode, error)
	// Redeem turns an authorization code or a device code into a grant with a refresh token. The Code of its error is
	// authorization_pending or slow_down while nobody has approved a device code.
	Redeem(ctx context.Context, p token.Proof) (token.Grant, error)
	// Identify says who a refresh token is of. The grant's Refresh is "" where the old one stays in use, and counts
	// whatever the error is; any error means that nobody could be asked.
	Identify(ctx context.Context, refresh token.Secret) (token.Person, token.Grant, error)
}

// Offer says what a sign-in of the account's login asks for, and which accounts will use it, this one first. What other
// accounts of the login need is asked for too, so that one sign-in is enough.
func (a *Accounts) Offer(account string) (token.Offer, []string, error) {
	acc, l, err := a.delegated(account)
	if err != nil {
		return token.Offer{}, nil, err
	}
	s, err := l.signer()
	if err != nil {
		return token.Offer{}, nil, err
	}
	o, err := s.Offer(a.wants(acc, l))
	if err != nil {
		return token.Offer{}, nil, asError(err).For(account)
	}
	return o, sharing(l, account), nil
}

// DeviceCode begins a sign-in of the account's login on another machine, for these resources or, without any, for all
// that its accounts can use.
func (a *Accounts) DeviceCode(ctx context.Context, account string, only ...token.Resource) (token.DeviceCode, error) {
	acc, l, err := a.delegated(account)
	if err != nil {
		return token.DeviceCode{}, err
	}
	s, err := l.signer()
	if err != nil {
		return token.DeviceCode{}, err
	}
	w := a.wants(acc, l)
	if len(only) > 0 {
		w.Resources = only
	}
	d, err := s.DeviceCode(ctx, w)
	if err != nil {
		return token.DeviceCode{}, asError(err).For(account)
	}
	return d, nil
}

// signer is the login's provider as one that people can sign in to.
func (l *login) signer() (Signer, error) {
	if s, ok := l.is().provider.(Signer); ok {
		return s, nil
	}
	return nil, &token.Error{Person: true, Text: "provider " + l.key.provider + " has no sign-in of its own",
		Remedy: "give a refresh token: postern signin " + l.is().accounts[0] + " --refresh-token -"}
}

// wants is what the login's accounts need together, the given one's resources first.
func (a *Accounts) wants(acc Account, l *login) token.Wants {
	w := token.Wants{Login: acc.Login, Resources: slices.Clone(acc.Resources)}
	set := a.set.Load()
	for _, other := range set.accounts {
		if set.logins[other.Name] != l {
			continue
		}
		w.Drafts = w.Drafts || other.Drafts
		for _, r := range other.Resources {
			if !slices.Contains(w.Resources, r) {
				w.Resources = append(w.Resources, r)
			}
		}
	}
	return w
}

// sharing returns the accounts of the login, the given one first.
func sharing(l *login, account string) []string {
	list := []string{account}
	for _, name := range l.is().accounts {
		if name != account {
			list = append(list, name)
		}
	}
	return list
}

// Redeem signs in with what a person brought back, and goes on like SignIn. A device code that nobody has approved yet is
// an error whose Code is authorization_pending or slow_down, and changes nothing.
func (a *Accounts) Redeem(ctx context.Context, account string, p token.Proof) (Result, error) {
	if p.Refresh != "" {
		return a.SignIn(ctx, account, p.Refresh)
	}
	_, l, err := a.delegated(account)
	if err != nil {
		return Result{}, err
	}
	s, err := l.signer()
	if err != nil {
		return Result{}, err
	}
	if p.Code == "" && p.Device == "" {
		return Result{}, &token.Error{Person: true, Text: "the code is empty"}
	}
	// A code is good once, so the request is not given up half-way.
	g, err := s.Redeem(context.WithoutCancel(ctx), p)
	if err != nil {
		return Result{}, asError(err).For(account)
	}
	return a.SignIn(context.WithoutCancel(ctx), account, g.Refresh)
}

// identify asks the provider who the sign-in is of, and refuses another person than the login. It reports whether it
// could be asked; where it could not, the names in the grants are judged instead. The turn must be held.
func (l *login) identify(ctx context.Context, account string, s *signIn) (asked bool, wrong *token.Error) {
	p, ok := l.is().provider.(Signer)
	if !ok {
		return false, nil
	}
	person, grant, err := p.Identify(ctx, s.Refresh)
	if grant.Refresh != "" {
		*s = s.rotated(grant)
	}
	if err != nil {
		return false, nil
	}
	s.User = person.Name
	if slices.ContainsFunc(person.Addresses, func(a string) bool { return strings.EqualFold(a, l.is().shown) }) {
		return true, nil
	}
	return true, l.wrongPerson(account, person.Name)
}

// wrongPerson refuses a sign-in. An administrator whose own browser session signs in by accident is the usual cause.
func (l *login) wrongPerson(account, who string) *token.Error {
	return &token.Error{Person: true,
		Text: fmt.Sprintf("%s signed in, but the login of account %s is %s; nothing was stored", who, account, l.is().shown),
		Remedy: fmt.Sprintf("run postern signin %s again and choose %s on the page, or write login = %q for the account "+
			"if that is right", account, l.is().shown, who)}
}

// SignOut deletes the sign-in of the account's login, and returns the accounts that used it, this one first. It is the
// only thing that does. Tokens that are already with a server stay good until they expire. The error is a *token.Error,
// also where nobody is signed in.
func (a *Accounts) SignOut(ctx context.Context, account string) ([]string, error) {
	_, l, err := a.delegated(account)
	if err != nil {
		return nil, err
	}
	if err := l.take(ctx); err != nil {
		return nil, &token.Error{Text: "the sign-out was cancelled before it began", Err: err}
	}
	defer l.leave()
	had, err := l.drop()
	if err != nil {
		return nil, &token.Error{Person: true, Text: "the sign-in could not be deleted from the vault, and is used on",
			Remedy: "see that postern may write in data_dir and that the disk has room", Err: err}
	}
	if !had {
		return nil, &token.Error{Person: true, Text: "nobody is signed in for account " + account}
	}
	l.tell(ctx, []Change{l.change(SignedOut, func(*Change) {})})
	return sharing(l, account), nil
}

// drop takes the sign-in out of the vault, then out of memory. The turn must be held.
func (l *login) drop() (had bool, err error) {
	for {
		_, rev, err := readSignIn(l.store, l.key.entry())
		if errors.Is(err, vault.ErrNotFound) {
			break
		}
		if err != nil && !errors.Is(err, vault.ErrDamaged) {
			return false, err
		}
		if _, err = l.store.Swap(l.key.entry(), rev, nil); err == nil {
			had = true
			break
		} else if !errors.Is(err, vault.ErrChanged) {
			return false, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	had = had || l.unsaved != nil
	l.unsaved = nil
	l.mended++
	for _, c := range l.cells {
		c.grant, c.failure = token.Grant{}, nil
	}
	return had, nil
}
