package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"postern/auth/token"
	"postern/auth/vault"
)

// saveWait is how long a store that could not be written is left alone.
const saveWait = 30 * time.Second

// signIn is a person's sign-in: what the vault keeps of one login.
type signIn struct {
	Refresh  token.Secret
	SignedIn time.Time // when the person signed in
	Received time.Time // when this refresh token came
	Used     time.Time // when it last worked, as noted once a day where no new one comes; zero: not since it came
	User     string    // who signed in, where the provider said it
}

// stored is a sign-in as it stands in the vault; nothing else may encode a secret.
type stored struct {
	Refresh  string    `json:"refresh"`
	SignedIn time.Time `json:"signed_in"`
	Received time.Time `json:"received"`
	Used     time.Time `json:"used,omitzero"`
	User     string    `json:"user,omitempty"`
}

// rotated is the sign-in with the refresh token that came in a grant.
func (s signIn) rotated(g token.Grant) signIn {
	s.Refresh = g.Refresh
	s.Received, s.Used = later(g.Fetched, s.Received), time.Time{}
	if g.User != "" {
		s.User = g.User
	}
	return s
}

// newer reports whether s should stand where both claim the same place: the later sign-in, then the later token.
func (s signIn) newer(than signIn) bool {
	if !s.SignedIn.Equal(than.SignedIn) {
		return s.SignedIn.After(than.SignedIn)
	}
	return s.Received.After(than.Received)
}

// later returns now, or the moment after t where the clock has been set back since t: what comes later must look later.
func later(now, t time.Time) time.Time {
	now = now.UTC().Round(0)
	if now.After(t) {
		return now
	}
	return t.Add(time.Nanosecond)
}

// unsaved is a sign-in that the store has not taken yet.
type unsaved struct {
	signIn
	err  error     // the store's
	next time.Time // no further try before
}

// entry is the name in the vault.
func (k loginKey) entry() string { return "token/" + k.provider + "/" + k.login }

// readSignIn returns what the store has, and its revision also with vault.ErrDamaged.
func readSignIn(store Store, entry string) (signIn, uint64, error) {
	value, rev, err := store.Get(entry)
	if err != nil {
		return signIn{}, rev, err
	}
	var has stored
	if json.Unmarshal(value, &has) != nil || has.Refresh == "" {
		return signIn{}, rev, fmt.Errorf("entry %q is no sign-in: %w", entry, vault.ErrDamaged)
	}
	return signIn{token.Secret(has.Refresh), has.SignedIn, has.Received, has.Used, has.User}, rev, nil
}

// keep stores the sign-in, or holds it in memory until the store takes it. The turn must be held.
func (l *login) keep(s signIn) []Change {
	err := l.save(s)
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.unsaved
	if err == nil {
		l.unsaved = nil
		if was != nil {
			return []Change{l.change(Stored, func(*Change) {})}
		}
		return nil
	}
	l.unsaved = &unsaved{signIn: s, err: err, next: l.now().Add(saveWait)}
	if was != nil {
		return nil
	}
	return []Change{l.change(NotStored, func(c *Change) { c.Err = notStored(err) })}
}

func notStored(err error) *token.Error {
	return &token.Error{
		Person: true,
		Text:   "the new refresh token could not be written to the vault and is used from memory; it is lost if Postern stops now",
		Remedy: "make room on the disk of data_dir and see that postern may write there; Postern tries again by itself",
		Err:    err,
	}
}

// save writes the sign-in unless the store has a newer one, which another process put there; then that one stands.
func (l *login) save(s signIn) error {
	value, err := json.Marshal(stored{s.Refresh.Reveal(), s.SignedIn, s.Received, s.Used, s.User})
	if err != nil {
		return err
	}
	for {
		has, rev, err := readSignIn(l.store, l.key.entry())
		if err == nil && has.newer(s) {
			return nil
		}
		if err != nil && !errors.Is(err, vault.ErrNotFound) && !errors.Is(err, vault.ErrDamaged) {
			return err
		}
		if _, err = l.store.Swap(l.key.entry(), rev, value); !errors.Is(err, vault.ErrChanged) {
			return err
		}
	}
}

func (l *login) hasUnsaved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsaved != nil
}

// saveAgain tries once more. The turn must be held.
func (l *login) saveAgain(ctx context.Context) error {
	l.mu.Lock()
	u := l.unsaved
	l.mu.Unlock()
	if u == nil {
		return nil
	}
	l.tell(ctx, l.keep(u.signIn))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unsaved == nil {
		return nil
	}
	return fmt.Errorf("sign-in of %s: %w", l.is().shown, l.unsaved.err)
}

// catchUp tries again to store what could not be stored, at most every saveWait, and only if nobody has the turn: who has
// it stores by himself.
func (l *login) catchUp(ctx context.Context) {
	l.mu.Lock()
	wanted := l.unsaved != nil && !l.now().Before(l.unsaved.next)
	l.mu.Unlock()
	if !wanted {
		return
	}
	select {
	case l.turn <- struct{}{}:
		defer l.leave()
		_ = l.saveAgain(ctx) // States shows it
	default:
	}
}
