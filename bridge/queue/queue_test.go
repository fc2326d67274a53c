package queue_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

const (
	sec  = time.Second
	mins = time.Minute
	hour = time.Hour
)

// TestWaits holds the waits of one message to the minute, whoever has the trouble.
func TestWaits(t *testing.T) {
	for _, tc := range []struct {
		name     string
		outcome  reply.Outcome
		days     int
		want     []time.Duration // of the first attempts
		attempts int             // that counted, after the last of want
		state    queue.State
	}{
		{"a message's own trouble waits quadratically, the last wait repeats", deferred(reply.Message), 1,
			[]time.Duration{0, 1 * mins, 5 * mins, 14 * mins, 30 * mins, 55 * mins, 91 * mins, 140 * mins, 200 * mins, 260 * mins}, 10, queue.Deferred},
		{"an unknown failure is the message's", reply.Outcome{}, 1, []time.Duration{0, 1 * mins, 5 * mins}, 3, queue.Deferred},
		{"a server's wish that is longer is obeyed", reply.Outcome{Owner: reply.Recipient, RetryAfter: 10 * mins}, 1,
			[]time.Duration{0, 10 * mins, 20 * mins, 30 * mins, 46 * mins}, 5, queue.Deferred},
		{"a missing Send As right is looked for apart and costs nothing", deferred(reply.Sender), 1,
			[]time.Duration{0, 15 * mins, 45 * mins, 105 * mins, 165 * mins}, 0, queue.Deferred},
		{"a refusal that is the sender's waits too", reply.Outcome{Verdict: reply.Failed, Owner: reply.Sender}, 1,
			[]time.Duration{0, 15 * mins, 45 * mins}, 0, queue.Deferred},
		{"trouble that nobody stopped the account for waits half a minute and costs nothing", deferred(reply.Route), 1,
			[]time.Duration{0, 30 * sec, 60 * sec, 90 * sec}, 0, queue.Queued},
		{"the process's own waits twice as long each time, at most an hour, and costs nothing", deferred(reply.Process), 1,
			[]time.Duration{0, 30 * sec, 90 * sec, 210 * sec, 450 * sec, 930 * sec, 1890 * sec, 3810 * sec, 7410 * sec, 11010 * sec}, 0, queue.Queued},
		{"a refusal that is the account's waits", reply.Outcome{Verdict: reply.Failed, Owner: reply.Account}, 1,
			[]time.Duration{0, 30 * sec, 60 * sec}, 0, queue.Queued},
		{"a message's refusal is final", reply.Outcome{Verdict: reply.Failed, Owner: reply.Message}, 1, []time.Duration{0}, 1, queue.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return tc.outcome })
				id := w.enqueue("erp")
				w.pass(tc.want[len(tc.want)-1])
				if d := cmp.Diff(tc.want, w.times(id)); d != "" {
					t.Errorf("attempts (-want +got):\n%s", d)
				}
				row := w.show(id)
				if row.State != tc.state || row.Item.Attempts != tc.attempts || row.Item.Recipients[0].Attempts != tc.attempts {
					t.Errorf("%s after %d attempts (the recipient's %d), want %s after %d", row.State, row.Item.Attempts,
						row.Item.Recipients[0].Attempts, tc.state, tc.attempts)
				}
				if row.State == queue.Failed && !row.HasBody {
					t.Error("the body of a failed message was deleted")
				}
			})
		})
	}
}

func TestGiveUp(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome
		state   queue.State
		after   time.Duration
		calls   int
	}{
		{"a message fails when its next attempt would come too late", deferred(reply.Message), queue.Failed, 5 * mins, 3},
		{"so does one whose sender has no right", deferred(reply.Sender), queue.Failed, 0, 1},
		{"so does one whose route is down", deferred(reply.Route), queue.Failed, 10*mins + 30*sec, 22},
		{"one whose login is dead never does", deferred(reply.Login), queue.Queued, hour, 121},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{GiveUpAfter: 10 * mins})
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return tc.outcome })
				id := w.enqueue("erp")
				w.pass(tc.after)
				if row := w.show(id); row.State != tc.state || len(w.seen()) != tc.calls {
					t.Errorf("%s after %d attempts, want %s after %d", row.State, len(w.seen()), tc.state, tc.calls)
				}
				if tc.state == queue.Failed && !slices.Contains(w.told(), "ERROR message failed") {
					t.Errorf("events %q do not tell of the failure", w.told())
				}
			})
		})
	}
}

func TestRecipientsFareApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome {
			if out.Attempt > 1 {
				return relayed
			}
			o := relayed
			o.Recipients = map[string]reply.Outcome{
				"later@fabrikam.test": deferred(reply.Recipient),
				"never@fabrikam.test": {Verdict: reply.Failed, Owner: reply.Recipient},
			}
			return o
		})
		id := w.enqueue("erp", "now@fabrikam.test", "Later@fabrikam.test", "never@fabrikam.test")
		states := func() (ss []queue.State) {
			for _, r := range w.show(id).Item.Recipients {
				ss = append(ss, r.State)
			}
			return ss
		}
		if d := cmp.Diff([]queue.State{queue.Relayed, queue.Deferred, queue.Failed}, states()); d != "" {
			t.Errorf("after the first attempt (-want +got):\n%s", d)
		}
		if row := w.show(id); row.State != queue.Deferred || !row.NextAttempt.Equal(w.began.Add(mins)) || !row.HasBody {
			t.Errorf("message %s, next attempt %v, body %v", row.State, row.NextAttempt, row.HasBody)
		}
		w.pass(mins)
		second := w.seen()[1].out
		if len(second.Recipients) != 1 || second.Recipients[0].Key() != "later@fabrikam.test" || len(second.Envelope.Recipients) != 3 {
			t.Errorf("the second attempt is for %v of %v", second.Recipients, second.Envelope.Recipients)
		}
		if d := cmp.Diff([]queue.State{queue.Relayed, queue.Relayed, queue.Failed}, states()); d != "" {
			t.Errorf("after the second attempt (-want +got):\n%s", d)
		}
		want := []string{"INFO message relayed", "WARN message deferred", "ERROR message failed", "INFO message relayed"}
		if d := cmp.Diff(want, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

func TestRelayedMessageLosesItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
			r, err := out.Open(ctx)
			if err != nil {
				t.Errorf("Open: %v", err)
				return reply.Outcome{}
			}
			defer r.Close()
			if b, err := io.ReadAll(r); err != nil || string(b) != "body\r\n" || out.BodySize != 6 || len(out.Header) == 0 || out.Attempt != 1 {
				t.Errorf("body %q (%d), %v, header %q, attempt %d", b, out.BodySize, err, out.Header, out.Attempt)
			}
			return relayed
		})
		id := w.enqueue("erp")
		row := w.show(id)
		if row.State != queue.Relayed || row.HasBody || row.Item.Recipients[0].Last.Reply.ID != "4Xabc" || row.Message.Plan.MessageID == "" {
			t.Errorf("%s, body %v, last %+v, plan %+v", row.State, row.HasBody, row.Item.Recipients[0].Last, row.Message.Plan)
		}
		counts, err := w.Counts(t.Context())
		if d := cmp.Diff([]queue.Count{{Account: "erp", State: queue.Relayed, N: 1}}, counts); err != nil || d != "" {
			t.Errorf("Counts: %v (-want +got):\n%s", err, d)
		}
	})
}

