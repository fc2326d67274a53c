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
	"postern/bridge/reply"
)

// TestOneOfFiftyHangs: an account that hangs delays none of the other 49.
func TestOneOfFiftyHangs(t *testing.T) {
	finish := func(hang bool) (last time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			var accounts []queue.Account
			for n := range 50 {
				accounts = append(accounts, queue.Account{Name: fmt.Sprintf("a%02d", n), Concurrency: 3})
			}
			w := newWorldWith(t, queue.Options{Accounts: accounts}, func(ctx context.Context, out message.Outgoing) reply.Outcome {
				if hang && out.Plan.Account == "a00" {
					select {
					case <-time.After(hour):
					case <-ctx.Done():
					}
				}
				time.Sleep(100 * time.Millisecond)
				return relayed
			})
			for _, a := range accounts {
				for range 30 {
					w.enqueue(a.Name)
				}
			}
			w.pass(mins)
			for _, a := range accounts[1:] {
				rows, err := w.List(t.Context(), queue.Filter{Account: a.Name, State: queue.Relayed})
				if err != nil || len(rows) != 30 {
					t.Errorf("%s: %d of 30 relayed, %v", a.Name, len(rows), err)
				}
			}
			for _, c := range w.seen() {
				if c.out.Plan.Account != "a00" {
					last = max(last, c.at)
				}
			}
			w.stop()
			<-w.ended
		})
		return last
	}
	base, beside := finish(false), finish(true)
	if beside > base*11/10 {
		t.Errorf("the last of the others began after %v beside an account that hangs, after %v without it", beside, base)
	}
	t.Logf("the last attempt of the other 49 accounts began after %v, without the one that hangs after %v", beside, base)
}

// TestOldAndNewTakeTurns: neither starves the other where the rate is too low for both.
func TestOldAndNewTakeTurns(t *testing.T) {
	const perMinute = 30
	newBusy := func(t *testing.T, old int) *world {
		w := newWorldWith(t, queue.Options{Accounts: []queue.Account{{Name: "erp", Concurrency: 3, RatePerMinute: perMinute}}},
			func(context.Context, message.Outgoing) reply.Outcome { return deferred(reply.Message) })
		for range old {
			w.enqueue("erp")
		}
		for { // until each was tried
			w.pass(mins)
			if rows, err := w.List(t.Context(), queue.Filter{State: queue.Queued, Limit: 1}); err != nil || len(rows) == 0 {
				return w
			}
		}
	}
	t.Run("a new message does not wait for hundreds that are tried again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newBusy(t, 450)
			id := w.enqueue("erp")
			added := time.Since(w.began)
			w.pass(2 * mins)
			if at := w.times(id); len(at) == 0 || at[0] > added+mins {
				t.Errorf("tried first at %v, and came at %v; want it within a minute", at, added)
			}
		})
	})
	t.Run("messages are tried again however much comes in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newBusy(t, 10)
			before := len(w.seen())
			var ids []envelope.ID
			for range 20 {
				for range 2 * perMinute {
					ids = append(ids, w.enqueue("erp"))
				}
				w.pass(mins)
			}
			again := map[envelope.ID]int{}
			for _, c := range w.seen()[before:] {
				again[c.out.ID]++
			}
			first := 0
			for _, id := range ids {
				first += min(again[id], 1)
			}
			if all := len(w.seen()) - before; first < all*4/10 || first > all*6/10 {
				t.Errorf("%d of %d attempts were the first of a message, want half", first, all)
			}
		})
	})
}
