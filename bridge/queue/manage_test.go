package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// The outcomes that bring a message into a state.
var (
	refused  = reply.Outcome{Verdict: reply.Failed, Owner: reply.Message, Transport: "smtp", Reply: reply.Reply{Code: 550, Enhanced: "5.6.0"}}
	unknown  = reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "smtp"}
	noRight  = deferred(reply.Sender)
	greylist = deferred(reply.Message)
)

// bring enqueues a message and lets the outcomes come to it, one after the other.
func (w *world) bring(outcomes ...reply.Outcome) envelope.ID {
	w.t.Helper()
	var n atomic.Int32
	w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
		return outcomes[min(int(n.Add(1)), len(outcomes))-1]
	})
	id := w.enqueue("erp")
	for int(n.Load()) < len(outcomes) {
		w.pass(10 * mins)
	}
	w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return greylist })
	return id
}

func (w *world) do(id envelope.ID, a queue.Action) error {
	err := w.Change(w.t.Context(), id, queue.Order{Action: a, By: "root"})
	synctest.Wait()
	return err
}

func TestChange(t *testing.T) {
	doubted := []reply.Outcome{unknown, unknown}
	for _, tc := range []struct {
		name     string
		outcomes []reply.Outcome // that bring the message to where it is
		before   []queue.Action  // done first
		action   queue.Action
		want     queue.State // with the relayer answering 451
		attempts int         // made by the action
		refusal  string      // instead
	}{
		{"deferred mail can be held", []reply.Outcome{greylist}, nil, queue.HoldBack, queue.Held, 0, ""},
		{"mail in doubt can be held", []reply.Outcome{unknown}, nil, queue.HoldBack, queue.Held, 0, ""},
		{"relayed mail cannot be held", []reply.Outcome{relayed}, nil, queue.HoldBack, queue.Relayed, 0, "there is nothing to hold: it is relayed"},
		{"held mail is released and tried at once", []reply.Outcome{greylist}, []queue.Action{queue.HoldBack}, queue.Release, queue.Deferred, 1, ""},
		{"mail that is not held cannot be released", []reply.Outcome{greylist}, nil, queue.Release, queue.Deferred, 0, "there is nothing to release: it is deferred"},
		{"what may have gone out is not released", doubted, nil, queue.Release, queue.Held, 0, "it may have gone out already; look into Sent Items, then end the doubt by: postern queue sent, or queue retry"},
		{"nor is what was held while in doubt", []reply.Outcome{unknown}, []queue.Action{queue.HoldBack}, queue.Release, queue.Held, 0, "it may have gone out already; look into Sent Items, then end the doubt by: postern queue sent, or queue retry"},
		{"deferred mail is tried at once", []reply.Outcome{greylist}, nil, queue.Retry, queue.Deferred, 1, ""},
		{"failed mail is tried again", []reply.Outcome{refused}, nil, queue.Retry, queue.Deferred, 1, ""},
		{"held mail is tried again", []reply.Outcome{greylist}, []queue.Action{queue.HoldBack}, queue.Retry, queue.Deferred, 1, ""},
		{"mail whose sender lacks a right is tried at once", []reply.Outcome{noRight}, nil, queue.Retry, queue.Deferred, 1, ""},
		{"twice in doubt is tried again when a person says so", doubted, nil, queue.Retry, queue.Deferred, 1, ""},
		{"relayed mail is not tried again", []reply.Outcome{relayed}, nil, queue.Retry, queue.Relayed, 0, "it is relayed"},
		{"dropped mail has no body to be tried again", []reply.Outcome{refused}, []queue.Action{queue.Drop}, queue.Retry, queue.Failed, 0, "its body is not kept any more"},
		{"deferred mail can be dropped", []reply.Outcome{greylist}, nil, queue.Drop, queue.Failed, 0, ""},
		{"failed mail can be dropped, body and all", []reply.Outcome{refused}, nil, queue.Drop, queue.Failed, 0, ""},
		{"but once", []reply.Outcome{refused}, []queue.Action{queue.Drop}, queue.Drop, queue.Failed, 0, "there is nothing to drop: it is failed"},
		{"relayed mail cannot be dropped", []reply.Outcome{relayed}, nil, queue.Drop, queue.Relayed, 0, "there is nothing to drop: it is relayed"},
		{"a doubt ends as relayed", doubted, nil, queue.MarkAsOut, queue.Relayed, 0, ""},
		{"the first doubt too", []reply.Outcome{unknown}, nil, queue.MarkAsOut, queue.Relayed, 0, ""},
		{"what is only deferred did not go out", []reply.Outcome{greylist}, nil, queue.MarkAsOut, queue.Deferred, 0, "only mail that is held or in doubt can be marked as sent: it is deferred"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				id := w.bring(tc.outcomes...)
				for _, a := range tc.before {
					if err := w.do(id, a); err != nil {
						t.Fatalf("%s: %v", a, err)
					}
				}
				calls := len(w.seen())
				err := w.do(id, tc.action)
				if got := errText(err); got != tc.refusal {
					t.Errorf("error %q; want %q", got, tc.refusal)
				}
				r := w.show(id)
				if made := len(w.seen()) - calls; r.State != tc.want || made != tc.attempts {
					t.Errorf("%s after %d attempts; want %s after %d", r.State, made, tc.want, tc.attempts)
				}
				audited := slices.Contains(w.told(), "INFO queue changed")
				if want := tc.refusal == "" || len(tc.before) > 0; audited != want {
					t.Errorf("an audit line: %v; want %v", audited, want)
				}
				if tc.refusal == "" && tc.action == queue.Drop && r.HasBody {
					t.Error("the body of dropped mail is still there")
				}
			})
		})
	}
}

