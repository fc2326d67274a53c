package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

// After a process died with several messages in flight nobody knows which of them killed it, if any did. These are the
// suspects, and each is put on trial: they are begun one after the other, and the one on trial is a suspect until its
// attempt has ended. The next death is laid at its door, whatever else is in flight beside it, or at that of the only
// message in flight. So a message that kills is held at maxDeaths without its neighbours; and because those of the fewest
// deaths are tried first, what was only beside it is sent before anybody can take it for the killer again.
//
// What hangs must not keep the others back. What kills does so at once, mostly: one that takes longer than aloneFor is not on
// trial any more when the next begins. When all were tried and one alone of these has not ended it is on trial again, for
// what kills late. Where several hang nobody is blamed for a death after that.
//
// Accounts that have no suspect do not wait for any of this. The others wait until theirs were begun, at most aloneForAll,
// because a busy account would leave them no place.
const (
	aloneFor    = time.Second
	aloneForAll = 5 * time.Second
	tryAgain    = 30 * time.Second // suspects that are left: their accounts were not open
)

// recover takes up what the former process left: its leases are void and their messages due at once, or in doubt.
func (q *Queue) recover(ctx context.Context) error {
	if err := q.Recall(ctx); err != nil {
		return err
	}
	if err := q.VoidLeases(ctx); err != nil {
		return err
	}
	counts, err := q.store.Counts(ctx)
	if err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	q.seeOrphans(ctx, counts, func(string) bool { return true })
	return q.seedRates(ctx)
}

// VoidLeases does what recover does with messages that were in flight, for a person's order where no Run follows: nobody is
// sending them. The caller knows that no process uses the store. It is all of them or none, or the next start would blame
// the one that is left.
func (q *Queue) VoidLeases(ctx context.Context) error {
	leased, err := q.store.Find(ctx, Selection{Which: Leased, Limit: math.MaxInt32})
	if err != nil {
		return fmt.Errorf("leases of the former process: %w", err)
	}
	blamed, err := q.blame(ctx, leased)
	if err != nil {
		return fmt.Errorf("leases of the former process: %w", err)
	}
	now := q.now()
	err = q.changeAll(ctx, leased, q.unlessDamaged(func(it *Item) error {
		doubtWait, onDoubt := 10*time.Minute, Resend // of an account that was removed
		if a, ok := q.set.Load().accounts[it.Account]; ok {
			doubtWait, onDoubt = a.DoubtWait, a.OnDoubt
		}
		err := it.abandon(it.ID == blamed, now, doubtWait, onDoubt)
		it.conclude(now, q.rules)
		return err
	}))
	if err != nil {
		return fmt.Errorf("leases of the former process: %w", err)
	}
	return nil
}

