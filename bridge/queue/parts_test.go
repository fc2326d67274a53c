package queue_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// TestKilledBetweenParts: of a message that goes out in parts, only the part that was under way when the process died is
// in doubt. A part that is done is relayed, a later one is due.
func TestKilledBetweenParts(t *testing.T) {
	const due, doubt, done = queue.Queued, queue.InDoubt, queue.Relayed
	for _, tc := range []struct {
		name  string
		steps []string
		want  [3]queue.State // of the three parts, after the start
		told  []string       // by the process that died
	}{
		{"before the first", nil, [3]queue.State{due, due, due}, nil},
		{"in the first", []string{"intend 0"}, [3]queue.State{doubt, due, due}, nil},
		{"between first and second", []string{"intend 0", "relayed 0"}, [3]queue.State{done, due, due}, []string{"INFO message relayed"}},
		{"in the second", []string{"intend 0", "relayed 0", "intend 1"}, [3]queue.State{done, doubt, due}, []string{"INFO message relayed"}},
		{"in the second, and the first was not taken", []string{"intend 0", "deferred 0", "intend 1"}, [3]queue.State{due, doubt, due}, nil},
		{"in the second, and the first got no answer", []string{"intend 0", "doubt 0", "intend 1"}, [3]queue.State{doubt, doubt, due}, nil},
		{"in the last", []string{"intend 0", "relayed 0", "intend 1", "relayed 1", "intend 2"}, [3]queue.State{done, done, doubt},
			[]string{"INFO message relayed", "INFO message relayed"}},
		{"in an attempt that names nobody", []string{"intend all"}, [3]queue.State{doubt, doubt, doubt}, nil},
		{"whole after a part", []string{"intend 0", "deferred 0", "intend all"}, [3]queue.State{doubt, doubt, doubt}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := queuetest.NewMemory()
				first := newWorld(t, queue.Options{Store: store})
				first.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					for _, s := range tc.steps {
						walk(t, ctx, out, s)
					}
					<-ctx.Done() // for ever, as far as the first process knows
					store.Fail(queue.ErrClosed)
					return reply.Outcome{}
				})
				id := first.enqueue("erp", "a@x.test", "b@x.test", "c@x.test")
				if d := cmp.Diff(tc.told, first.told()); d != "" {
					t.Errorf("told (-want +got):\n%s", d)
				}
				first.stop()
				<-first.ended
				store.Fail(nil)

				second := newWorldOf(t, queue.Options{Store: store}, func(w *world) { w.setGate("erp", queue.Gate{Waiting: "pause"}) })
				row := second.show(id)
				for i, want := range tc.want {
					r := row.Item.Recipients[i]
					if r.State != want || r.Last.Intent || want == doubt && r.Last.Transport != "graph" {
						t.Errorf("part %d: %s, %+v; want %s", i, r.State, r.Last, want)
					}
				}
				second.setGate("erp", queue.Gate{Limit: 1})
				second.Wake("")
				second.pass(hour)
				if row := second.show(id); row.State != queue.Relayed {
					t.Errorf("in the end: %+v", row.Item)
				}
				checkResent(t, second, tc.want)
			})
		})
	}
}

// checkResent: each recipient that was not done gets it once more, those in doubt as a resend.
func checkResent(t *testing.T, w *world, was [3]queue.State) {
	t.Helper()
	got := map[string][]bool{}
	for _, c := range w.seen() {
		for _, a := range c.out.Recipients {
			got[a.Local] = append(got[a.Local], c.out.Resend)
		}
	}
	for i, local := range []string{"a", "b", "c"} {
		var want []bool
		if was[i] != queue.Relayed {
			want = []bool{was[i] == queue.InDoubt}
		}
		if d := cmp.Diff(want, got[local]); d != "" {
			t.Errorf("resends of %s (-want +got):\n%s", local, d)
		}
	}
}

