package bridge

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// looker is a transport that counts its sends and its looks.
type looker struct {
	answers []reply.Outcome // to sends; the last repeats
	look    *reply.Outcome  // nil: it cannot look
	sends   int
	looks   int
}

func (c *looker) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	if err := out.Intent(ctx); err != nil {
		return reply.Outcome{Owner: reply.Process, Err: err}
	}
	c.sends++
	return c.answers[min(c.sends, len(c.answers))-1]
}

func (c *looker) CanLook() bool { return c.look != nil }

func (c *looker) Look(context.Context, message.Outgoing) reply.Outcome {
	c.looks++
	return *c.look
}

// TestADoubtThatNobodyCanLookAt: it is sent once more after doubt_wait, whatever refuses or hinders the looks for good.
func TestADoubtThatNobodyCanLookAt(t *testing.T) {
	sent := reply.Outcome{Verdict: reply.Relayed}
	doubt := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Reply: reply.Reply{Code: 504}}
	denied := reply.Outcome{Owner: reply.Account, Reply: reply.Reply{Code: 403, Enhanced: "ErrorAccessDenied"}}
	expired := reply.Outcome{Owner: reply.Login, Err: &token.Error{Person: true, Text: "the client secret expired"}}
	for _, tc := range []struct {
		name        string
		graph, smtp *looker
		looks       int
	}{
		{"Graph refuses each look at what it took", &looker{answers: []reply.Outcome{doubt, sent}, look: &denied}, nil, 3},
		{"Graph is parked by the answer to a message", &looker{answers: []reply.Outcome{denied}, look: &denied}, &looker{answers: []reply.Outcome{doubt, sent}}, 0},
		{"Graph is parked for want of a sign-in", &looker{answers: []reply.Outcome{expired}, look: &expired}, &looker{answers: []reply.Outcome{doubt, sent}}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := relay.Account{Name: "erp", Mode: relay.ModeGraph, Graph: tc.graph, Concurrency: 3}
				took := tc.graph
				if tc.smtp != nil {
					a.Mode, a.SMTP, took = relay.ModeAuto, tc.smtp, tc.smtp
				}
				room, err := relay.New(relay.Options{Events: event.NewBus(), Accounts: []relay.Account{a}})
				if err != nil {
					t.Fatal(err)
				}
				s := &share{t: t, store: queuetest.NewMemory()}
				q, stop := s.run(relayer{room: room})
				_, m := queuetest.NewMessage("erp", time.Now(), "ann@example.test")
				m.Header = []byte("From: <nav@contoso.test>\r\nTo: ann@example.test\r\nMessage-ID: <order@erp.local>\r\n\r\n")
				if err := q.Enqueue(t.Context(), m, strings.NewReader("order\r\n")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(15 * time.Minute)
				synctest.Wait()
				row, err := q.Show(t.Context(), m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if s := row.Item.State(); s != queue.Relayed || took.sends != 2 || tc.graph.looks != tc.looks {
					t.Errorf("%s after %d sends and %d looks; want it relayed after 2 and %d", s, took.sends, tc.graph.looks, tc.looks)
				}
				stop()
			})
		})
	}
}
