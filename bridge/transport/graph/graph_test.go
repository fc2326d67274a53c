package graph

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
	"postern/bridge/transport/graph/graphtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is the access token; it must stand in no text of ours.
const canary = "eyJ-canary-token"

// tokens is a TokenSource that gives canary-0, canary-1, ... after each refusal.
type tokens struct {
	mu      sync.Mutex
	refused []string
	err     error
}

func (s *tokens) Token(context.Context, token.Resource) (token.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	return token.Secret(canary + "-" + string(rune('0'+len(s.refused)))), nil
}

func (s *tokens) Refused(r token.Resource, refused token.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, string(r)+" "+refused.Reveal())
}

// sink keeps events as text.
type sink struct {
	mu    sync.Mutex
	lines []string
}

func (s *sink) Handle(_ context.Context, e event.Event) {
	line := e.Level.String() + " " + string(e.Kind)
	for _, a := range e.Attrs {
		line += " " + a.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

var address = envelopetest.Address

// bench is a transport with all that is around it.
type bench struct {
	*Transport
	tokens *tokens
	events *sink
}

func newBench(t testing.TB, url string, change func(*Options)) *bench {
	t.Helper()
	b := &bench{tokens: &tokens{}, events: &sink{}}
	o := Options{Account: "erp", BaseURL: url, Mailbox: address(t, "erp@contoso.test"), Login: address(t, "svc@contoso.test"),
		Tokens: b.tokens, Events: event.NewBus(b.events), Timeout: 20 * time.Second}
	if change != nil {
		change(&o)
	}
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Transport = tr
	t.Cleanup(func() { tr.Close() })
	return b
}

// noEvidence fails when the token stands in anything that people may read.
func (b *bench) noEvidence(t *testing.T, o reply.Outcome) {
	t.Helper()
	texts := append([]string{o.Reply.String(), o.Reply.ID, o.Remedy}, b.events.lines...)
	if o.Err != nil {
		texts = append(texts, o.Err.Error())
	}
	for _, s := range texts {
		if strings.Contains(s, canary) {
			t.Errorf("the token stands in %q", s)
		}
	}
}

const header = "From: noreply@contoso.test\r\nTo: ann@example.test\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nMessage-ID: <1@contoso.test>\r\n\r\n"

// outgoing is a message to Ann that counts its intents.
type outgoing struct {
	message.Outgoing
	intents int
}

func mail(t testing.TB, body string) *outgoing {
	m := &outgoing{Outgoing: message.Outgoing{
		Message: message.Message{ID: "0123456789abcdef", Header: []byte(header),
			Plan: message.Plan{Account: "erp", MessageID: "<1@contoso.test>", HeaderFrom: address(t, "noreply@contoso.test")}},
		Recipients: []envelope.Address{address(t, "ann@example.test")},
		Final:      []byte(header), Attempt: 1, BodySize: int64(len(body)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
	}}
	m.Intent = func(context.Context) error { m.intents++; return nil }
	return m
}

func TestSendGivesGraphTheExactMessage(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int
	}{
		{"an empty body", 0}, {"one octet", 1}, {"two octets", 2}, {"three octets", 3},
		{"one chunk exactly", rawChunk - len(header)}, {"a chunk and an octet", rawChunk - len(header) + 1},
		{"many chunks", 10*rawChunk + 7}, {"the largest message", MaxMIME - len(header)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := strings.Repeat("0123456789abcdef\r\n\xff\x00", tc.size/20+1)[:tc.size]
			s := graphtest.New(t)
			b := newBench(t, s.URL, nil)
			m := mail(t, body)
			o := b.Send(context.Background(), m.Outgoing)
			if o.Verdict != reply.Relayed || o.Owner != reply.Nobody || o.Transport != "graph" || o.Reply.Code != 202 {
				t.Fatalf("Send = %+v; want relayed", o)
			}
			got := s.Requests()[0]
			if want := header + body; string(got.MIME) != want || got.Err != nil {
				t.Errorf("the MIME differs: %d octets (%v); want %d", len(got.MIME), got.Err, len(want))
			}
			if want := encodedSize(int64(len(header + body))); got.ContentLength != want || got.Encoded != want {
				t.Errorf("Content-Length %d, body %d; want %d", got.ContentLength, got.Encoded, want)
			}
			if m.intents != 1 {
				t.Errorf("Intent was called %d times; want once", m.intents)
			}
		})
	}
}

func TestRequestIsWhatGraphDocuments(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		path   string
	}{
		{"a person's token goes to /me", nil, "/v1.0/me/sendMail"},
		{"an application's token goes to the mailbox", func(o *Options) { o.AppOnly, o.Login = true, envelope.Address{} },
			"/v1.0/users/erp@contoso.test/sendMail"},
		{"an account of a domain sends as the header From", func(o *Options) { o.AppOnly, o.Mailbox = true, envelope.Address{Local: "*", Domain: "contoso.test"} },
			"/v1.0/users/noreply@contoso.test/sendMail"},
		{"a mailbox cannot leave its place in the path", func(o *Options) {
			o.AppOnly, o.Mailbox = true, envelope.Address{Local: "a/b?c#d", Domain: "contoso.test"}
		}, "/v1.0/users/a%2Fb%3Fc%23d@contoso.test/sendMail"},
		{"a slash at the end of the address does no harm", func(o *Options) { o.BaseURL += "/" }, "/v1.0/me/sendMail"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t)
			b := newBench(t, s.URL, tc.change)
			for range 2 { // the SDK's builders work once only
				if o := b.Send(context.Background(), mail(t, "hi\r\n").Outgoing); o.Verdict != reply.Relayed {
					t.Fatalf("Send = %+v", o)
				}
			}
			for _, got := range s.Requests() {
				if got.Method != "POST" || got.Path != tc.path {
					t.Errorf("%s %s; want POST %s", got.Method, got.Path, tc.path)
				}
				for name, want := range map[string]string{"Content-Type": "text/plain", "Authorization": "Bearer " + canary + "-0",
					"Accept": "application/json", "User-Agent": "Postern", "Idempotency-Key": "", "Content-Encoding": "", "Transfer-Encoding": ""} {
					if v := got.Header.Get(name); v != want {
						t.Errorf("%s: %q; want %q", name, v, want)
					}
				}
			}
			first, second := s.Requests()[0].Header.Get("client-request-id"), s.Requests()[1].Header.Get("client-request-id")
			if len(first) != 36 || first == second {
				t.Errorf("client-request-id %q and %q; want two UUIDs", first, second)
			}
		})
	}
}

