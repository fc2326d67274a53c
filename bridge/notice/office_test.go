package notice

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// office is a desk with fakes around it.
type office struct {
	*Desk
	mu   sync.Mutex
	sent []Mail
	fail error // what Send returns
	full error // what Save returns
	lost error // what Load returns
	up   map[string]bool
	kept string // what Memory holds
}

var address = envelopetest.Address

func newOffice(t testing.TB, notify ...string) *office {
	o := &office{up: map[string]bool{"erp": true, "hr": true}}
	o.start(t, notify)
	return o
}

// start makes the desk, as a start of the program does.
func (o *office) start(t testing.TB, notify []string) {
	opts := Options{Hostname: "bridge.contoso.test", DefaultDomain: "corp.test", Outbox: o, Memory: o,
		Accounts: []Account{{"erp", address(t, "erp@contoso.test"), []string{"graph", "smtp"}}, {"hr", address(t, "hr@fabrikam.test"), []string{"graph"}}},
		Up:       func(a string) bool { o.mu.Lock(); defer o.mu.Unlock(); return o.up[a] }}
	for _, n := range notify {
		opts.Notify = append(opts.Notify, address(t, n))
	}
	o.Desk = New(opts)
}

func (o *office) Send(_ context.Context, m Mail) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	for _, s := range o.sent {
		if s.ID == m.ID {
			return nil
		}
	}
	o.sent = append(o.sent, m)
	return nil
}

func (o *office) Load(context.Context) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept, o.lost
}

func (o *office) Save(_ context.Context, s string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.full != nil {
		return o.full
	}
	o.kept = s
	return nil
}

// setUp says which accounts are up from now on.
func (o *office) setUp(up map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.up = up
}

// mail returns what was sent since it was last asked.
func (o *office) mail() []Mail {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.sent
	o.sent = nil
	return m
}

func failure(t testing.TB, reversePath string) Failure {
	f := Failure{Account: "erp", Since: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
		Original:   dsn.Original{ID: "0000000000000m01", User: "nav", Header: []byte("Subject: Invoice\r\n\r\n")},
		Recipients: []dsn.Recipient{{Address: address(t, "customer@example.test"), Action: dsn.Failed, Reply: reply.Reply{Code: 550, Enhanced: "5.1.1", Text: "no"}}}}
	if reversePath != "" {
		f.Original.ReversePath = address(t, reversePath)
	}
	return f
}

// happen hands the desk an event.
func (o *office) happen(kind event.Kind, level slog.Level, attrs ...slog.Attr) {
	o.Handle(context.Background(), event.Event{Kind: kind, Level: level, Attrs: attrs})
}

var (
	parkedERP = []slog.Attr{slog.String("account", "erp"), slog.String("transport", "graph"), slog.String("reply", "invalid_grant"), slog.String("remedy", "run: postern signin erp")}
	onERP     = []slog.Attr{slog.String("account", "erp"), slog.String("transport", "graph")}
)

// work runs the desk in a bubble until the test ends.
func work(t *testing.T, o *office) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	synctest.Wait()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func subjects(mails []Mail) (list []string) {
	for _, m := range mails {
		for line := range strings.Lines(strings.ReplaceAll(string(m.Header), "\r\n ", " ")) {
			if s, ok := strings.CutPrefix(line, "Subject: Postern on bridge.contoso.test: "); ok {
				list = append(list, strings.TrimSpace(s))
			}
		}
	}
	return list
}

func wantSubjects(t *testing.T, o *office, want ...string) []Mail {
	t.Helper()
	got := o.mail()
	if s := subjects(got); strings.Join(s, "\n") != strings.Join(want, "\n") {
		t.Errorf("notices %q; want %q", s, want)
	}
	return got
}
