package queue_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// as keeps a message of that header From.
func (w *world) as(local string) envelope.ID {
	w.t.Helper()
	item, m := queuetest.NewMessage("erp", time.Now())
	m.Plan.HeaderFrom.Local = local
	if err := w.Enqueue(w.t.Context(), m, emptyBody()); err != nil {
		w.t.Fatalf("Enqueue: %v", err)
	}
	synctest.Wait()
	return item.ID
}

// rights is a relayer's answer that depends on who may send as whom.
func (w *world) rights(lack map[string]bool) func(context.Context, message.Outgoing) reply.Outcome {
	return func(_ context.Context, out message.Outgoing) reply.Outcome {
		w.mu.Lock()
		defer w.mu.Unlock()
		if lack[out.Plan.HeaderFrom.Local] {
			return reply.Outcome{Owner: reply.Sender, Transport: "graph", Remedy: "Add-RecipientPermission",
				Reply: reply.Reply{Code: 403, Enhanced: "ErrorSendAsDenied"}}
		}
		return relayed
	}
}

func (w *world) grant(lack map[string]bool, local string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(lack, local)
}

// TestSenderPair: the messages of a pair without the right wait together behind one probe, and other senders go on.
func TestSenderPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		lack := map[string]bool{"ceo": true}
		w.setRelay(w.rights(lack))
		var pair []envelope.ID
		for range 10 {
			pair = append(pair, w.as("ceo"))
			w.pass(sec)
		}
		other := w.as("nav")
		if row := w.show(other); row.State != queue.Relayed {
			t.Errorf("another sender's message is %s", row.State)
		}
		if n := len(w.seen()); n != 2 {
			t.Errorf("%d attempts, want one of the pair and one of the other sender", n)
		}
		for _, id := range pair {
			row := w.show(id)
			if row.State != queue.Deferred || row.WaitingFor != "sender" || !row.NextAttempt.Equal(w.began.Add(15*mins)) || row.Item.Attempts != 0 ||
				row.Item.Recipients[0].Last.Remedy == "" {
				t.Errorf("%s waits for %q until %v after %d attempts, %+v", row.State, row.WaitingFor, row.NextAttempt, row.Item.Attempts, row.Item.Recipients[0].Last)
			}
		}
		w.pass(3 * hour)
		// 15, then 30, then every 60 minutes: one message each time.
		var probes []time.Duration
		for _, c := range w.seen() {
			if c.out.Plan.HeaderFrom.Local == "ceo" {
				probes = append(probes, c.at)
			}
		}
		if d := cmp.Diff([]time.Duration{0, 15 * mins, 45 * mins, 105 * mins, 165 * mins}, probes); d != "" {
			t.Errorf("probes (-want +got):\n%s", d)
		}
		w.grant(lack, "ceo")
		w.pass(45*mins + 10*sec) // the next probe, at 225 minutes
		for _, id := range pair {
			if row := w.show(id); row.State != queue.Relayed || row.Item.Recipients[0].SenderWaits != 0 {
				t.Errorf("after the grant: %s, next %v, %+v", row.State, row.NextAttempt, row.Item.Recipients[0])
			}
		}
	})
}

// leftWithSenders is the store of a process that has stopped while so many messages of the CEO's waited for the right.
func leftWithSenders(t *testing.T, lack map[string]bool, n int) queue.Store {
	store := queuetest.NewMemory()
	first := newWorld(t, queue.Options{Store: store})
	first.setRelay(first.rights(lack))
	for range n {
		first.as("ceo")
	}
	first.pass(mins)
	first.stop()
	<-first.ended
	return store
}

// TestSenderPairOverRestart: the pair goes on waiting, behind one probe.
func TestSenderPairOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lack := map[string]bool{"ceo": true}
		second := newWorld(t, queue.Options{Store: leftWithSenders(t, lack, 5)})
		second.setRelay(second.rights(lack))
		second.pass(14*mins + 30*sec)
		if n := len(second.seen()); n != 1 {
			t.Errorf("%d attempts at the probe's time, want 1", n)
		}
		second.grant(lack, "ceo")
		second.pass(31 * mins)
		if n := len(second.seen()); n != 6 {
			t.Errorf("%d attempts after the grant, want those of all five", n)
		}
	})
}

