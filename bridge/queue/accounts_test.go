package queue_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// TestOrphansAreParked: mail that the start finds of an account that is gone says so, whatever it had waited for.
func TestOrphansAreParked(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome // of its last attempt
	}{
		{"its account's trouble", deferred(reply.Route)},
		{"its own", greylist},
		{"its sender's", deferred(reply.Sender)},
		{"in doubt", unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := queuetest.NewMemory()
				first := newWorld(t, queue.Options{Store: store, Accounts: []queue.Account{{Name: "erp"}, {Name: "sales"}}})
				first.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return tc.outcome })
				id := first.enqueue("sales")
				first.stop()
				<-first.ended
				stopped := queue.New(queue.Options{Store: store})
				if row, err := stopped.Show(t.Context(), id); err != nil || row.WaitingFor == "parked" {
					t.Errorf("while nobody runs it waits for %q, %v; want that nobody knows", row.WaitingFor, err)
				}
				second := newWorld(t, queue.Options{Store: store})
				second.pass(day)
				if row := second.show(id); row.WaitingFor != "parked" || !row.NextAttempt.IsZero() || len(second.seen()) != 0 {
					t.Errorf("%s for %q until %v after %d attempts; want it parked for no known time", row.State, row.WaitingFor, row.NextAttempt, len(second.seen()))
				}
			})
		})
	}
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
		before := lanesRunning()
		for n := range 20 {
			w.SetAccounts([]queue.Account{{Name: "erp", Mailbox: fmt.Sprint("m", n%3)}})
		}
		synctest.Wait()
		if after := lanesRunning(); before == 0 || after > before {
			t.Errorf("%d lanes run, %d before", after, before)
		}
		id := w.enqueue("erp")
		if s := w.show(id).State; s != queue.Relayed {
			t.Errorf("mail is %s; want relayed", s)
		}
	})
}

// lanesRunning counts the lanes that run, by their stacks: runtime.NumGoroutine still counts a goroutine that synctest.Wait
// no longer knows, and those of other tests.
func lanesRunning() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "queue.(*lane).run(")
}

// watchedStore notes whose mail is claimed, and lets something happen before a message is stored and after all are
// counted.
type watchedStore struct {
	queue.Store
	beforeAdd func()

	mu         sync.Mutex // guards what follows
	claimed    []string
	afterCount func() // once
}

func (s *watchedStore) Claim(ctx context.Context, c queue.Claim) ([]queue.Entry, error) {
	s.mu.Lock()
	s.claimed = append(s.claimed, c.Account)
	s.mu.Unlock()
	return s.Store.Claim(ctx, c)
}

func (s *watchedStore) Add(ctx context.Context, item queue.Item, m message.Message, body io.Reader) error {
	if s.beforeAdd != nil {
		s.beforeAdd()
	}
	return s.Store.Add(ctx, item, m, body)
}

func (s *watchedStore) Counts(ctx context.Context) ([]queue.Count, error) {
	counts, err := s.Store.Counts(ctx)
	s.mu.Lock()
	then := s.afterCount
	s.afterCount = nil
	s.mu.Unlock()
	if then != nil {
		then()
	}
	return counts, err
}

// claims returns whose mail was claimed since it was last asked, sorted.
func (s *watchedStore) claims() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.claimed
	s.claimed = nil
	slices.Sort(list)
	return list
}

// TestSetAccountsWakesWhatChanged: a mailbox that comes beside thousands of others must not have all of them look.
func TestSetAccountsWakesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &watchedStore{Store: queuetest.NewMemory()}
		a, b, shared, second := queue.Account{Name: "a"}, queue.Account{Name: "b"}, queue.Account{Name: "c", Mailbox: "m"}, queue.Account{Name: "d", Mailbox: "m"}
		w := newWorld(t, queue.Options{Store: store, Accounts: []queue.Account{a}})
		store.claims()
		faster := b
		faster.Concurrency = 3
		for _, tc := range []struct {
			name string
			list []queue.Account
			want []string
		}{
			{"nothing", []queue.Account{a}, nil},
			{"one that comes", []queue.Account{a, b}, []string{"b"}},
			{"another limit", []queue.Account{a, faster}, []string{"b"}},
			{"one that goes", []queue.Account{a}, nil}, // it is looked at, and has no leave
			{"one that comes back", []queue.Account{a, faster}, []string{"b"}},
			{"two of one mailbox", []queue.Account{a, faster, shared, second}, []string{"c", "d"}},
			{"one of them goes", []queue.Account{a, faster, shared}, []string{"c", "d"}},
			{"and comes back", []queue.Account{a, faster, shared, second}, []string{"c", "d"}},
			{"both go", []queue.Account{a, faster}, nil},
			{"nothing again", []queue.Account{a, faster}, nil},
		} {
			w.SetAccounts(tc.list)
			if got := store.claims(); !slices.Equal(got, tc.want) {
				t.Errorf("%s: %q looked for mail; want %q", tc.name, got, tc.want)
			}
		}
	})
}

// TestEnqueueWhileTheAccountMoves: a message that comes in while its account goes to another mailbox leaves at once.
func TestEnqueueWhileTheAccountMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &watchedStore{Store: queuetest.NewMemory()}
		w := newWorld(t, queue.Options{Store: store, Accounts: []queue.Account{{Name: "erp"}}})
		store.beforeAdd = func() {
			w.SetAccounts([]queue.Account{{Name: "erp", Mailbox: "another"}})
			synctest.Wait() // the new lane has looked, and sleeps
		}
		if s := w.show(w.enqueue("erp")).State; s != queue.Relayed {
			t.Errorf("it is %s; want relayed", s)
		}
	})
}
