package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// line is a transport to the next server.
type line struct {
	mu     sync.Mutex // guards what follows
	answer reply.Outcome
	takes  time.Duration
	sends  int
}

func (l *line) Send(context.Context, message.Outgoing) reply.Outcome {
	l.mu.Lock()
	l.sends++
	answer, takes := l.answer, l.takes
	l.mu.Unlock()
	time.Sleep(takes)
	return answer
}

func (l *line) set(answer reply.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = answer
}

func (l *line) sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sends
}

// largest is what Graph carries in newWorldBehind.
const largest = 1000

// newWorldBehind is newWorld with a relay of these accounts, and the queue's of the same.
func newWorldBehind(t *testing.T, o queue.Options, accounts ...relay.Account) *world {
	for _, a := range accounts {
		o.Accounts = append(o.Accounts, queue.Account{Name: a.Name, Mailbox: a.Mailbox, Concurrency: 3, RatePerMinute: 30})
	}
	return newWorldOf(t, o, func(w *world) {
		var err error
		w.room, err = relay.New(relay.Options{Accounts: accounts, GraphMaxMIME: largest, Resumed: func() { w.Wake("") }})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// octets keeps a message with a body of that size.
func (w *world) octets(account string, size int) envelope.ID {
	w.t.Helper()
	item, m := queuetest.NewMessage(account, time.Now())
	m.Header = []byte("From: <nav@contoso.test>\r\nTo: <buyer@fabrikam.test>\r\n\r\n")
	if err := w.Enqueue(w.t.Context(), m, strings.NewReader(strings.Repeat("x", size))); err != nil {
		w.t.Fatalf("Enqueue: %v", err)
	}
	synctest.Wait()
	return item.ID
}

var disabled = reply.Outcome{Owner: reply.Account, Reply: reply.Reply{Code: 535, Enhanced: "5.7.139", Text: "disabled"}}

// TestTurnedBackCostsNothing: large mail that waits for a parked SMTP keeps no small mail from Graph, and each is told once.
func TestTurnedBackCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		graph, smtp := &line{answer: relayed}, &line{answer: disabled}
		w := newWorldBehind(t, queue.Options{}, relay.Account{Name: "erp", Mode: relay.ModeAuto, Graph: graph, SMTP: smtp, Concurrency: 3})
		for range 400 {
			w.octets("erp", 2*largest)
		}
		var small []envelope.ID
		for range 105 {
			for range 5 {
				small = append(small, w.octets("erp", 10))
			}
			w.pass(mins)
		}
		late := 0
		for _, id := range small {
			if row := w.show(id); row.State != queue.Relayed || row.Item.Finished.Sub(row.Item.Accepted) > sec {
				late++
			}
		}
		if late > 0 || graph.sent() != len(small) {
			t.Errorf("%d of %d small messages did not go at once", late, len(small))
		}
		told := map[string]int{}
		for _, event := range w.told() {
			told[event]++
		}
		// The first, and those that probe after 15, 30 and 60 minutes.
		if n := told["INFO message deferred"]; smtp.sent() != 4 || n < 400 || n > 400+2*smtp.sent() {
			t.Errorf("SMTP was tried %d times, and %d lines say that a message waits; want 4, and one for each", smtp.sent(), n)
		}
		if n := len(w.seen()) - len(small); n > 5*400 {
			t.Errorf("%d attempts of large messages; want one of each when SMTP may be probed", n)
		}
		w.stop()
		<-w.ended
	})
}

// TestOneProbeForALogin: of the mailboxes that share a login one probes, and the others lose nothing by it.
func TestOneProbeForALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expired := reply.Outcome{Owner: reply.Login, Err: &token.Error{Person: true, Text: "expired"}}
		graph := &line{answer: expired, takes: sec}
		var accounts []relay.Account
		for i := range 10 {
			name := fmt.Sprintf("m%d", i)
			accounts = append(accounts, relay.Account{Name: name, Mailbox: name, Login: "app", Mode: relay.ModeGraph, Graph: graph, Concurrency: 3})
		}
		w := newWorldBehind(t, queue.Options{}, accounts...)
		w.octets("m0", 10)
		w.pass(10 * sec) // parked now, for 15 minutes
		for _, a := range accounts {
			for range 20 {
				w.octets(a.Name, 10)
			}
		}
		before := len(w.seen())
		w.pass(15 * mins)
		if n := len(w.seen()) - before; graph.sent() != 2 || n > len(accounts) {
			t.Errorf("Graph was asked %d times, and %d messages were claimed for it; want twice, and at most one for each mailbox", graph.sent(), n)
		}
		graph.set(relayed)
		w.pass(30*mins + 30*sec)
		rows, err := w.List(t.Context(), queue.Filter{State: queue.Relayed})
		if err != nil || len(rows) != 201 {
			t.Errorf("%d of 201 are relayed half a minute after the probe, %v", len(rows), err)
		}
		w.stop()
		<-w.ended
	})
}

