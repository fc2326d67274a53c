package bridge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/leftover"
	"postern/bridge/queue"
	"postern/bridge/sandbox"
)

// TestNoDraftIsLeftBehind: however a message ends whose draft was not sent, the draft goes, also where the mailbox cannot be
// reached at that moment; and nobody gets what a person has dropped.
func TestNoDraftIsLeftBehind(t *testing.T) {
	busy := sandbox.Fault{Where: sandbox.AtSend, Status: 503, Code: "ErrorServerBusy", RetryAfter: "1", Times: -1}
	unanswered := sandbox.Fault{Where: sandbox.AtSend, Status: 504, RetryAfter: "1", Times: -1}
	refused := sandbox.Fault{Where: sandbox.AtSend, Status: 400, Code: "ErrorMimeContentInvalid"}
	noRemoval := sandbox.Fault{Where: sandbox.AtDelete, Status: 503, Code: "ErrorServerBusy", Times: -1}
	for _, tc := range []struct {
		name   string
		user   string
		faults []sandbox.Fault
		until  event.Kind
		action string // what a person does then; "": nothing
		after  int    // copies that arrive
	}{
		{"dropped while its mailbox is busy", "drafts", []sandbox.Fault{busy}, event.MessageDeferred, "drop", 0},
		{"held by a person", "drafts", []sandbox.Fault{busy}, event.MessageDeferred, "hold", 0},
		{"dropped in doubt", "drafts", []sandbox.Fault{unanswered}, event.MessageInDoubt, "drop", 0},
		{"marked as sent in doubt", "drafts", []sandbox.Fault{unanswered}, event.MessageInDoubt, "sent", 0},
		{"held after the second doubt", "drafts", []sandbox.Fault{unanswered}, event.MessageHeld, "", 0},
		{"failed, and the draft could not be removed", "drafts", []sandbox.Fault{refused, noRemoval}, event.MessageFailed, "", 0},
		{"taken by SMTP after Graph did not", "auto", []sandbox.Fault{busy}, event.MessageRelayed, "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{config: strings.ReplaceAll(exactConfig, "transport = \"graph\"\n", "transport = \"graph\"\ndoubt_wait = \"1s\"\n")})
			id := w.leaveDraft(tc.user, tc.until, tc.faults...)
			if tc.action != "" {
				w.act(id, tc.action)
			}
			w.box.ClearFaults()
			w.sweep(tc.user, tc.after)
		})
	}
}

// leaveDraft hands in a message and lets the faults come to it, until something is heard. It returns the queue ID.
func (w *world) leaveDraft(user string, until event.Kind, faults ...sandbox.Fault) string {
	w.t.Helper()
	for _, f := range faults {
		if err := w.box.Fault(f); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.hand(user, []string{"ann@example.test"}, []byte("From: a@erp.local\r\nTo: ann@example.test\r\nSubject: s\r\n\r\nx\r\n")); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, until, 1); err != nil {
		w.t.Fatalf("%v\n%s", err, w.log())
	}
	if d := w.box.Drafts(); len(d) != 1 {
		w.t.Fatalf("%d drafts; want one, or this proves nothing\n%s", len(d), w.log())
	}
	rows, err := w.b.queue.List(ctx, queue.Filter{})
	if err != nil || len(rows) != 1 {
		w.t.Fatalf("%d messages, %v", len(rows), err)
	}
	return string(rows[0].Item.ID)
}

// act does what a person does, as soon as no attempt is under way.
func (w *world) act(id, action string) {
	w.t.Helper()
	for {
		done, err := w.b.admin.Load().QueueChange(w.t.Context(), control.QueueChange{Action: action, QueueQuery: control.QueueQuery{IDs: []string{id}}})
		switch {
		case err != nil:
			w.t.Fatal(err)
		case done.Changed == 1:
			return
		case !strings.Contains(done.Refused[0].Text, "at this moment"):
			w.t.Fatal(done.Refused[0].Text)
		}
	}
}

