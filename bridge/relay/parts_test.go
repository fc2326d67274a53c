package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// copies is a transport that keeps who got what, and answers by its rule.
type copies struct {
	rule func(message.Outgoing) reply.Outcome
	sent []message.Outgoing
	look reply.Outcome // what Look answers; CanLook where it has an owner or a verdict
	asks int
}

func (c *copies) Send(_ context.Context, out message.Outgoing) reply.Outcome {
	o := sent
	if c.rule != nil {
		o = c.rule(out)
	}
	if o.Verdict == reply.Relayed {
		c.sent = append(c.sent, out)
	}
	return o
}

func (c *copies) CanLook() bool {
	return c.look.Verdict != reply.Deferred || c.look.Owner != reply.Nobody
}

func (c *copies) Look(context.Context, message.Outgoing) reply.Outcome { c.asks++; return c.look }

// letterTo is a message to n recipients that keeps its notes as the queue does.
type letterTo struct {
	message.Outgoing
	t     *testing.T
	notes map[string]string
}

func newLetter(t *testing.T, n int) *letterTo {
	l := &letterTo{Outgoing: mail(t, "erp"), t: t, notes: map[string]string{}}
	l.ID = "Q123"
	l.Header = []byte("From: erp@contoso.test\r\nTo: ann@example.test\r\nMessage-ID: <m@x.test>\r\nX-Postern-Id: Q123\r\n\r\n")
	l.Plan.MessageID = "<m@x.test>"
	l.Recipients = nil
	for i := range n {
		a, err := envelope.ParseAddress(fmt.Sprintf("r%d@example.test", i))
		if err != nil {
			t.Fatal(err)
		}
		l.Recipients = append(l.Recipients, a)
	}
	l.Envelope.Recipients = l.Recipients
	l.Intent = func(context.Context) error { return nil }
	l.Remember = func(_ context.Context, to []envelope.Address, note string) error {
		for _, a := range to {
			l.notes[a.Key()] = note
		}
		return nil
	}
	return l
}

func (l *letterTo) attempt(r *Relay) reply.Outcome {
	l.Notes = l.notes
	return r.Relay(context.Background(), l.Outgoing)
}

func field(out message.Outgoing, name string) string {
	h, _ := message.ParseHeader(out.Final)
	return h.Get(name)
}

func TestManyRecipientsGoInParts(t *testing.T) {
	c := &copies{}
	h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
	l := newLetter(t, 1201)
	o := l.attempt(h.relay)
	got := map[string]int{}
	ids := map[string]bool{}
	markers := map[string]bool{}
	for _, out := range c.sent {
		if len(out.Recipients) > maxRecipients {
			t.Errorf("a part has %d recipients", len(out.Recipients))
		}
		ids[field(out, "Message-ID")], markers[field(out, "X-Postern-Id")] = true, true
		if field(out, "Message-ID") != out.Plan.MessageID {
			t.Errorf("the header says %s, the plan %s", field(out, "Message-ID"), out.Plan.MessageID)
		}
		for _, a := range out.Recipients {
			got[a.Key()]++
		}
	}
	if len(c.sent) != 3 || len(ids) != 3 || len(markers) != 3 || !ids["<m@x.test>"] || !ids["<m.part-2@x.test>"] {
		t.Errorf("%d parts, Message-IDs %v, markers %v; want three of each", len(c.sent), ids, markers)
	}
	for _, a := range l.Recipients {
		if got[a.Key()] != 1 || o.For(a.Key()).Verdict != reply.Relayed {
			t.Fatalf("%s got %d copies, %v", a, got[a.Key()], o.For(a.Key()).Verdict)
		}
	}
}

// TestOnePartInDoubt: the other parts' fate is their own, and the next attempt makes the same part again.
func TestOnePartInDoubt(t *testing.T) {
	c := &copies{}
	c.rule = func(out message.Outgoing) reply.Outcome {
		if len(c.sent) == 1 && !out.Resend {
			return doubt
		}
		return sent
	}
	h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
	l := newLetter(t, 600)
	o := l.attempt(h.relay)
	if first, last := o.For(l.Recipients[0].Key()), o.For(l.Recipients[599].Key()); first.Verdict != reply.Relayed || last.Verdict != reply.InDoubt {
		t.Fatalf("first %v, last %v", first.Verdict, last.Verdict)
	}
	h.now = h.now.Add(time.Hour) // the pause is over
	l.Recipients, l.Resend, l.Transport, l.Attempt = l.Recipients[500:], true, "graph", 2
	if o := l.attempt(h.relay); o.Verdict != reply.Relayed {
		t.Fatalf("%+v", o)
	}
	if got := c.sent[1]; len(got.Recipients) != 100 || got.Plan.MessageID != "<m.part-2@x.test>" {
		t.Errorf("the resend went to %d as %s", len(got.Recipients), got.Plan.MessageID)
	}
}