func TestRecipientsOfTheHeaderAreThoseOfTheEnvelope(t *testing.T) {
	s := graphtest.New(t)
	m := mail(t, "hi\r\n")
	m.Final = []byte("From: a@contoso.test\r\nTo: ann@example.test, carl@example.test\r\n\r\n")
	m.Recipients = append(m.Recipients, address(t, "bob@example.test"))
	if o := newBench(t, s.URL, nil).Send(context.Background(), m.Outgoing); o.Verdict != reply.Relayed {
		t.Fatalf("Send = %+v", o)
	}
	got := string(s.Requests()[0].MIME)
	if strings.Contains(got, "carl") || !strings.Contains(got, "Bcc: bob@example.test\r\n") || !strings.HasSuffix(got, "\r\n\r\nhi\r\n") {
		t.Errorf("the message left as %q", got)
	}
}

func TestMessageOverTheLimitIsRefusedUnsent(t *testing.T) {
	s := graphtest.New(t)
	m := mail(t, "")
	m.BodySize = MaxMIME
	o := newBench(t, s.URL, nil).Send(context.Background(), m.Outgoing)
	if o.Verdict != reply.Failed || o.Owner != reply.Message || o.Reply.Code != 552 || o.Reply.Enhanced != "5.3.4" {
		t.Errorf("Send = %+v; want 552 5.3.4", o)
	}
	if n := len(s.Requests()); n != 0 || m.intents != 0 {
		t.Errorf("%d requests, %d intents; want none", n, m.intents)
	}
}

