package bridge

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"postern/bridge/control"
	"postern/bridge/event"
)

// recentErrors is how many of the latest errors are remembered.
const recentErrors = 10

// recent remembers the latest events of level Error since the start, for `service status` and `health`.
type recent struct {
	mu   sync.Mutex // guards list
	list []control.Incident
}

// Handle implements event.Sink.
func (r *recent) Handle(_ context.Context, e event.Event) {
	if e.Level < slog.LevelError {
		return
	}
	t := control.Incident{At: e.At, Event: string(e.Kind), Number: event.NumberOf(e.Kind)}
	for _, a := range e.Attrs {
		switch a.Key {
		case "account":
			t.Account = a.Value.String()
		case "queue_id":
			t.QueueID = a.Value.String()
		case "err", "means", "reply":
			if text, _, _ := strings.Cut(a.Value.String(), "\n"); t.Text == "" {
				t.Text = text
			}
		case "remedy":
			t.Remedy = a.Value.String()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list = append(r.list, t); len(r.list) > recentErrors {
		r.list = slices.Delete(r.list, 0, 1)
	}
}

// errors returns them, the latest first.
func (r *recent) errors() []control.Incident {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.list)
	slices.Reverse(list)
	return list
}
