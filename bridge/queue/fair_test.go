package queue_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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