func TestRefusedToken(t *testing.T) {
	refusal := graphtest.Fault(401, "InvalidAuthenticationToken", "Access token has expired: "+canary+"-0")
	again := graphtest.Fault(401, "InvalidAuthenticationToken", "Access token has expired: "+canary+"-1")
	claims := graphtest.Fault(403, "insufficient_claims", "claims")
	for _, tc := range []struct {
		name             string
		answers          []graphtest.Answer
		verdict          reply.Verdict
		owner            reply.Owner
		requests, refuse int
		appOnly          bool
		remedy           string
	}{
		{"a fresh one is taken", []graphtest.Answer{refusal, {}}, reply.Relayed, reply.Nobody, 2, 1, false, ""},
		{"a fresh one is refused too", []graphtest.Answer{refusal, again}, reply.Deferred, reply.Login, 2, 1, false, "run: postern signin erp"},
		{"a fresh one of an application is refused too", []graphtest.Answer{refusal, again}, reply.Deferred, reply.Login, 2, 1, true, "postern check --live"},
		{"a claims challenge is answered by a fresh one", []graphtest.Answer{claims, {}}, reply.Relayed, reply.Nobody, 2, 1, false, ""},
		{"a 401 without a code counts too", []graphtest.Answer{{Status: 401}, {}}, reply.Relayed, reply.Nobody, 2, 1, false, ""},
		{"after a fresh one other trouble is that trouble", []graphtest.Answer{refusal, graphtest.Fault(403, "ErrorSendAsDenied", "no")},
			reply.Deferred, reply.Sender, 2, 1, false, "Add-RecipientPermission"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t, tc.answers...)
			b := newBench(t, s.URL, func(o *Options) { o.AppOnly = tc.appOnly })
			m := mail(t, "hi\r\n")
			o := b.Send(context.Background(), m.Outgoing)
			if o.Verdict != tc.verdict || o.Owner != tc.owner || !strings.Contains(o.Remedy, tc.remedy) {
				t.Errorf("Send = %+v; want %v of %v with %q", o, tc.verdict, tc.owner, tc.remedy)
			}
			if n := len(s.Requests()); n != tc.requests || len(b.tokens.refused) != tc.refuse || m.intents != 1 {
				t.Errorf("%d requests, refused %q, %d intents; want %d, %d and one", n, b.tokens.refused, m.intents, tc.requests, tc.refuse)
			}
			if b.tokens.refused[0] != "graph "+canary+"-0" {
				t.Errorf("refused %q; want the first token for graph", b.tokens.refused)
			}
			var te *token.Error
			if tc.owner == reply.Login && (!errors.As(o.Err, &te) || !te.Person) {
				t.Errorf("Err = %v; want a token.Error for a person", o.Err)
			}
			b.noEvidence(t, o)
		})
	}
}

func TestNoTokenMeansNoRequest(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		person bool
		remedy string
		wait   time.Duration
	}{
		{"a sign-in is needed", &token.Error{Person: true, Text: "account needs sign-in", Remedy: "run: postern signin erp"}, true, "run: postern signin erp", 0},
		{"the token endpoint is down", &token.Error{Text: "503", RetryAfter: time.Minute}, false, "", time.Minute},
		{"nobody knows why", errors.New("boom"), false, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t)
			b := newBench(t, s.URL, nil)
			b.tokens.err = tc.err
			m := mail(t, "hi\r\n")
			o := b.Send(context.Background(), m.Outgoing)
			var te *token.Error
			if o.Verdict != reply.Deferred || o.Owner != reply.Login || o.Remedy != tc.remedy || o.RetryAfter != tc.wait {
				t.Errorf("Send = %+v", o)
			}
			if got := errors.As(o.Err, &te) && te.Person; got != tc.person || o.Reply.Text == "" {
				t.Errorf("Err = %v, text %q; want person %v", o.Err, o.Reply.Text, tc.person)
			}
			if tc.remedy != "" && strings.Contains(o.Err.Error(), tc.remedy) {
				t.Errorf("Err = %v; it says the remedy again", o.Err)
			}
			if n := len(s.Requests()); n != 0 || m.intents != 0 {
				t.Errorf("%d requests, %d intents; want none", n, m.intents)
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		elsewhere := graphtest.New(t)
		s := graphtest.New(t, graphtest.Answer{Status: status, Header: map[string]string{"Location": elsewhere.URL + "/me/sendMail"}})
		b := newBench(t, s.URL, nil)
		o := b.Send(context.Background(), mail(t, "hi\r\n").Outgoing)
		if o.Verdict != reply.Deferred || o.Owner != reply.Route || o.Remedy == "" {
			t.Errorf("%d: Send = %+v; want it deferred for the route", status, o)
		}
		if n := len(elsewhere.Requests()); n != 0 {
			t.Errorf("%d: the other host got %d requests", status, n)
		}
		if n := len(s.Requests()); n != 1 {
			t.Errorf("%d: %d requests; want one", status, n)
		}
		b.noEvidence(t, o)
	}
}

