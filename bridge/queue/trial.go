package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

// After a process died with several messages in flight nobody knows which of them killed it, if any did. Each is tried
// alone then, before other mail, so that the next death can be laid at one door, and a message that kills is held at
// maxDeaths without its neighbours. So long may that hold up other mail, for one of them and in all; one that takes
// longer does not kill at once.
const (
	aloneFor    = 30 * time.Second
	aloneForAll = 2 * time.Minute
)

// recover takes up what the former process left: its leases are void and their messages due at once, or in doubt.
func (q *Queue) recover(ctx context.Context) error {
	if err := q.Recall(ctx); err != nil {
		return err
	}
	leased, err := q.store.Find(ctx, Selection{Which: Leased, Limit: math.MaxInt32})
	if err != nil {
		return fmt.Errorf("leases of the former process: %w", err)
	}
	now := q.now()
	err = q.changeAll(ctx, leased, q.unlessDamaged(func(it *Item) error {
		doubtWait := 10 * time.Minute // of an account that was removed
		if a, ok := q.set.Load().accounts[it.Account]; ok {
			doubtWait = a.DoubtWait
		}
		err := it.abandon(len(leased) == 1, now, doubtWait)
		it.conclude(now, q.rules)
		return err
	}))
	if err != nil {
		return fmt.Errorf("leases of the former process: %w", err)
	}
	counts, err := q.store.Counts(ctx)
	if err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	q.seeOrphans(ctx, counts, func(string) bool { return true })
	return q.seedRates(ctx, now)
}

// seeOrphans finds mail of accounts that the configuration does not name any more. It waits as if they were parked.
func (q *Queue) seeOrphans(ctx context.Context, counts []Count, of func(account string) bool) {
	waiting := map[string]int{}
	accounts := q.set.Load().accounts
	for _, c := range counts {
		if _, known := accounts[c.Account]; !known && c.State.waiting() && of(c.Account) {
			waiting[c.Account] += c.N
		}
	}
	for account, n := range waiting {
		q.parks.see(ctx, account, true, q.now())
		q.events.Emit(ctx, slog.LevelError, event.AccountParked, slog.String("account", account), slog.Int("messages", n),
			slog.String("err", "its mail waits, but the configuration has no such account"),
			slog.String("remedy", "configure the account again, or make a new plan: postern queue retry --policy today"))
	}
}

// tryAlone tries the suspects one at a time before anything else is begun, as long as that may take.
func (q *Queue) tryAlone(ctx, work context.Context) {
	until := time.NewTimer(aloneForAll)
	defer until.Stop()
	ids, err := q.suspects(ctx)
	if err != nil {
		q.tellSuspects(ctx, err) // keepTrying comes back to them
	}
	for _, id := range ids {
		each := time.NewTimer(aloneFor)
		ended := q.try(ctx, work, id)
		over := false
		select {
		case <-ended:
		case <-each.C:
		case <-until.C:
			over = true
		case <-ctx.Done():
			over = true
		}
		each.Stop()
		if over {
			return
		}
	}
}

// keepTrying tries the suspects that are left, whose accounts were not open or that there was no time for, one at a
// time, beside other mail.
func (q *Queue) keepTrying(ctx, work context.Context) {
	for ctx.Err() == nil {
		left, err := q.suspects(ctx)
		for _, id := range left {
			select {
			case <-q.try(ctx, work, id):
			case <-ctx.Done():
				return
			}
		}
		switch {
		case err != nil: // nobody else claims them
			q.tellSuspects(ctx, err)
		case len(left) == 0:
			return // only a death makes new ones
		}
		t := time.NewTimer(aloneFor)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (q *Queue) suspects(ctx context.Context) ([]envelope.ID, error) {
	return q.store.Find(ctx, Selection{Which: Suspects, Limit: math.MaxInt32})
}

// tellSuspects tells that nobody knows now which the suspects are.
func (q *Queue) tellSuspects(ctx context.Context, err error) {
	if ctx.Err() == nil {
		q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.Any("err", fmt.Errorf("messages to be tried alone: %w", err)))
	}
}

// tried is what try returns where nothing was begun.
var tried = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// try begins an attempt for a suspect where its account and its rate allow one. The channel is closed when it has ended.
func (q *Queue) try(ctx, work context.Context, id envelope.ID) <-chan struct{} {
	e, err := q.store.Get(ctx, id)
	if err != nil || !e.Item.Suspect {
		return tried
	}
	set := q.set.Load()
	l := set.lanes[e.Item.Account]
	a, known := set.accounts[e.Item.Account]
	if !known {
		return tried
	}
	if free, _ := l.reserve(ctx, a); free == 0 {
		return tried
	} else if free > 1 {
		l.unreserve(a.Name, free-1)
	}
	before := e.Item
	now := q.now()
	take := q.unlessDamaged(func(it *Item) error {
		if !it.Suspect || it.Lease != "" {
			return errLeaseLost
		}
		q.goOn(it, now)
		err := it.claim(now, q.lease, a.OnDoubt)
		it.conclude(now, q.rules)
		return err
	})
	err = q.store.Update(ctx, id, func(it *Item) error {
		err := take(it)
		e.Item = it.Clone()
		return err
	})
	if err == nil && e.Item.Lease != "" {
		return l.begin(work, a, e)
	}
	l.unreserve(a.Name, 1)
	switch {
	case err == nil: // not due yet: it goes like any other when it is; or it is damaged
		after := e.Item
		e.Item = before
		q.tell(ctx, e, after)
	case !errors.Is(err, errLeaseLost) && ctx.Err() == nil:
		q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("queue_id", string(id)), slog.Any("err", err))
	}
	return tried
}
