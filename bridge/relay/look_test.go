package relay

import (
	"testing"
	"time"

	"postern/bridge/message"
	"postern/bridge/reply"
)

// TestLooksAreLearntFrom: who cannot be asked is asked at the pauses of his place, by one message at a time, and where only
// a person could change that the message is sent again.
func TestLooksAreLearntFrom(t *testing.T) {
	for _, tc := range []struct {
		name  string
		look  reply.Outcome
		rule  reply.Outcome // what Graph answers to a message of before
		asks  int
		sends int
		gate  string // for Graph after all
	}{
		{"a way that is down pauses, up to 15 minutes, and is not waited for longer than two hours", down, sent, 12, 1, Paused},
		{"a sign-in that is gone parks", noSignIn, sent, 1, 1, Parked},
		{"a mailbox that is parked, and does not answer, is asked once", down, full, 1, 1, Parked},
		{"a mailbox that is parked may answer", doubt, full, 1, 1, Parked},
		{"a mailbox that is parked may refuse", full, full, 1, 1, Parked},
		{"a pause is over with an answer", doubt, down, 1, 1, Up},
	} {
		t.Run(tc.name, func(t *testing.T) {
			graph, smtp := &copies{look: tc.look, rule: func(message.Outgoing) reply.Outcome { return tc.rule }}, &copies{}
			h := newHouse(t, Account{Name: "erp", Mode: ModeAuto, Graph: graph, SMTP: smtp})
			before := newLetter(t, 1)
			before.Header = []byte("From: erp@contoso.test\r\nTo: r0@example.test\r\nMessage-ID: <m@x.test>\r\n\r\n")
			before.attempt(h.relay)
			graph.sent, smtp.sent = nil, nil
			l := newLetter(t, 1)
			l.Resend, l.Transport = true, "smtp"
			h.now = h.now.Add(15 * time.Minute)
			for end := h.now.Add(24 * time.Hour); h.now.Before(end); {
				o := l.attempt(h.relay)
				if o.Verdict == reply.Relayed {
					break
				}
				h.now = h.now.Add(max(30*time.Second, o.RetryAfter)) // as the queue does where the gate is open
			}
			if graph.asks != tc.asks || len(smtp.sent) != tc.sends || h.relay.States()[0].Condition != tc.gate {
				t.Errorf("%d asked, %d sent, then %s; want %d, %d, %s", graph.asks, len(smtp.sent), h.relay.States()[0].Condition, tc.asks, tc.sends, tc.gate)
			}
		})
	}
}

// TestALookBesideAProbe: while a message finds out whether a pause is over, none is asked for beside it; nor is a park probed
// by two.
func TestALookBesideAProbe(t *testing.T) {
	for _, tc := range []struct {
		name    string
		trouble reply.Outcome
		want    reply.Verdict
	}{
		{"a pause is waited for", down, reply.Deferred},
		{"a park is not", full, reply.Relayed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h *house
			var o reply.Outcome
			answer := func(message.Outgoing) reply.Outcome { return tc.trouble }
			smtp := &copies{}
			graph := &copies{look: doubt, rule: func(out message.Outgoing) reply.Outcome { return answer(out) }}
			h = newHouse(t, Account{Name: "erp", Mode: ModeAuto, Graph: graph, SMTP: smtp})
			other, l := newLetter(t, 1), newLetter(t, 1)
			other.Header = []byte("From: erp@contoso.test\r\nTo: r0@example.test\r\nMessage-ID: <m@x.test>\r\n\r\n")
			other.attempt(h.relay)
			l.Resend, l.Transport = true, "smtp"
			h.now = h.now.Add(time.Hour)
			answer = func(message.Outgoing) reply.Outcome {
				o = l.attempt(h.relay)
				return sent
			}
			other.attempt(h.relay)
			if o.Verdict != tc.want || graph.asks != 0 {
				t.Errorf("%+v, %d asked; want %v, none", o, graph.asks, tc.want)
			}
		})
	}
}
