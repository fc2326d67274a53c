package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Action is what a person does with messages.
type Action string

// The actions of `postern queue`.
const (
	Retry     Action = "retry"   // try again at once, as if it had just come in
	HoldBack  Action = "hold"    // nothing is sent until Release or Retry
	Release   Action = "release" // ends that
	Drop      Action = "drop"    // give up without a report, and delete the body
	MarkAsOut Action = "sent"    // it went out: ends a doubt
)

// Order is what a person wants done.
type Order struct {
	Action Action
	By     string // the person, for the audit line and the listing

	// Replan makes today's plan for a message, for Retry; nil keeps the plan. Message-ID, Date and X-Postern-Id must stay.
	Replan func(ctx context.Context, e Entry) (message.Plan, error)

	onlyWaiting bool // of Retry in bulk: leaves recipients alone that are held, in doubt or failed
}

// ParseAction returns the action of that name.
func ParseAction(text string) (Action, error) {
	all := []Action{Retry, HoldBack, Release, Drop, MarkAsOut}
	if a := Action(text); slices.Contains(all, a) {
		return a, nil
	}
	return "", fmt.Errorf("%.20q is not what can be done with mail: %v are", text, all)
}

// errNotNow: an attempt is on its way; nobody can take the message from it.
var errNotNow = errors.New("it is being sent at this moment; try again")

// Change carries out an order on one message. An error says in a person's words why the message stays as it is.
func (q *Queue) Change(ctx context.Context, id envelope.ID, o Order) error {
	e, err := q.store.Get(ctx, id)
	if err != nil {
		return err
	}
	var plan *message.Plan
	if o.Action == Retry && o.Replan != nil {
		if plan, err = q.replan(ctx, e, o); err != nil {
			return err
		}
	}
	var before, after Item
	err = q.store.Update(ctx, id, func(it *Item) error {
		before = it.Clone()
		err := q.carryOut(it, o, e.HasBody, plan)
		after = it.Clone()
		return err
	})
	if err != nil {
		return err
	}
	q.carriedOut(ctx, o, e, before, after)
	return nil
}

// replan asks for today's plan where one may be made.
func (q *Queue) replan(ctx context.Context, e Entry, o Order) (*message.Plan, error) {
	accounts := q.set.Load().accounts
	_, known := accounts[e.Item.Account]
	stuck := slices.ContainsFunc(e.Item.Recipients, func(r Recipient) bool {
		return r.State == Failed || r.State == Held || r.State == Deferred && r.SenderWaits > 0
	})
	switch {
	case !stuck && known:
		return nil, fmt.Errorf("it is %s; a new plan is made for mail that has failed, is held, or waits for a right of its sender", e.Item.State())
	case !e.HasBody:
		return nil, errors.New("its body is not kept any more")
	case e.Damage != nil:
		return nil, e.Damage
	}
	plan, err := o.Replan(ctx, e)
	if err != nil {
		return nil, err
	}
	if _, known := accounts[plan.Account]; !known && len(accounts) > 0 {
		return nil, fmt.Errorf("there is no account %.60q", plan.Account)
	}
	return &plan, nil
}

// carryOut changes one item, or says why not and may have spoilt it.
func (q *Queue) carryOut(it *Item, o Order, hasBody bool, plan *message.Plan) (err error) {
	now := q.now()
	if it.Lease != "" {
		return errNotNow
	}
	switch o.Action {
	case HoldBack:
		err = it.holdBack(o)
	case Release:
		err = q.release(it, o, now)
	case Retry:
		if err = q.retry(it, now, hasBody, retrying{plan, o.onlyWaiting, o.By}); err == nil {
			q.probeAnew(it)
		}
	case Drop:
		return q.drop(it, o, now, hasBody)
	case MarkAsOut:
		err = it.moveAll(Relayed, time.Time{}, "marked as sent by "+o.By, func(r Recipient) bool { return r.State == Held || r.State == InDoubt },
			"only mail that is held or in doubt can be marked as sent")
	default:
		return fmt.Errorf("%.20q is not what can be done with mail", o.Action)
	}
	if err != nil {
		return err
	}
	it.Suspect = false
	q.pullBackItem(it, now)
	it.conclude(now, q.rules)
	return nil
}

