package relay

import (
	"slices"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// An answer that is only judged to be about the mailbox may be one message's doing all the same: a filter's page, a right
// that only this message needs. A message that had the mailbox parked so, while another one then went through it, has trouble
// of its own: from there on it waits by its own schedule, and parks nothing. Where the server's code is about the mailbox
// (full, its limit, disabled) that others got through shows nothing: they were smaller, or fewer.

const (
	maxMet = 20  // messages that one trouble remembers
	maxOwn = 100 // messages that are known so; the oldest is forgotten first, and would park the mailbox once more
)

// own is a message whose trouble at that place is its own.
type own struct {
	at place
	id envelope.ID
}

// metBy notes whose failure parked the mailbox, or kept it so.
func (t *trouble) metBy(id envelope.ID) {
	if len(t.met) < maxMet && !slices.Contains(t.met, id) {
		t.met = append(t.met, id)
	}
}

// acquit is called when that message ended a trouble: those by whom a mailbox was parked have their own.
// r.mu is held.
func (r *Relay) acquit(at place, t *trouble, id envelope.ID) {
	for _, other := range t.met {
		if one := (own{at, other}); other != id && !slices.Contains(r.owns, one) {
			r.owns = append(r.owns, one)
		}
	}
	r.owns = slices.Delete(r.owns, 0, max(0, len(r.owns)-maxOwn))
}

// forget is called when that message went through. r.mu is held.
func (r *Relay) forget(id envelope.ID) {
	r.owns = slices.DeleteFunc(r.owns, func(o own) bool { return o.id == id })
}

// isOwn reports whether what that message met there is its own. r.mu is held.
func (r *Relay) isOwn(at place, id envelope.ID, o reply.Outcome) bool {
	return o.Owner == reply.Account && o.Guessed && slices.Contains(r.owns, own{at, id})
}

// blame gives a message the trouble that is its own, and the route a token that nobody has to do anything for.
func (r *Relay) blame(a Account, out message.Outgoing, o reply.Outcome) reply.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, route := a.places(o.Transport); {
	case r.isOwn(route, out.ID, o):
		o.Owner = reply.Message
	case o.Owner == reply.Login && !needsPerson(o):
		if t, _ := r.state(a, o.Transport, r.now()); t == nil || !t.parked { // else it probed, and only did not get as far
			o.Owner = reply.Route
		}
	}
	return o
}
