package queue_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// call is one Relay as the fake saw it.
type call struct {
	at  time.Duration // since the world began
	out message.Outgoing
}

// world is a queue on a store in memory, with a fake relayer, in a synctest bubble.
type world struct {
	*queue.Queue
	t     *testing.T
	store queue.Store
	began time.Time
	room  *relay.Relay // takes the fake's place where it is there
	stop  context.CancelFunc
	ended chan error // Run's

	mu     sync.Mutex // guards what follows
	relay  func(ctx context.Context, out message.Outgoing) reply.Outcome
	gates  map[string]queue.Gate // open wide where there is none
	calls  []call
	events []string
}

// newWorld returns a world that runs until the test ends. Accounts and the rest of o may be left out.
func newWorld(t *testing.T, o queue.Options) *world { return newWorldOf(t, o, func(*world) {}) }

// newWorldOf is newWorld with something prepared before it runs.
func newWorldOf(t *testing.T, o queue.Options, prepare func(*world)) *world {
	w := &world{t: t, began: time.Now(), gates: make(map[string]queue.Gate), ended: make(chan error, 1), store: o.Store}
	w.relay = func(context.Context, message.Outgoing) reply.Outcome { return relayed }
	if w.store == nil {
		w.store = queuetest.NewMemory()
	}
	o.Store, o.Relayer, o.Events = w.store, w, event.NewBus(w)
	if o.Accounts == nil {
		o.Accounts = []queue.Account{{Name: "erp", Concurrency: 3}}
	}
	if o.Jitter == nil {
		o.Jitter = func(time.Duration) time.Duration { return 0 }
	}
	prepare(w)
	w.Queue = queue.New(o)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(t.Context())
	go func() { w.ended <- w.Run(ctx) }()
	t.Cleanup(w.stop)
	synctest.Wait()
	return w
}

var relayed = reply.Outcome{Verdict: reply.Relayed, Transport: "smtp", Reply: reply.Reply{Code: 250, Enhanced: "2.0.0", Text: "Ok", ID: "4Xabc"}}

func deferred(owner reply.Owner) reply.Outcome {
	return reply.Outcome{Verdict: reply.Deferred, Owner: owner, Transport: "smtp", Reply: reply.Reply{Code: 451, Enhanced: "4.3.0"}}
}

func (w *world) Gate(account string, now time.Time) queue.Gate {
	if w.room != nil {
		return queue.Gate(w.room.Gate(account, now))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if g, ok := w.gates[account]; ok {
		return g
	}
	return queue.Gate{Limit: 100}
}

func (w *world) setGate(account string, g queue.Gate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gates[account] = g
}

func (w *world) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	w.mu.Lock()
	w.calls = append(w.calls, call{time.Since(w.began), out})
	relay := w.relay
	w.mu.Unlock()
	if w.room != nil {
		return w.room.Relay(ctx, out)
	}
	out.BeforeSend(ctx)
	return relay(ctx, out)
}

func (w *world) setRelay(f func(ctx context.Context, out message.Outgoing) reply.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.relay = f
}

// Handle notes an event as its level and message.
func (w *world) Handle(_ context.Context, e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e.Level.String()+" "+string(e.Kind))
	for _, a := range e.Attrs {
		if a.Key == "" || a.Value.Kind() == slog.KindAny && a.Value.Any() == nil {
			w.t.Errorf("event %q has an empty attribute", e.Kind)
		}
	}
}

// enqueue keeps a message of the account and lets the queue come to rest.
func (w *world) enqueue(account string, recipients ...string) envelope.ID {
	w.t.Helper()
	item, m := queuetest.NewMessage(account, time.Now(), recipients...)
	if err := w.Enqueue(w.t.Context(), m, strings.NewReader("body\r\n")); err != nil {
		w.t.Fatalf("Enqueue: %v", err)
	}
	synctest.Wait()
	return item.ID
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) show(id envelope.ID) queue.Row {
	w.t.Helper()
	r, err := w.Show(w.t.Context(), id)
	if err != nil {
		w.t.Fatalf("Show: %v", err)
	}
	return r
}

func (w *world) seen() []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]call(nil), w.calls...)
}

// times are those of the calls for the message.
func (w *world) times(id envelope.ID) (ts []time.Duration) {
	for _, c := range w.seen() {
		if c.out.ID == id {
			ts = append(ts, c.at)
		}
	}
	return ts
}

func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.events...)
}