// holdBack holds what waits, and says how it goes on. The transport of a doubt is kept: by another one the copy could
// never be recognised.
func (it *Item) holdBack(o Order) error {
	match := func(r Recipient) bool { return r.State.waiting() }
	held := make([]bool, len(it.Recipients))
	for i, r := range it.Recipients {
		held[i] = match(r)
	}
	if err := it.moveAll(Held, time.Time{}, "held by "+o.By, match, "there is nothing to hold"); err != nil {
		return err
	}
	for i := range it.Recipients {
		if held[i] {
			it.Recipients[i].waitForPerson(it.ID)
		}
	}
	return nil
}

// waitForPerson puts what lets a held recipient go in the place of what an earlier attempt would have needed.
func (r *Recipient) waitForPerson(id envelope.ID) {
	if r.Doubts > 0 { // release would refuse it
		r.Last.Remedy = fmt.Sprintf("look into Sent Items, then run: postern queue sent %s, or: postern queue retry %s", id, id)
		return
	}
	r.Last.Transport, r.Last.Remedy = "", fmt.Sprintf("run: postern queue release %s", id)
}

// moveAll moves the recipients that match and says why in the listing; otherwise why it did nothing.
func (it *Item) moveAll(to State, next time.Time, why string, match func(Recipient) bool, nothing string) error {
	moved := false
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if !match(*r) {
			continue
		}
		if err := r.move(to, next); err != nil {
			return err
		}
		if why != "" {
			r.Last.Err, r.Last.Remedy = why, "" // the person who moved it has seen to that
		}
		if to == Failed { // a person gave up, and no server
			r.Last.Reply, r.Last.Means = reply.Reply{}, ""
		}
		r.Last.ByPerson = to == Relayed
		moved = true
	}
	if !moved {
		return fmt.Errorf("%s: it is %s", nothing, it.State())
	}
	return nil
}

// release lets held mail go, but for what may have gone out already.
func (q *Queue) release(it *Item, o Order, now time.Time) error {
	if slices.ContainsFunc(it.Recipients, func(r Recipient) bool { return r.State == Held && r.Doubts > 0 }) {
		return errors.New("it may have gone out already; look into Sent Items, then end the doubt by: postern queue sent, or queue retry")
	}
	if it.Damage != nil {
		return errDamaged(it)
	}
	err := it.moveAll(Queued, now, "released by "+o.By, func(r Recipient) bool { return r.State == Held }, "there is nothing to release")
	if err != nil {
		return err
	}
	q.startOver(it, now)
	return nil
}

// retrying says how to retry.
type retrying struct {
	plan        *message.Plan // today's; nil: the one it has
	onlyWaiting bool
	by          string
}

// retry has everything tried at once that is not relayed. What was in doubt stays a second try: a refusal as a duplicate
// means relayed then, and a second doubt is held.
func (q *Queue) retry(it *Item, now time.Time, hasBody bool, how retrying) error {
	if it.State() == Relayed {
		return errors.New("it is relayed")
	}
	if !hasBody {
		return errors.New("its body is not kept any more")
	}
	if it.Damage != nil {
		return errDamaged(it)
	}
	if plan := how.plan; plan != nil {
		it.NewPlan, it.Account, it.Sender = plan, plan.Account, plan.HeaderFrom.Key()
	}
	over := false
	for i := range it.Recipients {
		r := &it.Recipients[i]
		switch {
		case r.State == Relayed, how.onlyWaiting && r.State != Queued && r.State != Deferred:
			continue
		case r.State == Queued:
			over = over || r.planned() && r.Next.After(now) // its age had not begun
			r.Next = now
			if r.Last == (Last{}) {
				r.Last.Err = "tried again by " + how.by // and not when its plan says
			}
		default:
			if r.State == Failed || r.State == Held {
				over = true
				r.Last.Err, r.Last.Remedy = "tried again by "+how.by, "" // what was to be done is done
			}
			if err := r.move(Queued, now); err != nil {
				return err
			}
		}
		r.Attempts, r.SenderWaits, r.Doubts, r.Last.Looks, r.Last.Own = 0, 0, min(r.Doubts, 1), 0, 0
	}
	if over || how.plan != nil {
		q.startOver(it, now)
	}
	return nil
}

