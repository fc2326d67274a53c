package queue_test

import (
	"context"
	"fmt"
	"strings"
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

const day = 24 * hour

// parkedAlone is what a message gets whose transport waits for a person while another one of the account is up.
func parkedAlone(context.Context, message.Outgoing) reply.Outcome {
	o := deferred(reply.Account)
	o.RetryAfter = 5 * mins
	return o
}

// TestAgeStandsStillWhileItsTransportIsParked: also of a message that waits for one transport of an account whose other
// one is up.
func TestAgeStandsStillWhileItsTransportIsParked(t *testing.T) {
	later := func(owner reply.Owner) func(context.Context, message.Outgoing) reply.Outcome {
		return func(context.Context, message.Outgoing) reply.Outcome { return deferred(owner) }
	}
	for _, tc := range []struct {
		name string
		then func(context.Context, message.Outgoing) reply.Outcome // once a person has acted
	}{
		{"the first probe then meets a pause", later(reply.Route)},
		{"its first attempt then ends in a refusal for now", later(reply.Message)},
		{"its first attempt then is cut off", later(reply.Process)},
		{"its sender then lacks a right", later(reply.Sender)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, told := queuetest.NewMemory(), &reports{}
				o := queue.Options{Store: store, Reporter: told, WarnAfter: 4 * hour, GiveUpAfter: 10 * hour}
				first := newWorldOf(t, o, func(w *world) { w.relay = later(reply.Route) })
				id := first.enqueue("erp")
				first.pass(3 * hour) // these are its age
				first.setRelay(parkedAlone)
				first.pass(15 * hour)
				first.stop()
				<-first.ended
				w := newWorldOf(t, o, func(w *world) { w.relay = parkedAlone })
				w.pass(15 * hour)
				if row := w.show(id); row.State != queue.Queued || row.WaitingFor != "parked" || len(told.told()) != 0 {
					t.Errorf("parked for 30 hours: %s for %q, reports %q; want it queued and parked", row.State, row.WaitingFor, told.told())
				}
				w.setRelay(tc.then)
				w.pass(30 * mins)
				if row := w.show(id); row.State.Final() || row.WaitingFor == "parked" || len(told.told()) != 0 {
					t.Fatalf("after the park, 3:30 hours of age: %s for %q, reports %q", row.State, row.WaitingFor, told.told())
				}
				w.pass(2 * hour) // looked at within an hour while it stood still
				if got := told.told(); len(got) != 1 || !strings.HasPrefix(got[0], "late") {
					t.Errorf("5:30 hours of age: reports %q; want that it is late", got)
				}
				w.pass(6 * hour)
				if row := w.show(id); row.State != queue.Failed {
					t.Errorf("11:30 hours of age: %s; want failed", row.State)
				}
			})
		})
	}
}

// TestLateThoughItIsOftenBeingSent: a look at its age that finds it in flight is made up for soon.
func TestLateThoughItIsOftenBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &reports{}
		w := newWorldOf(t, queue.Options{Reporter: told, WarnAfter: 4 * hour}, func(w *world) {
			w.relay = func(context.Context, message.Outgoing) reply.Outcome {
				time.Sleep(49 * sec) // and then it waits for 30 seconds: it is in flight after four hours
				return deferred(reply.Route)
			}
		})
		w.enqueue("erp")
		w.pass(4*hour + 10*mins)
		if got := told.told(); len(got) != 1 || !strings.HasPrefix(got[0], "late") {
			t.Errorf("10 minutes later: reports %q; want that it is late", got)
		}
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return relayed })
		w.pass(2 * mins)
	})
}

// TestParkOfATransportInsideAnAccounts: time that both stand still is counted once.
func TestParkOfATransportInsideAnAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{GiveUpAfter: 10 * hour}, func(w *world) { w.relay = parkedAlone })
		id := w.enqueue("erp")
		w.pass(day)
		w.setGate("erp", closedFor("parked"))
		w.Wake("")
		w.pass(3 * day)
		w.setGate("erp", openGate)
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return deferred(reply.Route) })
		w.Wake("")
		w.pass(9 * hour)
		if row := w.show(id); row.State != queue.Queued {
			t.Errorf("an hour before it is 10 hours old: %s", row.State)
		}
		w.pass(2 * hour)
		if row := w.show(id); row.State != queue.Failed {
			t.Errorf("an hour after it is 10 hours old: %s; want failed", row.State)
		}
	})
}

