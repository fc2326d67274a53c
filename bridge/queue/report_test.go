package queue_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// teller is a Reporter that notes of whose failure it tells, and when a late message is given up.
type teller struct {
	mu    sync.Mutex
	began time.Time
	got   []string
}

func (l *teller) Report(_ context.Context, r queue.Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed []string
	for _, rc := range r.Entry.Item.Recipients {
		if rc.State == queue.Failed && !rc.Last.Told {
			failed = append(failed, rc.Address.Local)
		}
	}
	what := strings.Join(failed, " ") + " failed"
	if r.Late {
		what = "late until " + r.Until.Sub(l.began).String() + ", " + what
	}
	l.got = append(l.got, what)
	return nil
}

// TestFailureIsToldOnce: a recipient's failure is told when nobody else is waited for, also where somebody is held, and
// never again.
func TestFailureIsToldOnce(t *testing.T) {
	no := reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient, Reply: reply.Reply{Code: 550, Enhanced: "5.1.1"}}
	// relays refuses ann for good, and bob as given.
	relays := func(bob reply.Outcome) func(context.Context, message.Outgoing) reply.Outcome {
		return func(_ context.Context, out message.Outgoing) reply.Outcome {
			o := bob
			o.Recipients = map[string]reply.Outcome{"ann@example.test": no}
			return o
		}
	}
	doubt := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "smtp"}
	change := func(a queue.Action) func(*testing.T, *world, envelope.ID) {
		return func(t *testing.T, w *world, id envelope.ID) {
			if err := w.Change(t.Context(), id, queue.Order{Action: a, By: "eva"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name  string
		relay func(context.Context, message.Outgoing) reply.Outcome
		steps []func(*testing.T, *world, envelope.ID) // a day after each
		want  []string
	}{
		{"beside one that is held after a second doubt", relays(doubt), nil, []string{"ann failed"}},
		{"and when that went out after all", relays(doubt), []func(*testing.T, *world, envelope.ID){change(queue.MarkAsOut)}, []string{"ann failed"}},
		{"and when that is dropped", relays(doubt), []func(*testing.T, *world, envelope.ID){change(queue.Drop)}, []string{"ann failed"}},
		{"beside one that a person holds", relays(deferred(reply.Message)), []func(*testing.T, *world, envelope.ID){change(queue.HoldBack)},
			[]string{"late until 34h0m0s, ann failed"}},
		{"and one that fails after its release is told alone", relays(deferred(reply.Message)), []func(*testing.T, *world, envelope.ID){change(queue.HoldBack),
			func(t *testing.T, w *world, id envelope.ID) { w.setRelay(relays(no)); change(queue.Release)(t, w, id) }},
			[]string{"late until 34h0m0s, ann failed", "bob failed"}},
		{"who was told of in a delay notice is not told of at the end", relays(deferred(reply.Message)), []func(*testing.T, *world, envelope.ID){
			func(t *testing.T, w *world, id envelope.ID) { w.pass(day) }}, []string{"late until 34h0m0s, ann failed", "bob failed"}},
		{"what a person has tried again is told anew", relays(no), []func(*testing.T, *world, envelope.ID){change(queue.Retry)},
			[]string{"ann bob failed", "ann bob failed"}},
		{"what ends by its age after a person had it tried again is told anew", relays(no), []func(*testing.T, *world, envelope.ID){
			func(t *testing.T, w *world, id envelope.ID) {
				w.setGate("erp", closedFor("pause"))
				change(queue.Retry)(t, w, id)
				w.pass(day)
			}}, []string{"ann bob failed", "late until 58h0m0s,  failed", "ann bob failed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := &teller{began: time.Now()}
				w := newWorldOf(t, queue.Options{Reporter: told, WarnAfter: 15 * hour, GiveUpAfter: 34 * hour}, func(w *world) { w.relay = tc.relay })
				id := w.enqueue("erp", "ann@example.test", "bob@example.test")
				w.pass(day)
				for _, step := range tc.steps {
					step(t, w, id)
					w.pass(day)
				}
				if d := cmp.Diff(tc.want, told.got); d != "" {
					t.Errorf("reports (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestDelayNoticeKnowsOfParks: the time that the account was parked comes on top.
func TestDelayNoticeKnowsOfParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &teller{began: time.Now()}
		w := newWorld(t, queue.Options{Reporter: told, WarnAfter: 4 * hour, GiveUpAfter: 10 * hour})
		w.enqueueBehind("parked")
		w.pass(50 * hour)
		w.setGate("erp", closedFor("pause"))
		w.Wake("")
		w.pass(6 * hour)
		if d := cmp.Diff([]string{"late until 60h0m0s,  failed"}, told.got); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}
