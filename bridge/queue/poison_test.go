package queue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
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
