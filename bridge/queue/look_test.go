package queue_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// TestLooks: a message in doubt that can be looked for is looked for three times within DoubtWait, and a look is neither an
// attempt nor a doubt of its own.
func TestLooks(t *testing.T) {
	doubt := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "graph", CanLook: true}
	paused := reply.Outcome{Verdict: reply.InDoubt, CanLook: true, RetryAfter: hour} // so that nobody was asked
	for _, tc := range []struct {
		name     string
		onDoubt  queue.OnDoubt
		answers  []reply.Outcome
		at       []time.Duration
		looks    []bool
		state    queue.State
		attempts int
	}{
		{"found at the first look", queue.Resend, []reply.Outcome{doubt, relayed}, []time.Duration{0, 10 * mins}, []bool{false, true}, queue.Relayed, 2},
		{"found at the second", queue.Resend, []reply.Outcome{doubt, doubt, relayed}, []time.Duration{0, 10 * mins, 20 * mins}, []bool{false, true, true}, queue.Relayed, 2},
		{"the third look sends it again", queue.Resend, []reply.Outcome{doubt, doubt, doubt, relayed}, []time.Duration{0, 10 * mins, 20 * mins, 30 * mins}, []bool{false, true, true, false}, queue.Relayed, 2},
		{"a second doubt holds it", queue.Resend, []reply.Outcome{doubt, doubt, doubt, doubt}, []time.Duration{0, 10 * mins, 20 * mins, 30 * mins}, []bool{false, true, true, false}, queue.Held, 2},
		{"where nothing may leave twice it is looked for, and held", queue.Hold, []reply.Outcome{doubt, doubt, doubt, doubt}, []time.Duration{0, 10 * mins, 20 * mins, 30 * mins}, []bool{false, true, true, true}, queue.Held, 1},
		{"where nothing may leave twice it may be found", queue.Hold, []reply.Outcome{doubt, doubt, doubt, relayed}, []time.Duration{0, 10 * mins, 20 * mins, 30 * mins}, []bool{false, true, true, true}, queue.Relayed, 2},
		{"the last look before it is held waits until somebody can be asked", queue.Hold, []reply.Outcome{doubt, paused, paused, paused, relayed},
			[]time.Duration{0, 10 * mins, 20 * mins, 30 * mins, 90 * mins}, []bool{false, true, true, true, true}, queue.Relayed, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", OnDoubt: tc.onDoubt, DoubtWait: 30 * mins}}})
				n := 0
				w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					if n == 0 {
						if err := out.Remember(ctx, out.Recipients, "draft 7"); err != nil {
							t.Error(err)
						}
					} else if got := out.Notes[out.Recipients[0].Key()]; got != "draft 7" {
						t.Errorf("attempt %d: note %q; want that of the first", n, got)
					}
					n++
					return tc.answers[n-1]
				})
				id := w.enqueue("erp", "a@example.test")
				w.pass(2 * hour)
				var at []time.Duration
				var looks []bool
				for _, c := range w.calls {
					at, looks = append(at, c.at.Round(time.Second)), append(looks, c.out.Look)
				}
				if fmt.Sprint(at) != fmt.Sprint(tc.at) || fmt.Sprint(looks) != fmt.Sprint(tc.looks) {
					t.Errorf("attempts at %v, looks %v; want %v, %v", at, looks, tc.at, tc.looks)
				}
				row := w.show(id)
				if row.State != tc.state || row.Item.Attempts != tc.attempts {
					t.Errorf("%s after %d attempts; want %s after %d", row.State, row.Item.Attempts, tc.state, tc.attempts)
				}
			})
		})
	}
}

// TestLooksAfterABrokenAttempt: what is in doubt because the process died, or because of a panic, is looked for like any other.
// Whether it can be the first look shows; where it cannot, on_doubt follows when it would have.
func TestLooksAfterABrokenAttempt(t *testing.T) {
	doubt := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "graph", CanLook: true}
	blind := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "graph"}
	for _, tc := range []struct {
		name    string
		onDoubt queue.OnDoubt
		answer  reply.Outcome // to each look
		at      []time.Duration
		looks   []bool
		state   queue.State
	}{
		{"found", queue.Resend, relayed, []time.Duration{10 * mins}, []bool{true}, queue.Relayed},
		{"not found, and sent again", queue.Resend, doubt, []time.Duration{10 * mins, 20 * mins, 30 * mins}, []bool{true, true, false}, queue.Relayed},
		{"not found, and held", queue.Hold, doubt, []time.Duration{10 * mins, 20 * mins, 30 * mins}, []bool{true, true, true}, queue.Held},
		{"nobody can look: sent again", queue.Resend, blind, []time.Duration{10 * mins, 30 * mins}, []bool{true, false}, queue.Relayed},
		{"nobody can look: held", queue.Hold, blind, []time.Duration{10 * mins}, []bool{true}, queue.Held},
	} {
		for _, panics := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after a panic %v", tc.name, panics), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := queuetest.NewMemory()
					o := queue.Options{Store: store, Accounts: []queue.Account{{Name: "erp", Concurrency: 3, OnDoubt: tc.onDoubt, DoubtWait: 30 * mins}}}
					answer := func(_ context.Context, out message.Outgoing) reply.Outcome {
						if out.Look {
							return tc.answer
						}
						return relayed
					}
					w := newWorld(t, o)
					w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
						if err := out.IntentBy(ctx, "graph", nil); err != nil {
							t.Error(err)
						}
						if panics {
							w.setRelay(answer)
							panic("a nil map")
						}
						<-ctx.Done() // for ever, as far as the first process knows
						store.Fail(queue.ErrClosed)
						return reply.Outcome{}
					})
					id := w.enqueue("erp")
					if !panics {
						w.stop()
						<-w.ended
						store.Fail(nil)
						w = newWorldOf(t, o, func(w *world) { w.relay = answer })
					}
					w.pass(30*mins - time.Second)
					if state := w.show(id).State; state != queue.InDoubt && tc.state != queue.Relayed {
						t.Errorf("it is %s before doubt_wait is over", state)
					}
					w.pass(mins)
					var at []time.Duration
					var looks []bool
					for _, c := range w.seen() {
						if c.out.Attempt > 1 {
							at, looks = append(at, c.at.Round(time.Second)), append(looks, c.out.Look)
						}
					}
					if state := w.show(id).State; state != tc.state || fmt.Sprint(at) != fmt.Sprint(tc.at) || fmt.Sprint(looks) != fmt.Sprint(tc.looks) {
						t.Errorf("%s, attempts at %v, looks %v; want %s, %v, %v", state, at, looks, tc.state, tc.at, tc.looks)
					}
				})
			})
		}
	}
}

// TestNoteIsKeptOnlyUnderTheLease: an attempt that lost its message cannot write about it.
func TestNoteIsKeptOnlyUnderTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		var late func() error
		w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
			to := append([]envelope.Address(nil), out.Recipients...)
			late = func() error { return out.Remember(context.Background(), to, "late") }
			return relayed
		})
		w.enqueue("erp", "a@example.test")
		synctest.Wait()
		if err := late(); err == nil {
			t.Error("a note was kept after the attempt")
		}
	})
}
