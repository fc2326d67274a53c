package relay

import (
	"context"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

func TestAutoPicksTheTransport(t *testing.T) {
	for _, tc := range []struct {
		name        string
		graph, smtp []reply.Outcome // answers; nil: the transport must not be called
		change      func(*message.Outgoing)
		want        string // transport and verdict
	}{
		{"Graph is preferred", []reply.Outcome{sent}, nil, nil, "graph relayed"},
		{"a message over Graph's limit goes by SMTP", nil, []reply.Outcome{sent},
			func(o *message.Outgoing) { o.BodySize = 3_000_000 }, "smtp relayed"},
		{"a message of exactly Graph's limit goes by Graph", []reply.Outcome{sent}, nil,
			// The plan's From is two octets longer than the application's.
			func(o *message.Outgoing) { o.BodySize = 3_000_000 - int64(len(header)) - 4 }, "graph relayed"},
		{"a hidden recipient goes by SMTP", nil, []reply.Outcome{sent},
			func(o *message.Outgoing) {
				o.Recipients = append(o.Recipients, envelope.Address{Local: "bob", Domain: "example.test"})
			}, "smtp relayed"},
		{"a header that would lose people goes by SMTP", nil, []reply.Outcome{sent},
			func(o *message.Outgoing) {
				o.Header = []byte("From: a@contoso.test\r\nTo: ann@example.test, carl@example.test\r\n\r\n")
			}, "smtp relayed"},
		{"a hidden recipient goes by Graph where SMTP is down", []reply.Outcome{sent}, []reply.Outcome{down},
			func(o *message.Outgoing) {
				o.Recipients = append(o.Recipients, envelope.Address{Local: "bob", Domain: "example.test"})
			}, "graph relayed"},
		{"a full mailbox at Graph lets SMTP try at once", []reply.Outcome{full}, []reply.Outcome{sent}, nil, "smtp relayed"},
		{"a login refused at Graph lets SMTP try at once", []reply.Outcome{noSignIn}, []reply.Outcome{sent}, nil, "smtp relayed"},
		{"a throttled Graph lets SMTP try at once", []reply.Outcome{throttled(time.Minute)}, []reply.Outcome{sent}, nil, "smtp relayed"},
		{"a doubt at Graph is never tried by SMTP", []reply.Outcome{doubt}, nil, nil, "graph in doubt"},
		{"a message refused by Graph is not tried by SMTP", []reply.Outcome{badMIME}, nil, nil, "graph failed"},
		{"a missing Send As right is not tried by SMTP", []reply.Outcome{noRight}, nil, nil, "graph deferred"},
		{"both transports may refuse the login", []reply.Outcome{noSignIn}, []reply.Outcome{noSignIn}, nil, "smtp deferred"},
		{"a resend after doubt keeps its transport", nil, []reply.Outcome{sent},
			func(o *message.Outgoing) { o.Resend, o.Transport = true, "smtp" }, "smtp relayed"},
		{"a resend after doubt stays with a transport that is down", nil, []reply.Outcome{down},
			func(o *message.Outgoing) { o.Resend, o.Transport = true, "smtp" }, "smtp deferred"},
		{"a resend whose transport nobody knows goes as usual", []reply.Outcome{sent}, nil,
			func(o *message.Outgoing) { o.Resend = true }, "graph relayed"},
		{"a large message with Graph up waits for SMTP", nil, []reply.Outcome{full},
			func(o *message.Outgoing) { o.BodySize = 3_000_000 }, "smtp deferred"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, erp(ModeAuto))
			h.graph.answers, h.smtp.answers = tc.graph, tc.smtp
			out := mail(t, "erp")
			if tc.change != nil {
				tc.change(&out)
			}
			got := h.relay.Relay(context.Background(), out)
			if s := got.Transport + " " + got.Verdict.String(); s != tc.want {
				t.Errorf("Relay = %s (%+v); want %s", s, got, tc.want)
			}
			if h.graph.calls != len(tc.graph) || h.smtp.calls != len(tc.smtp) {
				t.Errorf("calls: graph %d, smtp %d; want %d, %d", h.graph.calls, h.smtp.calls, len(tc.graph), len(tc.smtp))
			}
		})
	}
}

func TestAutoGoesBackToGraph(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.graph.answers = []reply.Outcome{throttled(time.Minute), sent}
	for range 3 {
		if o := h.send(); o.Transport != "smtp" || o.Verdict != reply.Relayed {
			t.Fatalf("while Graph is paused: %+v", o)
		}
		if g := h.gate("erp"); g != (Gate{Limit: 3}) {
			t.Fatalf("Gate with SMTP up = %+v", g)
		}
	}
	if h.graph.calls != 1 {
		t.Fatalf("Graph was called %d times in its pause; want 1 in all", h.graph.calls)
	}
	h.now = h.now.Add(time.Minute)
	// While one message probes Graph the next one still takes SMTP.
	h.graph.during = func(message.Outgoing) {
		h.graph.during = nil
		if o := h.send(); o.Transport != "smtp" {
			t.Errorf("beside the probe: %+v", o)
		}
	}
	if o := h.send(); o.Transport != "graph" {
		t.Errorf("the probe: %+v", o)
	}
	if o := h.send(); o.Transport != "graph" {
		t.Errorf("after the probe: %+v", o)
	}
}
