package queue_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
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

// TestARelayedLineHasWhatAnAuditorWants holds the keys of the line equal to what is promised.
func TestARelayedLineHasWhatAnAuditorWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &keysOf{kind: event.MessageRelayed}
		store := queuetest.NewMemory()
		q := queue.New(queue.Options{Store: store, Relayer: relaysAll{}, Accounts: []queue.Account{{Name: "erp"}}, Events: event.NewBus(keys)})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- q.Run(ctx) }()
		_, m := queuetest.NewMessage("erp", time.Now(), "a@example.test")
		if err := q.Enqueue(ctx, m, strings.NewReader("body\r\n")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		stop()
		<-ended
		for _, want := range []string{"queue_id", "message_id", "user", "account", "header_from", "reverse_path", "recipients", "transport", "reply", "request_id", "attempt", "duration"} {
			if !slices.Contains(keys.seen, want) {
				t.Errorf("a relayed line has %q; want %s too", keys.seen, want)
			}
		}
	})
}

// keysOf remembers the keys of the events of one kind.
type keysOf struct {
	kind event.Kind
	seen []string
}

func (k *keysOf) Handle(_ context.Context, e event.Event) {
	if e.Kind == k.kind {
		for _, a := range e.Attrs {
			k.seen = append(k.seen, a.Key)
		}
	}
}

// relaysAll is a relayer whose next server takes everything.
type relaysAll struct{}

func (relaysAll) Gate(string, time.Time) queue.Gate { return queue.Gate{Limit: 1} }

func (relaysAll) Relay(context.Context, message.Outgoing) reply.Outcome { return relayed }

// TestLanesEnd: a mailbox that nobody uses any more keeps nothing running, however often the configuration changes.
func TestLanesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", Mailbox: "m0"}}})
		before := runtime.NumGoroutine()
		for n := range 20 {
			w.SetAccounts([]queue.Account{{Name: "erp", Mailbox: fmt.Sprint("m", n%3)}})
		}
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines, %d before", after, before)
		}
		id := w.enqueue("erp")
		if s := w.show(id).State; s != queue.Relayed {
			t.Errorf("mail is %s; want relayed", s)
		}
	})
}
