package queue_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// endings are what Options.Ended heard.
type endings struct {
	mu   sync.Mutex // guards list
	list []string
}

func (e *endings) hear(_ context.Context, x queue.Ended) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := ""
	for _, r := range x.Recipients {
		text += fmt.Sprintf("%s %s %q ", r.Address.Local, r.State, r.Last.Note)
	}
	e.list = append(e.list, fmt.Sprintf("%sperson %v broken %v doubt %v", text, x.ByPerson, x.Broken, x.InDoubt))
}

func (e *endings) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

// TestEnded: whoever has to clear up after a message hears of its end once, and of no other change.
func TestEnded(t *testing.T) {
	for _, tc := range []struct {
		name     string
		outcomes []reply.Outcome
		actions  []queue.Action
		want     []string
	}{
		{"relayed", []reply.Outcome{relayed}, nil, []string{`buyer relayed "n" person false broken false doubt false`}},
		{"refused", []reply.Outcome{refused}, nil, []string{`buyer failed "n" person false broken false doubt false`}},
		{"deferred", []reply.Outcome{greylist}, nil, nil},
		{"dropped", []reply.Outcome{greylist}, []queue.Action{queue.Drop}, []string{`buyer failed "n" person true broken false doubt false`}},
		{"held by a person", []reply.Outcome{greylist}, []queue.Action{queue.HoldBack}, []string{`buyer held "n" person true broken false doubt false`}},
		{"held after the second doubt, and then marked as sent", []reply.Outcome{unknown, unknown}, []queue.Action{queue.MarkAsOut},
			[]string{`buyer held "n" person false broken false doubt true`, `buyer relayed "n" person true broken false doubt true`}},
		{"dropped in doubt", []reply.Outcome{unknown}, []queue.Action{queue.Drop}, []string{`buyer failed "n" person true broken false doubt true`}},
		{"failed, retried and dropped", []reply.Outcome{refused}, []queue.Action{queue.Retry, queue.Drop},
			[]string{`buyer failed "n" person false broken false doubt false`, `buyer failed "n" person true broken false doubt false`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &endings{}
				w := newWorld(t, queue.Options{Ended: e.hear})
				id := w.bringNoted(tc.outcomes...)
				for _, a := range tc.actions {
					if err := w.do(id, a); err != nil {
						t.Fatal(err)
					}
				}
				if got := e.heard(); !slices.Equal(got, tc.want) {
					t.Errorf("heard %q; want %q", got, tc.want)
				}
				out, ok, err := w.Over(t.Context(), id, sentAtAll)
				if over := len(tc.want) > 0; err != nil || ok != over {
					t.Fatalf("Over = %v, %v; want %v", ok, err, over)
				}
				if ok && (len(out.Header) != 0 || out.ID != id || out.Plan.Account != "erp" || out.Notes[out.Recipients[0].Key()] != "n") {
					t.Errorf("Over = %+v; want the plan and the note, without a header", out)
				}
			})
		})
	}
}

// TestEndedAfterADeath: nobody noted what the attempt did that the process died in.
func TestEndedAfterADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endings{}
		w := newWorldOf(t, queue.Options{Ended: e.hear}, func(w *world) { w.setGate("erp", queue.Gate{}) })
		id := w.enqueue("erp")
		if err := w.store.Update(t.Context(), id, func(it *queue.Item) error { it.Suspect = true; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := w.do(id, queue.Drop); err != nil {
			t.Fatal(err)
		}
		if got, want := e.heard(), []string{`buyer failed "" person true broken true doubt false`}; !slices.Equal(got, want) {
			t.Errorf("heard %q; want %q", got, want)
		}
	})
}

// bringNoted is bring, and each attempt leaves a note.
func (w *world) bringNoted(outcomes ...reply.Outcome) (id envelope.ID) {
	w.t.Helper()
	var n atomic.Int64
	noted := func(o reply.Outcome) func(context.Context, message.Outgoing) reply.Outcome {
		return func(ctx context.Context, out message.Outgoing) reply.Outcome {
			if err := out.Remember(ctx, out.Recipients, "n"); err != nil {
				w.t.Error(err)
			}
			return o
		}
	}
	w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
		return noted(outcomes[min(int(n.Add(1)), len(outcomes))-1])(ctx, out)
	})
	id = w.enqueue("erp")
	for int(n.Load()) < len(outcomes) {
		w.pass(10 * mins)
	}
	w.setRelay(noted(greylist))
	return id
}

