package graph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/reply"
	"postern/bridge/sandbox"
	"postern/bridge/transport/graph/graphtest"
)

func TestTroubleOnOurSide(t *testing.T) {
	long := strings.Repeat("x", 5*rawChunk)
	for _, tc := range []struct {
		name   string
		err    error // what the outcome's wraps: the queue asks it what the store said
		change func(*outgoing)
	}{
		{"the body cannot be opened", os.ErrNotExist, func(m *outgoing) {
			m.Open = func(context.Context) (io.ReadCloser, error) { return nil, os.ErrNotExist }
		}},
		{"the body is shorter than announced", nil, func(m *outgoing) { m.BodySize++ }},
		{"the body is longer than announced", nil, func(m *outgoing) { m.BodySize-- }},
		{"the body breaks in the middle", errSum, func(m *outgoing) {
			m.Open = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader(long[:rawChunk*2]), broken{})), nil
			}
		}},
		{"the in-doubt record cannot be written", nil, func(m *outgoing) {
			m.Intent = func(context.Context) error { return errors.New("disk full") }
		}},
		{"the header cannot be read", nil, func(m *outgoing) { m.Final = []byte("no header") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t)
			b := newBench(t, s.URL, nil)
			m := mail(t, long)
			tc.change(m)
			o := b.Send(context.Background(), m.Outgoing)
			if o.Verdict != reply.Deferred || o.Owner != reply.Process || o.Err == nil || o.Reply.Text == "" || tc.err != nil && !errors.Is(o.Err, tc.err) {
				t.Errorf("Send = %+v; want it deferred for the process, %v", o, tc.err)
			}
			for _, r := range s.Requests() {
				if r.Err == nil {
					t.Error("the server got a whole message")
				}
			}
			if m.intents != 0 {
				t.Errorf("%d intents; want none", m.intents)
			}
		})
	}
}

// broken is a reader that fails.
type broken struct{}

var errSum = errors.New("checksum mismatch")

func (broken) Read([]byte) (int, error) { return 0, errSum }

func TestSilence(t *testing.T) {
	big := strings.Repeat("x", 2_500_000) // more than a socket takes unread
	for _, tc := range []struct {
		name    string
		answer  graphtest.Answer
		body    string
		verdict reply.Verdict
	}{
		{"the connection breaks after the last octet", graphtest.Answer{Drop: true}, "hi\r\n", reply.InDoubt},
		{"no answer comes after the last octet", graphtest.Answer{Hang: true}, "hi\r\n", reply.InDoubt},
		{"a large message is read and never answered", graphtest.Answer{Drop: true}, big, reply.InDoubt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t, tc.answer)
			b := newBench(t, s.URL, func(o *Options) {
				if tc.answer.Hang {
					o.Timeout = 1500 * time.Millisecond
				}
			})
			m := mail(t, tc.body)
			o := b.Send(context.Background(), m.Outgoing)
			if o.Verdict != tc.verdict || o.Owner != reply.Route || o.Err == nil || o.Reply.Text == "" {
				t.Errorf("Send = %+v; want %v of the route", o, tc.verdict)
			}
			if n := len(s.Requests()); n != 1 || m.intents != 1 {
				t.Errorf("%d requests, %d intents; want one each: sendMail is never repeated", n, m.intents)
			}
			b.noEvidence(t, o)
		})
	}
}

func TestNothingLeftMeansNoDoubt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	b := newBench(t, "http://"+l.Addr().String()+"/v1.0", nil)
	m := mail(t, "hi\r\n")
	o := b.Send(context.Background(), m.Outgoing)
	if o.Verdict != reply.Deferred || o.Owner != reply.Route || m.intents != 0 {
		t.Errorf("refused: Send = %+v, %d intents", o, m.intents)
	}
	if strings.Contains(o.Reply.Text, "127.0.0.1") {
		t.Errorf("the reply names a host: %q", o.Reply.Text)
	}
}

// breakOff closes the connection with octets unread, so that the client's next write fails, and then says so.
func breakOff(t *testing.T, w http.ResponseWriter, done chan struct{}) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	c.Close()
	close(done)
}

