package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// die ends a world as a SIGKILL would: nothing more is written.
func (w *world) die(store *queuetest.Memory) {
	store.Fail(queue.ErrClosed)
	w.stop()
	<-w.ended
	store.Fail(nil)
}

// TestPoison: one message kills each process that relays it. It is found and held; its neighbours are not blamed, and all
// of them are relayed.
func TestPoison(t *testing.T) {
	for _, tc := range []struct {
		name  string
		kills time.Duration // after its attempt has begun
		hangs string        // an account
	}{
		{"it kills at once", 0, ""},
		{"it kills at once beside an account that hangs", 0, "hang"},
		{"it kills late", 20 * sec, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testPoison(t, tc.kills, tc.hangs) }) })
	}
}

func testPoison(t *testing.T, kills time.Duration, hangs string) {
	store := queuetest.NewMemory()
	accounts := []queue.Account{{Name: "erp", Concurrency: 4}, {Name: "hang", Concurrency: 4}, {Name: "new", Concurrency: 4}}
	var poison atomic.Value // its ID; relaying begins before it is known
	poison.Store(envelope.ID(""))
	for processes := 0; ; processes++ {
		dead := make(chan struct{})
		w := newWorldWith(t, queue.Options{Store: store, Accounts: accounts}, func(ctx context.Context, out message.Outgoing) reply.Outcome {
			took := 100 * time.Millisecond
			switch {
			case out.ID == poison.Load():
				took = kills
			case out.Plan.Account == hangs:
				took = hour
			case out.Plan.Account == "new":
				took = 5 * sec
			}
			select {
			case <-time.After(took):
			case <-ctx.Done():
				return reply.Outcome{Owner: reply.Process}
			}
			if out.ID == poison.Load() {
				store.Fail(queue.ErrClosed) // nothing is written any more
				close(dead)
				<-ctx.Done()
			}
			return relayed
		})
		if processes == 0 {
			w.enqueue("hang")
			for i := range 4 {
				id := w.enqueueAll(i)
				if i == 2 {
					poison.Store(id)
				}
			}
			w.Wake("")
		}
		w.pass(max(0, kills-2*sec))
		w.enqueueUnless(dead, "new") // it is in flight too
		select {
		case <-dead:
			w.die(store)
			if processes == 9 {
				t.Fatal("10 processes died, and it is not held")
			}
			continue
		case <-time.After(10 * mins):
		}
		if processes != 4 {
			t.Errorf("%d processes died; want one that did not know, and three for the poison alone", processes)
		}
		w.checkPoison(poison.Load().(envelope.ID), hangs)
		return
	}
}

// enqueueUnless keeps a message unless the process has died.
func (w *world) enqueueUnless(dead <-chan struct{}, account string) {
	select {
	case <-dead:
	default:
		w.enqueue(account)
	}
}

