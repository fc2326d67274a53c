package queue

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// A message to many leaves in parts, one after the other within one attempt. The intent names whom the part under way is
// for, and what became of a part is committed before the next begins: so when the process dies only the part that was
// under way is in doubt.

// keysOf is the set of the addresses' keys.
func keysOf(recipients []envelope.Address) map[string]bool {
	keys := make(map[string]bool, len(recipients))
	for _, a := range recipients {
		keys[a.Key()] = true
	}
	return keys
}

// name writes the recipients into the intent; none of them takes out those of before, and then it is all. l.intend calls
// it.
func (it *Item) name(transport string, recipients []envelope.Address) {
	keys := keysOf(recipients)
	for i := range it.Recipients {
		switch r := &it.Recipients[i]; {
		case r.State != Sending:
		case keys[r.Address.Key()]:
			r.Last.Intent, r.Last.Via = true, transport
		case len(keys) == 0:
			r.Last.Intent, r.Last.Via = false, ""
		}
	}
}

// namesAny reports whether the intent names recipients; else it is all that are being sent to.
func (it *Item) namesAny() bool {
	return slices.ContainsFunc(it.Recipients, func(r Recipient) bool { return r.State == Sending && r.Last.Intent })
}

// partDone ends the attempt under the lease for the recipients of a part that got it. The others of the part leave the
// intent, but for those in doubt.
func (it *Item) partDone(lease string, recipients []envelope.Address, o reply.Outcome) error {
	if it.Lease != lease {
		return errLeaseLost
	}
	keys := keysOf(recipients)
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State != Sending || !keys[r.Address.Key()] {
			continue
		}
		switch one := o.For(r.Address.Key()); one.Verdict {
		case reply.Relayed:
			r.learn(one)
			if err := r.move(Relayed, time.Time{}); err != nil {
				return err
			}
		case reply.InDoubt: // the intent goes on naming it
		default:
			r.Last.Intent, r.Last.Via = false, ""
		}
	}
	if it.Intent = it.Intent && it.namesAny(); !it.Intent {
		it.Via = ""
	}
	return nil
}

// doneBy reports whether parts of the attempt with that outcome are relayed already: then it counts.
func (it *Item) doneBy(o reply.Outcome) bool {
	return slices.ContainsFunc(it.Recipients, func(r Recipient) bool {
		one, ok := o.Recipients[r.Address.Key()]
		return ok && r.State == Relayed && one.Verdict == reply.Relayed
	})
}

// partDone commits and tells what became of a part. Where it cannot, the end of the attempt does.
func (q *Queue) partDone(ctx context.Context, e Entry, recipients []envelope.Address, o reply.Outcome) {
	var after Item
	err := q.store.Update(ctx, e.Item.ID, func(it *Item) error {
		e.Item = it.Clone()
		err := it.partDone(q.lease, recipients, o)
		after = it.Clone()
		return err
	})
	if err != nil {
		q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("queue_id", string(e.Item.ID)),
			slog.String("account", e.Item.Account), slog.Any("err", err))
		return
	}
	q.tell(ctx, e, after)
}
