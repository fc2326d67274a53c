package queue

import (
	"context"
	"time"
)

// The times in the store are the wall clock's, which somebody may set while mail waits, or while no daemon runs.

// longestWait is longer than what a message waits for its next attempt: messageWaits and senderWaits with their jitter, and
// what a server may ask for. Only a doubt's wait is the configuration's.
const longestWait = 70 * time.Minute

// mindClock notices at the start, and when it is called after a minute, that the clock was set or the machine slept. What
// became too old meanwhile is spared for a while, and what is due only in a future that no wait reaches is due now.
func (q *Queue) mindClock(ctx context.Context) error {
	now := q.now()
	if gap := now.Sub(q.looked); gap < 0 || gap > watchSeldom {
		q.spared = now.Add(watchSeldom)
		if err := q.pullBack(ctx, now); err != nil {
			return err
		}
	}
	q.looked = now
	return nil
}

// pullBack has mail and senders tried that a clock has put off which was ahead.
func (q *Queue) pullBack(ctx context.Context, now time.Time) error {
	set := q.set.Load()
	for account, l := range set.lanes {
		l.mu.Lock()
		for _, s := range l.senders {
			if s.until.After(now.Add(longestWait)) {
				s.until = now
			}
		}
		l.mu.Unlock()
		doubtWait := set.accounts[account].DoubtWait
		err := q.changeFound(ctx, Selection{Which: Ahead, Account: account, Before: now.Add(longestWait)}, func(it *Item) error {
			if it.Damage == nil && it.pullBack(now, doubtWait) {
				it.Watch = now
				if it.begun().After(now) {
					q.startOver(it, now)
				}
			}
			return nil
		}, l.poke)
		if err != nil {
			return err
		}
	}
	return nil
}

// pullBack makes due what is put off for longer than anything may be, and reports whether something was. What is in doubt
// waits anew.
func (it *Item) pullBack(now time.Time, doubtWait time.Duration) (pulled bool) {
	for i := range it.Recipients {
		r := &it.Recipients[i]
		next, most := now, now.Add(longestWait)
		switch {
		case !r.State.waiting():
			continue
		case r.State == InDoubt:
			next, most = now.Add(doubtWait), now.Add(max(doubtWait, longestWait))
		case r.Last == (Last{}) && it.Accepted.After(now):
			next = now.Add(r.Next.Sub(it.Accepted))
		case r.Last == (Last{}): // its plan puts the first attempt off, perhaps for long
			continue
		}
		if r.Next.After(most) && next.Before(r.Next) {
			r.Next, pulled = next, true
		}
	}
	return pulled
}