// TestTurnedBackIsDueWhenTheTroubleIsOver: nobody waits out a time that was for a trouble which is over.
func TestTurnedBackIsDueWhenTheTroubleIsOver(t *testing.T) {
	for _, tc := range []struct {
		name string
		over func(w *world, smtp *line) *world
	}{
		{"a person acts", func(w *world, _ *line) *world {
			w.room.Unpark("erp")
			w.Wake("")
			return w
		}},
		{"a probe shows it, beside which the others were turned back once more", func(w *world, smtp *line) *world {
			smtp.mu.Lock()
			smtp.takes = 10 * sec
			smtp.mu.Unlock()
			w.pass(14*mins + 21*sec)
			return w
		}},
		{"the next process knows of none", func(w *world, smtp *line) *world {
			w.stop()
			<-w.ended
			return newWorldBehind(w.t, queue.Options{Store: w.store}, relay.Account{Name: "erp", Mode: relay.ModeAuto, Graph: &line{answer: relayed}, SMTP: smtp, Concurrency: 3})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				smtp := &line{answer: disabled}
				w := newWorldBehind(t, queue.Options{}, relay.Account{Name: "erp", Mode: relay.ModeAuto, Graph: &line{answer: relayed}, SMTP: smtp, Concurrency: 3})
				var ids []envelope.ID
				for range 3 {
					ids = append(ids, w.octets("erp", 2*largest))
				}
				w.pass(mins) // the one that met the trouble was turned back too
				for _, id := range ids {
					if row := w.show(id); row.State != queue.Queued || !row.NextAttempt.After(time.Now().Add(13*mins)) {
						t.Errorf("%s until %v; want it to wait for the probe", row.State, row.NextAttempt)
					}
				}
				smtp.set(relayed)
				w = tc.over(w, smtp)
				synctest.Wait()
				for _, id := range ids {
					if row := w.show(id); row.State != queue.Relayed {
						t.Errorf("%s until %v, %v later; want relayed at once", row.State, row.NextAttempt, time.Until(row.NextAttempt))
					}
				}
				w.stop()
				<-w.ended
			})
		})
	}
}

// TestTurnedBackWhileTheTroubleEnds: what is turned back at that moment does not wait either.
func TestTurnedBackWhileTheTroubleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
			w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return relayed })
			w.Wake("erp")
			time.Sleep(sec) // what that starts is over before this is written down
			return reply.Outcome{Owner: reply.Account, TurnedBack: true, RetryAfter: hour}
		})
		id := w.enqueue("erp")
		w.pass(sec)
		if row := w.show(id); row.State != queue.Relayed {
			t.Errorf("%s until %v; want relayed at once", row.State, row.NextAttempt)
		}
	})
}

// TestLastAttempt: where nobody was asked to take a message it has not been tried.
func TestLastAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		outcomes := []reply.Outcome{deferred(reply.Message), {Owner: reply.Route, Transport: "smtp", TurnedBack: true, RetryAfter: hour}, deferred(reply.Message), relayed}
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
			time.Sleep(sec) // so long each takes
			o := outcomes[0]
			outcomes = outcomes[1:]
			return o
		})
		id := w.enqueue("erp")
		for n, want := range []time.Duration{sec, sec, hour + mins + 3*sec, 0} {
			for len(w.times(id)) == n {
				w.pass(sec)
			}
			w.pass(sec)
			e, err := w.store.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			at := e.Item.Recipients[0].Last.At
			if got := at.Sub(w.began); got != want && !(want == 0 && at.IsZero()) {
				t.Errorf("after %d attempts: tried after %v; want %v", n+1, got, want)
			}
		}
	})
}

// TestScheduledMailIsNotResumed: what waits for its own time is none of the lane's business.
func TestScheduledMailIsNotResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		item, m := queuetest.NewMessage("erp", time.Now())
		m.Plan.NotBefore = time.Now().Add(hour)
		if err := w.Enqueue(t.Context(), m, emptyBody()); err != nil {
			t.Fatal(err)
		}
		w.Wake("")
		w.pass(2 * hour)
		if at := w.times(item.ID); !slices.Equal(at, []time.Duration{hour}) {
			t.Errorf("tried at %v, want after an hour", at)
		}
	})
}
