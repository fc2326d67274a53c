package queue

import (
	"errors"
	"fmt"
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

// maxDeaths: a message that is to blame for so many deaths of the process is held.
const maxDeaths = 3

// Item is what changes about a message while it is in the queue, and what it is found by. Times are UTC, of microsecond
// precision.
type Item struct {
	ID         envelope.ID
	Account    string // whose rate, concurrency and gate it waits for
	Sender     string // the key of the header From that leaves; with Account the pair that lacks a right together
	Accepted   time.Time
	Attempts   int    // that counted, and the one that is being made
	Lease      string // the process that relays it now, "" when none does
	Intent     bool   // the attempt under the lease may have been accepted (design.md section 6, "In doubt")
	Via        string // the transport that the intent names
	Recipients []Recipient

	Parked   time.Duration // how long its account had been parked when its age began, less how long it stood still alone: see Queue.born
	Watch    time.Time     // when its age is looked at, zero for never
	Owed     Owed          // the report that must still be made
	Warned   bool          // a delay notice was owed once
	Suspect  bool          // in flight when a process died: it is not claimed, but tried; under a lease: it is on trial (trial.go)
	Deaths   int           // of processes that are laid at its door
	Finished time.Time     // when it became final
	Retried  time.Time     // when a person had it tried again, or its plan let it go: its age counts from there; zero for at once

	// Damage says what of the item could not be read back; nil for nothing. What could not is zero, and a recipient whose
	// state could not is held and in doubt. Not stored: it is found again for as long as it is so.
	Damage error

	DropBody bool          // set by a change: header and body are deleted with it. Not stored
	NewPlan  *message.Plan // set by a change: takes the place of the message's plan, and Account with it. Not stored here
}

// Owed is a report that the message's sender must still get. It is stored as its text.
type Owed string

// The reports.
const (
	OwedNothing Owed = ""
	OwedLate    Owed = "late"
	OwedFailure Owed = "failure"
)

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
	Means     string      `json:"means,omitempty"` // what Reply means in plain words
	Remedy    string      `json:"remedy,omitempty"`
	Err       string      `json:"err,omitempty"` // also why it is held or in doubt, in words
	At        time.Time   `json:"at,omitzero"`   // when an attempt last ended; zero where none has, and once it was relayed

	// Age is the message's when it began to wait for a person although its account is up, at least 1: see Item.stands. 0: it
	// does not.
	Age time.Duration `json:"age,omitempty"`

	Told bool `json:"told,omitempty"` // a report was made of its failure

	Own int `json:"own,omitempty"` // attempts in a row that had trouble of the process

	Note  string `json:"note,omitempty"`  // what relay wants to know at the next attempt; it outlives the others
	Looks int    `json:"looks,omitempty"` // attempts left that only look for a message in doubt

	ByPerson   bool `json:"by_person,omitempty"`   // a person says that it was relayed
	TurnedBack bool `json:"turned_back,omitempty"` // no transport was open for it: it is due when one may be

	// Of the attempt under the lease, where the message goes out in parts: the intent names this recipient, and Via.
	Intent bool   `json:"intent,omitempty"`
	Via    string `json:"via,omitempty"`
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

// Next is when the message is due for the first of its recipients, zero while it is leased or suspect and where nothing
// is due by time. A store keeps it where it can find the earliest.
func (it *Item) Next() time.Time {
	var next time.Time
	if it.Lease != "" || it.Suspect {
		return next
	}
	for _, r := range it.Recipients {
		if r.State.waiting() && (next.IsZero() || r.Next.Before(next)) {
			next = r.Next
		}
	}
	return next
}

// Tried reports whether an attempt for the message has counted. One that had no chance yet is as good as new.
func (it *Item) Tried() bool { return it.Attempts > 0 }

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
		r.Next, r.Last.Told = next, false
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
	it.Suspect = false
	due := func(r Recipient) bool { return r.State.waiting() && !r.Next.After(now) }
	var pick kind
	for _, r := range it.Recipients {
		if due(r) && r.Doubts > 0 {
			pick = r.kind()
			break
		}
	}
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if !due(*r) || r.kind() != pick {
			continue
		}
		if r.State == InDoubt && onDoubt == Hold && r.Last.Looks == 0 {
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
		r.Last.Intent, r.Last.Via = false, ""
		it.Lease = lease
	}
	if it.Lease != "" {
		it.Attempts++
	}
	return nil
}

// kind is what an attempt means to a recipient. One attempt is of one kind: an answer that a resend is a duplicate, or a
// look that finds the copy, must not speak for a recipient that it was never sent to.
type kind struct {
	doubt, look bool
	via         string // the transport of the doubt
}

func (r *Recipient) kind() kind {
	if r.Doubts == 0 {
		return kind{}
	}
	return kind{doubt: true, look: r.Last.Looks > 0, via: r.Last.Transport}
}

