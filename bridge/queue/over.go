package queue

import (
	"context"
	"errors"
	"fmt"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Ended is what a change has ended or held of a message, for Options.Ended.
type Ended struct {
	ID      envelope.ID
	Account string
	// Recipients are those that came to be relayed, failed or held, as they are now; All are all of the message.
	Recipients, All []Recipient
	ByPerson        bool // a person did it
	Broken          bool // an attempt may have ended with its process, so that nobody noted what it did
	InDoubt         bool // it may be on its way for one of All that is over
}

// end tells Options.Ended.
func (q *Queue) end(ctx context.Context, before, after Item, byPerson bool) {
	if q.ended == nil {
		return
	}
	e := Ended{ID: after.ID, Account: after.Account, All: after.Recipients, ByPerson: byPerson, Broken: before.Suspect && before.Lease == "" || before.Deaths > 0}
	for i, r := range after.Recipients {
		if !r.State.over() {
			continue
		}
		e.InDoubt = e.InDoubt || r.Doubts > 0
		if r.State != before.Recipients[i].State {
			e.Recipients = append(e.Recipients, r)
		}
	}
	if len(e.Recipients) > 0 {
		q.ended(context.WithoutCancel(ctx), e)
	}
}

// over reports whether nothing is sent any more unless a person asks for it.
func (s State) over() bool { return s.Final() || s == Held }

// Over returns a message for those of its recipients for whom nothing is sent any more, with their notes and without its
// header; false where there are none, also where the message is forgotten. A note that belongs to a recipient for whom
// it may still be sent is left out with those who share it, and is among the Others like the note of whom sent reports to
// have got what it names.
func (q *Queue) Over(ctx context.Context, id envelope.ID, sent func(Recipient) bool) (out message.Outgoing, ok bool, err error) {
	e, err := q.store.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return out, false, nil
	case err != nil:
		return out, false, fmt.Errorf("queue %s: %w", id, err)
	case e.Damage != nil:
		return out, false, nil
	}
	needed := map[string]bool{}
	for _, r := range e.Item.Recipients {
		if r.Last.Note == "" {
			continue // it belongs to nobody
		}
		if needed[r.Last.Note] = needed[r.Last.Note] || !r.State.over(); !r.State.over() || sent(r) {
			out.Others = append(out.Others, r.Last.Note)
		}
	}
	out.Message, out.Notes = e.Message, map[string]string{}
	out.Header = nil
	for _, r := range e.Item.Recipients {
		if r.State.over() && !needed[r.Last.Note] {
			out.Recipients = append(out.Recipients, r.Address)
			if r.Last.Note != "" {
				out.Notes[r.Address.Key()] = r.Last.Note
			}
		}
	}
	return out, len(out.Recipients) > 0, nil
}
