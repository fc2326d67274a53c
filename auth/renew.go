package auth

import (
	"context"
	"time"
)

const (
	// renewAfter is the age at which an unused refresh token is used once: weekly at the latest, with a day to spare for a
	// token endpoint that is down. Entra lets one die after 90 days without use, other providers sooner.
	renewAfter = 6 * 24 * time.Hour
	// noteUseAfter is how old the note of the last use may get where the server never sends a new refresh token.
	noteUseAfter = 24 * time.Hour
)

// IdleLife is how long a refresh token lives without use ("Refresh tokens in the Microsoft identity platform", read in
// November 2026).
const IdleLife = 90 * 24 * time.Hour

// Renew uses every refresh token that has not been used for almost a week, one after the other, so that the sign-in of an
// idle account does not die, and a dead one is known before mail waits for it. The hall calls it every hour. Failures are
// told like those of any request, and tried again at a later call.
func (a *Accounts) Renew(ctx context.Context) {
	for l := range a.eachLogin {
		if ctx.Err() == nil && l.idle() {
			_, _ = l.token(ctx, l.is().first) // Notify hears why
		}
	}
}

// idle reports whether the refresh token should be used for its own sake.
func (l *login) idle() bool {
	if l.key.appOnly || l.is().first == "" {
		return false
	}
	l.mu.Lock()
	here := l.used
	l.mu.Unlock()
	now := l.now()
	if !here.IsZero() && within(now, here, renewAfter) {
		return false
	}
	s, err := l.load()
	return err == nil && !within(now, s.lastUse(), renewAfter)
}

// within reports whether t is less than d ago. What lies ahead was noted by a clock that has been set back since, and is
// not believed; nor is the monotonic clock where the wall clock says that more has passed, because a machine sleeps.
func within(now, t time.Time, d time.Duration) bool {
	passed := max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
	return passed >= -clockSlack && passed < d
}

// lastUse is when the refresh token was last known to work.
func (s signIn) lastUse() time.Time {
	if s.Used.After(s.Received) {
		return s.Used
	}
	return s.Received
}

// touch remembers that the refresh token has just worked.
func (l *login) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = l.now()
}

// noteUse writes that down once a day where no new refresh token says it. The turn must be held.
func (l *login) noteUse(s signIn) []Change {
	now := l.now()
	if within(now, s.lastUse(), noteUseAfter) {
		return nil
	}
	s.Used = now.UTC().Round(0)
	return l.keep(s)
}