// TestDoubt follows messages of which nobody can tell whether they went out.
func TestDoubt(t *testing.T) {
	doubt := reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "graph"}
	for _, tc := range []struct {
		name     string
		onDoubt  queue.OnDoubt
		outcomes []reply.Outcome
		want     []time.Duration
		state    queue.State
		events   []string
	}{
		{"it is sent once more and relayed", queue.Resend, []reply.Outcome{doubt, relayed}, []time.Duration{0, 20 * mins}, queue.Relayed,
			[]string{"WARN message in doubt", "INFO message relayed"}},
		{"a second doubt holds it", queue.Resend, []reply.Outcome{doubt, doubt}, []time.Duration{0, 20 * mins}, queue.Held,
			[]string{"WARN message in doubt", "ERROR message held"}},
		{"a second doubt holds it after other trouble too", queue.Resend, []reply.Outcome{doubt, deferred(reply.Message), doubt},
			[]time.Duration{0, 20 * mins, 24 * mins}, queue.Held, []string{"WARN message in doubt", "WARN message deferred", "ERROR message held"}},
		{"where nothing may leave twice it is held", queue.Hold, []reply.Outcome{doubt}, []time.Duration{0}, queue.Held,
			[]string{"WARN message in doubt", "ERROR message held"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", OnDoubt: tc.onDoubt, DoubtWait: 20 * mins}}})
				left := tc.outcomes
				w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					if err := out.Intent(ctx); err != nil {
						t.Errorf("Intent: %v", err)
					}
					o := left[0]
					left = left[1:]
					return o
				})
				id := w.enqueue("erp")
				if row := w.show(id); row.State != queue.InDoubt || row.WaitingFor != "doubt" || row.Item.Intent || row.Item.Lease != "" {
					t.Errorf("%s waits for %q, intent %v, lease %q", row.State, row.WaitingFor, row.Item.Intent, row.Item.Lease)
				}
				w.pass(hour)
				if d := cmp.Diff(tc.want, w.times(id)); d != "" {
					t.Errorf("attempts (-want +got):\n%s", d)
				}
				for i, c := range w.seen()[1:] {
					if !c.out.Resend || i == 0 && c.out.Transport != "graph" {
						t.Errorf("attempt %d: resend %v, transport %q", i+2, c.out.Resend, c.out.Transport)
					}
				}
				if row := w.show(id); row.State != tc.state || row.HasBody != (tc.state == queue.Held) {
					t.Errorf("%s, body %v; want %s", row.State, row.HasBody, tc.state)
				}
				if d := cmp.Diff(tc.events, w.told()); d != "" {
					t.Errorf("events (-want +got):\n%s", d)
				}
			})
		})
	}
}

func TestPanicInRelay(t *testing.T) {
	for _, tc := range []struct {
		name   string
		intend bool
		want   queue.State
	}{
		{"before the intent it is tried again", false, queue.Queued},
		{"after the intent nobody can tell", true, queue.InDoubt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					if tc.intend {
						if err := out.Intent(ctx); err != nil {
							t.Errorf("Intent: %v", err)
						}
					}
					panic("a nil map")
				})
				row := w.show(w.enqueue("erp"))
				if last := row.Item.Recipients[0].Last; row.State != tc.want || last.Owner != reply.Process || !strings.Contains(last.Err, "a nil map") {
					t.Errorf("%s, %+v", row.State, last)
				}
			})
		})
	}
}

func TestEnqueueRefuses(t *testing.T) {
	reset := errors.New("connection reset")
	for _, tc := range []struct {
		name    string
		account string
		body    io.Reader
		store   error
		want    string // code and enhanced status; empty: the reader's own error
	}{
		{"a body that breaks off", "erp", iotest.ErrReader(reset), nil, ""},
		{"an account that is not configured", "crm", strings.NewReader(""), nil, "451 4.3.5"},
		{"a full disk", "erp", strings.NewReader(""), queue.ErrFull, "452 4.3.1"},
		{"a store that cannot be written", "erp", strings.NewReader(""), errors.New("input/output error"), "451 4.3.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := queuetest.NewMemory()
			store.Fail(tc.store)
			q := queue.New(queue.Options{Store: store, Accounts: []queue.Account{{Name: "erp"}}})
			_, m := queuetest.NewMessage(tc.account, time.Now())
			err := q.Enqueue(t.Context(), m, tc.body)
			var refusal *reply.Error
			if tc.want == "" {
				if !errors.Is(err, reset) || errors.As(err, &refusal) {
					t.Errorf("Enqueue: %v, want the reader's error", err)
				}
			} else if !errors.As(err, &refusal) || !strings.HasPrefix(refusal.Error(), tc.want) || strings.Contains(refusal.Text, "error") {
				t.Errorf("Enqueue: %v, want %s", err, tc.want)
			}
			if l, err := q.List(t.Context(), queue.Filter{}); err != nil || len(l) != 0 {
				t.Errorf("List: %d, %v; want nothing kept", len(l), err)
			}
			if _, err := q.Show(t.Context(), m.ID); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("Show: %v, want ErrNotFound", err)
			}
		})
	}
}

