package relay

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/reply"
)

// page is what a filter in between says of a message.
var page = reply.Outcome{Owner: reply.Account, Guessed: true, Reply: reply.Reply{Code: 403, Text: "blocked"}}

// relayID relays the message of that ID.
func (h *house) relayID(id envelope.ID) reply.Outcome {
	out := mail(h.t, "erp")
	out.ID = id
	return h.relay.Relay(context.Background(), out)
}

// TestTroubleOfAMessageItself: once another message went through a mailbox that one had parked, that one parks it no more.
func TestTroubleOfAMessageItself(t *testing.T) {
	type step struct {
		id     envelope.ID
		after  time.Duration // since the step before
		answer reply.Outcome
		want   string // the outcome, and how many messages the account may have under way then
	}
	const probe, second = 15 * time.Minute, 30 * time.Minute
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"it waits by its own schedule, and parks the others no more", []step{
			{"bad", 0, page, "deferred account 0"}, {"good", probe, sent, "relayed nobody 3"},
			{"bad", 0, page, "deferred message 3"}, {"bad", time.Hour, page, "deferred message 3"}}},
		{"until another went through it is the mailbox's", []step{
			{"bad", 0, page, "deferred account 0"}, {"bad", probe, page, "deferred account 0"}, {"other", second, badMIME, "failed message 1"},
			{"bad", 0, page, "deferred account 0"}}},
		{"that it went through itself shows nothing", []step{
			{"bad", 0, page, "deferred account 0"}, {"bad", probe, sent, "relayed nobody 3"}, {"bad", 0, page, "deferred account 0"}}},
		{"a probe that met the same has its own trouble too", []step{
			{"bad", 0, page, "deferred account 0"}, {"worse", probe, page, "deferred account 0"}, {"good", second, sent, "relayed nobody 3"},
			{"bad", 0, page, "deferred message 3"}, {"worse", 0, page, "deferred message 3"}}},
		{"a message that nobody knows parks the mailbox", []step{
			{"bad", 0, page, "deferred account 0"}, {"good", probe, sent, "relayed nobody 3"}, {"new", 0, page, "deferred account 0"}}},
		{"a code about the mailbox is never a message's own", []step{
			{"large", 0, full, "deferred account 0"}, {"small", probe, sent, "relayed nobody 3"}, {"large", 0, full, "deferred account 0"},
			{"large", probe, full, "deferred account 0"}, {"small", second, sent, "relayed nobody 3"}, {"large", 0, full, "deferred account 0"}}},
		{"who probed a full mailbox has no trouble of its own", []step{
			{"bad", 0, page, "deferred account 0"}, {"large", probe, full, "deferred account 0"}, {"good", second, sent, "relayed nobody 3"},
			{"large", 0, full, "deferred account 0"}}},
		{"who has trouble of its own meets the mailbox's too", []step{
			{"bad", 0, page, "deferred account 0"}, {"good", probe, sent, "relayed nobody 3"}, {"bad", 0, full, "deferred account 0"}}},
		{"as a probe it shows nothing, and the next one probes half a minute later", []step{
			{"bad", 0, page, "deferred account 0"}, {"good", probe, sent, "relayed nobody 3"}, {"new", 0, page, "deferred account 0"},
			{"bad", probe, page, "deferred message 0"}, {"good", 0, sent, "deferred account 0"}, {"good", turnedBack, sent, "relayed nobody 3"}}},
		{"those that have trouble of their own do not probe one right after the other", []step{
			{"bad", 0, page, "deferred account 0"}, {"worse", probe, page, "deferred account 0"}, {"good", second, sent, "relayed nobody 3"},
			{"new", 0, full, "deferred account 0"}, {"bad", probe, page, "deferred message 0"}, {"worse", 0, page, "deferred account 0"},
			{"worse", turnedBack, page, "deferred message 0"}, {"good", turnedBack, sent, "relayed nobody 3"}}},
		{"it went through meanwhile, and what comes after is the mailbox's", []step{
			{"bad", 0, page, "deferred account 0"}, {"good", probe, sent, "relayed nobody 3"}, {"bad", 0, sent, "relayed nobody 3"},
			{"bad", 0, page, "deferred account 0"}}},
		{"what passes by itself is the route's still", []step{
			{"bad", 0, page, "deferred account 0"}, {"good", probe, sent, "relayed nobody 3"}, {"bad", 0, down, "deferred route 0"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, erp(ModeSMTP))
			for i, s := range tc.steps {
				h.now = h.now.Add(s.after)
				h.smtp.answers = []reply.Outcome{s.answer}
				o := h.relayID(s.id)
				if got := fmt.Sprintf("%v %v %d", o.Verdict, o.Owner, h.gate("erp").Limit); got != s.want {
					t.Errorf("step %d, %s: %s (%+v); want %s", i, s.id, got, o, s.want)
				}
			}
		})
	}
}

// TestItsOwnTroubleAtOneTransport: the other transport is tried all the same, as at an account's trouble.
func TestItsOwnTroubleAtOneTransport(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.graph.answers, h.smtp.answers = []reply.Outcome{page, sent, page}, []reply.Outcome{down, sent}
	h.relayID("bad")
	h.now = h.now.Add(15 * time.Minute)
	h.relayID("good") // by Graph
	if o := h.relayID("bad"); o.Verdict != reply.Relayed || o.Transport != "smtp" {
		t.Errorf("%+v; want it sent by SMTP", o)
	}
	h.smtp.answers = []reply.Outcome{down}
	h.graph.answers = []reply.Outcome{page}
	if o := h.relayID("bad"); o.Owner != reply.Route || h.relay.States()[0].Condition != Parked {
		t.Errorf("%+v; want Graph parked: it went through meanwhile", o)
	}
}

// TestOwnTroublesAreBounded: what is known of messages that are gone does not grow.
func TestOwnTroublesAreBounded(t *testing.T) {
	h := newHouse(t, erp(ModeSMTP))
	for i := range maxOwn + 10 {
		h.smtp.answers = []reply.Outcome{page, sent}
		h.relayID(envelope.ID(fmt.Sprint("bad", i)))
		h.now = h.now.Add(time.Hour)
		h.relayID("good")
	}
	if n := len(h.relay.owns); n != maxOwn {
		t.Errorf("%d messages are known; want %d", n, maxOwn)
	}
	for range 5 * maxMet {
		h.smtp.answers = []reply.Outcome{page}
		h.relayID(envelope.ID(fmt.Sprint("new", h.smtp.calls)))
		h.now = h.now.Add(time.Hour)
	}
	for _, known := range h.relay.troubles {
		if n := len(known.met); n != maxMet {
			t.Errorf("one trouble remembers %d messages; want %d", n, maxMet)
		}
	}
}
