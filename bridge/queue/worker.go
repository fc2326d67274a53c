package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// attempt relays a claimed message and writes down what came of it. freed says that its sender may send after all.
func (l *lane) attempt(work context.Context, a Account, e Entry, beforeSend func(context.Context)) (freed bool) {
	q := l.q
	if e.Damage != nil {
		l.senderAfter(&e.Item, reply.Outcome{Owner: reply.Process}, q.now())
		l.write(work, e, func(it *Item) error { return it.hold(q.lease, e.Damage.Error()) })
		return false
	}
	v := verdict{id: e.Item.ID, lease: q.lease, schedule: q.schedule, doubtWait: a.DoubtWait, onDoubt: a.OnDoubt, jitter: q.jitter}
	resumes := l.resumed()
	v.outcome, v.cut = q.relay(work, e, beforeSend)
	v.ended = q.now()
	gate := q.relayer.Gate(a.Name, q.clock())
	v.gateOpen = gate.Limit > 0
	q.parks.see(context.WithoutCancel(work), a.Name, gate.Waiting == waitingParked, v.ended)
	v.born = q.born(&e.Item, v.ended)
	v.pair, freed = l.senderAfter(&e.Item, v.outcome, v.ended)
	turned := false
	l.write(work, e, func(it *Item) error {
		err := it.settle(v)
		it.conclude(v.ended, q.rules)
		turned = it.turnedBack()
		return err
	})
	if turned {
		l.turnedBack(a.Name, resumes)
	}
	return q.tellRight(work, e, v.outcome) || freed
}

// relay hands one attempt to the Relayer. A panic in there is its own failure: of whom the intent names nobody can tell
// whether the message went out, to the others nothing did. cut says that there was one.
func (q *Queue) relay(work context.Context, e Entry, beforeSend func(context.Context)) (o reply.Outcome, cut bool) {
	defer func() {
		if p := recover(); p != nil {
			o, cut = reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Process, CanLook: true,
				Err: fmt.Errorf("panic in relay: %v\n%s", p, debug.Stack())}, true
		}
	}()
	id := e.Item.ID
	out := message.Outgoing{Message: e.Message, Attempt: e.Item.Attempts, BodySize: e.BodySize, BeforeSend: beforeSend}
	for _, r := range e.Item.Recipients {
		if r.Last.Note != "" {
			if out.Notes == nil {
				out.Notes = map[string]string{}
			}
			out.Notes[r.Address.Key()] = r.Last.Note
		}
		if r.State != Sending {
			continue
		}
		out.Recipients = append(out.Recipients, r.Address)
		if r.Doubts > 0 {
			out.Resend, out.Transport = true, r.Last.Transport
			out.Look = r.Last.Looks > 0
		}
	}
	out.Open = func(ctx context.Context) (io.ReadCloser, error) { return q.store.Open(ctx, id) }
	out.Namesake = func(ctx context.Context) (bool, error) { return q.namesake(ctx, e) }
	out.IntentBy = func(ctx context.Context, transport string, recipients []envelope.Address) error {
		return q.store.Update(ctx, id, func(it *Item) error { return it.intend(q.lease, transport, recipients) })
	}
	out.Intent = func(ctx context.Context) error { return out.IntentBy(ctx, "", nil) }
	out.PartDone = func(ctx context.Context, recipients []envelope.Address, o reply.Outcome) {
		q.partDone(context.WithoutCancel(ctx), e, recipients, o)
	}
	out.Remember = func(ctx context.Context, recipients []envelope.Address, note string) error {
		return q.store.Update(ctx, id, func(it *Item) error { return it.remember(q.lease, recipients, note) })
	}
	return q.relayer.Relay(work, out), false
}