// TestParkLimitOfATransport: who waits for one transport is held too, and begins anew when a person releases it.
func TestParkLimitOfATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{ParkLimit: 48 * hour, GiveUpAfter: 10 * hour}, func(w *world) { w.relay = parkedAlone })
		id := w.enqueue("erp")
		w.pass(47 * hour)
		if row := w.show(id); row.State != queue.Queued {
			t.Errorf("after 47 hours: %s", row.State)
		}
		w.pass(2 * hour)
		if row := w.show(id); row.State != queue.Held || !strings.Contains(row.Item.Recipients[0].Last.Err, "park_limit") {
			t.Fatalf("after 49 hours: %s, %+v; want held and why", row.State, row.Item.Recipients[0].Last)
		}
		w.setGate("erp", closedFor("pause"))
		if err := w.Change(t.Context(), id, queue.Order{Action: queue.Release, By: "eva"}); err != nil {
			t.Fatal(err)
		}
		w.pass(11 * hour)
		if row := w.show(id); row.State != queue.Failed {
			t.Errorf("11 hours of a pause after its release: %s; want failed", row.State)
		}
	})
}

// TestNothingEndsUntried: what became too old while nobody could try it is tried once more, whatever else waits.
func TestNothingEndsUntried(t *testing.T) {
	up := func(context.Context, message.Outgoing) reply.Outcome { return relayed }
	with := func(owner reply.Owner) func(context.Context, message.Outgoing) reply.Outcome {
		return func(context.Context, message.Outgoing) reply.Outcome { return deferred(owner) }
	}
	for _, tc := range []struct {
		name          string
		before, after func(context.Context, message.Outgoing) reply.Outcome
		closed        string        // the gate, before
		late          time.Duration // the gate opens after
		perMinute     int
		want          queue.State
	}{
		{"what waited for its own next attempt leaves", with(reply.Message), up, "", 0, 0, queue.Relayed},
		{"what waited behind a pause leaves", nil, up, "pause", 0, 0, queue.Relayed},
		{"what waits for the rate leaves in its turn", nil, up, "pause", 0, 1, queue.Relayed},
		{"what waits for a transport that is up a little later leaves", nil, up, "pause", 20 * mins, 0, queue.Relayed},
		{"what waited for a right leaves once it is there", with(reply.Sender), up, "", 0, 0, queue.Relayed},
		{"what is refused again for now fails", with(reply.Message), with(reply.Message), "", 0, 0, queue.Failed},
		{"what still lacks a right fails", with(reply.Sender), with(reply.Sender), "", 0, 0, queue.Failed},
		{"what has a transport that is down fails", nil, up, "pause", 2 * hour, 0, queue.Failed},
	} {
		for _, slept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s (asleep %v)", tc.name, slept), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var step atomic.Int64
					o := queue.Options{Store: queuetest.NewMemory(), Accounts: []queue.Account{{Name: "erp", Concurrency: 3, RatePerMinute: tc.perMinute}},
						Now: func() time.Time { return time.Now().Add(time.Duration(step.Load())) }}
					w := newWorldOf(t, o, func(w *world) { w.relay = tc.before })
					if tc.closed != "" {
						w.setGate("erp", closedFor(tc.closed))
					}
					var ids []envelope.ID
					for range 90 {
						ids = append(ids, w.enqueue("erp"))
					}
					w.pass(2 * mins)
					closed := func(w *world) {
						w.relay = tc.after
						if tc.late > 0 {
							w.gates["erp"] = closedFor(tc.closed)
						}
					}
					if slept {
						w.mu.Lock()
						delete(w.gates, "erp")
						closed(w)
						w.mu.Unlock()
						step.Store(int64(6 * day))
					} else {
						w.stop()
						<-w.ended
						step.Store(int64(6 * day))
						w = newWorldOf(t, o, closed)
					}
					w.pass(tc.late)
					w.setGate("erp", openGate)
					w.Wake("")
					w.pass(2 * hour)
					for _, id := range ids {
						if row := w.show(id); row.State != tc.want {
							t.Fatalf("%s after %d attempts, %+v; want %s", row.State, row.Item.Attempts, row.Item.Recipients[0].Last, tc.want)
						}
					}
				})
			})
		}
	}
}

