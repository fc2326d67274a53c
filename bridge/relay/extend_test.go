package relay

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"postern/bridge/message"
	"postern/bridge/reply"
)

func TestWhatAScenarioAddsIsAddedBeforeATransportIsPicked(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	text := strings.Repeat("x", 3_000_000)
	h.relay.contents = func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	out := mail(t, "erp")
	out.Plan.Additions = message.Additions{Attach: []message.Part{{Hash: "a", Size: int64(len(text)), Name: "a.bin", Type: "application/octet-stream"}}}
	if o := h.relay.Relay(context.Background(), out); o.Verdict != reply.Relayed {
		t.Fatalf("outcome %+v", o)
	}
	if h.graph.calls != 0 || h.smtp.calls != 1 {
		t.Errorf("Graph was called %d times, SMTP %d; want SMTP alone for what is large only with its attachment", h.graph.calls, h.smtp.calls)
	}
	in, err := h.smtp.last.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	body, err := io.ReadAll(in)
	if err != nil || int64(len(body)) != h.smtp.last.BodySize || len(body) < 4_000_000 {
		t.Errorf("the body has %d octets, BodySize says %d, %v", len(body), h.smtp.last.BodySize, err)
	}
}

func TestContentsThatAreGoneStopTheMessageAlone(t *testing.T) {
	h := newHouse(t, erp(ModeGraph))
	h.relay.contents = func(string) (io.ReadCloser, error) { return nil, errors.New("gone") }
	out := mail(t, "erp")
	out.Plan.Additions = message.Additions{FooterText: &message.Part{Hash: "a", Size: 1}}
	if o := h.relay.Relay(context.Background(), out); o.Verdict != reply.Deferred || o.Owner != reply.Process || o.Remedy == "" || o.Err == nil {
		t.Errorf("outcome %+v; want deferred, ours, with a remedy", o)
	}
	if h.graph.calls != 0 || h.gate("erp").Limit != 3 {
		t.Errorf("it was sent %d times; the gate is %+v", h.graph.calls, h.gate("erp"))
	}
}

func TestWays(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	out := mail(t, "erp")
	out.Final = out.Header
	hidden := mail(t, "erp")
	hidden.Final = []byte("From: erp@contoso.test\r\n\r\n")
	large := mail(t, "erp")
	large.Final, large.BodySize = large.Header, 4_000_000
	for _, tc := range []struct {
		name    string
		account string
		out     message.Outgoing
		want    []string
	}{
		{"a plain message prefers Graph", "erp", out, []string{"graph", "smtp"}},
		{"a hidden recipient prefers SMTP", "erp", hidden, []string{"smtp", "graph"}},
		{"a large one takes SMTP alone", "erp", large, []string{"smtp"}},
		{"an account that is not there has none", "gone", out, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := h.relay.Ways(tc.account, tc.out)
			if !slices.Equal(got, tc.want) {
				t.Errorf("Ways = %v; want %v", got, tc.want)
			}
		})
	}
}