// walk makes a step of an attempt: "intend 0" to the first recipient, "relayed 0" what became of it.
func walk(t *testing.T, ctx context.Context, out message.Outgoing, step string) {
	var to []envelope.Address
	word, which := step[:len(step)-2], step[len(step)-1]
	if which >= '0' && which <= '2' {
		to = out.Envelope.Recipients[which-'0':][:1]
	} else {
		word = "intend"
	}
	outcome := map[string]reply.Outcome{"relayed": relayed, "deferred": deferred(reply.Message), "doubt": {Verdict: reply.InDoubt, Owner: reply.Route}}
	if word != "intend" {
		out.PartDone(ctx, to, outcome[word])
	} else if err := out.IntentBy(ctx, "graph", to); err != nil {
		t.Errorf("%s: %v", step, err)
	}
}

// TestPartsAreToldOnce: what was told of a part is not told again at the end, and counts as an attempt.
func TestPartsAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{MaxQueued: map[string]queue.Usage{"nav": {Messages: 1}}}, func(w *world) {
			w.relay = func(ctx context.Context, out message.Outgoing) reply.Outcome {
				if out.Attempt > 1 {
					return relayed
				}
				walk(t, ctx, out, "intend 0")
				walk(t, ctx, out, "relayed 0")
				walk(t, ctx, out, "intend 1")
				return reply.Outcome{Verdict: reply.Deferred, Owner: reply.Message, Recipients: map[string]reply.Outcome{
					out.Recipients[0].Key(): relayed, out.Recipients[1].Key(): deferred(reply.Message)}}
			}
		})
		id := w.enqueue("erp", "a@x.test", "b@x.test")
		if row := w.show(id); row.State != queue.Deferred || row.Item.Attempts != 1 || row.Item.Recipients[0].State != queue.Relayed {
			t.Errorf("after the first attempt: %+v", row.Item)
		}
		w.pass(mins)
		if d := cmp.Diff([]string{"INFO message relayed", "WARN message deferred", "INFO message relayed"}, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		w.enqueue("erp") // the first has left: there is room
	})
}

// TestPanicBetweenParts: only the part that was under way is in doubt.
func TestPanicBetweenParts(t *testing.T) {
	const due, doubt, done = queue.Queued, queue.InDoubt, queue.Relayed
	for _, tc := range []struct {
		name  string
		steps []string
		want  [3]queue.State
	}{
		{"before the first", nil, [3]queue.State{due, due, due}},
		{"in the second", []string{"intend 0", "relayed 0", "intend 1"}, [3]queue.State{done, doubt, due}},
		{"before the second, and the first was not taken", []string{"intend 0", "deferred 0"}, [3]queue.State{due, due, due}},
		{"before the second, and the first was taken", []string{"intend 0", "relayed 0"}, [3]queue.State{done, due, due}},
		{"before the second, and the first got no answer", []string{"intend 0", "doubt 0"}, [3]queue.State{doubt, due, due}},
		{"in an attempt that names nobody", []string{"intend all"}, [3]queue.State{doubt, doubt, doubt}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, queue.Options{}, func(w *world) {
					w.relay = func(ctx context.Context, out message.Outgoing) reply.Outcome {
						for _, s := range tc.steps {
							walk(t, ctx, out, s)
						}
						panic("a nil map")
					}
				})
				row := w.show(w.enqueue("erp", "a@x.test", "b@x.test", "c@x.test"))
				for i, want := range tc.want {
					if got := row.Item.Recipients[i].State; got != want {
						t.Errorf("part %d is %s; want %s", i, got, want)
					}
				}
			})
		})
	}
}

// halver is Graph, which says of a request only that one of its recipients is invalid, and refuses a Message-ID that it knows.
type halver struct {
	mu    sync.Mutex      // guards what follows
	known map[string]bool // Message-IDs
	got   []string        // recipients
	cuts  int             // how many of the next copies meet a panic
}