// TestSenderPairAges: what waits for a right fails when it is too old, probe or not.
func TestSenderPairAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{GiveUpAfter: hour})
		w.setRelay(w.rights(map[string]bool{"ceo": true}))
		var pair []envelope.ID
		for range 3 {
			pair = append(pair, w.as("ceo"))
		}
		w.pass(70 * mins)
		for _, id := range pair {
			if row := w.show(id); row.State != queue.Failed || row.Item.Recipients[0].Last.Owner != reply.Sender {
				t.Errorf("%s, %+v; want failed for the sender", row.State, row.Item.Recipients[0].Last)
			}
		}
	})
}

// shyStore lets its next claim see a message that is gone when the claim begins anew: a transaction may be tried twice.
type shyStore struct {
	queue.Store
	see  atomic.Pointer[queue.Item] // nil: it is a store like another
	gone func()
}

func (s *shyStore) Claim(ctx context.Context, c queue.Claim) ([]queue.Entry, error) {
	if see := s.see.Swap(nil); see != nil {
		it := see.Clone()
		if err := c.Take(&it); err != nil {
			return nil, err
		}
		s.gone()
	}
	return s.Store.Claim(ctx, c)
}

// TestProbeThatWasNotClaimed: a message that a claim saw and did not come to is no probe for the others to wait for.
func TestProbeThatWasNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shyStore{Store: queuetest.NewMemory()}
		w := newWorld(t, queue.Options{Store: store})
		lack := map[string]bool{"ceo": true}
		w.setRelay(w.rights(lack))
		dropped, other := w.as("ceo"), w.as("ceo")
		w.grant(lack, "ceo")
		w.pass(15*mins - sec)
		item := w.show(dropped).Item
		store.gone = func() {
			if err := w.Change(t.Context(), dropped, queue.Order{Action: queue.Drop, By: "admin"}); err != nil {
				t.Error(err)
			}
		}
		store.see.Store(&item)
		w.pass(sec)
		if store.see.Load() != nil || len(w.seen()) != 1 {
			t.Fatalf("no claim was made when the pair's time came, or %d attempts; want that of the beginning alone", len(w.seen()))
		}
		w.pass(31 * mins) // what the other waits for where a probe is under way
		if row := w.show(other); row.State != queue.Relayed {
			t.Errorf("the other message is %s until %v; want relayed", row.State, row.NextAttempt)
		}
	})
}

// TestDoubtOfAStoppedSender: a message in doubt is looked after when its time has come, whatever has become of the right.
func TestDoubtOfAStoppedSender(t *testing.T) {
	for _, onDoubt := range []queue.OnDoubt{queue.Resend, queue.Hold} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", OnDoubt: onDoubt}}})
			w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
				return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Process, Transport: "smtp"}
			})
			doubtful := w.as("ceo")
			lack := map[string]bool{"ceo": true}
			w.setRelay(w.rights(lack))
			w.as("ceo")
			w.pass(12 * mins)
			want := queue.Deferred // sent again, and then without the right
			if onDoubt == queue.Hold {
				want = queue.Held
			}
			if row := w.show(doubtful); row.State != want {
				t.Errorf("the one in doubt is %s, want %s", row.State, want)
			}
			w.grant(lack, "ceo")
			w.pass(hour)
			if rows, err := w.List(t.Context(), queue.Filter{State: queue.Relayed}); err != nil || len(rows) != 2-int(onDoubt) {
				t.Errorf("%d are relayed, %v", len(rows), err)
			}
		})
	}
}

// wakefulStore does something the moment that a change is committed, before anybody who made it knows.
type wakefulStore struct {
	queue.Store
	after func()
}

func (s *wakefulStore) Update(ctx context.Context, id envelope.ID, change func(*queue.Item) error) error {
	err := s.Store.Update(ctx, id, change)
	s.after()
	return err
}

