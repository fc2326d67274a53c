package smarthost

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"postern/bridge/transport/smarthost/smarthosttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary stands for an access token; it must never be seen again in what the transport says.
const canary = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJjYW5hcnkifQ.c2lnbmF0dXJlLW9mLXRoZS1jYW5hcnk"

const login = "svc@contoso.test"

// tokens is a token source: each refusal moves on to the next token.
type tokens struct {
	mu      sync.Mutex
	list    []string
	refused []string
	err     error // once the list is at its end
}

func (k *tokens) Token(_ context.Context, r token.Resource) (token.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r != token.SMTP {
		return "", fmt.Errorf("asked for a token for %s", r)
	}
	if n := len(k.refused); n < len(k.list) {
		return token.Secret(k.list[n]), nil
	}
	return "", k.err
}

func (k *tokens) Refused(_ token.Resource, refused token.Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = append(k.refused, refused.Reveal())
}

func (k *tokens) refusals() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.refused)
}

// diary is an event sink.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) Handle(_ context.Context, e event.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprint(e.Kind, " ", e.Attrs))
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

// rig is a transport before a scripted server.
type rig struct {
	*Transport
	server *smarthosttest.Server
	tokens *tokens
	events *diary
}

func newRig(t *testing.T, server *smarthosttest.Server, change func(*Options)) *rig {
	t.Helper()
	r := &rig{server: server, tokens: &tokens{list: []string{canary, canary + ".second"}}, events: &diary{}}
	o := Options{
		Account:  "erp",
		Address:  server.Address(),
		RootCAs:  server.RootCAs(),
		Login:    login,
		Hostname: "bridge.contoso.test",
		Tokens:   r.tokens,
		Events:   event.NewBus(r.events),
		Dial:     server.Dial,
	}
	if change != nil {
		change(&o)
	}
	r.Transport = New(o)
	t.Cleanup(func() { r.Close() })
	t.Cleanup(func() { checkSecrecy(t, r.events.String()) })
	return r
}

func start(t *testing.T, s smarthosttest.Script) *rig {
	t.Helper()
	return newRig(t, smarthosttest.Start(t, s), func(o *Options) {
		if s.Implicit {
			o.TLS = Implicit
		}
	})
}

func checkSecrecy(t *testing.T, s string) {
	t.Helper()
	for i := 0; i+24 <= len(canary); i += 8 {
		if strings.Contains(s, canary[i:i+24]) {
			t.Errorf("the token stands in: %s", s)
			return
		}
	}
}

// send relays and checks that the outcome does not tell the token.
func (r *rig) send(t *testing.T, out message.Outgoing) reply.Outcome {
	t.Helper()
	o := r.Send(t.Context(), out)
	checkSecrecy(t, fmt.Sprintf("%+v", o))
	if o.Transport != transportName {
		t.Errorf("Outcome.Transport = %q", o.Transport)
	}
	return o
}

const (
	finalHeader = "From: Contoso <erp@contoso.test>\r\nTo: bob@fabrikam.test\r\nSubject: Order\r\nMessage-ID: <m1@contoso.test>\r\n\r\n"
	plainBody   = "Hello\r\n"
)

var mustAddress = envelopetest.Address

// outgoing is a first attempt to relay body to these recipients.
func outgoing(t *testing.T, body string, recipients ...string) message.Outgoing {
	t.Helper()
	var to []envelope.Address
	for _, r := range recipients {
		to = append(to, mustAddress(t, r))
	}
	from := mustAddress(t, "erp@contoso.test")
	return message.Outgoing{
		Message: message.Message{
			ID:       envelope.NewID(time.Now()),
			Envelope: envelope.Envelope{ReversePath: from, Recipients: to},
			Plan:     message.Plan{Account: "erp", HeaderFrom: from, ReversePath: from, MessageID: "<m1@contoso.test>"},
		},
		Recipients: to,
		Final:      []byte(finalHeader),
		Attempt:    1,
		BodySize:   int64(len(body)),
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(body)), nil
		},
		Intent: func(context.Context) error { return nil },
	}
}

const bob = "bob@fabrikam.test"

var errStore = errors.New("store is broken")