func (h *halver) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	if slices.ContainsFunc(out.Recipients, func(a envelope.Address) bool { return a.Local == "bad" }) {
		return reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cuts > 0 {
		h.cuts--
		panic("a nil map")
	}
	if err := out.Intent(ctx); err != nil {
		return reply.Outcome{Owner: reply.Process, Err: err}
	}
	if h.known[out.Plan.MessageID] {
		return reply.Outcome{Owner: reply.Message, Duplicate: true, Reply: reply.Reply{Code: 554}}
	}
	h.known[out.Plan.MessageID] = true
	for _, a := range out.Recipients {
		h.got = append(h.got, a.Local)
	}
	return relayed
}

// TestPanicBetweenHalves: what is halved anew at the next attempt leaves under names that no copy has. The first half's
// would be known to the server, and then a recipient who is not invalid would never get it.
func TestPanicBetweenHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		graph := &halver{known: map[string]bool{}, cuts: 1}
		w := newWorldOf(t, queue.Options{}, func(w *world) {
			var err error
			if w.room, err = relay.New(relay.Options{Accounts: []relay.Account{{Name: "erp", Mode: relay.ModeGraph, Graph: graph}}}); err != nil {
				t.Fatal(err)
			}
		})
		id := w.enqueue("erp", "a@x.test", "b@x.test", "bad@x.test")
		w.pass(hour)
		var states []queue.State
		for _, r := range w.show(id).Item.Recipients {
			states = append(states, r.State)
		}
		if d := cmp.Diff([]queue.State{queue.Relayed, queue.Relayed, queue.Failed}, states); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"a", "b"}, graph.got); d != "" {
			t.Errorf("who got it (-want +got):\n%s", d)
		}
	})
}

// TestRecipientsStayTogether: those who were deferred together are due together. Each alone would need a copy of his own.
func TestRecipientsStayTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := time.Duration(0)
		w := newWorld(t, queue.Options{Jitter: func(time.Duration) time.Duration { waits += time.Second; return waits }})
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome {
			if out.Attempt > 2 {
				return relayed
			}
			o := reply.Outcome{Owner: reply.Message, Recipients: map[string]reply.Outcome{}}
			for _, a := range out.Recipients {
				o.Recipients[a.Key()] = deferred(reply.Recipient)
			}
			return o
		})
		w.enqueue("erp", "a@x.test", "b@x.test", "c@x.test")
		w.pass(hour)
		for i, c := range w.seen() {
			if len(c.out.Recipients) != 3 {
				t.Errorf("attempt %d was for %v; want all three", i+1, c.out.Recipients)
			}
		}
	})
}

// TestNotesOfAll: an attempt hears what is noted of all recipients, and can note something of those who are not due; of one
// who failed too, because a person may have him tried again, and of none to whom it is relayed.
func TestNotesOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
			if out.Attempt == 1 {
				if err := out.Remember(ctx, out.Recipients, "first"); err != nil {
					t.Error(err)
				}
				return reply.Outcome{Owner: reply.Message, Recipients: map[string]reply.Outcome{out.Recipients[0].Key(): relayed,
					out.Recipients[1].Key(): {Verdict: reply.Failed, Owner: reply.Recipient}, out.Recipients[2].Key(): deferred(reply.Recipient)}}
			}
			for _, a := range out.Envelope.Recipients {
				if out.Notes[a.Key()] != "first" {
					t.Errorf("%s has the note %q", a, out.Notes[a.Key()])
				}
			}
			if err := out.Remember(ctx, out.Envelope.Recipients[:2], "second"); err != nil {
				t.Error(err)
			}
			return relayed
		})
		id := w.enqueue("erp", "a@x.test", "b@x.test", "c@x.test")
		w.pass(hour)
		var notes []string
		for _, r := range w.show(id).Item.Recipients {
			notes = append(notes, r.Last.Note)
		}
		if d := cmp.Diff([]string{"first", "second", "first"}, notes); d != "" {
			t.Errorf("notes (-want +got):\n%s", d)
		}
	})
}