func TestInvalidRecipientIsFound(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    int
		bad  []int
	}{
		{"one of two", 2, []int{1}}, {"one of many", 400, []int{123}}, {"several", 40, []int{0, 17, 39}}, {"all", 3, []int{0, 1, 2}}, {"one beyond 500", 700, []int{650}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &copies{}
			l := newLetter(t, tc.n)
			c.rule = func(out message.Outgoing) reply.Outcome {
				for _, i := range tc.bad {
					if slices.Contains(out.Recipients, l.Envelope.Recipients[i]) {
						return reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient, Reply: reply.Reply{Code: 400, Enhanced: "ErrorInvalidRecipients"}}
					}
				}
				return sent
			}
			h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
			o := l.attempt(h.relay)
			ids := map[string]bool{}
			got := map[string]int{}
			for _, out := range c.sent {
				if id := field(out, "Message-ID"); ids[id] {
					t.Errorf("the Message-ID %s left twice", id)
				} else {
					ids[id] = true
				}
				for _, a := range out.Recipients {
					got[a.Key()]++
				}
			}
			for i, a := range l.Envelope.Recipients {
				want, copies := reply.Relayed, 1
				if slices.Contains(tc.bad, i) {
					want, copies = reply.Failed, 0
				}
				if o.For(a.Key()).Verdict != want || got[a.Key()] != copies {
					t.Errorf("recipient %d: %v with %d copies; want %v with %d", i, o.For(a.Key()).Verdict, got[a.Key()], want, copies)
				}
			}
		})
	}
}

// TestHalvesThatAreHalvedAnew: where an attempt ends before the second half is noted, its own halves get names at the next
// one that the first half's copy does not have.
func TestHalvesThatAreHalvedAnew(t *testing.T) {
	for _, tc := range []struct{ name, first, want string }{
		{"noted now", "", "r0 as Q123.2, r1 as Q123.3"},
		{"noted by an older version", `{"part":"a"}`, "r1 as Q123.2"},
		{"noted by an older version, of a part", `{"part":"2a"}`, "r1 as Q123.3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &copies{}
			l := newLetter(t, 3)
			c.rule = func(out message.Outgoing) reply.Outcome {
				if slices.Contains(out.Recipients, l.Envelope.Recipients[2]) {
					return reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient}
				}
				return sent
			}
			h := newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c})
			if remember := l.Remember; tc.first == "" {
				l.Remember = func(ctx context.Context, to []envelope.Address, note string) error {
					if len(to) == 2 {
						return errors.New("disk full")
					}
					return remember(ctx, to, note)
				}
				l.attempt(h.relay)
				l.Remember = remember
			} else {
				l.notes[l.Recipients[0].Key()] = tc.first
			}
			l.Recipients = l.Recipients[1:]
			l.attempt(h.relay)
			var got []string
			for _, out := range c.sent {
				got = append(got, out.Recipients[0].Local+" as "+field(out, "X-Postern-Id"))
			}
			if got := strings.Join(got, ", "); got != tc.want {
				t.Errorf("sent: %s; want %s", got, tc.want)
			}
		})
	}
}

// TestKnownMessageID: the server has taken the Message-ID from another transaction of the application.
func TestKnownMessageID(t *testing.T) {
	c := &copies{}
	c.rule = func(out message.Outgoing) reply.Outcome {
		if out.Plan.MessageID == "<m@x.test>" {
			return reply.Outcome{Owner: reply.Message, Duplicate: true, Reply: reply.Reply{Code: 554}}
		}
		return sent
	}
	h := newHouse(t, Account{Name: "erp", Mode: ModeSMTP, SMTP: c})
	l := newLetter(t, 1)
	if o := l.attempt(h.relay); o.Verdict != reply.Relayed || len(c.sent) != 1 {
		t.Fatalf("%+v, %d copies", o, len(c.sent))
	}
	out := c.sent[0]
	if field(out, "Message-ID") != "<Q123@x.test>" || field(out, originalID) != "<m@x.test>" || field(out, "X-Postern-Id") != "Q123" {
		t.Errorf("it left with\n%s", out.Final)
	}
	// After a doubt it is looked for, and sent again, under the ID that it had.
	l.Resend, l.Transport = true, "smtp"
	if o := l.attempt(h.relay); o.Verdict != reply.Relayed || c.sent[1].Plan.MessageID != "<Q123@x.test>" {
		t.Errorf("the resend: %+v as %s", o, c.sent[1].Plan.MessageID)
	}
}

