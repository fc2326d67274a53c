package queue

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// A message that cannot be read back is set aside: nothing claims it, no time ends its waiting, and a person is told. It
// keeps no other message back.

// unlessDamaged is change, but an item that cannot be read back is set aside instead. One that this process is sending is
// left to its attempt, which knows more.
func (q *Queue) unlessDamaged(change func(*Item) error) func(*Item) error {
	return func(it *Item) error {
		if it.Damage == nil || it.Lease == q.lease {
			return change(it)
		}
		return it.setAside()
	}
}

// setAside holds what is not final. What was on its way when a process died may have gone out.
func (it *Item) setAside() error {
	it.Watch, it.Suspect, it.Owed = time.Time{}, false, OwedNothing
	for i := range it.Recipients {
		r := &it.Recipients[i]
		switch {
		case r.State.Final():
			continue
		case r.State == Held:
			r.Last.Remedy = damageRemedy(it.ID)
			continue
		case r.State == Sending && it.Intent:
			r.Doubts = max(r.Doubts, 1)
		}
		r.Last = Last{Owner: reply.Process, Transport: r.Last.Transport, Err: it.Damage.Error(), Remedy: damageRemedy(it.ID), Note: r.Last.Note}
		if err := r.move(Held, time.Time{}); err != nil {
			return err
		}
	}
	it.end()
	return nil
}

// damageRemedy says what a person can still do.
func damageRemedy(id envelope.ID) string {
	return fmt.Sprintf("see what is left of it: postern queue export %s; send that again where it did not go out, then run: postern queue drop %s", id, id)
}

// errDamaged refuses to send what cannot be read back.
func errDamaged(it *Item) error {
	return fmt.Errorf("it cannot be sent: %w; %s", it.Damage, damageRemedy(it.ID))
}

// tellDamaged names a message that was set aside, or of whose failure nobody can be told.
func (q *Queue) tellDamaged(ctx context.Context, e Entry, after Item) {
	var addresses []string
	for _, r := range after.Recipients {
		addresses = append(addresses, r.Address.String())
	}
	r := Recipient{Last: Last{Err: after.Damage.Error(), Remedy: damageRemedy(after.ID)}}
	kind := event.MessageHeld
	if after.State() != Held {
		kind = event.QueueFailed
	}
	q.events.Emit(ctx, slog.LevelError, kind, q.attrs(e, after, &r, addresses)...)
}
