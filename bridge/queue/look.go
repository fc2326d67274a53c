package queue

import "postern/bridge/envelope"

// looks is how often a message in doubt is looked for within DoubtWait (design.md section 6, "In doubt"). Where doubt is
// resent, the last look and the resend are one attempt.
const looks = 3

// doubtAndLook begins a doubt of a message that can be looked for.
func (r *Recipient) doubtAndLook(v verdict) error {
	if err := r.doubt(v.ended, v.doubtWait/looks); err != nil || r.State != InDoubt {
		return err
	}
	r.Last.Looks = looks - 1
	if v.onDoubt == Hold {
		r.Last.Looks = looks
	}
	return nil
}

// looked ends an attempt that looked and could not tell. It is no attempt, and no doubt of its own.
func (r *Recipient) looked(before Last, v verdict) error {
	r.Attempts--
	r.Last = before
	r.Last.Looks--
	wait := v.doubtWait / looks
	if r.Last.Looks == 0 && v.onDoubt == Hold { // the last look was made
		wait = 0
	}
	return r.move(InDoubt, v.ended.Add(wait))
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
