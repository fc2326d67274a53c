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
	for account, l := range q.set.Load().lanes {
		l.mu.Lock()
		for _, s := range l.senders {
			if s.until.After(now.Add(longestWait)) {
				s.until = now
			}
		}
		l.mu.Unlock()
		s := Selection{Which: Ahead, Account: account, Before: now.Add(longestWait)}
		err := q.changeFound(ctx, s, func(it *Item) error { q.pullBackItem(it, now); return nil }, l.poke)
		if err != nil {
			return err
		}
	}
	return nil
}

// pullBackItem does it for one message. It is also called where one is claimed, and where a lease ends or a person changed
// something: pullBack does not find who waits beside a recipient that is being sent to or is due, nor what is a suspect.
func (q *Queue) pullBackItem(it *Item, now time.Time) {
	if it.Damage != nil || !it.pullBack(now, q.set.Load().accounts[it.Account].DoubtWait) {
		return
	}
	it.Watch = now
	if it.Begun().After(now) {
		q.startOver(it, now)
	}
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
		case r.planned() && it.Accepted.After(now):
			next = now.Add(r.Next.Sub(it.Accepted))
		case r.planned(): // perhaps for long
			continue
		}
		if r.Next.After(most) && next.Before(r.Next) {
			r.Next, pulled = next, true
		}
	}
	return pulled
}

// planned reports whether only its plan puts the recipient off: nobody has tried it, or had it tried.
func (r *Recipient) planned() bool { return r.State == Queued && r.Attempts == 0 && r.Last == (Last{}) }