func (w *world) checkPoison(poison envelope.ID, hangs string) {
	w.t.Helper()
	if row := w.show(poison); row.State != queue.Held || !strings.Contains(row.Item.Recipients[0].Last.Err, "died 3 times") {
		w.t.Errorf("the poison is %s, %+v", row.State, row.Item.Recipients[0].Last)
	}
	rows, err := w.List(w.t.Context(), queue.Filter{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Item.ID != poison && r.Item.Account != hangs && r.State != queue.Relayed || r.State == queue.Held && r.Item.ID != poison {
			w.t.Errorf("%s of %s is %s after %d deaths; want it relayed", r.Item.ID, r.Item.Account, r.State, r.Item.Deaths)
		}
	}
}

// enqueueAll keeps a message behind a closed gate and opens it with the last, so that all four begin together.
func (w *world) enqueueAll(i int) envelope.ID {
	if i == 0 {
		w.setGate("erp", queue.Gate{})
	}
	id := w.enqueue("erp")
	if i == 3 {
		w.setGate("erp", queue.Gate{Limit: 4})
	}
	return id
}

// newWorldWith is newWorld with a relayer that is there from the start.
func newWorldWith(t *testing.T, o queue.Options, relay func(context.Context, message.Outgoing) reply.Outcome) *world {
	return newWorldOf(t, o, func(w *world) { w.relay = relay })
}

// TestSuspectsAreTriedAlone: after a death with several in flight, one at a time, and nothing else of their account
// meanwhile.
func TestSuspectsAreTriedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		first := newWorld(t, queue.Options{Store: store})
		first.setRelay(func(ctx context.Context, _ message.Outgoing) reply.Outcome { <-ctx.Done(); return reply.Outcome{} })
		var want []string
		for range 3 {
			want = append(want, string(first.enqueue("erp")))
			first.pass(sec) // or the IDs would have no order
		}
		want = append(want, string(first.enqueue("erp"))) // waits for its turn
		first.die(store)
		began := time.Now()
		var got []string
		second := newWorldWith(t, queue.Options{Store: store}, func(_ context.Context, out message.Outgoing) reply.Outcome {
			got = append(got, fmt.Sprintf("%s at %v", out.ID, time.Since(began)))
			time.Sleep(sec / 2)
			return relayed
		})
		for _, n := range []int{2, 3} {
			if row := second.show(envelope.ID(want[n])); row.State != queue.Queued || row.WaitingFor != "trial" {
				t.Errorf("%s is %s and waits for %q; want it queued, for the trial", row.Item.ID, row.State, row.WaitingFor)
			}
		}
		second.pass(mins)
		for i := range want {
			want[i] += fmt.Sprintf(" at %v", time.Duration(i)*sec/2)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("attempts (-want +got):\n%s", d)
		}
		if told := second.told(); !slices.Contains(told, "WARN queue tried") {
			t.Errorf("told: %q; want that they are tried", told)
		}
	})
}

// blindStore cannot say which the suspects are, so often.
type blindStore struct {
	queue.Store
	times int
}

func (b *blindStore) Find(ctx context.Context, s queue.Selection) ([]envelope.ID, error) {
	if s.Which == queue.Suspects && b.times > 0 {
		b.times--
		return nil, errors.New("disk I/O error")
	}
	return b.Store.Find(ctx, s)
}

// TestSuspectsOutliveAReadError: a store that cannot be read for a while says nothing about whether there are any.
func TestSuspectsOutliveAReadError(t *testing.T) {
	for _, times := range []int{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			store := queuetest.NewMemory()
			first := newWorld(t, queue.Options{Store: store})
			first.setRelay(func(ctx context.Context, _ message.Outgoing) reply.Outcome { <-ctx.Done(); return reply.Outcome{} })
			ids := []envelope.ID{first.enqueue("erp"), first.enqueue("erp")}
			first.die(store)
			second := newWorld(t, queue.Options{Store: &blindStore{store, times}})
			second.pass(2 * mins)
			for _, id := range ids {
				if row := second.show(id); row.State != queue.Relayed {
					t.Errorf("after %d errors: %s, suspect %v", times, row.State, row.Item.Suspect)
				}
			}
			told := slices.DeleteFunc(second.told(), func(line string) bool { return line != "ERROR queue failed" })
			if len(told) != times {
				t.Errorf("after %d errors: %d were told", times, len(told))
			}
		})
	}
}