// TestHeldByHandSaysHowItGoesOn: not what the last attempt would have needed.
func TestHeldByHandSaysHowItGoesOn(t *testing.T) {
	late := greylist
	late.Transport, late.Remedy = "smtp", "mend the server"
	lost := unknown
	lost.Transport, lost.Remedy = "smtp", "mend the server"
	for _, tc := range []struct {
		name              string
		outcome           reply.Outcome
		remedy, transport string
	}{
		{"what is deferred is released", late, "run: postern queue release ID", ""},
		{"what is in doubt is looked for, and keeps its transport", lost,
			"look into Sent Items, then run: postern queue sent ID, or: postern queue retry ID", "smtp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				id := w.bring(tc.outcome)
				if err := w.do(id, queue.HoldBack); err != nil {
					t.Fatal(err)
				}
				last := w.show(id).Item.Recipients[0].Last
				if want := strings.ReplaceAll(tc.remedy, "ID", string(id)); last.Err != "held by root" || last.Remedy != want || last.Transport != tc.transport {
					t.Errorf("%+v; want remedy %q and transport %q", last, want, tc.transport)
				}
			})
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRetryAfterGivingUpStartsTheAgeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return greylist })
		id := w.enqueue("erp")
		w.pass(6 * 24 * hour)
		if s := w.show(id).State; s != queue.Failed {
			t.Fatalf("after six days it is %s", s)
		}
		if err := w.do(id, queue.Retry); err != nil {
			t.Fatal(err)
		}
		if r := w.show(id); r.State != queue.Deferred || r.Item.Attempts == 0 {
			t.Errorf("after the retry and another 451 it is %s; want deferred", r.State)
		}
		w.pass(4 * 24 * hour)
		if s := w.show(id).State; s != queue.Deferred {
			t.Errorf("four days after the retry it is %s; want deferred", s)
		}
		w.pass(2 * 24 * hour)
		if s := w.show(id).State; s != queue.Failed {
			t.Errorf("six days after the retry it is %s; want failed", s)
		}
	})
}