// sweep has everything removed that is noted, once the account's mailbox is up again.
func (w *world) sweep(user string, copies int) {
	w.t.Helper()
	for probes := 1; ; probes++ {
		if err := w.hand(user, []string{"bob@example.test"}, []byte("From: a@erp.local\r\nTo: bob@example.test\r\n\r\nprobe\r\n")); err != nil {
			w.t.Fatal(err)
		}
		if got := w.wait(copies + probes); got[len(got)-1].Via == sandbox.ViaGraph { // where SMTP takes it Graph is paused still
			break
		}
	}
	later := leftover.New(leftover.Options{Store: w.b.store, Remove: w.b.removeLeft, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if next := later.Sweep(w.t.Context()); !next.IsZero() {
		w.t.Errorf("something is left to do\n%s", w.log())
	}
	if d := w.box.Drafts(); len(d) != 0 {
		w.t.Errorf("drafts left behind: %+v\n%s", d, w.log())
	}
	arrived := 0
	for _, r := range w.box.Received() {
		if r.Recipients[0] == "ann@example.test" {
			arrived++
		}
	}
	if arrived != copies {
		w.t.Errorf("%d copies arrived; want %d", arrived, copies)
	}
}

// TestWhatWasSentIsNotRemoved: Sent Items show it late, and until then it looks like a draft that a process has left which
// died.
func TestWhatWasSentIsNotRemoved(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig, sandbox: sandbox.Switches{SentLag: 20}})
	id := w.leaveDraft("drafts", event.MessageDeferred, sandbox.Fault{Where: sandbox.AtSend, Status: 503, Code: "ErrorServerBusy", RetryAfter: "1"})
	if err := w.b.store.Update(t.Context(), envelope.ID(id), func(it *queue.Item) error { it.Deaths = 1; return nil }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.MessageRelayed, 1); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	now := time.Now()
	sweeper := leftover.New(leftover.Options{Store: w.b.store, Remove: w.b.removeLeft, Now: func() time.Time { return now }})
	if next := sweeper.Sweep(ctx); next.Before(now.Add(5 * time.Minute)) {
		t.Errorf("what was left is looked for at %v; want it later than doubt_wait after %v", next, now)
	}
	now = now.Add(time.Hour)
	if next := sweeper.Sweep(ctx); !next.IsZero() {
		t.Errorf("something is left to do\n%s", w.log())
	}
	if log := w.log(); strings.Contains(log, "DELETE") {
		t.Errorf("a message was removed that is on its way\n%s", log)
	}
}

// TestOneCopyWhereGraphLeftADraft: what Graph did not send says nothing about what SMTP took afterwards.
func TestOneCopyWhereGraphLeftADraft(t *testing.T) {
	w := newWorld(t, worldOptions{config: strings.Replace(exactConfig, "mailbox = \"sales@contoso.test\"\n", "mailbox = \"sales@contoso.test\"\ndoubt_wait = \"1s\"\n", 1)})
	w.leaveDraft("auto", event.MessageInDoubt, sandbox.Fault{Where: sandbox.AtDot, Outcome: "drop-after"},
		sandbox.Fault{Where: sandbox.AtSend, Status: 503, Code: "ErrorServerBusy", RetryAfter: "1"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.MessageRelayed, 1); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	if got := w.box.Received(); len(got) != 1 || got[0].Via != sandbox.ViaSMTP {
		t.Errorf("%d copies arrived: %+v; want one by SMTP\n%s", len(got), got, w.log())
	}
}

// TestDraftOfAMessageDroppedWhileStopped: the next start has it removed.
func TestDraftOfAMessageDroppedWhileStopped(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig})
	id := w.leaveDraft("drafts", event.MessageDeferred, sandbox.Fault{Where: sandbox.AtSend, Status: 503, Code: "ErrorServerBusy", RetryAfter: "1", Times: -1})
	w.stop()
	w.box.ClearFaults()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	svc, done, err := Admin(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := svc.QueueChange(t.Context(), control.QueueChange{Action: "drop", QueueQuery: control.QueueQuery{IDs: []string{id}}})
	if err = errors.Join(err, done()); err != nil || changed.Changed != 1 {
		t.Fatalf("%+v, %v", changed, err)
	}
	w.start()
	w.sweep("drafts", 0)
}

