package queue

import (
	"errors"
	"slices"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// maxDoubts: the second doubt of a recipient needs a person; at most two copies ever leave by themselves.
const maxDoubts = 2

// errLeaseLost is returned where an attempt wants to write down something about a message that it no longer has.
var errLeaseLost = errors.New("the lease was lost")

// Item is what changes about a message while it is in the queue. Times are UTC, of microsecond precision.
type Item struct {
	ID         envelope.ID
	Account    string // whose rate, concurrency and gate it waits for
	Accepted   time.Time
	Attempts   int    // that counted, and the one that is being made
	Lease      string // the process that relays it now, "" when none does
	Intent     bool   // the attempt under the lease may have been accepted (design.md section 6, "In doubt")
	Recipients []Recipient

	DropBody bool          // set by a change: header and body are deleted with it. Not stored
	NewPlan  *message.Plan // set by a change: takes the place of the message's plan, and Account with it. Not stored here
}

// Recipient is the fate of a message for one of its recipients.
type Recipient struct {
	Address     envelope.Address
	State       State
	Next        time.Time // when it is due; zero in the states that time does not end
	Attempts    int       // that counted, and the one that is being made
	SenderWaits int       // waits for a Send As right, one after the other
	Doubts      int
	Last        Last
}

// Last is what the last attempt brought.
type Last struct {
	Reply     reply.Reply `json:"reply,omitzero"`
	Transport string      `json:"transport,omitempty"`
	Owner     reply.Owner `json:"owner,omitempty"`
	Remedy    string      `json:"remedy,omitempty"`
	Err       string      `json:"err,omitempty"` // also why it is held or in doubt, in words
}

// State is the least final of its recipients' states.
func (it *Item) State() State {
	for _, s := range finality {
		if slices.ContainsFunc(it.Recipients, func(r Recipient) bool { return r.State == s }) {
			return s
		}
	}
	return Failed // no recipients: submission refuses such a message
}

// Next is when the message is due for the first of its recipients, zero while it is leased and where nothing is due by
// time. A store keeps it where it can find the earliest.
func (it *Item) Next() time.Time {
	var next time.Time
	if it.Lease != "" {
		return next
	}
	for _, r := range it.Recipients {
		if r.State.waiting() && (next.IsZero() || r.Next.Before(next)) {
			next = r.Next
		}
	}
	return next
}

// Clone returns a copy that shares nothing.
func (it *Item) Clone() Item {
	c := *it
	c.Recipients = slices.Clone(it.Recipients)
	return c
}

// move changes the state by the table and sets when the recipient is due, zero for never.
func (r *Recipient) move(to State, next time.Time) (err error) {
	r.State, err = r.State.To(to)
	if err == nil {
		r.Next = next
	}
	return err
}

// claim begins an attempt for the recipients that are due, under the given lease. Those in doubt have an attempt of
// their own, before the others: it must keep its transport, and a refusal as a duplicate means relayed there. Where
// doubt is not resent they become held, and perhaps no attempt is begun.
func (it *Item) claim(now time.Time, lease string, onDoubt OnDoubt) error {
	if it.Lease != "" {
		return errors.New("leased already")
	}
	due := func(r Recipient) bool { return r.State.waiting() && !r.Next.After(now) }
	doubt := slices.ContainsFunc(it.Recipients, func(r Recipient) bool { return due(r) && r.State == InDoubt })
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if !due(*r) || (r.State == InDoubt) != doubt {
			continue
		}
		if doubt && onDoubt == Hold {
			r.Last.Err = "in doubt: it may have been accepted"
			if err := r.move(Held, time.Time{}); err != nil {
				return err
			}
			continue
		}
		if err := r.move(Sending, time.Time{}); err != nil {
			return err
		}
		r.Attempts++
		it.Lease = lease
	}
	if it.Lease != "" {
		it.Attempts++
	}
	return nil
}

// intend marks the attempt under the lease as one that may have been accepted.
func (it *Item) intend(lease string) error {
	if it.Lease != lease {
		return errLeaseLost
	}
	it.Intent = true
	return nil
}

// abandon ends the attempt of a process that is gone: due at once, or in doubt where the intent was written down.
func (it *Item) abandon(now time.Time, doubtWait time.Duration) error {
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State != Sending {
			continue
		}
		var err error
		if it.Intent {
			r.Last = Last{Transport: r.Last.Transport, Owner: reply.Process, Err: "the process ended after the message was handed over and before the answer"}
			err = r.doubt(now, doubtWait)
		} else {
			err = r.move(Queued, now)
		}
		if err != nil {
			return err
		}
	}
	it.Lease, it.Intent = "", false
	return nil
}

