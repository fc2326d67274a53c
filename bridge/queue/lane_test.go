package queue_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

func TestOldestGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", Concurrency: 1}}})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { time.Sleep(time.Minute); return relayed })
		var want []envelope.ID
		for range 5 {
			want = append(want, w.enqueue("erp"))
			w.pass(time.Second)
		}
		w.pass(10 * mins)
		if d := cmp.Diff(want, ids(w.seen())); d != "" {
			t.Errorf("order (-want +got):\n%s", d)
		}
	})
}

func TestHangingAccountDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "hangs", Concurrency: 2}, {Name: "erp", Concurrency: 1}}})
		w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
			if out.Plan.Account == "hangs" {
				<-ctx.Done()
			}
			return relayed
		})
		for range 10 {
			w.enqueue("hangs")
		}
		id := w.enqueue("erp")
		if row := w.show(id); row.State != queue.Relayed {
			t.Errorf("%s, want relayed at once", row.State)
		}
		if n := len(w.seen()); n != 3 {
			t.Errorf("%d attempts, want two that hang and one", n)
		}
	})
}

// TestRate: any 60 seconds hold at most so many, with a burst inside, and waiting costs nothing.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", Concurrency: 9, RatePerMinute: 3}}})
		w.enqueue("erp")
		w.pass(20 * sec)
		var last envelope.ID
		for range 6 {
			last = w.enqueue("erp")
		}
		if row := w.show(last); row.WaitingFor != "rate" || row.State != queue.Queued || row.Item.Attempts != 0 {
			t.Errorf("the last is %s, waits for %q after %d attempts", row.State, row.WaitingFor, row.Item.Attempts)
		}
		w.pass(5 * mins)
		var at []time.Duration
		for _, c := range w.seen() {
			at = append(at, c.at)
		}
		if d := cmp.Diff([]time.Duration{0, 20 * sec, 20 * sec, 60 * sec, 80 * sec, 80 * sec, 120 * sec}, at); d != "" {
			t.Errorf("attempts (-want +got):\n%s", d)
		}
	})
}

// TestGate: what an account's trouble costs a message, and when it goes on.
func TestGate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		closed queue.Gate // Again is filled in 5 minutes after the start where Waiting is "pause"
		open   func(w *world)
		at     time.Duration
	}{
		{"a parked account goes on when it is woken", queue.Gate{Waiting: "parked"},
			func(w *world) { w.setGate("erp", queue.Gate{Limit: 9}); w.Wake("erp") }, 90 * mins},
		{"it goes on when all are woken", queue.Gate{Waiting: "parked"},
			func(w *world) { w.setGate("erp", queue.Gate{Limit: 9}); w.Wake("") }, 90 * mins},
		{"a paused account goes on by itself at the time", queue.Gate{Waiting: "pause"}, nil, 5 * mins},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
					if len(w.seen()) > 1 {
						return relayed
					}
					g := tc.closed
					if g.Waiting == "pause" {
						g.Again = w.began.Add(5 * mins)
						time.AfterFunc(5*mins, func() { w.setGate("erp", queue.Gate{Limit: 1}) })
					}
					w.setGate("erp", g)
					return deferred(reply.Login)
				})
				id := w.enqueue("erp")
				if row := w.show(id); row.State != queue.Queued || row.WaitingFor != tc.closed.Waiting || row.Item.Attempts != 0 {
					t.Errorf("%s, waits for %q after %d attempts", row.State, row.WaitingFor, row.Item.Attempts)
				}
				w.pass(tc.at)
				if tc.open != nil {
					if n := len(w.seen()); n != 1 {
						t.Errorf("%d attempts while it was parked, want one", n)
					}
					tc.open(w)
					synctest.Wait()
				}
				if d := cmp.Diff([]time.Duration{0, tc.at}, w.times(id)); d != "" {
					t.Errorf("attempts (-want +got):\n%s", d)
				}
			})
		})
	}
}

func TestProbeGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		w.setGate("erp", queue.Gate{Limit: 1, Waiting: "pause"})
		answer := make(chan struct{})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { <-answer; return relayed })
		for range 4 {
			w.enqueue("erp")
		}
		if n := len(w.seen()); n != 1 {
			t.Errorf("%d in flight, want the probe alone", n)
		}
		w.setGate("erp", queue.Gate{Limit: 9})
		answer <- struct{}{}
		synctest.Wait()
		if n := len(w.seen()); n != 4 {
			t.Errorf("%d attempts after the probe succeeded, want all", n)
		}
		close(answer)
	})
}

func TestStopGrace(t *testing.T) {
	for _, tc := range []struct {
		name    string
		takes   time.Duration // of the attempt, if nobody cuts it off
		ignores bool          // the cut
		state   queue.State
		ended   time.Duration
		fails   bool
	}{
		{"what is on the wire is waited for", 20 * sec, false, queue.Relayed, 20 * sec, false},
		{"beyond the grace it is cut off, and what it says is written down", hour, false, queue.Queued, 30 * sec, false},
		{"what does not end is left as after a crash", hour, true, queue.Sending, 35 * sec, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{StopGrace: 30 * time.Second})
				w.setRelay(func(ctx context.Context, _ message.Outgoing) reply.Outcome {
					cut := ctx.Done()
					if tc.ignores {
						cut = nil
					}
					select {
					case <-time.After(tc.takes):
						return relayed
					case <-cut:
						return deferred(reply.Route)
					}
				})
				id := w.enqueue("erp")
				w.stop()
				late := w.enqueue("erp")
				err := <-w.ended
				if took := time.Since(w.began); took != tc.ended || (err != nil) != tc.fails {
					t.Errorf("Run ended after %v with %v, want %v", took, err, tc.ended)
				}
				if row := w.show(id); row.State != tc.state {
					t.Errorf("%s, want %s", row.State, tc.state)
				}
				if row := w.show(late); row.State != queue.Queued || row.Item.Attempts != 0 {
					t.Errorf("a message enqueued while stopping is %s after %d attempts", row.State, row.Item.Attempts)
				}
				time.Sleep(2 * hour) // the one that ignores the cut ends
			})
		})
	}
}

func TestStoreFailsAtTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		w := newWorld(t, queue.Options{Store: store})
		w.setGate("erp", queue.Gate{})
		id := w.enqueue("erp")
		store.Fail(errors.New("input/output error"))
		w.setGate("erp", queue.Gate{Limit: 1})
		w.Wake("erp")
		w.pass(3 * mins)
		if told := w.told(); len(told) > 20 || !slices.Contains(told, "ERROR queue failed") {
			t.Errorf("%d events, want a few errors", len(told))
		}
		store.Fail(nil)
		w.pass(mins)
		if row := w.show(id); row.State != queue.Relayed {
			t.Errorf("%s, want relayed once the store is back", row.State)
		}
	})
}
