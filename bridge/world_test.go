package bridge

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/sandbox"
	"postern/bridge/users"
)

// world is a bridge and a sandbox in this process, wired by a configuration file as an administrator would write it.
type world struct {
	t        *testing.T
	box      *sandbox.Sandbox
	b        *Bridge
	file     string // the configuration
	addr     string // of the first listener
	password string // of every user
	events   *eventLog
	stop     func() // stops the bridge and waits; safe to call twice
}

// worldOptions says what is special about a world. The zero value: two accounts, by-graph and by-smtp, signed in.
type worldOptions struct {
	unsigned bool             // nobody signs in
	config   string           // instead of the default; {PROVIDER} and {HASH} are replaced
	sandbox  sandbox.Switches //
	prepare  func(*world)     // changes the sandbox or the file before the bridge starts; nil: nothing
}

// worldConfig has a user for each transport: "graph" also from 127.0.0.2 and "smtp" also from 127.0.0.3 without AUTH.
const worldConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"

[log]
level = "debug"

[[listener]]
address = "127.0.0.1:0"
auth = "optional"

{PROVIDER}
[[account]]
name = "by-graph"
provider = "contoso"
mailbox = "erp@contoso.test"
transport = "graph"
default = true
rate_per_minute = 0

[[account]]
name = "by-smtp"
provider = "contoso"
mailbox = "svc@contoso.test"
transport = "smtp"
rate_per_minute = 0

[[user]]
name = "graph"
password = '{HASH}'
networks = ["127.0.0.2/32"]
account = "by-graph"
sender = { mode = "send-as", address = "noreply@contoso.test", name = "Contoso" }

[[user]]
name = "smtp"
password = '{HASH}'
networks = ["127.0.0.3/32"]
account = "by-smtp"
sender = { mode = "send-as", address = "noreply@contoso.test", name = "Contoso" }
`

// worldPassword and its hash: one for the whole run, because a hash costs 30 ms.
const worldPassword = "correct horse battery"

var worldHash = sync.OnceValues(func() (string, error) { return users.Hash(worldPassword) })

func newWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	// Not t.TempDir: with a test's name in it the control socket's path is too long.
	dir, err := os.MkdirTemp("", "pw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, file: filepath.Join(dir, "postern.toml"), password: worldPassword, events: &eventLog{}}
	if w.box, err = sandbox.Start(sandbox.Options{Dir: filepath.Join(dir, "mail"), Switches: o.sandbox}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.box.Close() })
	if o.config == "" {
		o.config = worldConfig
	}
	hash, err := worldHash()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("{PROVIDER}", w.box.ConfigTOML("contoso", sandbox.PublicClientID),
		"{CONFIDENTIAL}", w.box.ConfigTOML("contoso", sandbox.ConfidentialClientID), "{HASH}", hash).Replace(o.config)
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if o.prepare != nil {
		o.prepare(w)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	if !o.unsigned {
		w.signIn()
	}
	return w
}

// start opens and runs the bridge.
func (w *world) start() {
	w.t.Helper()
	cfg, err := config.Load(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if w.b, err = New(ctx, cfg, Options{Log: slog.New(slog.NewTextHandler(w.events, &slog.HandlerOptions{Level: slog.LevelDebug})), Sinks: []event.Sink{w.events}}); err != nil {
		cancel()
		w.t.Fatal(err)
	}
	w.addr = w.b.Addrs()[0].String()
	ended := make(chan error, 1)
	go func() { ended <- w.b.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run = %v; want nil\n%s", err, w.log())
		}
	})
}

// signIn gives each delegated account a refresh token.
func (w *world) signIn() {
	w.t.Helper()
	for _, a := range w.b.cfg.Accounts {
		if a.SignIn != "delegated" {
			continue
		}
		if _, err := w.b.SignIn(w.t.Context(), a.Name, w.box.RefreshToken(a.Login)); err != nil {
			w.t.Fatalf("sign in %s: %v\n%s", a.Name, err, w.log())
		}
	}
}

// wait returns what has arrived once there are n messages.
func (w *world) wait(n int) []sandbox.Received {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	got, err := w.box.Wait(ctx, n)
	if err != nil {
		w.t.Fatalf("%d of %d messages arrived: %v\n%s", len(got), n, err, w.log())
	}
	return got
}

func (w *world) log() string { return w.events.text() }

// accepted counts the messages that were answered with 250.
func (w *world) accepted() int { return w.events.count(event.MessageAccepted) }

// eventLog keeps the log and counts the events.
type eventLog struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	counts map[event.Kind]int
	heard  chan struct{} // closed and replaced at each event
}

// Write implements io.Writer for the log.
func (l *eventLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// Handle implements event.Sink.
func (l *eventLog) Handle(_ context.Context, e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = map[event.Kind]int{}
	}
	l.counts[e.Kind]++
	if l.heard != nil {
		close(l.heard)
		l.heard = nil
	}
}

func (l *eventLog) count(k event.Kind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[k]
}

// await blocks until n events of that kind were heard.
func (l *eventLog) await(ctx context.Context, k event.Kind, n int) error {
	for {
		l.mu.Lock()
		if l.counts[k] >= n {
			l.mu.Unlock()
			return nil
		}
		if l.heard == nil {
			l.heard = make(chan struct{})
		}
		heard := l.heard
		l.mu.Unlock()
		select {
		case <-heard:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// text returns the end of the log.
func (l *eventLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buf.Bytes()
	return string(b[max(0, len(b)-8000):])
}
