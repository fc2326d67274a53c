package queue_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// TestAClockThatIsSetBackKeepsNoMail: what was due soon by a clock that was ahead is due soon by the right one, and its
// age begins there.
func TestAClockThatIsSetBackKeepsNoMail(t *testing.T) {
	fails := func(o reply.Outcome) func(context.Context, message.Outgoing) reply.Outcome {
		return func(context.Context, message.Outgoing) reply.Outcome { return o }
	}
	doubt := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "smtp"}
	for _, tc := range []struct {
		name      string
		before    func(context.Context, message.Outgoing) reply.Outcome // nil: the gate is closed
		notBefore time.Duration                                         // of its plan
		early     bool                                                  // it leaves within five minutes
		late      bool                                                  // it leaves within half an hour
	}{
		{"mail that was never tried leaves", nil, 0, true, true},
		{"mail that waits for its next attempt leaves", fails(deferred(reply.Message)), 0, true, true},
		{"mail of a route that was down leaves", fails(deferred(reply.Route)), 0, true, true},
		{"mail without a right leaves once it is there", fails(deferred(reply.Sender)), 0, true, true},
		{"mail in doubt waits as long as it must", fails(doubt), 0, false, true},
		{"mail that its plan puts off waits as long as it must", nil, 20 * mins, false, true},
	} {
		for _, by := range []time.Duration{2 * hour, 400 * day} {
			for _, restarted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s (by %v, restarted %v)", tc.name, by, restarted), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var ahead atomic.Int64
						ahead.Store(int64(by))
						now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
						o := queue.Options{Store: queuetest.NewMemory(), Now: now, GiveUpAfter: 10 * hour, Accounts: []queue.Account{{Name: "erp", DoubtWait: 20 * mins}}}
						w := newWorldOf(t, o, func(w *world) {
							if w.relay = tc.before; tc.before == nil {
								w.gates["erp"] = closedFor("pause")
							}
						})
						_, m := queuetest.NewMessage("erp", now())
						if tc.notBefore > 0 {
							m.Plan.NotBefore = now().Add(tc.notBefore)
						}
						if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
							t.Fatal(err)
						}
						w.pass(2 * mins)
						up := func(w *world) { w.relay = fails(relayed); delete(w.gates, "erp") }
						if restarted {
							w.stop()
							<-w.ended
							ahead.Store(0)
							w = newWorldOf(t, o, up)
						} else {
							w.mu.Lock()
							up(w)
							w.mu.Unlock()
							ahead.Store(0)
						}
						w.pass(5 * mins)
						if got := w.show(m.ID).State == queue.Relayed; got != tc.early {
							t.Errorf("5 minutes later: %s, due in %v", w.show(m.ID).State, w.show(m.ID).NextAttempt.Sub(now()))
						}
						w.pass(25 * mins)
						if got := w.show(m.ID).State == queue.Relayed; got != tc.late {
							t.Errorf("half an hour later: %s, due in %v", w.show(m.ID).State, w.show(m.ID).NextAttempt.Sub(now()))
						}
					})
				})
			}
		}
	}
}

// TestWhatAPlanPutsOffStaysPutOff: no clock was wrong.
func TestWhatAPlanPutsOffStaysPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := queue.Options{Store: queuetest.NewMemory()}
		w := newWorld(t, o)
		_, m := queuetest.NewMessage("erp", time.Now())
		m.Plan.NotBefore = time.Now().Add(10 * hour)
		if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
			t.Fatal(err)
		}
		w.pass(hour)
		w.stop()
		<-w.ended
		w = newWorld(t, o)
		w.pass(8 * hour)
		if row := w.show(m.ID); row.State != queue.Queued || row.NextAttempt.Sub(w.began) != 9*hour {
			t.Errorf("%s, due %v after the start; want queued, and 9 hours", row.State, row.NextAttempt.Sub(w.began))
		}
		w.pass(2 * hour)
		if row := w.show(m.ID); row.State != queue.Relayed {
			t.Errorf("when its time has come: %s", row.State)
		}
	})
}

// TestAgeAfterAClockThatWasAhead: it does not begin only when the clock comes there.
func TestAgeAfterAClockThatWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		ahead.Store(int64(400 * day))
		w := newWorldOf(t, queue.Options{GiveUpAfter: 10 * hour, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}, func(w *world) {
			w.relay = func(context.Context, message.Outgoing) reply.Outcome { return deferred(reply.Message) }
		})
		_, m := queuetest.NewMessage("erp", time.Now().Add(400*day))
		if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * mins)
		ahead.Store(0)
		w.pass(8 * hour)
		if row := w.show(m.ID); row.State != queue.Deferred || len(w.seen()) < 8 {
			t.Errorf("8 hours later: %s after %d attempts", row.State, len(w.seen()))
		}
		w.pass(3 * hour)
		if row := w.show(m.ID); row.State != queue.Failed {
			t.Errorf("11 hours later: %s; want failed", row.State)
		}
	})
}