// A server that breaks off while the message is still coming cannot have it: no doubt, and a plain retry.
func TestBreakInTheMiddleMeansNoDoubt(t *testing.T) {
	broken := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { breakOff(t, w, broken) }))
	defer s.Close()
	b := newBench(t, s.URL, nil)
	m := mail(t, strings.Repeat("x", 40*rawChunk))
	open := m.Open
	m.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		return io.NopCloser(io.MultiReader(io.LimitReader(r, 2*rawChunk), waits{broken}, r)), err
	}
	o := b.Send(context.Background(), m.Outgoing)
	if o.Verdict != reply.Deferred || o.Owner != reply.Route || m.intents != 0 {
		t.Errorf("Send = %+v with %d intents; want it deferred for the route, without doubt", o, m.intents)
	}
}

// TestResetWithinTheBody: the server has read some of the request when it breaks off, and not all was given away.
func TestResetWithinTheBody(t *testing.T) {
	const after = 50_000 // octets of base64
	for _, tc := range []struct {
		name   string
		drafts Drafts
		where  sandbox.Where
	}{{"of sendMail", DraftsNever, sandbox.AtSend}, {"of the creation", DraftsAlways, sandbox.AtCreate}} {
		t.Run(tc.name, func(t *testing.T) {
			cut := make(chan struct{})
			b := newDraftBenchAt(t, sandbox.Options{Step: func(at sandbox.Where) {
				if at == sandbox.Cut {
					close(cut)
				}
			}}, func(o *Options) { o.Drafts = tc.drafts })
			if err := b.box.Fault(sandbox.Fault{Where: tc.where, Drop: true, After: after}); err != nil {
				t.Fatal(err)
			}
			q := b.message(draftHeader, strings.Repeat("0123456789\r\n", 80_000), "ann@example.test")
			open := q.Open
			q.Open = func(ctx context.Context) (io.ReadCloser, error) {
				r, err := open(ctx)
				return io.NopCloser(io.MultiReader(io.LimitReader(r, 3*rawChunk), waits{cut}, r)), err
			}
			intents := 0
			q.Intent = func(context.Context) error { intents++; return nil }
			o := b.next(q)
			select {
			case <-cut:
			default:
				t.Fatalf("the sandbox did not cut the connection within the body: %+v", o)
			}
			if o.Verdict != reply.Deferred || o.Owner != reply.Route || intents != 0 {
				t.Errorf("Send = %+v with %d intents; want it deferred for the route, without doubt", o, intents)
			}
			if o := b.next(q); o.Verdict != reply.Relayed {
				t.Errorf("afterwards: %+v", o)
			}
			if n, d := len(b.box.Received()), b.box.Drafts(); n != 1 || len(d) != 0 {
				t.Errorf("%d copies, drafts left behind %+v; want one and none", n, d)
			}
		})
	}
}

// waits is an empty reader that ends once the channel is closed.
type waits struct{ c chan struct{} }

func (w waits) Read([]byte) (int, error) { <-w.c; return 0, io.EOF }

func TestKeptConnectionThatDiedIsReplaced(t *testing.T) {
	// The first request is answered; the second, on the same connection, is broken off before its last chunk.
	broken := make(chan struct{})
	var seen atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) == 2 {
			breakOff(t, w, broken)
			return
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(202)
	}))
	defer s.Close()
	b := newBench(t, s.URL, nil)
	if o := b.Send(context.Background(), mail(t, "hi\r\n").Outgoing); o.Verdict != reply.Relayed {
		t.Fatalf("the first: %+v", o)
	}
	m := mail(t, strings.Repeat("x", 40*rawChunk))
	open, opened := m.Open, 0
	m.Open = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if opened++; opened > 1 {
			return r, err
		}
		return io.NopCloser(io.MultiReader(io.LimitReader(r, rawChunk), waits{broken}, r)), err
	}
	o := b.Send(context.Background(), m.Outgoing)
	if o.Verdict != reply.Relayed || opened != 2 || m.intents != 1 {
		t.Errorf("Send = %+v, opened %d times, %d intents; want it relayed by a second connection", o, opened, m.intents)
	}
}

