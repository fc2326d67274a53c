package queueadmin

import (
	"strings"
	"testing"

	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// TestChangeOfWhatADeadProcessWasSending: where nobody sends its leases are void, as after a start. What may have gone out
// stays in doubt, and who was alone in flight is counted.
func TestChangeOfWhatADeadProcessWasSending(t *testing.T) {
	inDoubt := func(it *queue.Item) { it.Intent = true }
	thrice := func(it *queue.Item) { it.Deaths = 2 }
	all := control.QueueQuery{All: true}
	for _, tc := range []struct {
		name    string
		sending []func(*queue.Item) // what was sent when the process died; then one more that was not
		action  string
		query   control.QueueQuery
		named   int // the one that is named by its ID, from 1
		changed int
		states  string // then
		deaths  int    // of the first
	}{
		{"all are held", []func(*queue.Item){nil, inDoubt}, "hold", all, 0, 3, "held held held", 0},
		{"those are held that were listed as being sent", []func(*queue.Item){nil, inDoubt}, "hold", control.QueueQuery{State: "sending"}, 0, 2, "held held queued", 0},
		{"one that is named is dropped, and the other is due", []func(*queue.Item){nil, nil}, "drop", control.QueueQuery{}, 2, 1, "queued failed queued", 0},
		{"what was handed over is marked as sent", []func(*queue.Item){inDoubt, nil}, "sent", all, 0, 1, "relayed queued queued", 0},
		{"the only one is counted", []func(*queue.Item){nil}, "hold", all, 0, 2, "held held", 1},
		{"also where another is meant, and the third time it is held", []func(*queue.Item){thrice}, "drop", control.QueueQuery{}, 2, 1, "held failed", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.o.Alone = true
			b.Admin = New(b.o)
			for i, change := range tc.sending {
				b.add("erp", queue.Sending)
				b.alter(i, func(it *queue.Item) {
					if it.Lease = "a dead process"; change != nil {
						change(it)
					}
				})
			}
			b.add("erp", queue.Queued)
			if tc.named > 0 {
				tc.query.IDs = []string{b.ids[tc.named-1]}
			}
			was := b.states()
			if !strings.HasPrefix(was, "sending") {
				t.Errorf("they were %s; want that a look alone changes nothing", was)
			}
			b.change(control.QueueChange{Action: tc.action, QueueQuery: tc.query}, control.QueueChanged{Changed: tc.changed}, "")
			if got := b.states(); got != tc.states {
				t.Errorf("then they are %s; want %s", got, tc.states)
			}
			for i, id := range b.ids {
				e, err := b.store.Get(t.Context(), envelope.ID(id))
				if err != nil {
					t.Fatal(err)
				}
				it := e.Item
				if i == 0 && it.Deaths != tc.deaths {
					t.Errorf("%d deaths are laid at the door of the first; want %d", it.Deaths, tc.deaths)
				}
				doubts := 0
				if i < len(tc.sending) && tc.sending[i] != nil && tc.deaths == 0 {
					doubts = 1
				}
				if it.Lease != "" || it.Recipients[0].Doubts != doubts {
					t.Errorf("number %d has lease %q and %d doubts; want none and %d", i+1, it.Lease, it.Recipients[0].Doubts, doubts)
				}
				if alone := i < len(tc.sending) && it.State() == queue.Queued; it.Suspect != alone {
					t.Errorf("number %d is %s, to be tried alone: %v; want %v", i+1, it.State(), it.Suspect, alone)
				}
			}
		})
	}
}
