package relay

import (
	"context"
	"io"
	"testing"
	"time"

	"postern/bridge/message"
	"postern/bridge/reply"
)

func TestLargeMessageWaitsForItsTransport(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.smtp.answers = []reply.Outcome{full}
	out := mail(t, "erp")
	out.BodySize = 20_000_000
	h.relay.Relay(context.Background(), out)
	asked := 0
	out.BeforeSend = func(context.Context) { asked++ }
	h.now = h.now.Add(5 * time.Minute)
	got := h.relay.Relay(context.Background(), out)
	if got.Owner != reply.Account || got.Transport != "smtp" || got.Remedy != "make room" || !got.TurnedBack || got.RetryAfter != 10*time.Minute {
		t.Errorf("Relay = %+v; want SMTP's own trouble and a wait until its probe, since the gate is open", got)
	}
	if h.smtp.calls != 1 || h.graph.calls != 0 || asked != 0 {
		t.Errorf("calls: smtp %d, graph %d, and %d are told; want 1, 0, 0", h.smtp.calls, h.graph.calls, asked)
	}
	h.now = h.now.Add(10 * time.Minute)
	h.smtp.during = func(probe message.Outgoing) {
		h.smtp.during = nil
		probe.BeforeSend = nil
		if got := h.relay.Relay(context.Background(), probe); !got.TurnedBack || got.RetryAfter != 30*time.Minute {
			t.Errorf("beside the probe: %+v; want the wait that follows when it fails", got)
		}
	}
	if got := h.relay.Relay(context.Background(), out); got.TurnedBack || asked != 1 {
		t.Errorf("the probe: %+v, and %d are told; want it sent, and one", got, asked)
	}
}

func TestWhoProbesDoesNotEndTheParkForOthers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer reply.Outcome
		want   reply.Owner
	}{
		{"a mailbox that waits for a person still does", full, reply.Account},
		{"a login that waits for a person still does", noSignIn, reply.Login},
		{"a pause passes by itself", throttled(time.Minute), reply.Route},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, erp(ModeAuto))
			h.smtp.answers = []reply.Outcome{tc.answer}
			large := mail(t, "erp")
			large.BodySize = 20_000_000
			h.relay.Relay(context.Background(), large)
			h.now = h.now.Add(time.Hour)
			other := large
			other.ID = "0123456789abcdeg"
			var got reply.Outcome
			h.smtp.during = func(message.Outgoing) { got = h.relay.Relay(context.Background(), other) }
			h.relay.Relay(context.Background(), large)
			if got.Owner != tc.want || !got.TurnedBack || got.Remedy != tc.answer.Remedy {
				t.Errorf("beside the probe: %+v; want it turned back by the trouble of %v", got, tc.want)
			}
		})
	}
}

// TestATokenEndpointThatIsDownIsTheRoutes: it passes by itself, so nobody's age stands still for it.
func TestATokenEndpointThatIsDownIsTheRoutes(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.smtp.answers = []reply.Outcome{tokenDown}
	large := mail(t, "erp")
	large.BodySize = 20_000_000
	for _, turnedBack := range []bool{false, true} {
		if o := h.relay.Relay(context.Background(), large); o.Owner != reply.Route || o.TurnedBack != turnedBack || o.Err == nil {
			t.Errorf("Relay = %+v; want the route's trouble, turned back %v", o, turnedBack)
		}
	}
	if g := h.gate("erp"); g.Limit != 3 {
		t.Errorf("Gate = %+v; want it open for what Graph carries", g)
	}
}

// TestSinceWhenNothingGoes: the gate and a message that is turned back say since when the last way is stopped, however often
// it was probed.
func TestSinceWhenNothingGoes(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.smtp.answers, h.graph.answers = []reply.Outcome{down, down, down, sent}, []reply.Outcome{sent, full}
	small, large := mail(t, "erp"), mail(t, "erp")
	large.BodySize = 20_000_000 // SMTP's alone
	at := func(minutes int) time.Time { return opened.Add(time.Duration(minutes) * time.Minute) }
	for _, tc := range []struct {
		minute          int
		out             message.Outgoing // is sent first
		gate, turnsBack time.Time
	}{
		{0, large, time.Time{}, at(0)},
		{2, large, time.Time{}, at(0)}, // a probe
		{2, small, time.Time{}, at(0)},
		{10, small, at(10), at(0)}, // by Graph, and then a probe by SMTP
		{11, large, at(10), at(0)},
		{30, large, time.Time{}, time.Time{}},
	} {
		h.now = at(tc.minute)
		h.relay.Relay(context.Background(), tc.out)
		if g := h.relay.Gate("erp", h.now); !g.Since.Equal(tc.gate) {
			t.Errorf("minute %d: Gate = %+v; want since %v", tc.minute, g, tc.gate)
		}
		if tc.turnsBack.IsZero() {
			continue
		}
		if o := h.relay.Relay(context.Background(), large); !o.TurnedBack || !o.Since.Equal(tc.turnsBack) {
			t.Errorf("minute %d: Relay = %+v; want it turned back since %v", tc.minute, o, tc.turnsBack)
		}
	}
}

// splitting is a Graph where drafts are allowed.
type splitting struct{ *fake }

func (splitting) Splits() bool                       { return true }
func (splitting) CheckCarry([]byte, io.Reader) error { return nil }

func TestLargeMessageGoesInPartsWhereSMTPIsParked(t *testing.T) {
	cannot := reply.Outcome{Verdict: reply.Failed, Owner: reply.Message, Size: reply.OverRequest}
	for _, tc := range []struct {
		name        string
		smtp, graph reply.Outcome
		want        string
		calls       int // of Graph, in two attempts
	}{
		{"a person must act at SMTP", full, sent, "graph relayed", 2},
		{"SMTP only pauses: it goes as it is, later", down, sent, "smtp deferred", 0},
		{"what cannot be rebuilt waits for SMTP", full, cannot, "smtp deferred", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := erp(ModeAuto)
			graph := &fake{answers: []reply.Outcome{tc.graph}}
			a.Graph = splitting{graph}
			h := newHouse(t, a)
			h.smtp.answers = []reply.Outcome{tc.smtp}
			h.relay.end(context.Background(), a, try{id: "before", transport: "smtp"}, tc.smtp)
			out := mail(t, "erp")
			out.BodySize = 20_000_000
			for range 2 {
				o := h.relay.Relay(context.Background(), out)
				if got := o.Transport + " " + o.Verdict.String(); got != tc.want {
					t.Errorf("Relay = %s (%+v); want %s", got, o, tc.want)
				}
			}
			if graph.calls != tc.calls {
				t.Errorf("Graph was called %d times; want %d", graph.calls, tc.calls)
			}
			h.now = h.now.Add(2 * time.Hour)
			h.smtp.answers = nil
			if o := h.relay.Relay(context.Background(), out); o.Transport != "smtp" || o.Verdict != reply.Relayed {
				t.Errorf("with SMTP up again: %+v", o)
			}
		})
	}
}