func TestStopIsNotTheRoutesTrouble(t *testing.T) {
	s := graphtest.New(t, graphtest.Answer{Hang: true})
	b := newBench(t, s.URL, nil)
	ctx, cancel := context.WithCancel(context.Background())
	m := mail(t, "hi\r\n")
	m.Intent = func(context.Context) error { m.intents++; cancel(); return nil }
	o := b.Send(ctx, m.Outgoing)
	if o.Verdict != reply.InDoubt || o.Owner != reply.Process {
		t.Errorf("stopped after the intent: Send = %+v; want doubt of the process", o)
	}
	m.Intent = func(context.Context) error { m.intents++; return nil }
	b.tokens.err = context.Canceled
	if o := b.Send(ctx, m.Outgoing); o.Verdict != reply.Deferred || o.Owner != reply.Process {
		t.Errorf("stopped before: Send = %+v; want it deferred for the process", o)
	}
}

// TestALookThatIsRefused: where no scope says what an application may, a refused look says that nobody can look, and the
// message is sent again without one. Where drafts must be used that is a person's to mend.
func TestALookThatIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name    string
		drafts  Drafts
		look    string
		canLook bool
		resend  string
	}{
		{"drafts where they are granted", DraftsAuto, "in doubt, to be looked for: false", false, "relayed nobody"},
		{"drafts always", DraftsAlways, "deferred, to be looked for: false", true, "deferred account"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{}, func(o *Options) {
				o.Drafts = tc.drafts
				o.Tokens.(*boxTokens).scopes = "Mail.Send"
			})
			q := b.message(draftHeader, "hello\r\n", "ann@example.test")
			q.Resend, q.Look = true, true
			o := b.next(q)
			if got := fmt.Sprintf("%v, to be looked for: %v", o.Verdict, o.CanLook); got != tc.look || b.tr.CanLook() != tc.canLook || o.Reply.Code != http.StatusForbidden {
				t.Errorf("the look: %+v, and another is possible: %v; want %s, %v", o, b.tr.CanLook(), tc.look, tc.canLook)
			}
			q.Look = false
			o = b.next(q)
			if got := fmt.Sprint(o.Verdict, " ", o.Owner); got != tc.resend {
				t.Errorf("the resend: %+v; want %s", o, tc.resend)
			}
		})
	}
}

// TestADraftThatIsNotFoundAtItsSending: it may have been sent, but not by a user who is not there.
func TestADraftThatIsNotFoundAtItsSending(t *testing.T) {
	gone := graphtest.Fault(404, "ErrorItemNotFound", "m")
	noUser := graphtest.Fault(404, "Request_ResourceNotFound", "m")
	for _, tc := range []struct {
		name               string
		send, look, folder graphtest.Answer
		want               string
	}{
		{"nothing in Sent Items yet", gone, gone, graphtest.Answer{Status: 200, Body: `{"value":[]}`}, "in doubt route"},
		{"Sent Items cannot be searched", gone, gone, graphtest.Fault(503, "ErrorServerBusy", "m"), "in doubt route"},
		{"Sent Items may not be searched", gone, gone, graphtest.Fault(403, "ErrorAccessDenied", "m"), "in doubt route"},
		{"the user is gone", noUser, noUser, noUser, "deferred account"},
		{"the mailbox is gone", gone, gone, graphtest.Fault(404, "MailboxNotEnabledForRESTAPI", "m"), "deferred account"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t, graphtest.Answer{Status: 201, Body: `{"id":"d"}`}, tc.send, tc.look, tc.folder)
			b := newBench(t, s.URL, func(o *Options) { o.Drafts = DraftsAlways })
			o := b.Send(context.Background(), mail(t, "hi\r\n").Outgoing)
			if got := fmt.Sprint(o.Verdict, " ", o.Owner); got != tc.want || o.Owner == reply.Account && o.Remedy == "" {
				t.Errorf("Send = %+v; want %s, with a remedy where a person must act", o, tc.want)
			}
		})
	}
}