// TestSuspectsThatHang keep no other account back: neither what is new there, nor what was in flight too when the process
// died, for longer than a moment.
func TestSuspectsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		accounts := []queue.Account{{Name: "hang", Concurrency: 20}, {Name: "erp", Concurrency: 1}, {Name: "crm", Concurrency: 1}}
		hang := func(ctx context.Context, out message.Outgoing) reply.Outcome {
			if out.Plan.Account == "hang" {
				<-ctx.Done()
			}
			return relayed
		}
		first := newWorldWith(t, queue.Options{Store: store, Accounts: accounts}, func(ctx context.Context, _ message.Outgoing) reply.Outcome {
			<-ctx.Done()
			return relayed
		})
		for range 10 {
			first.enqueue("hang")
		}
		first.pass(sec)
		suspect, behind := first.enqueue("erp"), first.enqueue("erp")
		first.die(store)
		second := newWorldWith(t, queue.Options{Store: store, Accounts: accounts}, hang)
		fresh := second.enqueue("crm")
		second.pass(20 * sec)
		for _, tc := range []struct {
			name string
			id   envelope.ID
			most time.Duration
		}{
			{"new mail of an account without suspects", fresh, 0},
			{"another account's suspect", suspect, sec},
			{"mail of an account with a suspect", behind, 5 * sec},
		} {
			if at := second.times(tc.id); len(at) != 1 || at[0] > tc.most {
				t.Errorf("%s was tried at %v; want once within %v", tc.name, at, tc.most)
			}
		}
		if n := len(second.seen()); n != 13 {
			t.Errorf("%d attempts; want all 10 of the account that hangs too", n)
		}
	})
}

// TestKillsFromOutside: what is in flight when somebody kills the process again and again is not taken for the killer
// where it is not alone.
func TestKillsFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		hang := func(ctx context.Context, _ message.Outgoing) reply.Outcome { <-ctx.Done(); return relayed }
		w := newWorldWith(t, queue.Options{Store: store}, hang)
		ids := []envelope.ID{w.enqueue("erp"), w.enqueue("erp")}
		for range 5 {
			w.pass(mins)
			w.die(store)
			w = newWorldWith(t, queue.Options{Store: store}, hang)
		}
		w.pass(mins)
		for _, id := range ids {
			if row := w.show(id); row.State != queue.Sending || row.Item.Deaths != 0 {
				t.Errorf("%s after %d deaths; want it tried", row.State, row.Item.Deaths)
			}
		}
	})
}

// TestRateOverRestart: restarts do not raise the rate, whatever became of what the former processes began.
func TestRateOverRestart(t *testing.T) {
	for _, tc := range []struct {
		name        string
		outcome     reply.Outcome
		takes       time.Duration
		concurrency int
		parts       int
	}{
		{"what was relayed counts", relayed, 0, 3, 1},
		{"what was deferred counts", deferred(reply.Message), 0, 3, 1},
		{"what was under way when the process died counts", relayed, 10 * sec, 3, 1},
		{"each part of a message counts", relayed, 0, 1, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := queuetest.NewMemory()
				o := queue.Options{Store: store, Accounts: []queue.Account{{Name: "erp", Concurrency: tc.concurrency, RatePerMinute: 5}}, StopGrace: mins}
				var mu sync.Mutex
				var sends []time.Time
				next := func() *world {
					return newWorldWith(t, o, func(ctx context.Context, out message.Outgoing) reply.Outcome {
						mu.Lock()
						for part := range tc.parts {
							if part > 0 {
								out.BeforeSend(ctx) // the first is the world's
							}
							sends = append(sends, time.Now())
						}
						mu.Unlock()
						time.Sleep(tc.takes)
						return tc.outcome
					})
				}
				w := next()
				for range 20 {
					w.enqueue("erp")
				}
				for range 4 {
					w.pass(sec)
					w.die(store)
					w = next()
				}
				w.pass(mins)
				// Parts do not wait for one another, so that the last message may go over it.
				if most := 5 + tc.parts - 1; len(sends) < 5 || within(sends, mins) > most {
					t.Errorf("%d sends, up to %d within a minute; want %d at most", len(sends), within(sends, mins), most)
				}
				w.stop()
				<-w.ended
			})
		})
	}
}