// TestAClockThatIsSetBackKeepsNobodyBeside: who waits by a clock that was ahead, beside a recipient that is being sent to or
// was when the process died, waits no longer than he must.
func TestAClockThatIsSetBackKeepsNobodyBeside(t *testing.T) {
	for _, died := range []bool{false, true} {
		t.Run(fmt.Sprintf("died %v", died), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ahead atomic.Int64
				ahead.Store(int64(50 * hour))
				now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				o := queue.Options{Store: queuetest.NewMemory(), Now: now}
				w := newWorldOf(t, o, func(w *world) {
					w.relay = func(ctx context.Context, out message.Outgoing) reply.Outcome {
						if len(out.Recipients) == 2 {
							o, late := deferred(reply.Recipient), deferred(reply.Recipient)
							late.RetryAfter = 50 * mins
							o.Recipients = map[string]reply.Outcome{out.Recipients[1].Key(): late}
							return o
						}
						select {
						case <-ctx.Done():
						case <-time.After(5 * mins):
						}
						return relayed
					}
				})
				_, m := queuetest.NewMessage("erp", now(), "a@fabrikam.test", "b@fabrikam.test")
				if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
					t.Fatal(err)
				}
				w.pass(2 * mins) // the first recipient is being sent to, the other one waits
				if died {
					w = w.dies(o)
				}
				ahead.Store(0)
				w.pass(2 * mins)
				w.setGate("erp", openGate)
				w.Wake("")
				w.pass(2 * hour)
				if row := w.show(m.ID); row.State != queue.Relayed {
					t.Errorf("two hours later: %s, due in %v", row.State, row.NextAttempt.Sub(now()))
				}
			})
		})
	}
}

// dies is the next process after this one died. Its gate is closed.
func (w *world) dies(o queue.Options) *world {
	memory := o.Store.(*queuetest.Memory)
	memory.Close()
	w.stop()
	<-w.ended
	memory.Reopen()
	return newWorldOf(w.t, o, func(w *world) { w.gates["erp"] = closedFor("pause") })
}

// TestAClockThatIsSetBackKeepsNothingUntried: what was never tried to the end is not taken for what its plan puts off.
func TestAClockThatIsSetBackKeepsNothingUntried(t *testing.T) {
	order := func(w *world, id envelope.ID, action queue.Action) {
		if err := w.Change(w.t.Context(), id, queue.Order{Action: action, By: "eva"}); err != nil {
			w.t.Fatal(err)
		}
	}
	// dies returns a process that died while it sent, having handed the message over for so many recipients.
	dies := func(handed int) func(*world, queue.Options, envelope.ID) *world {
		return func(w *world, o queue.Options, _ envelope.ID) *world {
			w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
				if handed > 0 {
					if err := out.IntentBy(ctx, "smtp", out.Recipients[:handed]); err != nil {
						w.t.Error(err)
					}
				}
				<-ctx.Done()
				return relayed
			})
			w.setGate("erp", openGate)
			w.Wake("")
			w.pass(sec)
			return w.dies(o)
		}
	}
	for _, tc := range []struct {
		name  string
		ahead func(*world, queue.Options, envelope.ID) *world // what happens while the clock is ahead
		then  func(*world, envelope.ID)                       // and after that
	}{
		{"the process died while it was sent", dies(0), func(*world, envelope.ID) {}},
		{"the process died, and a person ends the doubt of one recipient", dies(1),
			func(w *world, id envelope.ID) { order(w, id, queue.MarkAsOut) }},
		{"a person had it tried again", func(w *world, _ queue.Options, id envelope.ID) *world { order(w, id, queue.Retry); return w },
			func(*world, envelope.ID) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ahead atomic.Int64
				now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				o := queue.Options{Store: queuetest.NewMemory(), Now: now}
				w := newWorldOf(t, o, func(w *world) { w.gates["erp"] = closedFor("pause") })
				id := w.enqueue("erp", "a@fabrikam.test", "b@fabrikam.test")
				ahead.Store(int64(5 * hour))
				w = tc.ahead(w, o, id)
				w.pass(2 * mins)
				ahead.Store(0)
				w.pass(2 * mins)
				tc.then(w, id)
				w.setGate("erp", openGate)
				w.Wake("")
				w.pass(2 * mins)
				if row := w.show(id); row.State != queue.Relayed {
					t.Errorf("six minutes later: %s, due in %v", row.State, row.NextAttempt.Sub(now()))
				}
			})
		})
	}
}

// TestAClockThatIsSetBackKeepsNoRate: what a former process began by a clock that was ahead counts for a minute, not until
// then.
func TestAClockThatIsSetBackKeepsNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		ahead.Store(int64(3 * hour))
		o := queue.Options{Store: queuetest.NewMemory(), Accounts: []queue.Account{{Name: "erp", Concurrency: 3, RatePerMinute: 2}},
			Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}
		w := newWorld(t, o)
		w.enqueue("erp")
		w.stop()
		<-w.ended
		w = newWorld(t, o)
		ahead.Store(0)
		var ids []envelope.ID
		for range 3 {
			ids = append(ids, w.enqueue("erp"))
		}
		w.pass(2 * mins)
		for i, id := range ids {
			if row := w.show(id); row.State != queue.Relayed {
				t.Errorf("number %d, two minutes later: %s for %q", i, row.State, row.WaitingFor)
			}
		}
	})
}
