package queue

import (
	"context"
	"time"
)

// A message that no transport was open for is turned back, and waits until the next one may probe. What it waits for may be
// over before that: a person acted, or another message showed it. Then it is due at once.

// turnedBack reports whether the message waits for a transport to be open.
func (it *Item) turnedBack() bool {
	for _, r := range it.Recipients {
		if r.State == Queued && r.Last.TurnedBack {
			return true
		}
	}
	return false
}

// resume makes due what was turned back.
func (it *Item) resume(now time.Time) {
	for i := range it.Recipients {
		if r := &it.Recipients[i]; r.State == Queued && r.Last.TurnedBack && r.Next.After(now) {
			r.Next = now
		}
	}
}

// mayResume says that a trouble of the lane's accounts may be over.
func (l *lane) mayResume() {
	l.mu.Lock()
	l.resumes++
	for account := range l.turned {
		l.turned[account] = true
	}
	l.mu.Unlock()
	l.poke()
}

// resumed is how often mayResume was called.
func (l *lane) resumed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resumes
}

// turnedBack notes that mail of the account waits so, by an attempt that began after so many calls of mayResume. What
// came to an end meanwhile may have been what it waits for.
func (l *lane) turnedBack(account string, resumes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turned[account] = l.turned[account] || l.resumes != resumes // the attempt's end wakes the lane
}

// resume makes due what was turned back of the account, where that may be due.
func (l *lane) resume(ctx context.Context, account string) error {
	l.mu.Lock()
	may := l.turned[account]
	if may {
		delete(l.turned, account)
	}
	l.mu.Unlock()
	if !may {
		return nil
	}
	now := l.q.now()
	err := l.q.changeFound(ctx, Selection{Which: Later, Account: account, Before: now}, func(it *Item) error { it.resume(now); return nil }, func() {})
	if err != nil {
		l.mu.Lock()
		l.turned[account] = true
		l.mu.Unlock()
	}
	return err
}
