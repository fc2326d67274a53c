package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

var errRow = errors.New("recipient 0: no address")

// TestDamagedItem: a message whose row cannot be read back is set aside by whoever meets it first, and named; the others
// of its account go.
func TestDamagedItem(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options queue.Options
		item    func(*queue.Item) // as the former process left it
		parked  bool
		wait    time.Duration
	}{
		{name: "a claim meets it"},
		{name: "the start meets it under the lease of the former process", item: func(it *queue.Item) {
			it.Lease, it.Intent, it.Recipients[0].State = "former", true, queue.Sending
		}},
		{name: "the trial of the suspects meets it", item: func(it *queue.Item) { it.Suspect = true }},
		{name: "who looks after age meets it while its account is parked", parked: true, wait: 5 * hour, options: queue.Options{WarnAfter: 4 * hour},
			item: func(it *queue.Item) { it.Watch = it.Accepted.Add(4 * hour) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := queuetest.NewMemory()
				item, m := queuetest.NewMessage("erp", time.Now())
				if tc.item != nil {
					tc.item(&item)
				}
				if err := store.Add(t.Context(), item, m, strings.NewReader("body\r\n")); err != nil {
					t.Fatal(err)
				}
				store.Damage(item.ID, errRow)
				tc.options.Store = store
				w := newWorldOf(t, tc.options, func(w *world) {
					if tc.parked {
						w.setGate("erp", queue.Gate{Waiting: "parked"})
					}
				})
				w.pass(tc.wait)
				w.setGate("erp", queue.Gate{Limit: 1})
				good := w.enqueue("erp")
				w.pass(time.Second)
				if row := w.show(good); row.State != queue.Relayed {
					t.Errorf("the intact one is %s", row.State)
				}
				checkAside(t, w, item.ID)
			})
		})
	}
}

// checkAside holds a message that was set aside to this: it waits for a person for ever, who was told once, and who can do
// nothing but export and drop it.
func checkAside(t *testing.T, w *world, id envelope.ID) {
	t.Helper()
	w.pass(48 * hour)
	row := w.show(id)
	last := row.Item.Recipients[0].Last
	if row.State != queue.Held || !row.NextAttempt.IsZero() || row.Item.Lease != "" || row.Item.Suspect || !row.Item.Watch.IsZero() {
		t.Errorf("%s, due %v, %+v", row.State, row.NextAttempt, row.Item)
	}
	if last.Err == "" || !strings.Contains(last.Remedy, "queue export "+string(id)) || !strings.Contains(last.Remedy, "queue drop "+string(id)) {
		t.Errorf("why and what to do: %+v", last)
	}
	held := 0
	for _, e := range w.told() {
		if e == "ERROR message held" {
			held++
		}
	}
	if held != 1 || len(w.times(id)) != 0 {
		t.Errorf("told %d times, sent %d times; want once and never: %q", held, len(w.times(id)), w.told())
	}
	for _, a := range []queue.Action{queue.Retry, queue.Release} {
		if err := w.Change(t.Context(), id, queue.Order{Action: a, By: "eva"}); err == nil {
			t.Errorf("%s of what cannot be read back was done", a)
		}
	}
	if err := w.Change(t.Context(), id, queue.Order{Action: queue.Drop, By: "eva"}); err != nil {
		t.Errorf("drop: %v", err)
	}
	if row := w.show(id); row.State != queue.Failed || row.HasBody {
		t.Errorf("after drop: %s, body %v", row.State, row.HasBody)
	}
}

// TestDamagedReport: who a failed message was for cannot be read, so nobody can be told but the administrator, once.
func TestDamagedReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		told := &reports{}
		w := newWorldOf(t, queue.Options{Store: store, Reporter: told}, func(w *world) {
			item, m := queuetest.NewMessage("erp", time.Now())
			item.Owed, item.Finished, item.Recipients[0].State = queue.OwedFailure, item.Accepted, queue.Failed
			if err := store.Add(t.Context(), item, m, strings.NewReader("body\r\n")); err != nil {
				t.Fatal(err)
			}
			store.Damage(item.ID, errRow)
		})
		w.pass(hour)
		if d := cmp.Diff([]string{"ERROR queue failed"}, w.told()); d != "" || len(told.told()) != 0 {
			t.Errorf("%d reports, events (-want +got):\n%s", len(told.told()), d)
		}
	})
}

// rotten is a store whose bodies end with ErrBody.
type rotten struct{ *queuetest.Memory }