func (s *wakefulStore) UpdateAll(ctx context.Context, ids []envelope.ID, change func(*queue.Item) error) error {
	err := s.Store.UpdateAll(ctx, ids, change)
	s.after()
	return err
}

// TestRetryOfAStoppedSender: a person who has granted the right has it tried at once, and the others with it.
func TestRetryOfAStoppedSender(t *testing.T) {
	order := queue.Order{Action: queue.Retry, By: "admin"}
	for _, tc := range []struct {
		name  string
		wait  time.Duration // before he acts; the probes are after 15 and 45 minutes, and take 10 seconds
		retry func(w *world, id envelope.ID) error
	}{
		{"one of the messages", 46 * mins, func(w *world, id envelope.ID) error { return w.Change(w.t.Context(), id, order) }},
		{"all of them", 46 * mins, func(w *world, _ envelope.ID) error {
			n, _, err := w.ChangeAll(w.t.Context(), queue.Filter{Account: "erp"}, order)
			if n != 2 {
				w.t.Errorf("%d are tried again, want both", n)
			}
			return err
		}},
		{"while a probe from before is under way", 45*mins + 25*sec, func(w *world, id envelope.ID) error {
			if row := w.show(id); row.State == queue.Sending {
				rows, _ := w.List(w.t.Context(), queue.Filter{State: queue.Deferred})
				id = rows[0].Item.ID
			}
			return w.Change(w.t.Context(), id, order)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &wakefulStore{Store: queuetest.NewMemory(), after: func() {}}
				w := newWorld(t, queue.Options{Store: store})
				lack := map[string]bool{"ceo": true}
				rights := w.rights(lack)
				w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					o := rights(ctx, out)
					time.Sleep(10 * sec)
					return o
				})
				id := w.as("ceo")
				w.as("ceo")
				w.pass(tc.wait)
				w.grant(lack, "ceo")
				store.after = func() {
					store.after = func() {}
					w.Wake("erp")
					time.Sleep(time.Millisecond) // for the lane to look
				}
				if err := tc.retry(w, id); err != nil {
					t.Fatal(err)
				}
				w.pass(25 * sec)
				if rows, err := w.List(t.Context(), queue.Filter{State: queue.Relayed}); err != nil || len(rows) != 2 {
					row := w.show(id)
					t.Errorf("%d of 2 are relayed, %v; the one is %s until %v", len(rows), err, row.State, row.NextAttempt.Sub(w.began))
				}
				w.stop()
				<-w.ended
			})
		})
	}
}

// wantTold checks how often a pair's wait was told to begin and to be over.
func (w *world) wantTold(when string, parked, resumed int) {
	w.t.Helper()
	n := map[string]int{}
	for _, e := range w.told() {
		n[e]++
	}
	if p, r := n["ERROR sender parked"], n["INFO sender resumed"]; p != parked || r != resumed {
		w.t.Errorf("%s: told %d times that it waits, and %d that it is over; want %d and %d", when, p, r, parked, resumed)
	}
}