// write changes the item at the end of its attempt, and tells. While the store cannot be written the attempt keeps its
// lease and its place among those in flight, and the message is not sent again; until the program ends, and then it is
// as after a crash.
func (l *lane) write(work context.Context, e Entry, change func(*Item) error) {
	var after Item
	told := e
	for failures := 0; ; failures++ {
		err := l.q.store.Update(context.WithoutCancel(work), e.Item.ID, func(it *Item) error {
			told.Item = it.Clone() // parts of it may be done
			err := change(it)
			l.q.pullBackItem(it, l.q.now())
			after = it.Clone()
			return err
		})
		if err == nil {
			l.q.tell(work, told, after)
			return
		}
		l.q.events.Emit(work, slog.LevelError, event.QueueFailed, slog.String("queue_id", string(e.Item.ID)),
			slog.String("account", e.Item.Account), slog.Any("err", err))
		if errors.Is(err, errLeaseLost) || errors.Is(err, ErrMove) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrClosed) {
			return
		}
		t := time.NewTimer(storePause(failures))
		select {
		case <-t.C:
		case <-work.Done():
			t.Stop()
			return
		}
	}
}

// tell sends one event for each state that recipients came to since e was read, and starts what follows. That a message is
// turned back is told once and not each time.
func (q *Queue) tell(ctx context.Context, e Entry, after Item) {
	if after.Owed != OwedNothing {
		q.owe()
	}
	q.usage.moved(e, e.Item.State(), after.State())
	q.end(ctx, e.Item, after, false)
	if after.Damage != nil && after.Lease == "" {
		q.tellDamaged(ctx, e, after)
		return
	}
	for _, s := range []State{Relayed, Queued, Deferred, InDoubt, Held, Failed} {
		var first *Recipient
		var addresses []string
		for i, r := range after.Recipients {
			was := e.Item.Recipients[i]
			again := s == Queued && was.Last.TurnedBack && r.Last.TurnedBack && was.Last.Transport == r.Last.Transport
			if r.State == s && was.State != s && !again {
				addresses = append(addresses, r.Address.String())
				if first == nil {
					first = &after.Recipients[i]
				}
			}
		}
		if first != nil {
			level, kind := kindOf(s)
			q.events.Emit(ctx, level, kind, q.attrs(e, after, first, addresses)...)
		}
	}
}

// kindOf returns how a state is told: Error where a person must act, Warn where he may need to.
func kindOf(s State) (slog.Level, event.Kind) {
	switch s {
	case Relayed:
		return slog.LevelInfo, event.MessageRelayed
	case Queued: // its account's trouble is told by who stopped the account
		return slog.LevelInfo, event.MessageDeferred
	case InDoubt:
		return slog.LevelWarn, event.MessageInDoubt
	case Held:
		return slog.LevelError, event.MessageHeld
	case Failed:
		return slog.LevelError, event.MessageFailed
	}
	return slog.LevelWarn, event.MessageDeferred
}

func (q *Queue) attrs(e Entry, after Item, r *Recipient, addresses []string) []slog.Attr {
	a := []slog.Attr{
		slog.String("queue_id", string(e.Item.ID)),
		slog.String("message_id", e.Message.Plan.MessageID),
		slog.String("user", e.Message.Session.User),
		slog.String("account", e.Item.Account),
		slog.String("header_from", e.Message.Plan.HeaderFrom.String()),
		slog.String("reverse_path", e.Message.Envelope.ReversePath.String()),
		slog.Any("recipients", addresses),
		slog.Int("attempt", e.Item.Attempts),
	}
	if after.Attempts < e.Item.Attempts {
		a = append(a, slog.Bool("counted", false)) // the next one has the same number
	}
	if r.Last.Transport != "" {
		a = append(a, slog.String("transport", r.Last.Transport))
	}
	if text := r.Last.Reply.String(); text != "" {
		a = append(a, slog.String("reply", text))
	}
	if r.Last.Reply.ID != "" {
		a = append(a, slog.String("request_id", r.Last.Reply.ID)) // the next server's own name for the message
	}
	if r.Last.Means != "" {
		a = append(a, slog.String("means", r.Last.Means))
	}
	if r.State != Queued && !r.Next.IsZero() || r.Next.After(q.now()) { // else its account says when
		a = append(a, slog.Time("next_attempt", r.Next))
	}
	if after.State().Final() || r.State == Relayed {
		a = append(a, slog.Duration("duration", q.now().Sub(e.Item.Accepted)))
	}
	if r.Last.Err != "" {
		a = append(a, slog.String("err", r.Last.Err))
	}
	if r.Last.Remedy != "" {
		a = append(a, slog.String("remedy", r.Last.Remedy))
	}
	return a
}
