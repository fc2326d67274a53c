package queue_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

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
				o := queue.Options{Store: store, Reporter: told, WarnAfter: 4 * hour}
				first := newWorldOf(t, o, func(w *world) { w.relay = later(reply.Route) })
				id := first.enqueue("erp")
				first.pass(3 * hour) // these are its age
				first.setRelay(parkedAlone)
				first.pass(3 * day)
				first.stop()
				<-first.ended
				w := newWorldOf(t, o, func(w *world) { w.relay = parkedAlone })
				w.pass(5 * day)
				if row := w.show(id); row.State != queue.Queued || row.WaitingFor != "parked" || len(told.told()) != 0 {
					t.Errorf("parked for 8 days: %s for %q, reports %q; want it queued and parked", row.State, row.WaitingFor, told.told())
				}
				w.setRelay(tc.then)
				w.pass(30 * mins)
				if row := w.show(id); row.State.Final() || row.WaitingFor == "parked" || len(told.told()) != 0 {
					t.Fatalf("after the park, 3:30 hours of age: %s for %q, reports %q", row.State, row.WaitingFor, told.told())
				}
				w.pass(hour)
				if got := told.told(); len(got) != 1 || !strings.HasPrefix(got[0], "late") {
					t.Errorf("4:30 hours of age: reports %q; want that it is late", got)
				}
				w.pass(5 * day)
				if row := w.show(id); row.State != queue.Failed {
					t.Errorf("over 5 days of age: %s; want failed", row.State)
				}
			})
		})
	}
}

// TestParkOfATransportInsideAnAccounts: time that both stand still is counted once.
func TestParkOfATransportInsideAnAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{}, func(w *world) { w.relay = parkedAlone })
		id := w.enqueue("erp")
		w.pass(day)
		w.setGate("erp", closedFor("parked"))
		w.Wake("")
		w.pass(3 * day)
		w.setGate("erp", openGate)
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return deferred(reply.Route) })
		w.Wake("")
		w.pass(5*day - hour)
		if row := w.show(id); row.State != queue.Queued {
			t.Errorf("an hour before it is 5 days old: %s", row.State)
		}
		w.pass(2 * hour)
		if row := w.show(id); row.State != queue.Failed {
			t.Errorf("an hour after it is 5 days old: %s; want failed", row.State)
		}
	})
}

// TestParkLimitOfATransport: who waits for one transport is held too, and begins anew when a person releases it.
func TestParkLimitOfATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{ParkLimit: 48 * hour}, func(w *world) { w.relay = parkedAlone })
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
		w.pass(5*day + hour)
		if row := w.show(id); row.State != queue.Failed {
			t.Errorf("5 days of a pause after its release: %s; want failed", row.State)
		}
	})
}