func TestLooks(t *testing.T) {
	found := reply.Outcome{Verdict: reply.Relayed}
	nowhere := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route}
	noConsent := reply.Outcome{Owner: reply.Account, Reply: reply.Reply{Code: 403, Enhanced: "ErrorAccessDenied"}}
	for _, tc := range []struct {
		name    string
		look    reply.Outcome
		only    bool
		verdict reply.Verdict
		sends   int
	}{
		{"found at a look", found, true, reply.Relayed, 0},
		{"found at the last look", found, false, reply.Relayed, 0},
		{"not found at a look", nowhere, true, reply.InDoubt, 0},
		{"not found at the last look is sent again", nowhere, false, reply.Relayed, 1},
		{"nobody could be asked at a look", down, true, reply.InDoubt, 0},
		{"nobody could be asked at the last look", down, false, reply.Deferred, 0},
		{"who refuses to be asked at a look", noConsent, true, reply.InDoubt, 0},
		{"who refuses to be asked at the last look", noConsent, false, reply.Relayed, 1},
		{"nobody is signed in at a look", noSignIn, true, reply.InDoubt, 0},
		{"nobody is signed in at the last look", noSignIn, false, reply.Relayed, 1},
		{"the token endpoint is down at the last look", tokenDown, false, reply.Deferred, 0},
		{"nobody may be asked at a look", reply.Outcome{}, true, reply.InDoubt, 0},
		{"nobody may be asked at the last look", reply.Outcome{}, false, reply.Relayed, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			graph, smtp := &copies{look: tc.look}, &copies{}
			h := newHouse(t, Account{Name: "erp", Mode: ModeAuto, Graph: graph, SMTP: smtp})
			l := newLetter(t, 1)
			l.Resend, l.Look, l.Transport = true, tc.only, "smtp" // it left by SMTP; Sent Items are the same
			if o := l.attempt(h.relay); o.Verdict != tc.verdict || o.Transport != "smtp" {
				t.Errorf("%+v; want %v", o, tc.verdict)
			}
			if len(smtp.sent) != tc.sends || len(graph.sent) != 0 {
				t.Errorf("%d sent by SMTP, %d by Graph; want %d and none", len(smtp.sent), len(graph.sent), tc.sends)
			}
		})
	}
}

// TestNoLookInAPause: who has asked for a pause is not asked for a message in doubt either; nor is it sent again before he
// could be.
func TestNoLookInAPause(t *testing.T) {
	graph := &copies{look: doubt, rule: func(message.Outgoing) reply.Outcome { return throttled(time.Hour) }}
	smtp := &copies{}
	h := newHouse(t, Account{Name: "erp", Mode: ModeAuto, Graph: graph, SMTP: smtp})
	l := newLetter(t, 1)
	l.Header = []byte("From: erp@contoso.test\r\nTo: r0@example.test\r\nMessage-ID: <m@x.test>\r\n\r\n")
	if o := l.attempt(h.relay); o.Verdict != reply.Relayed || o.Transport != "smtp" {
		t.Fatalf("beside the pause: %+v", o)
	}
	l.Resend, l.Transport = true, "smtp"
	for _, tc := range []struct {
		after   time.Duration
		look    bool
		verdict reply.Verdict
		retry   time.Duration
		asks    int
		sends   int
	}{
		{time.Minute, true, reply.InDoubt, 59 * time.Minute, 0, 1},
		{time.Minute, false, reply.Deferred, 58 * time.Minute, 0, 1},
		{58 * time.Minute, true, reply.InDoubt, 0, 1, 1},
		{time.Minute, false, reply.Relayed, 0, 2, 2},
	} {
		h.now = h.now.Add(tc.after)
		l.Look = tc.look
		if o := l.attempt(h.relay); o.Verdict != tc.verdict || o.RetryAfter != tc.retry || o.TurnedBack != (tc.retry > 0) || graph.asks != tc.asks || len(smtp.sent) != tc.sends {
			t.Errorf("look %v: %v, again after %v, %d asked and %d sent in all; want %v, %v, %d, %d", tc.look, o.Verdict, o.RetryAfter, graph.asks, len(smtp.sent),
				tc.verdict, tc.retry, tc.asks, tc.sends)
		}
	}
}

