// Package incident remembers the latest events that somebody should have seen, those of level Error since the start, for
// whoever asks how Postern is. It is a sink of events and must not know who asks. It cannot fail; a restart forgets.
package incident

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/bridge/event"
)

// atMost is how many are remembered.
const atMost = 10

// Incident is one of them.
type Incident struct {
	At      time.Time
	Number  uint32 // in the Windows event log
	Event   string
	Account string
	QueueID string
	Text    string // the first line of why
	Remedy  string
}

// Log remembers them. The zero value is ready. Safe for concurrent use.
type Log struct {
	mu   sync.Mutex // guards list
	list []Incident
}

// Handle implements event.Sink.
func (l *Log) Handle(_ context.Context, e event.Event) {
	if e.Level < slog.LevelError {
		return
	}
	i := Incident{At: e.At, Event: string(e.Kind), Number: event.NumberOf(e.Kind)}
	for _, a := range e.Attrs {
		switch a.Key {
		case "account":
			i.Account = a.Value.String()
		case "queue_id":
			i.QueueID = a.Value.String()
		case "err", "means", "reply":
			if text, _, _ := strings.Cut(a.Value.String(), "\n"); i.Text == "" {
				i.Text = text
			}
		case "remedy":
			i.Remedy = a.Value.String()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list = append(l.list, i); len(l.list) > atMost {
		l.list = slices.Delete(l.list, 0, 1)
	}
}

// Latest returns them, the latest first.
func (l *Log) Latest() []Incident {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.list)
	slices.Reverse(list)
	return list
}
