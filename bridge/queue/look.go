package queue

import (
	"time"

	"postern/bridge/envelope"
	"postern/bridge/reply"
)

// looks is how often a message in doubt is looked for within DoubtWait (design.md section 6, "In doubt"). Where doubt is
// resent, the last look and the resend are one attempt.
const looks = 3

// doubtAndLook begins a doubt of a message that can be looked for, or may be.
func (r *Recipient) doubtAndLook(now time.Time, wait time.Duration, onDoubt OnDoubt) error {
	if err := r.doubt(now, wait/looks); err != nil || r.State != InDoubt {
		return err
	}
	r.Last.Looks = looks - 1
	if onDoubt == Hold {
		r.Last.Looks = looks
	}
	return nil
}

// looked ends an attempt that looked and could not tell. It is no attempt, and no doubt of its own. Where nobody can look at
// all the others are not tried; the last before it is held waits until somebody can be asked.
func (r *Recipient) looked(before Last, o reply.Outcome, v verdict) error {
	r.Attempts--
	r.Last = before
	if v.onDoubt == Hold && before.Looks == 1 && o.RetryAfter > 0 {
		return r.move(InDoubt, v.ended.Add(o.RetryAfter))
	}
	r.Last.Looks--
	waits := 1
	if o.Verdict == reply.InDoubt && !o.CanLook {
		waits, r.Last.Looks = waits+r.Last.Looks, 0
	}
	if r.Last.Looks == 0 && v.onDoubt == Hold { // the last look was made
		waits--
	}
	return r.move(InDoubt, v.ended.Add(time.Duration(waits)*v.doubtWait/looks))
}

// remember keeps a note for those recipients, but for whom it is relayed to, while the message is under the lease.
func (it *Item) remember(lease string, recipients []envelope.Address, note string) error {
	if it.Lease != lease {
		return errLeaseLost
	}
	keys := keysOf(recipients)
	for i := range it.Recipients {
		if r := &it.Recipients[i]; keys[r.Address.Key()] && r.State != Relayed {
			r.Last.Note = note
		}
	}
	return nil
}