func TestSizeIsLearned(t *testing.T) {
	tooLarge := reply.Outcome{Verdict: reply.Failed, Owner: reply.Message, Size: reply.OverMailbox}
	c := &copies{rule: func(message.Outgoing) reply.Outcome { return tooLarge }}
	h := newHouse(t, Account{Name: "erp", Mode: ModeSMTP, SMTP: c})
	send := func(size int64) {
		l := newLetter(t, 1)
		l.BodySize = size
		l.attempt(h.relay)
	}
	limit := func() int64 { return h.relay.Capacity("erp").Max }
	send(20_000_000)
	if limit() != 0 {
		t.Errorf("one refusal made the limit %d", limit())
	}
	send(15_000_000) // smaller: it proves nothing about the first
	send(1_000)      // speaks of something else
	if limit() != 0 {
		t.Errorf("a smaller refusal made the limit %d", limit())
	}
	send(16_000_000)
	if got := limit(); got < 15_000_000 || got > 15_001_000 {
		t.Errorf("limit = %d; want that of the smaller refused message", got)
	}
	if n := strings.Count(strings.Join(h.events, "\n"), "account limited"); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	if err := h.relay.SetAccounts([]Account{{Name: "erp", Mode: ModeSMTP, SMTP: c}, {Name: "new", Mode: ModeSMTP, SMTP: c}}); err != nil || limit() == 0 {
		t.Errorf("with another account beside it the limit is %d, %v", limit(), err)
	}
	if h.relay.ForgetSizes(); limit() != 0 {
		t.Errorf("after a reload the limit is %d", limit())
	}
}

// TestTooLargeForOneRequest: Graph cannot carry it, and SMTP takes it, at once or once it is up again.
func TestTooLargeForOneRequest(t *testing.T) {
	graph := &copies{rule: func(message.Outgoing) reply.Outcome {
		return reply.Outcome{Verdict: reply.Failed, Owner: reply.Message, Size: reply.OverRequest}
	}}
	smtp := &copies{}
	h := newHouse(t, Account{Name: "erp", Mode: ModeAuto, Graph: graph, SMTP: smtp})
	l := newLetter(t, 1)
	l.Header = []byte("From: erp@contoso.test\r\nTo: r0@example.test\r\nMessage-ID: <m@x.test>\r\n\r\n")
	if o := l.attempt(h.relay); o.Verdict != reply.Relayed || len(smtp.sent) != 1 {
		t.Errorf("%+v", o)
	}
	smtp.rule = func(message.Outgoing) reply.Outcome { return down }
	if o := l.attempt(h.relay); o.Verdict != reply.Deferred {
		t.Errorf("with SMTP down: %+v; want deferred", o)
	}
	if o := l.attempt(h.relay); o.Verdict != reply.Deferred {
		t.Errorf("with SMTP paused: %+v; want deferred", o)
	}
}

// TestIntentNamesThePart: before each part the intent names its recipients alone, and what became of it is committed before
// the next one leaves; also that it was refused, before halves of it do.
func TestIntentNamesThePart(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    int
		bad  string // the recipient that the server does not take
		want []string
	}{
		{"a message that goes out whole names nobody", 500, "", []string{"intent 0", "send 500"}},
		{"parts of 500", 1100, "", []string{"intent 500 from r0", "send 500", "done 500 from r0", "intent 500 from r500", "send 500", "done 500 from r500",
			"intent 100 from r1000", "send 100"}},
		{"halves, to find the invalid one", 4, "r1@example.test", []string{"intent 0", "send 4", "refused 4 from r0", "intent 2 from r0", "send 2", "refused 2 from r0", "intent 1 from r0", "send 1",
			"done 1 from r0", "intent 1 from r1", "send 1", "done 2 from r0", "intent 2 from r2", "send 2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log []string
			note := func(what string, to []envelope.Address) {
				text := fmt.Sprintf("%s %d", what, len(to))
				if len(to) > 0 && what != "send" {
					text += " from " + to[0].Local
				}
				log = append(log, text)
			}
			c := &copies{rule: func(out message.Outgoing) reply.Outcome {
				if err := out.Intent(t.Context()); err != nil {
					t.Error(err)
				}
				note("send", out.Recipients)
				if slices.ContainsFunc(out.Recipients, func(a envelope.Address) bool { return a.String() == tc.bad }) {
					return reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient}
				}
				return sent
			}}
			l := newLetter(t, tc.n)
			l.IntentBy = func(_ context.Context, _ string, to []envelope.Address) error { note("intent", to); return nil }
			l.PartDone = func(_ context.Context, to []envelope.Address, o reply.Outcome) {
				if o.Verdict == reply.Deferred && o.Recipients == nil { // as a whole: nothing is final for anybody
					note("refused", to)
					return
				}
				note("done", to)
				for _, a := range to {
					if got := o.For(a.Key()).Verdict; (got == reply.Relayed) == (a.String() == tc.bad) {
						t.Errorf("%s is said to be %v", a, got)
					}
				}
			}
			l.attempt(newHouse(t, Account{Name: "erp", Mode: ModeGraph, Graph: c}).relay)
			if !slices.Equal(log, tc.want) {
				t.Errorf("got  %q\nwant %q", log, tc.want)
			}
		})
	}
}