// sentAtAll says that relayed recipients got what their notes name.
func sentAtAll(r queue.Recipient) bool { return r.State == queue.Relayed }

// TestOverLeavesNotesThatAreNeeded: an attempt for another recipient may still go by the same note.
func TestOverLeavesNotesThatAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		notes := map[string]string{"a": "shared", "b": "shared", "c": "own"}
		w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
			each := map[string]reply.Outcome{}
			for _, a := range out.Recipients {
				if err := out.Remember(ctx, []envelope.Address{a}, notes[a.Local]); err != nil {
					t.Error(err)
				}
				each[a.Key()] = refused
				if a.Local == "b" {
					each[a.Key()] = greylist
				}
			}
			return reply.Outcome{Owner: reply.Message, Recipients: each}
		})
		id := w.enqueue("erp", "a@fabrikam.test", "b@fabrikam.test", "c@fabrikam.test")
		out, ok, err := w.Over(t.Context(), id, sentAtAll)
		if err != nil || !ok || len(out.Recipients) != 1 || out.Recipients[0].Local != "c" {
			t.Errorf("Over = %v, %v, %v; want c alone", out.Recipients, ok, err)
		}
		if want := []string{"shared"}; !slices.Equal(out.Others, want) {
			t.Errorf("the others' notes = %q; want %q", out.Others, want)
		}
		if _, ok, err := w.Over(t.Context(), "0000000000000000", sentAtAll); ok || err != nil {
			t.Errorf("of no message: %v, %v", ok, err)
		}
	})
}

// TestOverTellsWhatWasSent: it is not to be removed, and neither an attempt nor Over takes it for its own. What nobody noted
// keeps nobody out.
func TestOverTellsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		var others []string
		w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
			others = append(others, out.Notes[out.Envelope.Recipients[0].Key()])
			each := map[string]reply.Outcome{}
			for _, a := range out.Recipients {
				switch a.Local {
				case "sent":
					if err := out.Remember(ctx, []envelope.Address{a}, "n"); err != nil {
						t.Error(err)
					}
					each[a.Key()] = relayed
				case "refused":
					each[a.Key()] = refused
				default:
					each[a.Key()] = greylist
				}
			}
			return reply.Outcome{Owner: reply.Message, Recipients: each}
		})
		id := w.enqueue("erp", "sent@fabrikam.test", "refused@fabrikam.test", "later@fabrikam.test")
		w.pass(10 * mins)
		if len(others) < 2 || others[0] != "" || others[1] != "n" {
			t.Errorf("the attempts heard of %q; want nothing, and then what was sent", others)
		}
		for _, tc := range []struct {
			name string
			sent func(queue.Recipient) bool
			want []string
		}{
			{"it was sent", sentAtAll, []string{"n"}},
			{"it was not what was sent", func(queue.Recipient) bool { return false }, nil},
		} {
			out, ok, err := w.Over(t.Context(), id, tc.sent)
			var names []string
			for _, a := range out.Recipients {
				names = append(names, a.Local)
			}
			if want := []string{"sent", "refused"}; err != nil || !ok || !slices.Equal(names, want) || !slices.Equal(out.Others, tc.want) {
				t.Errorf("%s: Over = %q, others %q, %v, %v; want %q and %q", tc.name, names, out.Others, ok, err, want, tc.want)
			}
		}
	})
}

// TestAPersonSaysThatItWasSent: what the note names may be a draft still.
func TestAPersonSaysThatItWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		id := w.bringNoted(unknown, unknown)
		if err := w.do(id, queue.MarkAsOut); err != nil {
			t.Fatal(err)
		}
		if e, err := w.store.Get(t.Context(), id); err != nil || !e.Item.Recipients[0].Last.ByPerson {
			t.Errorf("%+v, %v; want the person's word noted", e.Item.Recipients, err)
		}
	})
}
