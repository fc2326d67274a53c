package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// How often what waits is looked after. A message whose age stands still, or that a person holds, is looked at seldom.
const (
	watchEvery  = time.Minute
	watchSeldom = time.Hour
	watchBatch  = 200 // messages changed in one transaction
)

// watch looks after what waits by age, and makes the reports that are owed, until ctx ends. After a failure nothing but time
// wakes it: a report that is refused for want of room owes again at once.
func (q *Queue) watch(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		err := q.lookAfter(ctx)
		if err != nil && ctx.Err() == nil {
			q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.Any("err", err))
		}
		sleep, owes := watchEvery, q.owes
		if err != nil || len(q.unreported) > 0 {
			sleep, owes = storePause(failures), nil
			failures++
		} else {
			failures = 0
		}
		t := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
		case <-owes:
		case <-t.C:
		}
		t.Stop()
	}
}

func (q *Queue) lookAfter(ctx context.Context) error {
	// Each is done whatever became of the one before: a message that cannot be read must not keep reports back.
	var errs []error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{{"the clock", q.mindClock}, {"messages by age", q.lookAtAge}, {"senders without a right", q.lookAtLacks}, {"reports", q.report}, {"delete what is not needed any more", q.purge},
		{"accounts that are gone", q.forgetGone}} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

// lookAtAge warns of what is late, and ends what is too old. Mail of a route that is down is not claimed but for one
// message that probes, so nobody else would end it.
func (q *Queue) lookAtAge(ctx context.Context) error {
	for ctx.Err() == nil {
		now := q.now()
		ids, err := q.store.Find(ctx, Selection{Which: Watched, Before: now, Limit: watchBatch})
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := q.changeAll(ctx, ids, q.unlessDamaged(func(it *Item) error { return q.look(it, now) })); err != nil {
			return err
		}
		if len(ids) < watchBatch {
			return nil
		}
	}
	return nil
}

// look decides about one message by its age, and when it is looked at again.
func (q *Queue) look(it *Item, now time.Time) error {
	switch it.State() {
	case Sending:
		it.Watch = now.Add(watchEvery)
		return nil
	case Held, Relayed, Failed: // a person may have moved it; conclude knows what is final
		it.Watch = now.Add(watchSeldom)
		it.conclude(now, q.rules)
		return nil
	}
	still, age := q.stoodStill(it, now), now.Sub(q.born(it, now))
	_, stands := it.stands()
	parked := stands || q.parks.parked(it.Account)
	tooOld := age > q.schedule.GiveUpAfter && !parked
	switch {
	case still > q.parkLimit:
		why := fmt.Sprintf("its account was parked for longer than %s (park_limit)", q.parkLimit)
		return q.outlived(it, now, func(r *Recipient) error {
			r.Last.Err = why
			cause := r.Last.Remedy // of the parking
			r.waitForPerson(it.ID)
			if cause != "" {
				r.Last.Remedy = cause + "; then " + r.Last.Remedy
			}
			return r.move(Held, time.Time{})
		})
	case tooOld && q.sparing(it, now):
		it.Watch = now.Add(watchSeldom)
		return nil
	case tooOld:
		return q.outlived(it, now, func(r *Recipient) error {
			if r.Last.At.IsZero() && r.Last.Owner == reply.Nobody {
				r.Last.Owner, r.Last.Err = reply.Route, fmt.Sprintf("it could not be relayed within %s (give_up_after)", q.schedule.GiveUpAfter)
			}
			return r.giveUp()
		})
	case q.warnAfter > 0 && age >= q.warnAfter && !it.Warned:
		it.Warned = true
		if q.rules.reports {
			it.Owed = OwedLate
		}
	}
	next := min(q.schedule.GiveUpAfter-age, q.parkLimit-still) + time.Second
	if !it.Warned && q.warnAfter > 0 {
		next = min(next, q.warnAfter-age)
	}
	if parked {
		next = min(watchSeldom, max(q.parkLimit-still+time.Second, time.Second))
	}
	it.Watch = now.Add(max(next, time.Second))
	return nil
}

// sparing reports whether a message is too old, but its next attempt decides: it is due and may go, or becomes due. Nobody
// tried it while the program did not run or the machine slept, or where the clock was wrong when it came; and then its
// transport may need a while to be up. A pause that has just begun does not end what waited for its turn at the rate.
func (q *Queue) sparing(it *Item, now time.Time) bool {
	if now.Before(q.spared) {
		return true
	}
	next, clock := it.Next(), q.clock()
	gate := q.relayer.Gate(it.Account, clock)
	due := it.Suspect || it.turnedBack() || !next.IsZero() && !next.After(now)
	return due && (gate.Limit > 0 || passing(gate.Since, clock))
}

// passing reports whether a trouble that began then is too young to end what nobody tried meanwhile.
func passing(since, now time.Time) bool { return now.Sub(since).Abs() < watchSeldom }

// outlived ends the waiting of each recipient that still waits.
func (q *Queue) outlived(it *Item, now time.Time, end func(*Recipient) error) error {
	it.Watch, it.Suspect = now.Add(watchSeldom), false
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if !r.State.waiting() {
			continue
		}
		if err := end(r); err != nil {
			return err
		}
	}
	it.conclude(now, q.rules)
	return nil
}