// TestSenderPairIsTold: people hear of a pair once, however many of its messages wait and how often they are tried, and
// once when it is over.
func TestSenderPairIsTold(t *testing.T) {
	drop := queue.Order{Action: queue.Drop, By: "admin"}
	for _, tc := range []struct {
		name    string
		then    func(t *testing.T, w *world, lack map[string]bool)
		parked  int
		resumed int
		left    int // pairs that wait
	}{
		{"nobody grants it", func(t *testing.T, w *world, _ map[string]bool) { w.pass(5 * hour) }, 1, 0, 1},
		{"it is granted", func(t *testing.T, w *world, lack map[string]bool) {
			w.grant(lack, "ceo")
			w.pass(2 * hour)
		}, 1, 1, 0},
		{"it is taken away again", func(t *testing.T, w *world, lack map[string]bool) {
			w.grant(lack, "ceo")
			w.pass(2 * hour)
			w.setRelay(w.rights(map[string]bool{"ceo": true}))
			w.as("ceo")
		}, 2, 1, 1},
		{"its mail is dropped", func(t *testing.T, w *world, _ map[string]bool) {
			if n, _, err := w.ChangeAll(t.Context(), queue.Filter{}, drop); n != 3 || err != nil {
				t.Fatalf("%d were dropped, %v", n, err)
			}
			if left := w.Lacks(t.Context()); len(left) > 0 {
				t.Errorf("as soon as it is dropped: %v wait", left)
			}
			w.pass(2 * hour)
		}, 1, 1, 0},
		{"its mail is too old", func(t *testing.T, w *world, _ map[string]bool) { w.pass(12 * hour) }, 1, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{GiveUpAfter: 8 * hour})
				lack := map[string]bool{"ceo": true}
				w.setRelay(w.rights(lack))
				for range 3 {
					w.as("ceo")
				}
				w.as("nav")
				w.pass(mins)
				w.wantTold("at first", 1, 0)
				want := []queue.Lack{{Account: "erp", Sender: "ceo@contoso.test", From: "ceo@contoso.test", Since: w.began, Why: "403 ErrorSendAsDenied", Remedy: "Add-RecipientPermission"}}
				if d := cmp.Diff(want, w.Lacks(t.Context()), cmpopts.IgnoreUnexported(queue.Lack{})); d != "" {
					t.Errorf("what waits (-want +got):\n%s", d)
				}
				tc.then(t, w, lack)
				w.wantTold("in the end", tc.parked, tc.resumed)
				if left := w.Lacks(t.Context()); len(left) != tc.left {
					t.Errorf("in the end %v wait", left)
				}
			})
		})
	}
}

// TestSenderPairIsToldOverRestart: a start is no reason to tell of a pair again, and what became of it meanwhile is told.
func TestSenderPairIsToldOverRestart(t *testing.T) {
	for _, tc := range []struct {
		name            string
		then            func(t *testing.T, w *world, lack map[string]bool)
		parked, resumed int
	}{
		{"the right is still missing", func(t *testing.T, w *world, _ map[string]bool) {
			w.as("ceo")
			w.pass(4 * hour)
		}, 0, 0},
		{"the probe goes through", func(t *testing.T, w *world, lack map[string]bool) {
			w.grant(lack, "ceo")
			w.pass(hour)
		}, 0, 1},
		{"a new message goes through before", func(t *testing.T, w *world, lack map[string]bool) {
			w.grant(lack, "ceo")
			w.as("ceo")
			w.pass(sec)
			if rows, err := w.List(t.Context(), queue.Filter{State: queue.Relayed}); err != nil || len(rows) != 4 {
				t.Errorf("%d are relayed, %v; want all", len(rows), err)
			}
		}, 0, 1},
		{"its mail was dropped while nobody ran", func(t *testing.T, w *world, _ map[string]bool) {
			if n, _, err := w.ChangeAll(t.Context(), queue.Filter{}, queue.Order{Action: queue.Drop, By: "admin"}); n != 3 || err != nil {
				t.Fatalf("%d were dropped, %v", n, err)
			}
			w.pass(2 * hour)
		}, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lack := map[string]bool{"ceo": true}
				second := newWorldOf(t, queue.Options{Store: leftWithSenders(t, lack, 3)}, func(w *world) { w.relay = w.rights(lack) })
				if left := second.Lacks(t.Context()); len(left) != 1 || left[0].Remedy == "" {
					t.Errorf("after the restart %v wait", left)
				}
				tc.then(t, second, lack)
				second.wantTold("after the restart", tc.parked, tc.resumed)
			})
		})
	}
}

// TestManySenderPairs: an application that sends as anybody fills neither the memory nor a person's mailbox.
func TestManySenderPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		lack := map[string]bool{}
		w.setRelay(w.rights(lack))
		for i := range 150 {
			local := fmt.Sprintf("p%d", i)
			w.mu.Lock()
			lack[local] = true
			w.mu.Unlock()
			w.as(local)
		}
		w.wantTold("150 pairs", 100, 0)
		w.mu.Lock()
		delete(lack, "p7")
		w.mu.Unlock()
		w.pass(3 * hour)
		w.wantTold("one of them is over", 101, 1)
	})
}