// blame returns which of those that were in flight when the process died it is laid at the door of, "" for none.
func (q *Queue) blame(ctx context.Context, leased []envelope.ID) (blamed envelope.ID, err error) {
	if len(leased) == 1 {
		return leased[0], nil
	}
	for _, id := range leased {
		e, err := q.store.Get(ctx, id)
		if err != nil {
			return "", err
		}
		if e.Item.Suspect {
			blamed = id // there is one at most
		}
	}
	return blamed, nil
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

// suspect is one that is to be tried, or whose attempt goes on.
type suspect struct {
	id      envelope.ID
	account string
	ended   <-chan struct{} // of the attempt
}

// seeSuspects finds the suspects, tells of them, and has their lanes wait until begun is called.
func (q *Queue) seeSuspects(ctx context.Context) (list []suspect, begun func()) {
	list, err := q.suspects(ctx)
	if err != nil {
		q.tellSuspects(ctx, err) // tryAlone comes back to them
	}
	trial := make(chan struct{})
	lanes := q.set.Load().lanes
	var accounts []string
	for _, s := range list {
		if l := lanes[s.account]; l != nil {
			l.mu.Lock()
			l.trial = trial
			l.mu.Unlock()
		}
		if !slices.Contains(accounts, s.account) {
			accounts = append(accounts, s.account)
		}
	}
	if len(list) > 0 {
		q.events.Emit(ctx, slog.LevelWarn, event.QueueTried, slog.Int("messages", len(list)), slog.Any("accounts", accounts),
			slog.String("means", "the process has died while they were being sent: they are tried one at a time, before other mail of their accounts"))
	}
	return list, sync.OnceFunc(func() { close(trial) })
}

// awaitTrial waits until the suspects of the lane have been tried.
func (l *lane) awaitTrial(ctx context.Context) {
	l.mu.Lock()
	trial := l.trial
	l.mu.Unlock()
	if trial != nil {
		select {
		case <-trial:
		case <-ctx.Done():
		}
	}
}

// tryAlone tries the suspects until there are none, and calls begun when each was tried or none can wait longer.
func (q *Queue) tryAlone(ctx, work context.Context, list []suspect, begun func()) {
	t := &trial{q: q}
	patience := time.AfterFunc(aloneForAll, begun)
	t.try(ctx, work, list)
	patience.Stop()
	begun()
	for ctx.Err() == nil {
		var err error
		if list, err = q.suspects(ctx); err != nil {
			q.tellSuspects(ctx, err)
		} else if len(list)+len(t.late) == 0 {
			return // only a death makes new ones
		}
		t.wait(ctx)
		t.try(ctx, work, list)
	}
}

// trial is who is tried now. At most one is on trial: a suspect with a lease.
type trial struct {
	q    *Queue
	late []suspect   // whose attempts have taken longer than aloneFor
	on   envelope.ID // which of these is on trial; "" for none
}

// try tries each once and returns when it has ended or takes too long to wait for.
func (t *trial) try(ctx, work context.Context, list []suspect) {
	for len(list) > 0 && ctx.Err() == nil {
		// However many of an account hang, the others wait for one of them.
		n := max(0, slices.IndexFunc(list, func(s suspect) bool {
			return !slices.ContainsFunc(t.late, func(l suspect) bool { return l.account == s.account })
		}))
		s := list[n]
		list = slices.Delete(list, n, n+1)
		t.put(ctx, "")
		s.ended = t.q.try(ctx, work, s.id)
		moment := time.NewTimer(aloneFor)
		select {
		case <-s.ended:
		case <-moment.C:
			t.late, t.on = append(t.late, s), s.id
		case <-ctx.Done():
		}
		moment.Stop()
	}
	t.look(ctx)
}

// wait waits for tryAgain, and has an eye on the late meanwhile.
func (t *trial) wait(ctx context.Context) {
	tick := time.NewTicker(aloneFor)
	defer tick.Stop()
	for range tryAgain / aloneFor {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.look(ctx)
		}
	}
}

// look puts the last of the late on trial.
func (t *trial) look(ctx context.Context) {
	t.late = slices.DeleteFunc(t.late, func(s suspect) bool {
		select {
		case <-s.ended:
			return true
		default:
			return false
		}
	})
	last := envelope.ID("")
	if len(t.late) == 1 {
		last = t.late[0].id
	}
	t.put(ctx, last)
}

// put puts one of the late on trial in place of another, "" nobody.
func (t *trial) put(ctx context.Context, on envelope.ID) {
	if t.on == on {
		return
	}
	for _, id := range []envelope.ID{t.on, on} {
		if id == "" {
			continue
		}
		err := t.q.store.Update(ctx, id, func(it *Item) error {
			if it.Lease != t.q.lease {
				return errLeaseLost // its attempt has ended
			}
			it.Suspect = id == on
			return nil
		})
		if err != nil && !errors.Is(err, errLeaseLost) && !errors.Is(err, ErrNotFound) {
			t.q.tellSuspects(ctx, err)
		}
	}
	t.on = on
}

// suspects are those that are not being tried.
func (q *Queue) suspects(ctx context.Context) (list []suspect, err error) {
	ids, err := q.store.Find(ctx, Selection{Which: Suspects, Limit: math.MaxInt32})
	for _, id := range ids {
		e, err := q.store.Get(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return list, err
		case e.Item.Lease == "":
			list = append(list, suspect{id: id, account: e.Item.Account})
		}
	}
	return list, err
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
	l.claiming.Lock()
	defer l.claiming.Unlock()
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
		it.Suspect = it.Lease != "" // on trial
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
