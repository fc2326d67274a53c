package queue

import (
	"errors"
	"fmt"
	"slices"
)

// State is where a message stands for one of its recipients. It is stored as its text.
type State string

// The states of design.md section 6, "Keep", the least final first.
const (
	Sending  State = "sending"  // leased by a process that is relaying it
	Queued   State = "queued"   // to be relayed as soon as its account may; no failure of its own
	Deferred State = "deferred" // a failure of its own, or of its sender pair; waits until its next attempt
	InDoubt  State = "in-doubt" // may or may not have been accepted; waits for a look, then for Account.OnDoubt
	Held     State = "held"     // waits for a person
	Failed   State = "failed"   // given up, or refused with proof
	Relayed  State = "relayed"  // the next server took it
)

// moves is the only table of allowed moves. Who makes them: a claim leads to Sending, an outcome away from it, a void
// lease to Queued, InDoubt or Held; a message whose sender pair waits goes from Queued to Deferred with it; age leads
// from what waits to Failed or Held; and a person (queue hold, release, retry, sent, drop) makes those that neither
// start nor end at Sending.
var moves = map[State][]State{
	Queued:   {Sending, Deferred, Held, Failed},
	Sending:  {Queued, Deferred, InDoubt, Held, Failed, Relayed},
	Deferred: {Sending, Queued, Held, Failed},
	InDoubt:  {Sending, Queued, Held, Failed, Relayed},
	Held:     {Queued, Failed, Relayed},
	Failed:   {Queued},
	Relayed:  {},
}

// finality is the order in which a message's state is taken from its recipients': the first that one of them is in.
var finality = []State{Sending, Queued, Deferred, InDoubt, Held, Failed, Relayed}

// ErrMove is wrapped by the errors of State.To: the caller's program is wrong, and nothing was changed.
var ErrMove = errors.New("move not allowed")

// To returns next when the table allows the move from s, else s and an error that wraps ErrMove.
func (s State) To(next State) (State, error) {
	if !slices.Contains(moves[s], next) {
		return s, fmt.Errorf("from %s to %s: %w", s, next, ErrMove)
	}
	return next, nil
}

// Final reports whether nothing is done any more unless a person asks for it.
func (s State) Final() bool { return s == Relayed || s == Failed }

// waiting reports whether s is left by time alone.
func (s State) waiting() bool { return s == Queued || s == Deferred || s == InDoubt }

// ParseState returns the state of that text, for what a person typed and for what a store holds.
func ParseState(text string) (State, error) {
	if s := State(text); slices.Contains(finality, s) {
		return s, nil
	}
	return "", fmt.Errorf("%.20q is not a state: it is one of %v", text, finality)
}
