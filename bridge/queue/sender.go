package queue

import (
	"context"
	"log/slog"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// sender is a pair of account and header From whose account lacks the right to send as it. The pair waits, not each of
// its messages alone: one of them probes, and when it goes through all the others are due (design.md section 6, "Whose
// trouble").
type sender struct {
	until   time.Time
	waits   int         // that were begun, this one included
	probing envelope.ID // "" while none is under way
	last    Last        // what the latest probe brought
}

// stopped puts the message off where its pair waits or somebody else probes, and reports whether it did. l.mu is held.
func (l *lane) stopped(it *Item, now time.Time) (bool, error) {
	for _, r := range it.Recipients {
		if r.State == InDoubt && !r.Next.After(now) {
			return false, nil // it had the right when it left, and its time has come
		}
	}
	key := pairKey{it.Account, it.Sender}
	s := l.senders[key]
	if s == nil {
		waits := 0
		for _, r := range it.Recipients {
			waits = max(waits, r.SenderWaits)
		}
		if waits == 0 {
			return false, nil
		}
		s = &sender{until: now, waits: waits} // it began before this process
		l.senders[key] = s
	}
	if s.probing == it.ID || s.probing == "" && !now.Before(s.until) {
		s.probing = it.ID
		return false, nil
	}
	at := s.until
	tooOld := l.q.schedule.tooOld(l.q.born(it, now), at)
	if !at.After(now) { // somebody probes: the wait that follows when it fails; when it goes through all become due
		at, tooOld = now.Add(wait(senderWaits, s.waits+1)), false
	}
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if !r.State.waiting() || r.State == InDoubt || r.Next.After(now) {
			continue
		}
		r.SenderWaits = s.waits
		if s.last != (Last{}) {
			// What the transport must find again outlives the words of the pair's probe.
			keep := r.Last
			r.Last = s.last
			r.Last.Note, r.Last.Looks, r.Last.At = keep.Note, keep.Looks, keep.At
			if r.Doubts > 0 {
				r.Last.Transport = keep.Transport
			}
		}
		switch {
		case tooOld:
			if err := r.giveUp(); err != nil {
				return true, err
			}
		case r.State == Deferred:
			r.Next = at
		default:
			if err := r.move(Deferred, at); err != nil {
				return true, err
			}
		}
	}
	it.conclude(now, l.q.rules)
	return true, nil
}

// pairKey names a pair.
type pairKey struct{ account, sender string }

// probeAnew lets the pair of a message that a person tries again probe at once; a probe that is under way began before he
// acted. It is called within the change that makes the message due, so that nobody can put it off before.
func (q *Queue) probeAnew(it *Item) {
	l := q.set.Load().lanes[it.Account]
	if l == nil {
		return
	}
	now := q.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.senders[pairKey{it.Account, it.Sender}]; s != nil {
		s.probing = ""
		if s.until.After(now) {
			s.until = now
		}
	}
}

// unclaim forgets the probes of messages that were not claimed after all.
func (l *lane) unclaim(ids map[envelope.ID]Item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.senders {
		if _, ok := ids[s.probing]; ok {
			s.probing = ""
		}
	}
}

// senderAfter learns from an attempt. It returns how long the pair waits where the outcome is its trouble, and freed
// where it is over.
func (l *lane) senderAfter(it *Item, o reply.Outcome, ended time.Time) (p pairWait, freed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := pairKey{it.Account, it.Sender}
	s := l.senders[key]
	probed := s != nil && s.probing == it.ID
	if probed {
		s.probing = ""
	}
	lacks := lacksRight(it, o)
	switch {
	case lacks != nil:
		if s == nil {
			s = &sender{}
			l.senders[key] = s
		}
		// Those that had begun before the first of them failed add no wait of their own.
		if probed || s.waits == 0 {
			s.waits++
			s.until = ended.Add(max(wait(senderWaits, s.waits), lacks.RetryAfter))
		}
		s.last = Last{Reply: lacks.Reply, Transport: lacks.Transport, Owner: reply.Sender, Remedy: lacks.Remedy}
		if lacks.Err != nil {
			s.last.Err = lacks.Err.Error()
		}
		return pairWait{s.until, s.waits}, false
	case s != nil && o.Verdict == reply.Relayed:
		delete(l.senders, key)
		return p, true
	}
	return p, false
}

// lacksRight returns the outcome of a recipient that speaks of the sender, nil where none does.
func lacksRight(it *Item, o reply.Outcome) *reply.Outcome {
	for _, r := range it.Recipients {
		if one := o.For(r.Address.Key()); r.State == Sending && one.Owner == reply.Sender && one.Verdict != reply.Relayed && one.Verdict != reply.InDoubt {
			return &one
		}
	}
	return nil
}

// free makes the pair's messages due at once.
func (l *lane) free(ctx context.Context, account, sender string) {
	q := l.q
	s := Selection{Which: OfSender, Account: account, Sender: sender}
	err := q.changeFound(ctx, s, func(it *Item) error { return it.freeSender(q.now()) }, l.poke)
	if err != nil {
		// They wait out the times that they have.
		q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("account", account), slog.Any("err", err))
	}
}

// changeFound changes what s selects, a page after the other, and calls done after each.
func (q *Queue) changeFound(ctx context.Context, s Selection, change func(*Item) error, done func()) error {
	s.Limit = watchBatch
	for ctx.Err() == nil {
		ids, err := q.store.Find(ctx, s)
		if err == nil && len(ids) > 0 {
			err = q.store.UpdateAll(ctx, ids, change)
		}
		if err != nil {
			return err
		}
		done()
		if len(ids) < s.Limit {
			return nil
		}
		s.After = ids[len(ids)-1]
	}
	return nil
}

// freeSender makes due what waited for a right.
func (it *Item) freeSender(now time.Time) error {
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State == Deferred && r.SenderWaits > 0 {
			r.SenderWaits = 0
			if err := r.move(Queued, now); err != nil {
				return err
			}
		}
	}
	return nil
}