// TestFormerProcess starts on what a killed process left.
func TestFormerProcess(t *testing.T) {
	for _, tc := range []struct {
		name   string
		intent bool
		state  queue.State
		want   []time.Duration // attempts of the new process
	}{
		{"killed between claim and outcome: due at once", false, queue.Relayed, []time.Duration{0}},
		{"killed after the intent: in doubt, and looked for after a third of the wait", true, queue.InDoubt, []time.Duration{200 * time.Second}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := queuetest.NewMemory()
				first := newWorld(t, queue.Options{Store: store})
				first.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					if tc.intent {
						if err := out.Intent(ctx); err != nil {
							t.Errorf("Intent: %v", err)
						}
					}
					<-ctx.Done() // for ever, as far as the first process knows
					store.Fail(queue.ErrClosed)
					return reply.Outcome{}
				})
				id := first.enqueue("erp")
				if row := first.show(id); row.State != queue.Sending || row.Item.Lease == "" || row.Item.Intent != tc.intent || row.Item.Attempts != 1 {
					t.Fatalf("in flight: %s, %+v", row.State, row.Item)
				}
				first.stop()
				<-first.ended
				store.Fail(nil)

				second := newWorld(t, queue.Options{Store: store})
				if row := second.show(id); row.State != tc.state || row.Item.Lease != "" || row.Item.Intent {
					t.Errorf("after the start: %s, %+v", row.State, row.Item)
				}
				second.pass(hour)
				if d := cmp.Diff(tc.want, second.times(id)); d != "" {
					t.Errorf("attempts (-want +got):\n%s", d)
				}
				if out := second.seen()[0].out; out.Resend != tc.intent || out.Attempt != 2 {
					t.Errorf("resend %v, attempt %d", out.Resend, out.Attempt)
				}
			})
		})
	}
}

// TestStoreFailsAtTheEnd: what was relayed and cannot be written down is not relayed again.
func TestStoreFailsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		w := newWorld(t, queue.Options{Store: store})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
			store.Fail(queue.ErrFull)
			return relayed
		})
		id := w.enqueue("erp")
		w.pass(hour)
		store.Fail(nil)
		w.pass(mins)
		if row := w.show(id); row.State != queue.Relayed || len(w.seen()) != 1 {
			t.Errorf("%s after %d attempts, want relayed after one", row.State, len(w.seen()))
		}
		if told := w.told(); told[0] != "ERROR queue failed" || told[len(told)-1] != "INFO message relayed" {
			t.Errorf("events %q", told)
		}
	})
}

// damaging is a store whose claimed messages cannot be read back.
type damaging struct{ *queuetest.Memory }

func (d damaging) Claim(ctx context.Context, c queue.Claim) ([]queue.Entry, error) {
	es, err := d.Memory.Claim(ctx, c)
	for i := range es {
		es[i].Damage = queue.ErrDamaged
	}
	return es, err
}

func TestDamagedMessageIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Store: damaging{queuetest.NewMemory()}})
		id := w.enqueue("erp")
		if row := w.show(id); row.State != queue.Held || row.Item.Recipients[0].Last.Err == "" || len(w.seen()) != 0 {
			t.Errorf("%s, %+v, %d attempts", row.State, row.Item.Recipients[0].Last, len(w.seen()))
		}
		if d := cmp.Diff([]string{"ERROR message held"}, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

func ids(calls []call) (ids []envelope.ID) {
	for _, c := range calls {
		ids = append(ids, c.out.ID)
	}
	return ids
}