// TestRateOfAnAccountThatWasGone: also an account that is not there when the process begins, and then is, has the rate that
// is left of the former process's minute.
func TestRateOfAnAccountThatWasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := []queue.Account{{Name: "erp", Concurrency: 9, RatePerMinute: 5}}
		w := newWorld(t, queue.Options{Accounts: accounts})
		for range 20 {
			w.enqueue("erp")
		}
		w.stop()
		<-w.ended
		q := queue.New(queue.Options{Store: w.store, Relayer: w, Accounts: accounts})
		q.SetAccounts(nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		w.pass(10 * sec)
		q.SetAccounts(accounts)
		w.pass(40 * sec)
		if n := len(w.seen()); n != 5 {
			t.Errorf("%d sends within the minute; want 5", n)
		}
		w.pass(mins)
		if n := len(w.seen()); n != 10 {
			t.Errorf("%d sends in two minutes; want 10", n)
		}
		stop()
		<-ended
	})
}

// within is how many of the times lie within a span of that length at most.
func within(times []time.Time, d time.Duration) (most int) {
	for i, from := range times {
		n := 0
		for _, at := range times[i:] {
			if at.Sub(from) < d {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// TestMailboxIsShared: accounts of one mailbox share its concurrency and its rate, and take turns.
func TestMailboxIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := []queue.Account{{Name: "a", Mailbox: "m", Concurrency: 2, RatePerMinute: 60}, {Name: "b", Mailbox: "m", Concurrency: 5, RatePerMinute: 12},
			{Name: "c", Concurrency: 1}}
		var w *world
		flying, most := 0, 0
		w = newWorldWith(t, queue.Options{Accounts: accounts}, func(_ context.Context, out message.Outgoing) reply.Outcome {
			if out.Plan.Account == "c" {
				return relayed
			}
			w.mu.Lock()
			flying++
			most = max(most, flying)
			w.mu.Unlock()
			time.Sleep(sec)
			w.mu.Lock()
			flying--
			w.mu.Unlock()
			return relayed
		})
		for range 20 {
			w.enqueue("a")
		}
		last := w.enqueue("b")
		w.enqueue("c")
		w.pass(50 * sec)
		if most != 2 {
			t.Errorf("%d were in flight at once, want 2", most)
		}
		if n := len(w.seen()); n != 13 {
			t.Errorf("%d attempts within a minute, want the mailbox's 12 and the other account's", n)
		}
		if at := w.times(last); len(at) != 1 || at[0] > 3*sec {
			t.Errorf("the one message of the second account went at %v; want its turn, not the end", at)
		}
	})
}

// TestTurnsInABusyMailbox: where places become free one at a time, one account does not take them all.
func TestTurnsInABusyMailbox(t *testing.T) {
	for _, tc := range []struct {
		name string
		busy string
		gate queue.Gate // of the other account
	}{
		{"the first account has its turn", "b", queue.Gate{Limit: 3}},
		{"the second account has its turn", "a", queue.Gate{Limit: 3}},
		{"the first account's probe is not kept back by what the second has in flight", "b", queue.Gate{Limit: 1, Waiting: "pause"}},
		{"the second account's probe is not kept back by what the first has in flight", "a", queue.Gate{Limit: 1, Waiting: "pause"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				other := map[string]string{"a": "b", "b": "a"}[tc.busy]
				n := 0
				w := newWorldOf(t, queue.Options{Accounts: []queue.Account{{Name: "a", Mailbox: "m", Concurrency: 3}, {Name: "b", Mailbox: "m", Concurrency: 3}}}, func(w *world) {
					w.gates[other] = tc.gate
					w.relay = func(context.Context, message.Outgoing) reply.Outcome {
						w.mu.Lock()
						n++
						took := sec + time.Duration(n%7)*100*time.Millisecond
						w.mu.Unlock()
						time.Sleep(took)
						return relayed
					}
				})
				for range 100 {
					w.enqueue(tc.busy)
				}
				id := w.enqueue(other)
				w.pass(10 * sec)
				if at := w.times(id); len(at) != 1 || at[0] > 2*sec {
					t.Errorf("tried at %v, want once a place is free", at)
				}
				w.stop()
				<-w.ended
			})
		})
	}
}