// changeAll changes the messages in one transaction and tells what became of each.
func (q *Queue) changeAll(ctx context.Context, ids []envelope.ID, change func(*Item) error) error {
	before, after := make(map[envelope.ID]Item, len(ids)), make(map[envelope.ID]Item, len(ids))
	err := q.store.UpdateAll(ctx, ids, func(it *Item) error {
		before[it.ID] = it.Clone()
		err := change(it)
		after[it.ID] = it.Clone()
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		b, a := before[id], after[id]
		if a.ID == "" || a.State() == b.State() && a.Damage == nil {
			continue
		}
		e, err := q.store.Get(ctx, id)
		if err != nil {
			e = Entry{} // told without user and Message-ID
		}
		e.Item = b
		q.tell(ctx, e, a)
	}
	return nil
}

// report makes the reports that are owed. What the reporter cannot take now is told once and asked again later, and does
// not hold up the others.
func (q *Queue) report(ctx context.Context) error {
	if q.reporter == nil {
		return nil
	}
	failed := map[envelope.ID]bool{}
	for ctx.Err() == nil {
		ids, err := q.store.Find(ctx, Selection{Which: Owing, Limit: watchBatch + len(failed)})
		if err != nil {
			return err
		}
		progress := false
		for _, id := range ids {
			if failed[id] || ctx.Err() != nil {
				continue
			}
			progress = true
			if err := q.reportOne(ctx, id); err != nil {
				failed[id] = true
				if !q.unreported[id] && ctx.Err() == nil {
					q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("queue_id", string(id)), slog.Any("err", err))
				}
			}
		}
		if !progress {
			q.unreported = failed
			return nil
		}
	}
	return nil
}

func (q *Queue) reportOne(ctx context.Context, id envelope.ID) error {
	e, err := q.store.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	if e.Item.Damage != nil { // nobody can say of whom to report
		return q.changeAll(ctx, []envelope.ID{id}, q.unlessDamaged(func(*Item) error { return nil }))
	}
	owed := e.Item.Owed
	r := Report{Entry: e, Late: owed == OwedLate}
	if r.Late {
		r.Until = q.born(&e.Item, q.now()).Add(q.schedule.GiveUpAfter)
	}
	if err := q.reporter.Report(ctx, r); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return q.store.Update(ctx, id, func(it *Item) error {
		for i, was := range e.Item.Recipients {
			if was.State == Failed && i < len(it.Recipients) && it.Recipients[i] == was {
				it.Recipients[i].Last.Told = true
			}
		}
		if it.Owed == owed { // else it failed after it was late
			it.Owed = OwedNothing
		}
		return nil
	})
}

// purgePause lets mail pass between two steps of a large purge.
const purgePause = 20 * time.Millisecond

// purge deletes what is kept no longer, a little at a time.
func (q *Queue) purge(ctx context.Context) error {
	now := q.now()
	p := Purge{History: now.Add(-q.keepHistory), Failed: now.Add(-q.keepFailed), Short: q.space.isShort()}
	if !q.rules.keepBodies {
		p.Relayed = now // some may be left from when they were kept
	}
	for ctx.Err() == nil {
		more, err := q.store.Purge(ctx, p)
		if err != nil || !more {
			return err
		}
		t := time.NewTimer(purgePause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}
