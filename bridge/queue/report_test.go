package queue_test

import (
	"context"
	"strings"
	"sync"
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

// posted is a Reporter whose reports are mail of the same queue.
type posted struct {
	w     *world
	asked atomic.Int64
}

func (p *posted) Report(ctx context.Context, _ queue.Report) error {
	if p.asked.Add(1) > 10_000 {
		return nil // it would never end
	}
	_, m := queuetest.NewMessage("erp", time.Now())
	return p.w.Enqueue(ctx, m, emptyBody())
}

// purged counts the purges of a store that is short of room.
type purged struct {
	*queuetest.Memory
	short int
}

func (p *purged) Purge(ctx context.Context, o queue.Purge) (more bool, err error) {
	if o.Short {
		p.short++
	}
	return p.Memory.Purge(ctx, o)
}

// TestReportsWaitForRoom: while the disk is short each report is refused as any mail is. It is asked for seldom, told once,
// and made soon after there is room.
func TestReportsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, free := &posted{}, atomic.Int64{}
		free.Store(1000)
		w := newWorldOf(t, queue.Options{Reporter: told, MinFree: 1000, Free: func() (int64, error) { return free.Load(), nil }}, func(w *world) { told.w = w })
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome {
			if out.Recipients[0].Local == "never" {
				free.Store(100)
				return refused
			}
			return relayed
		})
		w.setGate("erp", closedFor("pause"))
		for range 2 {
			w.enqueue("erp", "never@fabrikam.test")
		}
		w.pass(sec)
		w.setGate("erp", openGate)
		w.Wake("")
		w.pass(hour)
		if asked := told.asked.Load(); asked < 2*50 || asked > 2*70 {
			t.Errorf("two reports were asked for %d times within an hour; want about once a minute", asked)
		}
		if got := strings.Count(strings.Join(w.told(), "\n"), "ERROR queue failed"); got != 2 {
			t.Errorf("told %d times that a report cannot be made; want once of each", got)
		}
		free.Store(1000)
		w.pass(mins)
		if got := strings.Count(strings.Join(w.told(), "\n"), "INFO message relayed"); got != 2 {
			t.Errorf("%d reports are relayed a minute after there was room; want 2", got)
		}
	})
}

// TestRefusedMailAsksForRoom: a message that finds no room has it looked for, but a thousand at once do once.
func TestRefusedMailAsksForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &purged{Memory: queuetest.NewMemory()}
		w := newWorld(t, queue.Options{Store: store, MinFree: 1000, Free: func() (int64, error) { return 100, nil }})
		w.pass(30 * sec)
		refuse := func(n int) {
			for range n {
				if err := w.Room(t.Context(), 1); err == nil {
					t.Error("room on a short disk")
				}
				synctest.Wait()
			}
		}
		refuse(1)
		if store.short != 1 {
			t.Errorf("%d purges for the first one; want 1", store.short)
		}
		refuse(1000)
		if store.short != 1 {
			t.Errorf("%d purges for a thousand at once; want 1", store.short)
		}
		for range 60 {
			w.pass(sec)
			refuse(10)
		}
		if store.short < 60 || store.short > 65 {
			t.Errorf("%d purges after a minute with ten of them each second; want about one a second", store.short)
		}
	})
}