func TestEventsTellOfEachRequest(t *testing.T) {
	denied := graphtest.Fault(429, "ApplicationThrottled", "over its MailboxConcurrency limit")
	s := graphtest.New(t, denied, graphtest.Answer{Header: map[string]string{"request-id": "req-2"}})
	b := newBench(t, s.URL, nil)
	b.Send(context.Background(), mail(t, "hi\r\n").Outgoing)
	b.Send(context.Background(), mail(t, "hi\r\n").Outgoing)
	want := [][]string{
		{"WARN graph failed", "queue_id=0123456789abcdef", "account=erp", "transport=graph", "attempt=1", "host=127.0.0.1:",
			"reply=429 ApplicationThrottled over its MailboxConcurrency limit", "request_id=11111111-", "duration="},
		{"DEBUG graph called", "reply=202 accepted by Microsoft Graph", "request_id=req-2", "message_id=<1@contoso.test>"},
	}
	if len(b.events.lines) != len(want) {
		t.Fatalf("events: %q", b.events.lines)
	}
	for i, parts := range want {
		for _, p := range parts {
			if !strings.Contains(b.events.lines[i], p) {
				t.Errorf("event %d = %s; want %s in it", i, b.events.lines[i], p)
			}
		}
	}
}

func TestNewRefusesImpossibleOptions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
	}{
		{"no URL", func(o *Options) { o.BaseURL = "" }},
		{"no scheme", func(o *Options) { o.BaseURL = "graph.microsoft.com/v1.0" }},
		{"another scheme", func(o *Options) { o.BaseURL = "ftp://graph.microsoft.com" }},
		{"a password in the URL", func(o *Options) { o.BaseURL = "https://a:b@graph.microsoft.com" }},
		{"a query", func(o *Options) { o.BaseURL = "https://graph.microsoft.com/v1.0?x=1" }},
		{"no tokens", func(o *Options) { o.Tokens = nil }},
		{"no mailbox", func(o *Options) { o.Mailbox = envelope.Address{} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Options{Account: "erp", BaseURL: "https://graph.microsoft.com/v1.0", Mailbox: address(t, "erp@contoso.test"), Tokens: &tokens{}}
			if _, err := New(o); err != nil {
				t.Fatalf("the options to start from: %v", err)
			}
			tc.change(&o)
			if _, err := New(o); err == nil || strings.Contains(err.Error(), "a:b") {
				t.Errorf("New: %v; want an error without secrets", err)
			}
		})
	}
}

// The hall's client keeps its proxy and certificates, and is not changed.
func TestClientOfTheHallIsCopied(t *testing.T) {
	var got bytes.Buffer
	s := graphtest.New(t)
	own := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		got.WriteString(r.URL.Path)
		return http.DefaultTransport.RoundTrip(r)
	})}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	b := newBench(t, s.URL, func(o *Options) { o.HTTP = own })
	if o := b.Send(context.Background(), mail(t, "hi\r\n").Outgoing); o.Verdict != reply.Relayed || got.Len() == 0 {
		t.Errorf("Send = %+v through %q", o, got.String())
	}
	if own.CheckRedirect != nil {
		t.Error("the hall's client was changed")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// One attempt holds a chunk or two, never the message.
func TestMemoryDoesNotGrowWithTheMessage(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(202)
	}))
	defer s.Close()
	b := newBench(t, s.URL, nil)
	size := MaxMIME - len(header)
	m := mail(t, "")
	m.BodySize = int64(size)
	m.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(ones{}, int64(size))), nil
	}
	result := testing.Benchmark(func(tb *testing.B) {
		for range tb.N {
			if o := b.Send(context.Background(), m.Outgoing); o.Verdict != reply.Relayed {
				tb.Fatalf("Send = %+v", o)
			}
		}
	})
	if got := result.AllocedBytesPerOp(); got > 1<<20 {
		t.Errorf("%d octets allocated for a message of %d; want less than 1 MiB", got, size)
	}
}

type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '1'
	}
	return len(p), nil
}
