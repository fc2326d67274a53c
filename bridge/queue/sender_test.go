package queue_test

import (
	"context"
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

// as keeps a message of that header From.
func (w *world) as(local string) envelope.ID {
	w.t.Helper()
	item, m := queuetest.NewMessage("erp", time.Now())
	m.Plan.HeaderFrom.Local = local
	if err := w.Enqueue(w.t.Context(), m, emptyBody()); err != nil {
		w.t.Fatalf("Enqueue: %v", err)
	}
	synctest.Wait()
	return item.ID
}

// rights is a relayer's answer that depends on who may send as whom.
func (w *world) rights(lack map[string]bool) func(context.Context, message.Outgoing) reply.Outcome {
	return func(_ context.Context, out message.Outgoing) reply.Outcome {
		w.mu.Lock()
		defer w.mu.Unlock()
		if lack[out.Plan.HeaderFrom.Local] {
			return reply.Outcome{Owner: reply.Sender, Transport: "graph", Remedy: "Add-RecipientPermission",
				Reply: reply.Reply{Code: 403, Enhanced: "ErrorSendAsDenied"}}
		}
		return relayed
	}
}

func (w *world) grant(lack map[string]bool, local string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(lack, local)
}

// TestSenderPair: the messages of a pair without the right wait together behind one probe, and other senders go on.
func TestSenderPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		lack := map[string]bool{"ceo": true}
		w.setRelay(w.rights(lack))
		var pair []envelope.ID
		for range 10 {
			pair = append(pair, w.as("ceo"))
			w.pass(sec)
		}
		other := w.as("nav")
		if row := w.show(other); row.State != queue.Relayed {
			t.Errorf("another sender's message is %s", row.State)
		}
		if n := len(w.seen()); n != 2 {
			t.Errorf("%d attempts, want one of the pair and one of the other sender", n)
		}
		for _, id := range pair {
			row := w.show(id)
			if row.State != queue.Deferred || row.WaitingFor != "sender" || !row.NextAttempt.Equal(w.began.Add(15*mins)) || row.Item.Attempts != 0 ||
				row.Item.Recipients[0].Last.Remedy == "" {
				t.Errorf("%s waits for %q until %v after %d attempts, %+v", row.State, row.WaitingFor, row.NextAttempt, row.Item.Attempts, row.Item.Recipients[0].Last)
			}
		}
		w.pass(3 * hour)
		// 15, then 30, then every 60 minutes: one message each time.
		var probes []time.Duration
		for _, c := range w.seen() {
			if c.out.Plan.HeaderFrom.Local == "ceo" {
				probes = append(probes, c.at)
			}
		}
		if d := cmp.Diff([]time.Duration{0, 15 * mins, 45 * mins, 105 * mins, 165 * mins}, probes); d != "" {
			t.Errorf("probes (-want +got):\n%s", d)
		}
		w.grant(lack, "ceo")
		w.pass(45*mins + 10*sec) // the next probe, at 225 minutes
		for _, id := range pair {
			if row := w.show(id); row.State != queue.Relayed || row.Item.Recipients[0].SenderWaits != 0 {
				t.Errorf("after the grant: %s, next %v, %+v", row.State, row.NextAttempt, row.Item.Recipients[0])
			}
		}
	})
}

// TestSenderPairOverRestart: the pair goes on waiting, behind one probe.
func TestSenderPairOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		lack := map[string]bool{"ceo": true}
		first := newWorld(t, queue.Options{Store: store})
		first.setRelay(first.rights(lack))
		for range 5 {
			first.as("ceo")
		}
		first.pass(mins)
		first.stop()
		<-first.ended
		second := newWorld(t, queue.Options{Store: store})
		second.setRelay(second.rights(lack))
		second.pass(14*mins + 30*sec)
		if n := len(second.seen()); n != 1 {
			t.Errorf("%d attempts at the probe's time, want 1", n)
		}
		second.grant(lack, "ceo")
		second.pass(31 * mins)
		if n := len(second.seen()); n != 6 {
			t.Errorf("%d attempts after the grant, want those of all five", n)
		}
	})
}

// TestSenderPairAges: what waits for a right fails when it is too old, probe or not.
func TestSenderPairAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{GiveUpAfter: hour})
		w.setRelay(w.rights(map[string]bool{"ceo": true}))
		var pair []envelope.ID
		for range 3 {
			pair = append(pair, w.as("ceo"))
		}
		w.pass(70 * mins)
		for _, id := range pair {
			if row := w.show(id); row.State != queue.Failed || row.Item.Recipients[0].Last.Owner != reply.Sender {
				t.Errorf("%s, %+v; want failed for the sender", row.State, row.Item.Recipients[0].Last)
			}
		}
	})
}

// shyStore lets its next claim see a message that is gone when the claim begins anew: a transaction may be tried twice.
type shyStore struct {
	queue.Store
	see  *queue.Item // nil: it is a store like another
	gone func()
}

func (s *shyStore) Claim(ctx context.Context, c queue.Claim) ([]queue.Entry, error) {
	if s.see != nil {
		it := s.see.Clone()
		s.see = nil
		if err := c.Take(&it); err != nil {
			return nil, err
		}
		s.gone()
	}
	return s.Store.Claim(ctx, c)
}

// TestProbeThatWasNotClaimed: a message that a claim saw and did not come to is no probe for the others to wait for.
func TestProbeThatWasNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shyStore{Store: queuetest.NewMemory()}
		w := newWorld(t, queue.Options{Store: store})
		lack := map[string]bool{"ceo": true}
		w.setRelay(w.rights(lack))
		dropped, other := w.as("ceo"), w.as("ceo")
		w.grant(lack, "ceo")
		w.pass(15*mins - sec)
		item := w.show(dropped).Item
		store.see, store.gone = &item, func() {
			if err := w.Change(t.Context(), dropped, queue.Order{Action: queue.Drop, By: "admin"}); err != nil {
				t.Error(err)
			}
		}
		w.pass(sec)
		if store.see != nil || len(w.seen()) != 1 {
			t.Fatalf("no claim was made when the pair's time came, or %d attempts; want that of the beginning alone", len(w.seen()))
		}
		w.pass(31 * mins) // what the other waits for where a probe is under way
		if row := w.show(other); row.State != queue.Relayed {
			t.Errorf("the other message is %s until %v; want relayed", row.State, row.NextAttempt)
		}
	})
}

// TestDoubtOfAStoppedSender: a message in doubt is looked after when its time has come, whatever has become of the right.
func TestDoubtOfAStoppedSender(t *testing.T) {
	for _, onDoubt := range []queue.OnDoubt{queue.Resend, queue.Hold} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", OnDoubt: onDoubt}}})
			w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
				return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Process, Transport: "smtp"}
			})
			doubtful := w.as("ceo")
			lack := map[string]bool{"ceo": true}
			w.setRelay(w.rights(lack))
			w.as("ceo")
			w.pass(12 * mins)
			want := queue.Deferred // sent again, and then without the right
			if onDoubt == queue.Hold {
				want = queue.Held
			}
			if row := w.show(doubtful); row.State != want {
				t.Errorf("the one in doubt is %s, want %s", row.State, want)
			}
			w.grant(lack, "ceo")
			w.pass(hour)
			if rows, err := w.List(t.Context(), queue.Filter{State: queue.Relayed}); err != nil || len(rows) != 2-int(onDoubt) {
				t.Errorf("%d are relayed, %v", len(rows), err)
			}
		})
	}
}
