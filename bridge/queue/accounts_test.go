package queue_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/queue"
)

// TestSetAccounts: an account that comes is served at once, mail of one that goes waits parked, and goes when it is back.
func TestSetAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		erp, sales := queue.Account{Name: "erp", Concurrency: 3}, queue.Account{Name: "sales", Concurrency: 1}
		w.SetAccounts([]queue.Account{erp, sales})
		first := w.enqueue("sales", "a@example.test")
		w.pass(time.Second)
		if s := w.show(first).State; s != queue.Relayed {
			t.Errorf("mail of a new account is %s; want relayed", s)
		}
		w.setGate("sales", queue.Gate{Waiting: "parked"}) // as relay says of an account that it does not know
		w.SetAccounts([]queue.Account{erp})
		second := w.enqueue("sales", "b@example.test")
		w.pass(time.Hour)
		if r := w.show(second); r.State != queue.Queued || r.WaitingFor != "parked" {
			t.Errorf("mail of a removed account is %s and waits for %q; want queued, parked", r.State, r.WaitingFor)
		}
		if err := w.TellOrphans(t.Context(), "sales"); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(w.told(), "ERROR account parked") {
			t.Errorf("nobody was told: %q", w.told())
		}
		w.setGate("sales", queue.Gate{Limit: 1})
		w.SetAccounts([]queue.Account{erp, sales})
		w.pass(time.Second)
		if s := w.show(second).State; s != queue.Relayed {
			t.Errorf("its mail is %s once it is back; want relayed", s)
		}
		if err := w.Alive(t.Context()); err != nil {
			t.Errorf("Alive = %v", err)
		}
		w.stop()
		synctest.Wait()
	})
}

// TestSetAccountsMovesAMailbox: accounts that come to share a mailbox share its rate from then on.
func TestSetAccountsMovesAMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "a"}, {Name: "b"}}})
		w.SetAccounts([]queue.Account{{Name: "a", Mailbox: "m", RatePerMinute: 1}, {Name: "b", Mailbox: "m", RatePerMinute: 1}})
		one, two := w.enqueue("a", "x@example.test"), w.enqueue("b", "x@example.test")
		w.pass(30 * time.Second)
		relayed := 0
		for _, s := range []queue.State{w.show(one).State, w.show(two).State} {
			if s == queue.Relayed {
				relayed++
			}
		}
		if relayed != 1 {
			t.Errorf("%d messages left within 30 s at one a minute; want 1", relayed)
		}
		w.pass(time.Minute)
		if s := w.show(two).State; s != queue.Relayed {
			t.Errorf("the second is %s after a minute; want relayed", s)
		}
		w.stop()
		synctest.Wait()
	})
}