// startOver lets the age of a message begin again, and what follows from age.
func (q *Queue) startOver(it *Item, now time.Time) {
	it.Retried, it.Parked = now, q.parks.total(it.Account, now)
	for i := range it.Recipients {
		it.Recipients[i].Last.Age = 0
	}
	it.Warned, it.Owed, it.Deaths = false, OwedNothing, 0
	it.Watch = q.firstWatch(now)
}

// drop ends the message. A person knows about it, so nobody gets a report.
func (q *Queue) drop(it *Item, o Order, now time.Time, hasBody bool) error {
	open := func(r Recipient) bool { return !r.State.Final() }
	if it.State() == Relayed || it.State() == Failed && !hasBody {
		return fmt.Errorf("there is nothing to drop: it is %s", it.State())
	}
	if slices.ContainsFunc(it.Recipients, open) {
		if err := it.moveAll(Failed, time.Time{}, "dropped by "+o.By, open, ""); err != nil {
			return err
		}
	}
	it.Suspect = false
	it.conclude(now, q.rules)
	it.Owed, it.DropBody = OwedNothing, hasBody
	return nil
}

// HoldEverything holds all mail that is not final, before Run: nobody knows what another copy of this store has sent
// meanwhile. It returns how many messages it held.
func (q *Queue) HoldEverything(ctx context.Context, why string) (held int, err error) {
	for _, state := range []State{Sending, Queued, Deferred, InDoubt} {
		f := Filter{State: state, Limit: watchBatch}
		for {
			page, err := q.store.List(ctx, f)
			if err != nil {
				return held, err
			}
			if len(page) == 0 {
				break
			}
			var ids []envelope.ID
			for _, e := range page {
				ids = append(ids, e.Item.ID)
			}
			f.After = ids[len(ids)-1]
			if err := q.store.UpdateAll(ctx, ids, func(it *Item) error { return q.holdForeign(it, why) }); err != nil {
				return held, err
			}
			held += len(ids)
		}
	}
	return held, nil
}

// holdForeign holds one message of a process that is gone, or of another machine's.
func (q *Queue) holdForeign(it *Item, why string) error {
	now := q.now()
	if it.Lease != "" {
		if err := it.abandon(false, now, 0, Hold); err != nil {
			return err
		}
	}
	it.Suspect = false
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if !r.State.waiting() {
			continue
		}
		if err := r.move(Held, time.Time{}); err != nil {
			return err
		}
		r.Last.Err = why
		r.waitForPerson(it.ID)
	}
	it.conclude(now, q.rules)
	return nil
}

// carriedOut starts what follows from a change that a person made, and writes the line that says who did what.
func (q *Queue) carriedOut(ctx context.Context, o Order, e Entry, before, after Item) {
	q.end(ctx, before, after, true)
	q.usage.moved(e, before.State(), after.State())
	if !after.State().Final() {
		q.laneOf(after.Account).poke()
	} else if l := q.set.Load().lanes[after.Account]; l != nil {
		l.poke()
	}
	attrs := []slog.Attr{slog.String("by", o.By), slog.String("action", string(o.Action)), slog.String("queue_id", string(after.ID)),
		slog.String("message_id", e.Message.Plan.MessageID), slog.String("user", e.Message.Session.User), slog.String("account", after.Account),
		slog.String("before", string(before.State())), slog.String("after", string(after.State()))}
	if o.Replan != nil {
		attrs = append(attrs, slog.String("policy", "today"))
	}
	q.events.Emit(ctx, slog.LevelInfo, event.QueueChanged, attrs...)
}
