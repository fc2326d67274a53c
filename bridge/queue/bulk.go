package queue

import (
	"context"
	"errors"
	"slices"

	"postern/bridge/envelope"
)

// Refusal says why messages stay as they are that an order for many speaks of.
type Refusal struct {
	ID  envelope.ID // the first of them
	N   int         // how many they are
	Err error
}

// maxReasons is how many different ones an order for many tells of.
const maxReasons = 20

// errOtherReason stands for those after that.
var errOtherReason = errors.New("for another reason; it is said where the message is named by its ID")

// bulk is an order for many while it is carried out.
type bulk struct {
	q        *Queue
	o        Order
	explicit bool // a state was named
	changed  int
	refused  []Refusal
}

// ChangeAll carries out an order on what f selects and the order makes sense for, and returns on how many, and why not on
// others that it makes sense for. Without f.State it leaves alone what should be named: Retry takes what waits, Drop what
// is not final, MarkAsOut what is in doubt. ctx ends it between two transactions.
func (q *Queue) ChangeAll(ctx context.Context, f Filter, o Order) (changed int, refused []Refusal, err error) {
	b := bulk{q: q, o: o, explicit: f.State != ""}
	b.o.onlyWaiting = o.Action == Retry && !b.explicit // what is held after a second doubt must not leave a third time unasked
	f.Limit = watchBatch
	for {
		page, err := q.store.List(ctx, f)
		if err != nil || len(page) == 0 {
			return b.changed, b.refused, err
		}
		f.After = page[len(page)-1].Item.ID
		page = slices.DeleteFunc(page, func(e Entry) bool {
			spent := !e.HasBody && e.Item.State() == Failed // nothing can be made of it any more
			return spent || !b.wants(&e.Item)
		})
		if o.Replan != nil {
			err = b.planAnew(ctx, page)
		} else {
			err = b.change(ctx, page)
		}
		if err != nil {
			return b.changed, b.refused, err
		}
	}
}

// planAnew changes one after the other: each has a plan of its own.
func (b *bulk) planAnew(ctx context.Context, page []Entry) error {
	for _, e := range page {
		switch err := b.q.Change(ctx, e.Item.ID, b.o); {
		case err == nil:
			b.changed++
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, ErrNotFound):
			b.refuse(e.Item.ID, err)
		}
	}
	return nil
}

// change changes a page in one transaction.
func (b *bulk) change(ctx context.Context, page []Entry) error {
	if len(page) == 0 {
		return nil
	}
	ids := make([]envelope.ID, len(page))
	entries := make(map[envelope.ID]Entry, len(page))
	for i, e := range page {
		ids[i], entries[e.Item.ID] = e.Item.ID, e
	}
	before, after, refused := map[envelope.ID]Item{}, map[envelope.ID]Item{}, map[envelope.ID]error{}
	err := b.q.store.UpdateAll(ctx, ids, func(it *Item) error {
		was := it.Clone()
		delete(after, it.ID)
		delete(refused, it.ID)
		if !b.wants(it) {
			return nil // moved since it was listed
		}
		if err := b.q.carryOut(it, b.o, entries[it.ID].HasBody, nil); err != nil {
			*it, refused[it.ID] = was, err
			return nil
		}
		before[it.ID], after[it.ID] = was, it.Clone()
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if a, ok := after[id]; ok {
			b.q.carriedOut(ctx, b.o, entries[id], before[id], a)
			b.changed++
		} else if err := refused[id]; err != nil {
			b.refuse(id, err)
		}
	}
	return nil
}

// refuse notes why a message stays as it is.
func (b *bulk) refuse(id envelope.ID, err error) {
	find := func() int {
		return slices.IndexFunc(b.refused, func(r Refusal) bool { return r.Err.Error() == err.Error() })
	}
	i := find()
	if i < 0 && len(b.refused) >= maxReasons {
		err = errOtherReason
		i = find()
	}
	if i < 0 {
		i = len(b.refused)
		b.refused = append(b.refused, Refusal{ID: id, Err: err})
	}
	b.refused[i].N++
}

// wants reports whether the order speaks of this message.
func (b *bulk) wants(it *Item) bool {
	has := func(is func(Recipient) bool) bool { return slices.ContainsFunc(it.Recipients, is) }
	switch b.o.Action {
	case HoldBack: // who asks for it means what is being sent too, and hears that it is
		return has(func(r Recipient) bool { return r.State.waiting() || r.State == Sending })
	case Release:
		return has(func(r Recipient) bool { return r.State == Held })
	case Retry:
		if b.o.Replan != nil && !b.explicit {
			return has(func(r Recipient) bool { return r.State == Deferred && r.SenderWaits > 0 })
		}
		return b.explicit || has(func(r Recipient) bool { return r.State == Queued || r.State == Deferred })
	case Drop:
		return b.explicit || !it.State().Final()
	case MarkAsOut:
		return has(func(r Recipient) bool { return r.State == InDoubt || r.State == Held && (b.explicit || r.Doubts > 0) })
	}
	return false
}