// TestAShortPauseEndsNoBacklog: what became too old while the machine was off, and leaves by the rate since, is not ended by a
// pause that has just begun, but by one that lasts.
func TestAShortPauseEndsNoBacklog(t *testing.T) {
	for _, tc := range []struct {
		name  string
		pause time.Duration
		want  map[queue.State]int
	}{
		{"a pause of two minutes", 2 * mins, map[queue.State]int{queue.Relayed: 90}},
		{"one of four hours", 4 * hour, map[queue.State]int{queue.Relayed: 60, queue.Failed: 30}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var step atomic.Int64
				o := queue.Options{Store: queuetest.NewMemory(), Accounts: []queue.Account{{Name: "erp", Concurrency: 3, RatePerMinute: 1}},
					Now: func() time.Time { return time.Now().Add(time.Duration(step.Load())) }}
				w := newWorldOf(t, o, func(w *world) { w.gates["erp"] = closedFor("pause") })
				var ids []envelope.ID
				for range 90 {
					ids = append(ids, w.enqueue("erp"))
				}
				w.pass(2 * mins)
				w.stop()
				<-w.ended
				step.Store(int64(6 * day))
				w = newWorld(t, o)
				w.pass(59*mins + 50*sec)
				w.setGate("erp", queue.Gate{Waiting: "pause", Since: o.Now()})
				w.pass(tc.pause)
				w.setGate("erp", openGate)
				w.Wake("")
				w.pass(2 * hour)
				got := map[queue.State]int{}
				for _, id := range ids {
					got[w.show(id).State]++
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Errorf("what became of them (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestATransportThatIsDownForAWhileEndsNothing: what is too old and finds no transport that may take it, although its account
// is up, is ended once that has lasted.
func TestATransportThatIsDownForAWhileEndsNothing(t *testing.T) {
	for _, tc := range []struct {
		name string
		down time.Duration
		want queue.State
	}{{"for 40 minutes", 40 * mins, queue.Relayed}, {"for three hours", 3 * hour, queue.Failed}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := queue.Options{Store: queuetest.NewMemory(), GiveUpAfter: 4 * hour}
				w := newWorldOf(t, o, func(w *world) { w.gates["erp"] = closedFor("pause") })
				id := w.enqueue("erp")
				w.pass(2 * mins)
				w.stop()
				<-w.ended
				time.Sleep(day)
				w = newWorldOf(t, o, func(w *world) { w.gates["erp"] = closedFor("pause") })
				w.pass(50 * mins)
				since := time.Now()
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
					if time.Since(since) < tc.down {
						return reply.Outcome{Owner: reply.Route, TurnedBack: true, Since: since, RetryAfter: 15 * mins}
					}
					return relayed
				})
				w.setGate("erp", openGate)
				w.Wake("")
				w.pass(6 * hour)
				if row := w.show(id); row.State != tc.want {
					t.Errorf("%s after %d attempts, %+v; want %s", row.State, row.Item.Attempts, row.Item.Recipients[0].Last, tc.want)
				}
			})
		})
	}
}

// TestWhatAPlanPutsOffAgesFromThen: it is neither late nor too old before anybody may try it.
func TestWhatAPlanPutsOffAgesFromThen(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome
	}{{"the recipient is refused for now", deferred(reply.Recipient)}, {"the route fails", deferred(reply.Route)}, {"the sender lacks a right", deferred(reply.Sender)}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := &reports{}
				o := queue.Options{Store: queuetest.NewMemory(), GiveUpAfter: 4 * hour, WarnAfter: hour, Reporter: told}
				w := newWorld(t, o)
				_, m := queuetest.NewMessage("erp", time.Now())
				m.Plan.NotBefore = time.Now().Add(5 * hour)
				if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
					t.Fatal(err)
				}
				fails := func(context.Context, message.Outgoing) reply.Outcome { return tc.outcome }
				w.setRelay(fails)
				w.pass(4*hour + 30*mins)
				if row := w.show(m.ID); row.State != queue.Queued || len(w.seen()) != 0 || len(told.told()) != 0 {
					t.Fatalf("before its time: %s after %d attempts, reports %q", row.State, len(w.seen()), told.told())
				}
				w.pass(hour)
				w.stop()
				<-w.ended
				w = newWorldOf(t, o, func(w *world) { w.relay = fails })
				w.pass(mins)
				if row := w.show(m.ID); row.State.Final() || len(told.told()) != 0 {
					t.Errorf("half an hour of age: %s, reports %q", row.State, told.told())
				}
				w.pass(2 * hour)
				if row := w.show(m.ID); row.State.Final() || len(told.told()) != 1 {
					t.Errorf("2:30 hours of age: %s, reports %q; want that it is late", row.State, told.told())
				}
				w.pass(2 * hour)
				if row := w.show(m.ID); row.State != queue.Failed {
					t.Errorf("4:30 hours of age: %s; want failed", row.State)
				}
			})
		})
	}
}

// TestAPersonDoesNotMakeItOld: who has mail tried before its time lets its age begin there.
func TestAPersonDoesNotMakeItOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{GiveUpAfter: 4 * hour})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return deferred(reply.Recipient) })
		_, m := queuetest.NewMessage("erp", time.Now())
		m.Plan.NotBefore = time.Now().Add(6 * hour)
		if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
			t.Fatal(err)
		}
		w.pass(5 * hour)
		if err := w.Change(t.Context(), m.ID, queue.Order{Action: queue.Retry, By: "eva"}); err != nil {
			t.Fatal(err)
		}
		w.pass(3 * hour)
		if row := w.show(m.ID); row.State != queue.Deferred || len(w.seen()) < 3 {
			t.Errorf("3 hours later: %s after %d attempts; want it deferred", row.State, len(w.seen()))
		}
		w.pass(2 * hour)
		if row := w.show(m.ID); row.State != queue.Failed {
			t.Errorf("5 hours later: %s; want failed", row.State)
		}
	})
}
