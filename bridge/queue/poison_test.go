package queue_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// except is a line that gives messages of one size an answer of their own.
type except struct {
	line
	size   int64
	answer reply.Outcome
}

func (e *except) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	if out.BodySize == e.size {
		return e.answer
	}
	return e.line.Send(ctx, out)
}

// guessed is judged as the account's, but no code says that it is.
var guessed = reply.Outcome{Owner: reply.Account, Guessed: true, Reply: reply.Reply{Code: 403, Text: "blocked"}}

// TestOneMessageDoesNotStopTheOthers: its answer is judged as the account's. The mailbox is parked for it until another
// message went through, and then no more; and it fails at last as any message does.
func TestOneMessageDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		smtp := &except{line: line{answer: relayed, takes: sec}, size: 666, answer: guessed}
		w := newWorldBehind(t, queue.Options{}, relay.Account{Name: "erp", Mode: relay.ModeSMTP, SMTP: smtp, Concurrency: 3})
		bad := w.octets("erp", int(smtp.size))
		var ids []envelope.ID
		for range 3 * 60 {
			ids = append(ids, w.octets("erp", 10))
			w.pass(mins)
		}
		for i, id := range ids {
			row := w.show(id)
			waited := row.Item.Finished.Sub(row.Item.Accepted)
			if row.State != queue.Relayed || waited > 46*mins || i >= 50 && waited > 10*sec {
				t.Errorf("number %d is %s after %v; want it relayed at once, but for those that waited for the two probes", i, row.State, waited)
			}
		}
		w.pass(6 * 24 * time.Hour)
		if s := w.show(bad).State; s != queue.Failed {
			t.Errorf("the one is %s after six days; want it failed", s)
		}
		w.stop()
		<-w.ended
	})
}

// TestHeldPoisonSaysHowItGoesOn: what was in doubt before it killed three processes keeps its transport for a person's retry:
// by another one the copy could not be recognised.
func TestHeldPoisonSaysHowItGoesOn(t *testing.T) {
	for _, tc := range []struct {
		name      string
		doubts    int
		looks     int
		action    queue.Action // the one that the remedy names
		remedy    string
		resend    bool
		transport string
	}{
		{"one that was never in doubt is released, and goes by any transport", 0, 0, queue.Release, "postern queue release ", false, ""},
		{"one that is sent again after a doubt is looked for by a person", 1, 0, queue.Retry, "look into Sent Items", true, "smtp"},
		{"so is one that was only looked for", 1, 2, queue.Retry, "look into Sent Items", true, "smtp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := queuetest.NewMemory()
				item, m := queuetest.NewMessage("erp", time.Now())
				item.Lease, item.Suspect, item.Deaths, item.Attempts = "former", true, 2, 1
				r := &item.Recipients[0]
				r.State, r.Next, r.Attempts, r.Doubts = queue.Sending, time.Time{}, 1, tc.doubts
				r.Last = queue.Last{Transport: "smtp", Looks: tc.looks}
				if err := store.Add(t.Context(), item, m, emptyBody()); err != nil {
					t.Fatal(err)
				}
				w := newWorld(t, queue.Options{Store: store})
				row := w.show(item.ID)
				if last := row.Item.Recipients[0].Last; row.State != queue.Held || !strings.Contains(last.Err, "died 3 times") || !strings.Contains(last.Remedy, tc.remedy) {
					t.Errorf("%s, %+v; want held, and a remedy that says %q", row.State, last, tc.remedy)
				}
				if err := w.do(item.ID, tc.action); err != nil {
					t.Fatal(err)
				}
				w.pass(sec)
				if got := w.seen(); len(got) != 1 || got[0].out.Resend != tc.resend || got[0].out.Transport != tc.transport {
					t.Errorf("%d attempts, %+v; want one, resend %v by %q", len(got), got, tc.resend, tc.transport)
				}
			})
		})
	}
}
