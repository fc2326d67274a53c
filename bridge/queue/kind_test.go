package queue_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// firstInDoubtSecondLater: in a first attempt a is left in doubt and b deferred, as by a server that refuses b at RCPT
// and dies after the dot.
func firstInDoubtSecondLater(out message.Outgoing) reply.Outcome {
	o := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "smtp"}
	for _, r := range out.Recipients {
		if r.Local == "b" {
			later := reply.Outcome{Verdict: reply.Deferred, Owner: reply.Recipient, Transport: "smtp", Reply: reply.Reply{Code: 451}}
			if len(out.Recipients) == 1 {
				return later
			}
			o.Recipients = map[string]reply.Outcome{r.Key(): later}
		}
	}
	return o
}

// TestAResendSpeaksForNobodyElse: "that is a duplicate" answers a resend, and must not end a recipient whom the message
// was never sent to; also after a person's retry, which makes both due at once.
func TestAResendSpeaksForNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", DoubtWait: 10 * mins}}})
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome { return firstInDoubtSecondLater(out) })
		id := w.enqueue("erp", "a@example.test", "b@example.test")
		w.pass(10 * time.Second)
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return relayed })
		if err := w.Change(t.Context(), id, queue.Order{Action: queue.Retry, By: "x"}); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * hour)
		to := map[string]bool{}
		for _, c := range w.calls[1:] {
			if len(c.out.Recipients) != 1 {
				t.Errorf("an attempt with resend %v went to %v together", c.out.Resend, c.out.Recipients)
			}
			to[c.out.Recipients[0].Local] = c.out.Resend
		}
		if resend, ok := to["b"]; !ok || resend || !to["a"] {
			t.Errorf("resend by recipient = %v; want a resent and b sent", to)
		}
	})
}

// TestALookThatFailsSendsNothing: whatever stops a look, the doubt is what it was: on_doubt = "hold" is obeyed, and the
// transport of the doubt is kept.
func TestALookThatFailsSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", OnDoubt: queue.Hold, DoubtWait: 30 * mins}}})
		n := 0
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome {
			if n++; n == 1 {
				return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "graph", CanLook: true}
			}
			if !out.Look || out.Transport != "graph" {
				t.Errorf("attempt %d: look %v by %q; want a look by graph", n, out.Look, out.Transport)
			}
			return reply.Outcome{Owner: reply.Process, Err: errors.New("a footer cannot be read")}
		})
		id := w.enqueue("erp", "a@example.test")
		w.pass(2 * hour)
		if got := w.show(id).State; got != queue.Held || n != 4 {
			t.Errorf("%v after %d attempts; want held after one attempt and three looks", got, n)
		}
	})
}

// TestRetryInBulkLeavesASecondDoubtAlone: what is held because it may have gone out twice leaves a third time only where
// a person names it.
func TestRetryInBulkLeavesASecondDoubtAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", DoubtWait: mins}}})
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome { return firstInDoubtSecondLater(out) })
		id := w.enqueue("erp", "a@example.test", "b@example.test")
		w.pass(10 * mins)
		before := len(w.calls)
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return relayed })
		if n, _, err := w.ChangeAll(t.Context(), queue.Filter{}, queue.Order{Action: queue.Retry, By: "x"}); n != 1 || err != nil {
			t.Fatalf("ChangeAll = %d, %v", n, err)
		}
		w.pass(mins)
		for _, c := range w.calls[before:] {
			if slices.ContainsFunc(c.out.Recipients, func(a envelope.Address) bool { return a.Local == "a" }) {
				t.Errorf("a was sent to a third time: %v", c.out.Recipients)
			}
		}
		if r := w.show(id).Item.Recipients[0]; r.State != queue.Held || r.Doubts != 2 {
			t.Errorf("a is %v with %d doubts; want held with 2", r.State, r.Doubts)
		}
	})
}