func (r *Recipient) doubt(now time.Time, wait time.Duration) error {
	r.Doubts++
	if r.Doubts >= maxDoubts {
		return r.move(Held, time.Time{})
	}
	return r.move(InDoubt, now.Add(wait))
}

// hold ends the attempt under the lease because a person must look at the message first.
func (it *Item) hold(lease, why string) error {
	if it.Lease != lease {
		return errLeaseLost
	}
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State != Sending {
			continue
		}
		r.Last = Last{Owner: reply.Process, Err: why}
		if err := r.move(Held, time.Time{}); err != nil {
			return err
		}
	}
	it.Lease, it.Intent = "", false
	return nil
}

// verdict is one attempt's outcome with all that decides what follows from it.
type verdict struct {
	lease     string
	outcome   reply.Outcome
	ended     time.Time
	schedule  Schedule
	doubtWait time.Duration
	gateOpen  bool                                       // after the outcome: nobody stopped the account for it
	jitter    func(wait time.Duration) (d time.Duration) // added to a wait
}

// settle ends the attempt under the lease, recipient by recipient, and says by DropBody when nobody needs the body.
func (it *Item) settle(v verdict) error {
	if it.Lease != v.lease {
		return errLeaseLost
	}
	counted, failed, final := false, false, true
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State == Sending {
			c, err := r.settle(it.Accepted, v)
			if err != nil {
				return err
			}
			counted = counted || c
		}
		failed = failed || r.State == Failed
		final = final && r.State.Final()
	}
	if !counted {
		it.Attempts--
	}
	it.Lease, it.Intent = "", false
	it.DropBody = final && !failed // a failed one's body stays, so that it can be sent again
	return nil
}

// settle reports whether the attempt counts against the recipient.
func (r *Recipient) settle(accepted time.Time, v verdict) (counted bool, err error) {
	o := v.outcome.For(r.Address.Key())
	r.Last = Last{Reply: o.Reply, Transport: o.Transport, Owner: o.Owner, Remedy: o.Remedy}
	if o.Err != nil {
		r.Last.Err = o.Err.Error()
	}
	if o.Owner != reply.Sender {
		r.SenderWaits = 0
	}
	switch {
	case o.Verdict == reply.Relayed:
		return true, r.move(Relayed, time.Time{})
	case o.Verdict == reply.InDoubt:
		return true, r.doubt(v.ended, v.doubtWait)
	case o.Verdict == reply.Failed && ownFault(o.Owner):
		return true, r.move(Failed, time.Time{})
	}
	return r.postpone(o, accepted, v)
}

// ownFault reports whether a failure of that owner may end in a report at once and counts as an attempt. An outcome
// that names nobody is the message's.
func ownFault(o reply.Owner) bool {
	return o == reply.Message || o == reply.Recipient || o == reply.Nobody
}

// postpone finds when the recipient is tried again. A message's own trouble counts; a sender's waits apart; the others
// wait at the gate, and what only a person can end there never makes a message fail (design.md section 6, "Wait").
func (r *Recipient) postpone(o reply.Outcome, accepted time.Time, v verdict) (counted bool, err error) {
	switch {
	case ownFault(o.Owner):
		at, ok := v.schedule.NextAttempt(accepted, v.ended, r.Attempts)
		if !ok {
			return true, r.move(Failed, time.Time{})
		}
		return true, r.move(Deferred, r.later(at, o, v))
	case o.Owner == reply.Sender:
		r.Attempts--
		r.SenderWaits++
		at, ok := v.schedule.nextLook(accepted, v.ended, r.SenderWaits)
		if !ok {
			return false, r.move(Failed, time.Time{})
		}
		return false, r.move(Deferred, r.later(at, o, v))
	}
	r.Attempts--
	parked := o.Owner == reply.Account || o.Owner == reply.Login
	if !parked && v.schedule.tooOld(accepted, v.ended) {
		return false, r.move(Failed, time.Time{})
	}
	if v.gateOpen {
		return false, r.move(Queued, v.ended.Add(max(guardWait, o.RetryAfter)))
	}
	return false, r.move(Queued, v.ended)
}

// later adds the jitter and obeys the server's own wish.
func (r *Recipient) later(at time.Time, o reply.Outcome, v verdict) time.Time {
	at = at.Add(v.jitter(at.Sub(v.ended)))
	if wish := v.ended.Add(o.RetryAfter); wish.After(at) {
		return wish
	}
	return at
}
