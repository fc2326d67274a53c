package sqlite_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// taker relays everything, and hands on what came to it and what happened.
type taker struct {
	took chan envelope.ID

	mu   sync.Mutex // guards what follows
	held []string   // the event's attributes, as text
}

func (t *taker) Gate(string, time.Time) queue.Gate { return queue.Gate{Limit: 10} }

func (t *taker) Relay(_ context.Context, out message.Outgoing) reply.Outcome {
	t.took <- out.ID
	return reply.Outcome{Verdict: reply.Relayed}
}

func (t *taker) Handle(_ context.Context, e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Kind == event.MessageHeld || e.Kind == event.QueueFailed {
		var text []string
		for _, a := range e.Attrs {
			text = append(text, a.String())
		}
		t.held = append(t.held, strings.Join(text, " "))
	}
}

func (t *taker) told() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.held)
}

// TestDamagedRow: a row that cannot be decoded is set aside by itself, for good, named, and can be exported and dropped.
func TestDamagedRow(t *testing.T) {
	for _, tc := range []struct {
		name, damage string
		partly       bool // what is left of it is sound, and a person may have it tried again
	}{
		{"a recipient's state is none", "UPDATE recipients SET state = 'sendign' WHERE seq = 1 AND n = 1", true},
		{"a recipient's address is none", "UPDATE recipients SET address = 'no address' WHERE seq = 1 AND n = 1", false},
		{"a recipient's address is empty", "UPDATE recipients SET address = '' WHERE seq = 1 AND n = 1", false},
		{"what the last attempt brought is no JSON", "UPDATE recipients SET last = '{' WHERE seq = 1 AND n = 1", true},
		{"a recipient in the middle is gone", "DELETE FROM recipients WHERE seq = 1 AND n = 1", false},
		{"all recipients are gone", "DELETE FROM recipients WHERE seq = 1", false},
		{"a column is no truth value", "UPDATE messages SET suspect = 7 WHERE seq = 1", true},
		{"it stands under a lease, and its state is none", "UPDATE messages SET lease = 'former', next_attempt = NULL WHERE seq = 1; " +
			"UPDATE recipients SET state = '' WHERE seq = 1", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			bad, m := newMessage()
			for _, local := range []string{"second", "third"} {
				bad.Recipients = append(bad.Recipients, queue.Recipient{Address: envelope.Address{Local: local, Domain: "fabrikam.test"},
					State: queue.Queued, Next: bad.Accepted})
			}
			if err := s.Add(t.Context(), bad, m, strings.NewReader("damaged\r\n")); err != nil {
				t.Fatal(err)
			}
			good := add(t, s, "intact")
			s.Close()
			tamper(t, path, tc.damage)
			s = open(t, path)
			defer s.Close()
			q, r := relayFrom(t, s, good.ID)
			checkRow(t, q, s, bad.ID)
			if told := r.told(); len(told) != 1 || !strings.Contains(told[0], "queue_id="+string(bad.ID)) ||
				!strings.Contains(told[0], "postern queue drop "+string(bad.ID)) {
				t.Errorf("told: %q", told)
			}
			err := q.Change(t.Context(), bad.ID, queue.Order{Action: queue.Retry, By: "eva"})
			if tc.partly != (err == nil) {
				t.Errorf("retry: %v, want success %v", err, tc.partly)
			}
			if err := q.Change(t.Context(), bad.ID, queue.Order{Action: queue.Drop, By: "eva"}); err != nil {
				t.Errorf("drop: %v", err)
			}
			if row, err := q.Show(t.Context(), bad.ID); err != nil || row.State != queue.Failed || row.HasBody {
				t.Errorf("after drop: %s, body %v, %v", row.State, row.HasBody, err)
			}
			if _, err := s.Open(t.Context(), bad.ID); !errors.Is(err, queue.ErrNoBody) {
				t.Errorf("its body after drop: %v", err)
			}
		})
	}
}

// relayFrom runs a queue on the store until the good message, the only one that may leave, is relayed.
func relayFrom(t *testing.T, s queue.Store, good envelope.ID) (*queue.Queue, *taker) {
	t.Helper()
	r := &taker{took: make(chan envelope.ID)}
	q := queue.New(queue.Options{Store: s, Relayer: r, Events: event.NewBus(r), Accounts: []queue.Account{{Name: "erp", Concurrency: 1}}})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	if id := <-r.took; id != good {
		t.Errorf("%s was sent", id)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	return q, r
}

func checkRow(t *testing.T, q *queue.Queue, s queue.Store, id envelope.ID) {
	t.Helper()
	row, err := q.Show(t.Context(), id)
	if err != nil || row.State != queue.Held || !row.NextAttempt.IsZero() || row.Item.Lease != "" || row.Item.Suspect {
		t.Errorf("%s, due %v, lease %q, suspect %v, %v; want held", row.State, row.NextAttempt, row.Item.Lease, row.Item.Suspect, err)
	}
	held, err := q.List(t.Context(), queue.Filter{State: queue.Held})
	if err != nil || len(held) != 1 || held[0].Item.ID != id {
		t.Errorf("held are %d, %v", len(held), err)
	}
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.IsZero() {
		t.Errorf("something is due at %v, %v", next, err)
	}
	if b, err := readBody(s, id); err != nil || string(b) != "damaged\r\n" {
		t.Errorf("its body: %q, %v", b, err)
	}
}