func TestRetryUnderTodaysPolicy(t *testing.T) {
	today := func(p message.Plan) func(context.Context, queue.Entry) (message.Plan, error) {
		return func(_ context.Context, e queue.Entry) (message.Plan, error) {
			if len(e.Message.Header) == 0 {
				return p, errors.New("without the header nobody can plan")
			}
			p.MessageID = e.Message.Plan.MessageID
			return p, nil
		}
	}
	plan := message.Plan{Account: "hr", HeaderFrom: envelope.Address{Local: "hr", Domain: "contoso.test"}}
	for _, tc := range []struct {
		name     string
		outcomes []reply.Outcome
		plan     message.Plan
		refusal  string
	}{
		{"failed mail leaves by the new account", []reply.Outcome{refused}, plan, ""},
		{"so does mail whose sender lacked a right", []reply.Outcome{noRight}, plan, ""},
		{"so does held mail", []reply.Outcome{unknown, unknown}, plan, ""},
		{"deferred mail keeps its plan", []reply.Outcome{greylist}, plan, "it is deferred; a new plan is made for mail that has failed, is held, or waits for a right of its sender"},
		{"a plan for an account that is not there is refused", []reply.Outcome{refused}, message.Plan{Account: "old"}, `there is no account "old"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp"}, {Name: "hr"}}})
				id := w.bring(tc.outcomes...)
				was := w.show(id)
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return relayed })
				err := w.Change(t.Context(), id, queue.Order{Action: queue.Retry, By: "root", Replan: today(tc.plan)})
				synctest.Wait()
				r := w.show(id)
				if errText(err) != tc.refusal {
					t.Errorf("error %q; want %q", errText(err), tc.refusal)
				}
				if tc.refusal != "" {
					if r.Message.Plan.Account != "erp" || r.Item.Account != "erp" {
						t.Errorf("a refused plan changed the account to %s", r.Item.Account)
					}
					return
				}
				last := w.seen()[len(w.seen())-1].out
				if r.State != queue.Relayed || last.Plan.Account != "hr" || last.ID != id || last.Plan.MessageID != was.Message.Plan.MessageID {
					t.Errorf("%s by %s as %s; want relayed by hr as %s", r.State, last.Plan.Account, last.Plan.MessageID, was.Message.Plan.MessageID)
				}
			})
		})
	}
}

func TestChangeAllTakesWhatTheOrderMakesSenseFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		ids := map[string]envelope.ID{"failed": w.bring(refused), "relayed": w.bring(relayed), "doubtful": w.bring(unknown, unknown), "held": w.bring(greylist)}
		if err := w.do(ids["held"], queue.HoldBack); err != nil {
			t.Fatal(err)
		}
		ids["deferred"] = w.bring(greylist)
		states := func() string {
			var all []string
			for _, name := range []string{"failed", "relayed", "doubtful", "held", "deferred"} {
				all = append(all, string(w.show(ids[name]).State))
			}
			return strings.Join(all, " ")
		}
		for _, step := range []struct {
			name    string
			filter  queue.Filter
			action  queue.Action
			changed int
			want    string // failed relayed doubtful held deferred
			refused string // how many, and why
		}{
			{"retry takes what waits", queue.Filter{}, queue.Retry, 1, "failed relayed held held deferred", ""},
			{"hold takes what waits, and does not mean the others", queue.Filter{}, queue.HoldBack, 1, "failed relayed held held held", ""},
			{"another account has nothing", queue.Filter{Account: "hr"}, queue.Release, 0, "failed relayed held held held", ""},
			{"release leaves the doubtful alone, and says so", queue.Filter{}, queue.Release, 2, "failed relayed held deferred deferred",
				"1: it may have gone out already; look into Sent Items, then end the doubt by: postern queue sent, or queue retry"},
			{"sent takes the doubtful alone", queue.Filter{}, queue.MarkAsOut, 1, "failed relayed relayed deferred deferred", ""},
			{"retry takes failed mail when it is named", queue.Filter{State: queue.Failed}, queue.Retry, 1, "deferred relayed relayed deferred deferred", ""},
			{"drop takes what is not final", queue.Filter{}, queue.Drop, 3, "failed relayed relayed failed failed", ""},
			{"retry does not mean what was dropped", queue.Filter{State: queue.Failed}, queue.Retry, 0, "failed relayed relayed failed failed", ""},
			{"drop does not either", queue.Filter{State: queue.Failed}, queue.Drop, 0, "failed relayed relayed failed failed", ""},
		} {
			n, refused, err := w.ChangeAll(t.Context(), step.filter, queue.Order{Action: step.action, By: "root"})
			synctest.Wait()
			if got := states(); err != nil || n != step.changed || got != step.want {
				t.Errorf("%s: %d changed, %v, and then %s; want %d and %s", step.name, n, err, got, step.changed, step.want)
			}
			if got := reasons(refused); got != step.refused {
				t.Errorf("%s: refused are %q; want %q", step.name, got, step.refused)
			}
		}
	})
}

// reasons are how many an order for many left alone, and why.
func reasons(refused []queue.Refusal) string {
	var all []string
	for _, r := range refused {
		all = append(all, fmt.Sprintf("%d: %v", r.N, r.Err))
	}
	return strings.Join(all, "; ")
}

// TestManyReasonsAreFew: however many messages today's policy refuses, each in words of its own, what is told stays short.
func TestManyReasonsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		var ids []envelope.ID
		for range 30 {
			ids = append(ids, w.bring(refused))
			w.pass(sec) // their IDs are in this order
		}
		n, left, err := w.ChangeAll(t.Context(), queue.Filter{State: queue.Failed}, queue.Order{Action: queue.Retry, By: "root",
			Replan: func(_ context.Context, e queue.Entry) (message.Plan, error) {
				if i := slices.Index(ids, e.Item.ID); i != 28 && i != 29 {
					return message.Plan{}, fmt.Errorf("no %d", i)
				}
				return message.Plan{}, errors.New("no 1")
			}})
		if n != 0 || err != nil || len(left) != 21 {
			t.Fatalf("%d changed, %v, for %d reasons; want none, and the first twenty and one for the others", n, err, len(left))
		}
		if left[1].ID != ids[1] || left[1].N != 3 || left[20].ID != ids[20] || left[20].N != 8 {
			t.Errorf("%+v and %+v; want three of the second reason, and eight of others", left[1], left[20])
		}
	})
}

func TestMessageOnTheWireIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{})
		done := make(chan struct{})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { <-done; return relayed })
		id := w.enqueue("erp")
		for _, a := range []queue.Action{queue.HoldBack, queue.Retry, queue.Drop, queue.MarkAsOut, queue.Release} {
			if err := w.do(id, a); errText(err) != "it is being sent at this moment; try again" {
				t.Errorf("%s = %v", a, err)
			}
		}
		for _, a := range []queue.Action{queue.HoldBack, queue.Drop} {
			n, refused, err := w.ChangeAll(t.Context(), queue.Filter{}, queue.Order{Action: a, By: "root"})
			if got := reasons(refused); n != 0 || err != nil || got != "1: it is being sent at this moment; try again" {
				t.Errorf("%s of all: %d changed, %v, refused are %q", a, n, err, got)
			}
		}
		close(done)
		synctest.Wait()
		if s := w.show(id).State; s != queue.Relayed {
			t.Errorf("it is %s; want relayed", s)
		}
	})
}

// TestForeignStoreIsHeld: a store that another process may have worked off sends nothing by itself.
func TestForeignStoreIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		w := newWorld(t, queue.Options{Store: store})
		doubtful, deferred, gone := w.bring(unknown), w.bring(greylist), w.bring(relayed)
		w.setRelay(func(ctx context.Context, _ message.Outgoing) reply.Outcome { <-ctx.Done(); return greylist })
		sending := w.enqueue("erp")
		w.stop()
		<-w.ended

		// As the copy of another machine, with the lease of its process on it.
		if err := store.Update(t.Context(), sending, func(it *queue.Item) error {
			it.Lease, it.Recipients[0].State = "another process", queue.Sending
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		q := queue.New(queue.Options{Store: store, Relayer: w, Accounts: []queue.Account{{Name: "erp"}}})
		n, err := q.HoldEverything(t.Context(), "this store was written by another machine")
		if err != nil || n != 3 {
			t.Fatalf("HoldEverything = %d, %v; want 3", n, err)
		}
		for id, want := range map[envelope.ID]struct {
			state  queue.State
			remedy string
		}{doubtful: {queue.Held, "queue sent"}, deferred: {queue.Held, "queue release"}, sending: {queue.Held, "queue release"}, gone: {queue.Relayed, ""}} {
			r, err := q.Show(t.Context(), id)
			if err != nil || r.State != want.state || !strings.Contains(r.Item.Recipients[0].Last.Remedy, want.remedy) {
				t.Errorf("%s is %s, %v, %+v; want %v", id, r.State, err, r.Item.Recipients[0].Last, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		calls := len(w.seen())
		go func() { ended <- q.Run(ctx) }()
		w.pass(24 * hour)
		if got := len(w.seen()); got != calls {
			t.Errorf("%d attempts were made of a store that is held", got-calls)
		}
		if n, refused, err := q.ChangeAll(t.Context(), queue.Filter{}, queue.Order{Action: queue.Release, By: "root"}); err != nil || n != 2 || len(refused) != 1 || refused[0].ID != doubtful {
			t.Errorf("release = %d, %v, and refused are %v; want 2: the doubtful one stays", n, err, refused)
		}
		cancel()
		<-ended
	})
}

// TestRowOfStoppedAccount: mail that is due and cannot go shows when its account goes on, and never a time in the past.
func TestRowOfStoppedAccount(t *testing.T) {
	for _, tc := range []struct {
		name  string
		gate  func(began time.Time) queue.Gate
		until time.Duration // since the start; 0 for no time
	}{
		{"parked until a person acts", func(time.Time) queue.Gate { return queue.Gate{Waiting: "parked"} }, 0},
		{"parked, and probed later", func(b time.Time) queue.Gate { return queue.Gate{Waiting: "parked", Again: b.Add(2 * hour)} }, 2 * hour},
		{"paused", func(b time.Time) queue.Gate { return queue.Gate{Waiting: "pause", Again: b.Add(70 * mins)} }, 70 * mins},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				gate := tc.gate(w.began)
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
					w.setGate("erp", gate)
					return reply.Outcome{Owner: reply.Account, Reply: reply.Reply{Code: 535}}
				})
				id := w.enqueue("erp")
				w.pass(hour)
				row := w.show(id)
				var want time.Time
				if tc.until > 0 {
					want = w.began.Add(tc.until)
				}
				if row.WaitingFor != gate.Waiting || !row.NextAttempt.Equal(want) || row.Item.Attempts != 0 {
					t.Errorf("waits for %q until %v after %d attempts; want %q until %v after none", row.WaitingFor, row.NextAttempt, row.Item.Attempts, gate.Waiting, want)
				}
			})
		})
	}
}

// TestRetryEndsTheRemedy: what a person was told to do is not said any more when it was done, though the account is stopped.
func TestRetryEndsTheRemedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, queue.Options{}, func(w *world) { w.setGate("erp", queue.Gate{Waiting: "parked"}) })
		id := w.enqueue("erp")
		for _, a := range []queue.Action{queue.HoldBack, queue.Retry} {
			if err := w.Change(t.Context(), id, queue.Order{Action: a, By: "eva"}); err != nil {
				t.Fatal(err)
			}
		}
		if last := w.show(id).Item.Recipients[0].Last; last.Remedy != "" || last.Err != "tried again by eva" {
			t.Errorf("after the retry: %+v", last)
		}
	})
}

// TestDroppedMailDidNotFailForItsReply: it ends because a person gave it up; what failed before keeps its reply.
func TestDroppedMailDidNotFailForItsReply(t *testing.T) {
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome
		code    int
		err     string
	}{
		{"what was deferred has none", greylist, 0, "dropped by root"},
		{"what had failed keeps it", refused, 550, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{})
				id := w.bring(tc.outcome)
				before := w.show(id).Item.Recipients[0].Last
				if err := w.do(id, queue.Drop); err != nil {
					t.Fatal(err)
				}
				last := w.show(id).Item.Recipients[0].Last
				if before.Reply.Code == 0 || last.Reply.Code != tc.code || last.Err != tc.err {
					t.Errorf("%+v, before %+v; want the code %d and %q", last, before, tc.code, tc.err)
				}
			})
		})
	}
}

// TestWhyNeverTriedMailFails: also where a person wanted it tried again.
func TestWhyNeverTriedMailFails(t *testing.T) {
	for _, retried := range []bool{false, true} {
		t.Run(fmt.Sprintf("retried %v", retried), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, queue.Options{GiveUpAfter: 10 * hour}, func(w *world) { w.gates["erp"] = closedFor("pause") })
				id := w.enqueue("erp")
				if retried {
					if err := w.Change(t.Context(), id, queue.Order{Action: queue.Retry, By: "eva"}); err != nil {
						t.Fatal(err)
					}
				}
				w.pass(11 * hour)
				if row := w.show(id); row.State != queue.Failed || !strings.Contains(row.Item.Recipients[0].Last.Err, "give_up_after") {
					t.Errorf("%s, %+v; want failed, and by which limit", row.State, row.Item.Recipients[0].Last)
				}
			})
		})
	}
}