// intend marks the attempt under the lease as one that may have been accepted by that transport, for those recipients;
// none are all.
func (it *Item) intend(lease, transport string, recipients []envelope.Address) error {
	if it.Lease != lease {
		return errLeaseLost
	}
	it.Intent, it.Via = true, transport
	it.name(transport, recipients)
	return nil
}

// abandon ends the attempt of a process that died, and that it is to blame for or not: due at once but to be tried alone,
// in doubt where the intent was written down, held where it has taken too many processes with it.
func (it *Item) abandon(blamed bool, now time.Time, doubtWait time.Duration, onDoubt OnDoubt) error {
	if blamed {
		it.Deaths++
	}
	it.Suspect = false
	named := it.namesAny()
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State != Sending {
			continue
		}
		var err error
		switch {
		case it.Intent && (!named || r.Last.Intent):
			via := it.Via
			if named {
				via = r.Last.Via
			}
			r.Last = Last{Transport: via, Note: r.Last.Note, Owner: reply.Process, Err: "the process ended after the message was handed over and before the answer"}
			err = r.doubtAndLook(now, doubtWait, onDoubt)
		case it.Deaths >= maxDeaths:
			why := fmt.Sprintf("the process died %d times while it relayed this message", it.Deaths)
			r.Last = Last{Transport: r.Last.Transport, Owner: reply.Process, Err: why, Note: r.Last.Note}
			r.waitForPerson(it.ID)
			err = r.move(Held, time.Time{})
		case r.Doubts > 0 && r.Last.Looks > 0:
			err = r.move(InDoubt, now) // it only looked: the doubt is what it was
			it.Suspect = true
		default:
			err = r.move(Queued, now)
			it.Suspect = true
		}
		if err != nil {
			return err
		}
	}
	it.end()
	return nil
}

// end gives the lease back.
func (it *Item) end() { it.Lease, it.Intent, it.Via = "", false, "" }

func (r *Recipient) doubt(now time.Time, wait time.Duration) error {
	r.Doubts++
	if r.Doubts >= maxDoubts {
		return r.move(Held, time.Time{})
	}
	return r.move(InDoubt, now.Add(wait))
}

// hold ends the attempt under the lease because the message cannot be read back: a person must look at it.
func (it *Item) hold(lease, why string) error {
	if it.Lease != lease {
		return errLeaseLost
	}
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State != Sending {
			continue
		}
		r.Last = Last{Transport: r.Last.Transport, Owner: reply.Process, Err: why, Remedy: damageRemedy(it.ID), Note: r.Last.Note}
		if err := r.move(Held, time.Time{}); err != nil {
			return err
		}
	}
	it.Suspect = false
	it.end()
	return nil
}

// verdict is one attempt's outcome with all that decides what follows from it.
type verdict struct {
	id        envelope.ID
	lease     string
	outcome   reply.Outcome
	cut       bool // by a panic: the outcome speaks of what the intent names
	ended     time.Time
	born      time.Time // of the message: see Queue.born
	schedule  Schedule
	doubtWait time.Duration
	onDoubt   OnDoubt
	gateOpen  bool                                       // after the outcome: nobody stopped the account for it
	pair      pairWait                                   // where the outcome speaks of the sender
	jitter    func(wait time.Duration) (d time.Duration) // added to a wait
}

// pairWait is until when a pair of account and sender waits, and the how manieth wait that is.
type pairWait struct {
	until time.Time
	waits int
}

// settle ends the attempt under the lease, recipient by recipient.
func (it *Item) settle(v verdict) error {
	if it.Lease != v.lease {
		return errLeaseLost
	}
	counted := it.doneBy(v.outcome)
	named := it.namesAny()
	v.jitter = once(v.jitter)
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State == Sending {
			v := v
			if v.cut && (!it.Intent || named && !r.Last.Intent) {
				v.outcome.Verdict = reply.Deferred // its part had not begun, or was not taken
			}
			c, err := r.settle(v)
			if err != nil {
				return err
			}
			counted = counted || c
		}
	}
	if !counted {
		it.Attempts--
	}
	it.Deaths, it.Suspect = 0, false // the process lives
	it.end()
	return nil
}

// once adds the same to the same wait: who was deferred together is due together, and gets one copy with the others.
func once(jitter func(time.Duration) time.Duration) func(time.Duration) time.Duration {
	drawn := map[time.Duration]time.Duration{}
	return func(wait time.Duration) time.Duration {
		d, ok := drawn[wait]
		if !ok {
			d = jitter(wait)
			drawn[wait] = d
		}
		return d
	}
}