// TestACopyLeavesDraftsAlone: what a restored backup has noted may be in use where the mail is sent from.
func TestACopyLeavesDraftsAlone(t *testing.T) {
	store := mapStore{"leftover/0123456789abcdef": "{}", "other": "x"}
	if _, err := (copied{Queue: queue.New(queue.Options{Store: emptyQueue{}}), store: store}).HoldEverything(t.Context(), "it is a copy"); err != nil {
		t.Fatal(err)
	}
	if len(store) != 1 || store["other"] == "" {
		t.Errorf("notes = %v; want the other's alone", store)
	}
}

// mapStore keeps notes.
type mapStore map[string]string

func (m mapStore) SetNote(_ context.Context, key, value string) error {
	if m[key] = value; value == "" {
		delete(m, key)
	}
	return nil
}

func (m mapStore) Notes(_ context.Context, prefix string) (map[string]string, error) {
	found := map[string]string{}
	for key, value := range m {
		if strings.HasPrefix(key, prefix) {
			found[key] = value
		}
	}
	return found, nil
}

// emptyQueue has no messages.
type emptyQueue struct{ queue.Store }

func (emptyQueue) List(context.Context, queue.Filter) ([]queue.Entry, error) { return nil, nil }

// TestHowLongADraftMayBeOnItsWay: doubt_wait is what the account takes for it.
func TestHowLongADraftMayBeOnItsWay(t *testing.T) {
	cfg := &config.Config{Accounts: []config.Account{{Name: "erp", DoubtWait: 3 * time.Minute}, {Name: "people", DoubtWait: 7 * time.Minute}}}
	memo := queue.Last{Note: `{"memo":"{\"draft\":\"x\"}"}`, Transport: "graph"}
	marked := memo
	marked.ByPerson = true
	one := func(s queue.State, l queue.Last) []queue.Recipient { return []queue.Recipient{{State: s, Last: l}} }
	for _, tc := range []struct {
		name  string
		ended queue.Ended
		after time.Duration
		ok    bool
	}{
		{"the draft was sent", queue.Ended{Account: "erp", Recipients: one(queue.Relayed, memo)}, 0, false},
		{"the draft was sent, and an attempt before it died", queue.Ended{Account: "erp", Recipients: one(queue.Relayed, memo), All: one(queue.Relayed, memo), Broken: true}, 3 * time.Minute, true},
		{"it failed, and another's was sent before", queue.Ended{Account: "erp", Recipients: one(queue.Failed, memo), All: append(one(queue.Relayed, memo), one(queue.Failed, memo)...)}, 3 * time.Minute, true},
		{"it failed, and another's was sent by SMTP", queue.Ended{Account: "erp", Recipients: one(queue.Failed, memo), All: one(queue.Relayed, queue.Last{Transport: "smtp"})}, 0, true},
		{"a person says that it was", queue.Ended{Account: "erp", Recipients: one(queue.Relayed, marked), ByPerson: true, InDoubt: true}, 3 * time.Minute, true},
		{"it never had one", queue.Ended{Account: "erp", Recipients: one(queue.Failed, queue.Last{Note: `{"part":"2"}`})}, 0, false},
		{"nobody knows whether it had one", queue.Ended{Account: "erp", Recipients: one(queue.Failed, queue.Last{}), Broken: true}, 0, true},
		{"it failed", queue.Ended{Account: "erp", Recipients: one(queue.Failed, memo)}, 0, true},
		{"in doubt, of a single mailbox of many", queue.Ended{Account: "people/ann@contoso.test", Recipients: one(queue.Held, memo), InDoubt: true}, 7 * time.Minute, true},
		{"in doubt, of an account that is gone", queue.Ended{Account: "gone", Recipients: one(queue.Held, memo), InDoubt: true}, inFlight, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if after, ok := leavesSomething(cfg, tc.ended); after != tc.after || ok != tc.ok {
				t.Errorf("%v, %v; want %v, %v", after, ok, tc.after, tc.ok)
			}
		})
	}
}
