package bridge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/config"
)

// fakeManager is a service manager that remembers what it was told.
type fakeManager struct {
	mu    sync.Mutex
	told  []string
	alive chan struct{} // told of each Alive
}

func (m *fakeManager) say(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, s)
}

func (m *fakeManager) Ready()                        { m.say("ready") }
func (m *fakeManager) Reloading()                    { m.say("reloading") }
func (m *fakeManager) Stopping(within time.Duration) { m.say("stopping within " + within.String()) }
func (m *fakeManager) Every() time.Duration          { return 300 * time.Millisecond }

func (m *fakeManager) Alive() {
	select {
	case m.alive <- struct{}{}:
	default:
	}
}

// TestTheManagerIsTold: ready, alive, reloading and ready again, also after a broken file, and stopping with the time that
// it may take.
func TestTheManagerIsTold(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeManager{alive: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b, err := New(ctx, cfg, Options{Manager: m})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reload(ctx); !errors.Is(err, errNotRunning) {
		t.Errorf("Reload before Run = %v; want %v", err, errNotRunning)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	<-m.alive
	<-m.alive // and goes on
	if _, err := b.Reload(ctx); err != nil {
		t.Error(err)
	}
	w.rewrite("[[uesr]]\n")
	if _, err := b.Reload(ctx); err == nil {
		t.Error("a broken file was taken")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := b.Reload(context.Background()); !errors.Is(err, errNotRunning) {
		t.Errorf("Reload after Run = %v; want %v", err, errNotRunning)
	}
	got := strings.Join(slices.Compact(m.told), ", ")
	if want := "ready, reloading, ready, reloading, ready, stopping within 45s"; got != want {
		t.Errorf("the manager was told: %s; want %s", got, want)
	}
}

// TestTheWatchdogSeesWhatHangs: a listener that does not answer is named.
func TestTheWatchdogSeesWhatHangs(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	if err := w.b.alive(t.Context(), 30*time.Second); err != nil {
		t.Errorf("alive = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.b.alive(ctx, time.Minute); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("alive without time = %v; want what does not answer", err)
	}
}