// conclude draws what follows for the whole message from what a change has made of its recipients: when it became
// final, whether a report is owed, and whether anybody still needs the body. What waits for a person keeps no report back:
// nobody knows for how long it does.
func (it *Item) conclude(now time.Time, r rules) {
	has := func(is func(Recipient) bool) bool { return slices.ContainsFunc(it.Recipients, is) }
	owes := r.reports && has(func(r Recipient) bool { return r.State == Failed && !r.Last.Told }) &&
		!has(func(r Recipient) bool { return !r.State.over() })
	if owes {
		it.Owed = OwedFailure
	}
	if s := it.State(); !s.Final() {
		it.Finished = time.Time{}
		return
	}
	if it.Finished.IsZero() {
		it.Finished = now
	}
	it.Watch = time.Time{}
	if !owes {
		it.Owed = OwedNothing
	}
	failed := has(func(r Recipient) bool { return r.State == Failed })
	it.DropBody = !failed && !r.keepBodies // a failed one's body stays, so that it can be sent again
}

// rules are the queue's settings that conclude asks for.
type rules struct {
	reports    bool // somebody makes them
	keepBodies bool // of relayed messages
}

// settle reports whether the attempt counts against the recipient.
func (r *Recipient) settle(v verdict) (counted bool, err error) {
	o := v.outcome.For(r.Address.Key())
	before := r.Last
	r.learn(o)
	switch {
	case o.TurnedBack:
		r.Last.At = before.At
	case o.Verdict != reply.Relayed: // most mail needs no time twice
		r.Last.At = v.ended
	}
	if r.Doubts > 0 && o.Verdict != reply.Relayed && before.Transport != "" {
		r.Last.Transport = before.Transport // by another one the copy in doubt could never be recognised
	}
	switch {
	case o.Verdict == reply.Relayed:
		return true, r.move(Relayed, time.Time{})
	case before.Looks > 0: // a look sends nothing, so whatever stopped it the doubt is what it was
		return false, r.looked(before, o, v)
	case o.Verdict == reply.InDoubt:
		if o.CanLook {
			return true, r.doubtAndLook(v.ended, v.doubtWait, v.onDoubt)
		}
		return true, r.doubt(v.ended, v.doubtWait)
	case o.Verdict == reply.Failed && ownFault(o.Owner):
		return true, r.move(Failed, time.Time{})
	}
	return r.postpone(o, v)
}

// learn takes up what the attempt brought.
func (r *Recipient) learn(o reply.Outcome) {
	before := r.Last
	r.Last = Last{Reply: o.Reply, Transport: o.Transport, Owner: o.Owner, Means: o.Means, Remedy: o.Remedy, Note: before.Note, TurnedBack: o.TurnedBack}
	if o.Err != nil {
		r.Last.Err = o.Err.Error()
	}
	if o.Owner == reply.Process {
		r.Last.Own = before.Own + 1
	}
	if o.Owner != reply.Sender {
		r.SenderWaits = 0
	}
}

// ownFault reports whether a failure of that owner may end in a report at once and counts as an attempt. An outcome
// that names nobody is the message's.
func ownFault(o reply.Owner) bool {
	return o == reply.Message || o == reply.Recipient || o == reply.Nobody
}

// postpone finds when the recipient is tried again. A message's own trouble counts; a sender's waits apart, as a pair;
// the others wait at the gate, and what only a person can end there never makes a message fail (design.md section 6,
// "Wait"). A body that cannot be read back waits for him.
func (r *Recipient) postpone(o reply.Outcome, v verdict) (counted bool, err error) {
	switch {
	case ownFault(o.Owner):
		at, ok := v.schedule.NextAttempt(v.born, v.ended, r.Attempts)
		if !ok {
			return true, r.giveUp()
		}
		return true, r.move(Deferred, r.later(at, o, v))
	case o.Owner == reply.Sender:
		r.Attempts--
		r.SenderWaits = v.pair.waits
		if v.schedule.tooOld(v.born, v.pair.until) {
			return false, r.giveUp()
		}
		return false, r.move(Deferred, v.pair.until)
	}
	r.Attempts--
	if errors.Is(o.Err, ErrBody) { // the next attempt would read the same
		r.Last.Remedy = damageRemedy(v.id)
		return false, r.move(Held, time.Time{})
	}
	parked := o.Owner == reply.Account || o.Owner == reply.Login
	untried := o.TurnedBack && passing(o.Since, v.ended)
	if !parked && !untried && v.schedule.tooOld(v.born, v.ended) {
		return false, r.giveUp()
	}
	if v.gateOpen {
		if parked {
			r.Last.Age = max(v.ended.Sub(v.born), 1)
		}
		return false, r.move(Queued, v.ended.Add(max(ownWait(r.Last.Own), o.RetryAfter)))
	}
	return false, r.move(Queued, v.ended)
}

// giveUp ends the tries because of age. Where a copy may have gone out a report would be a lie: a person decides.
func (r *Recipient) giveUp() error {
	if r.Doubts > 0 {
		return r.move(Held, time.Time{})
	}
	return r.move(Failed, time.Time{})
}

// later adds the jitter and obeys the server's own wish.
func (r *Recipient) later(at time.Time, o reply.Outcome, v verdict) time.Time {
	at = at.Add(v.jitter(at.Sub(v.ended)))
	if wish := v.ended.Add(o.RetryAfter); wish.After(at) {
		return wish
	}
	return at
}