func (r rotten) Open(ctx context.Context, id envelope.ID) (io.ReadCloser, error) {
	b, err := r.Memory.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	end, cut := io.Pipe()
	cut.CloseWithError(queue.ErrBody)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(b, end), b}, nil
}

// TestRottenBody: nobody but an attempt reads a body, and the first that cannot is the last until a person acts.
func TestRottenBody(t *testing.T) {
	send := func(ctx context.Context, out message.Outgoing) reply.Outcome {
		b, err := out.Open(ctx)
		if err != nil {
			return reply.Outcome{Owner: reply.Message, Err: err}
		}
		defer b.Close()
		_, err = io.Copy(io.Discard, b)
		return reply.Outcome{Owner: reply.Process, Transport: "smtp", Err: fmt.Errorf("body: %w", err)}
	}
	for _, tc := range []struct {
		name        string
		onDoubt     queue.OnDoubt
		first       func(context.Context, message.Outgoing) reply.Outcome // the first attempt, where another one follows
		attempts    int
		buyer, copy queue.State // the second recipient is copied in
		refusal     string      // of its release
	}{
		{name: "at the first attempt", attempts: 1, buyer: queue.Held, copy: queue.Held},
		{name: "at the one after a doubt", attempts: 2, buyer: queue.Held, copy: queue.Held, refusal: "it may have gone out",
			first: func(context.Context, message.Outgoing) reply.Outcome { return unknown }},
		{name: "at the looks for one in doubt", onDoubt: queue.Hold, attempts: 4, buyer: queue.Held, copy: queue.Held, refusal: "it may have gone out",
			first: func(context.Context, message.Outgoing) reply.Outcome {
				o := unknown
				o.CanLook = true
				return o
			}},
		{name: "at its second part", attempts: 1, buyer: queue.Relayed, copy: queue.Held,
			first: func(ctx context.Context, out message.Outgoing) reply.Outcome {
				out.PartDone(ctx, out.Recipients[:1], relayed)
				o := send(ctx, out)
				o.Recipients = map[string]reply.Outcome{out.Recipients[0].Key(): relayed}
				return o
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := &reports{}
				w := newWorldOf(t, queue.Options{Store: rotten{queuetest.NewMemory()}, Reporter: told,
					Accounts: []queue.Account{{Name: "erp", OnDoubt: tc.onDoubt, DoubtWait: 30 * mins}}}, func(w *world) {
					w.relay = func(ctx context.Context, out message.Outgoing) reply.Outcome {
						if len(w.seen()) == 1 && tc.first != nil {
							return tc.first(ctx, out)
						}
						return send(ctx, out)
					}
				})
				id := w.enqueue("erp", "buyer@fabrikam.test", "copy@fabrikam.test")
				w.pass(48 * hour)
				row := w.show(id)
				buyer, second := row.Item.Recipients[0], row.Item.Recipients[1]
				if buyer.State != tc.buyer || second.State != tc.copy || len(w.seen()) != tc.attempts || !row.NextAttempt.IsZero() || len(told.told()) != 0 {
					t.Errorf("%s and %s after %d attempts, due %v, reports %q; want %s and %s after %d", buyer.State, second.State, len(w.seen()),
						row.NextAttempt, told.told(), tc.buyer, tc.copy, tc.attempts)
				}
				if got := strings.Count(strings.Join(w.told(), "\n"), "ERROR message held"); got != 1 || second.Last.Transport != "smtp" {
					t.Errorf("told %d times that it is held, its transport is %q: %q", got, second.Last.Transport, w.told())
				}
				if tc.onDoubt == queue.Resend && (!strings.Contains(second.Last.Err, "damaged") || !strings.Contains(second.Last.Remedy, "queue export "+string(id))) {
					t.Errorf("why and what to do: %+v", second.Last)
				}
				if err := w.do(id, queue.Release); tc.refusal == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.refusal) {
					t.Errorf("release: %v, want %q", err, tc.refusal)
				}
			})
		})
	}
}

// TestDamagedParkNote: what only counts age does not stop the start.
func TestDamagedParkNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{}, func(w *world) {
			if err := w.store.SetNote(t.Context(), "parked/erp", "{"); err != nil {
				t.Fatal(err)
			}
		})
		id := w.enqueue("erp")
		if row := w.show(id); row.State != queue.Relayed {
			t.Errorf("it is %s", row.State)
		}
		if d := cmp.Diff([]string{"ERROR queue failed", "INFO message relayed"}, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}
