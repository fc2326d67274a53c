package auth

import (
	"fmt"
	"time"

	"postern/auth/token"
)

const (
	// leastLeft is how long a token that is handed out is good for, at least.
	leastLeft = time.Minute
	// clockSlack is how far the clock may go back before a token's age is not believed any more.
	clockSlack = time.Minute

	personWait = 15 * time.Minute // between two tries at what a person must mend
	maxWait    = time.Hour        // the most of a server's Retry-After that is obeyed
)

// passingWaits are the waits after failures that pass by themselves, while the current token still works; the last
// repeats. Without a working token the wait is always the first: mail is waiting.
var passingWaits = []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute,
	15 * time.Minute}

// cell is the place of one resource's access token. The login's mu guards it.
type cell struct {
	grant   token.Grant // zero: none
	dueAt   time.Time   // when its successor should be fetched
	flight  *flight     // nil: none under way
	failure *failure    // nil: the last request succeeded
}

// failure is remembered, so that those who wait do not repeat it.
type failure struct {
	err   *token.Error
	since time.Time // of the first in a row
	until time.Time // no request before
	row   int       // how many in a row
}

// good returns the token if it is valid for long enough.
func (c *cell) good(now time.Time) (token.Secret, bool) {
	return c.grant.Access, c.grant.Access != "" && left(c.grant.Token, now) >= leastLeft
}

// left returns how long a token is valid, by the more pessimistic of two clocks: the monotonic one stands still while a
// machine sleeps, and the wall clock may be set back.
func left(t token.Token, now time.Time) time.Duration {
	if now.Round(0).Before(t.Fetched.Round(0).Add(-clockSlack)) {
		return 0
	}
	return min(t.Expiry.Sub(now), t.Expiry.Round(0).Sub(now.Round(0)))
}

// due reports whether the token's successor should be fetched.
func (c *cell) due(now time.Time) bool {
	return !now.Before(c.dueAt) || !now.Round(0).Before(c.dueAt.Round(0))
}

// set takes a new token in. A token that is too short-lived to be handed out is refused.
func (c *cell) set(g token.Grant, now time.Time) *token.Error {
	if l := left(g.Token, now); l < leastLeft {
		text := fmt.Sprintf("the token endpoint gave a token that is good for %v only", max(l, 0).Round(time.Second))
		return &token.Error{Text: text}
	}
	after := g.Expiry.Sub(g.Fetched) / 10 * 8
	if g.RefreshIn > 0 {
		after = min(after, g.RefreshIn)
	}
	c.grant, c.dueAt, c.failure = g, g.Fetched.Add(after), nil
	return nil
}

// fail remembers a failure, and reports whether it is another than the last one.
func (c *cell) fail(err *token.Error, now time.Time) (news bool) {
	f := &failure{err: err, since: now}
	if last := c.failure; last != nil {
		f.since, f.row = last.since, last.row+1
		news = last.err.Text != err.Text || last.err.Person != err.Person
	} else {
		news = true
	}
	f.until = now.Add(c.wait(f, now))
	c.failure = f
	return news
}

// wait is the cool-down after a failure.
func (c *cell) wait(f *failure, now time.Time) time.Duration {
	switch {
	case f.err.Person && f.err.Code == "" && f.err.Number == 0:
		return 0 // found on this machine, without asking anybody: mended, it works at once
	case f.err.Person:
		return personWait
	case f.err.RetryAfter > 0:
		return min(f.err.RetryAfter, maxWait)
	}
	if _, good := c.good(now); !good {
		return passingWaits[0]
	}
	grown := passingWaits[min(f.row, len(passingWaits)-1)]
	return max(passingWaits[0], min(grown, left(c.grant.Token, now)-leastLeft))
}

// cooling returns the remembered failure during its cool-down, nil otherwise.
func (c *cell) cooling(now time.Time) *token.Error {
	if c.failure == nil {
		return nil
	}
	wait := c.failure.until.Sub(now)
	if wait <= 0 || wait > maxWait { // beyond it the clock was set back
		return nil
	}
	err := *c.failure.err
	if !err.Person {
		err.RetryAfter = wait
	}
	return &err
}
