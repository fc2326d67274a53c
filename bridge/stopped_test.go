package bridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// TestSignInOnAStoppedDaemonEndsThePark: what a login waited for is not remembered any more after the sign-in, and what
// another login waits for is.
func TestSignInOnAStoppedDaemonEndsThePark(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	for _, via := range []string{"graph", "smtp"} {
		if err := w.submit(via, []string{"customer@example.test"}, invoice); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.AccountParked, 2); err != nil {
		t.Fatalf("no account was parked: %v\n%s", err, w.log())
	}
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	svc, done, err := Admin(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.SignIn(ctx, "by-graph", w.box.RefreshToken("erp@contoso.test")); err != nil {
		t.Error(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	store, err := openStore(ctx, cfg, sqlite.Open)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	notes, err := remembered(ctx, store)
	if err != nil || len(notes) != 1 || notes["login/smtp/contoso svc@contoso.test"] == "" {
		t.Errorf("remembered: %v, %v; want the trouble of svc@contoso.test alone", notes, err)
	}
}

// TestADamagedQueueIsLeftToTheStart: who asks while no daemon runs neither salvages, for the daemon tells everybody of what
// it saves, nor hears a wrong number.
func TestADamagedQueueIsLeftToTheStart(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(storeFile(cfg))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := filepath.Glob(storeFile(cfg) + "*")
	if err != nil {
		t.Fatal(err)
	}
	copy(file, make([]byte, 100))
	if err := os.WriteFile(storeFile(cfg), file, 0o600); err != nil {
		t.Fatal(err)
	}
	svc, done, err := Admin(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	list, err := svc.Accounts(t.Context())
	if err != nil || len(list) == 0 || !list[0].Uncounted || list[0].Waiting != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	h, err := svc.(*admin).Health(t.Context())
	if err != nil || len(h.Errors) != 1 || !strings.Contains(h.Errors[0].Remedy, "restart postern") {
		t.Errorf("health: %+v, %v", h.Errors, err)
	}
	if rows, err := svc.QueueRows(t.Context(), control.QueueQuery{All: true}); err == nil || !strings.Contains(err.Error(), "start postern") {
		t.Errorf("queue list: %+v, %v; want that the daemon must be started", rows, err)
	}
	if list, err := filepath.Glob(storeFile(cfg) + "*"); err != nil || !slices.Equal(list, beside) {
		t.Errorf("beside the queue there are %q, %v; want %q", list, err, beside)
	}
	if after, err := os.ReadFile(storeFile(cfg)); err != nil || string(after) != string(file) {
		t.Errorf("the file is another one: %v", err)
	}
}

// TestWhatIsChangedWithoutADaemonKeepsItsAgeAndReports: a message that begins anew on a stopped daemon, or that is accepted
// before the queue runs, knows how long its account was parked until then; and what ends there is reported after the start.
func TestWhatIsChangedWithoutADaemonKeepsItsAgeAndReports(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	// with opens the store for a while.
	with := func(use func(*sqlite.Store)) {
		t.Helper()
		store, err := openStore(ctx, cfg, sqlite.Open)
		if err != nil {
			t.Fatal(err)
		}
		use(store)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const parked = 40 * 24 * time.Hour
	ids := map[string]string{} // by the action
	with(func(store *sqlite.Store) {
		if err := store.SetNote(ctx, "parked/by-graph", fmt.Sprintf(`{"total": %d}`, parked)); err != nil {
			t.Fatal(err)
		}
		for action, states := range map[string][]queue.State{"retry": {queue.Failed}, "release": {queue.Held}, "sent": {queue.Failed, queue.Held}} {
			it, m := queuetest.NewMessage("by-graph", time.Now(), []string{"ann@example.test", "bob@example.test"}[:len(states)]...)
			for i, s := range states {
				it.Recipients[i].State, it.Recipients[i].Next = s, time.Time{}
			}
			if err := store.Add(ctx, it, m, strings.NewReader("x\r\n")); err != nil {
				t.Fatal(err)
			}
			ids[action] = string(it.ID)
		}
	})
	svc, done, err := Admin(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for action, id := range ids {
		changed, err := svc.QueueChange(ctx, control.QueueChange{Action: action, QueueQuery: control.QueueQuery{IDs: []string{id}}})
		if err != nil || changed.Changed != 1 {
			t.Errorf("%s: %+v, %v", action, changed, err)
		}
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	b, err := New(ctx, cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, m := queuetest.NewMessage("by-graph", time.Now())
	if err := b.queue.Enqueue(ctx, m, strings.NewReader("x\r\n")); err != nil {
		t.Error(err)
	}
	ids["accepted before Run"] = string(m.ID)
	if err := b.close(); err != nil {
		t.Error(err)
	}
	with(func(store *sqlite.Store) {
		for action, id := range ids {
			e, err := store.Get(ctx, envelope.ID(id))
			switch {
			case err != nil:
				t.Errorf("%s: %v", action, err)
			case action == "sent" && e.Item.Owed != queue.OwedFailure:
				t.Errorf("%s: %s owes %q; want the report of a failure", action, e.Item.State(), e.Item.Owed)
			case action != "sent" && e.Item.Parked < parked:
				t.Errorf("%s: its account was parked for %v before; want at least %v", action, e.Item.Parked, parked)
			}
		}
	})
}

// TestALookBeforeTheStartHidesNothing: root's command line does not have the service's environment, and so not the note of the
// starts outside of data_dir. Commands on a data_dir that was put back as a whole leave it to the start to find that out; and
// what the first of them finds out by itself the start says in the daemon's log.
func TestALookBeforeTheStartHidesNothing(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("CACHE_DIRECTORY", cache)
	w := newWorld(t, worldOptions{unsigned: true})
	if err := w.submit("graph", []string{"customer@example.test"}, invoice); err != nil {
		t.Fatal(err)
	}
	w.stop()
	data, copied := w.b.cfg.Bridge.DataDir, t.TempDir()
	transfer := func(from, to string) {
		t.Helper()
		for _, name := range []string{"queue.db", "last-start"} {
			text, err := os.ReadFile(filepath.Join(from, name))
			if err = errors.Join(err, os.WriteFile(filepath.Join(to, name), text, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := func() {
		t.Helper()
		t.Setenv("CACHE_DIRECTORY", cache)
		w.start()
		w.stop()
	}
	commands := func(want string) {
		t.Helper()
		t.Setenv("CACHE_DIRECTORY", "")
		for range 3 {
			svc, done, err := Admin(t.Context(), w.b.cfg)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := svc.QueueRows(t.Context(), control.QueueQuery{State: want})
			if err = errors.Join(err, done()); err != nil || len(rows) != 1 {
				t.Fatalf("%d messages are %s, %v; want 1", len(rows), want, err)
			}
		}
	}
	transfer(data, copied)
	again()
	transfer(copied, data)
	commands("queued")
	again()
	if n := w.events.count(event.QueueHeld); n != 1 {
		t.Errorf("the start after three commands said %d times that the queue is held; want 1\n%s", n, w.log())
	}
	commands("held")
	again()
	if n := w.events.count(event.QueueHeld); n != 1 {
		t.Errorf("the next start said so again: %d\n%s", n, w.log())
	}
	svc, done, err := Admin(t.Context(), w.b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = svc.QueueChange(t.Context(), control.QueueChange{Action: "release", QueueQuery: control.QueueQuery{All: true}})
	if err = errors.Join(err, done(), os.Remove(filepath.Join(data, "last-start"))); err != nil {
		t.Fatal(err)
	}
	commands("held")
	again()
	if n := w.events.count(event.QueueHeld); n != 2 || !strings.Contains(w.log(), "without the note of its last start; a command has held it since 2") {
		t.Errorf("the daemon's log says %d times that the queue is held; want 2, and since when\n%s", n, w.log())
	}
}

// TestHoldAllWithoutADaemonHoldsWhatWasInFlight: a machine that was set back has leases of a process that is gone, and it is
// their mail that may have gone out.
func TestHoldAllWithoutADaemonHoldsWhatWasInFlight(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	leaseToTheDead(t, cfg, "by-graph", true)
	leaseToTheDead(t, cfg, "by-graph", false)
	svc, done, err := Admin(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := svc.QueueChange(ctx, control.QueueChange{Action: "hold", QueueQuery: control.QueueQuery{All: true}})
	if err != nil || changed.Changed != 2 || changed.Refused != nil {
		t.Errorf("hold --all: %+v, %v; want both held", changed, err)
	}
	changed, err = svc.QueueChange(ctx, control.QueueChange{Action: "release", QueueQuery: control.QueueQuery{All: true}})
	if err != nil || changed.Changed != 1 || len(changed.Refused) != 1 || !strings.Contains(changed.Refused[0].Text, "may have gone out") {
		t.Errorf("release --all: %+v, %v; want the one that was not handed over", changed, err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}

// leaseToTheDead stores a message that a process was sending when it died.
func leaseToTheDead(t *testing.T, cfg *config.Config, account string, handedOver bool) envelope.ID {
	t.Helper()
	store, err := openStore(t.Context(), cfg, sqlite.Open)
	if err != nil {
		t.Fatal(err)
	}
	it, m := queuetest.NewMessage(account, time.Now())
	err = store.Add(t.Context(), it, m, strings.NewReader("x\r\n"))
	err = errors.Join(err, store.Update(t.Context(), it.ID, func(it *queue.Item) error {
		it.Lease, it.Intent, it.Recipients[0].State, it.Recipients[0].Next = "a dead process", handedOver, queue.Sending, time.Time{}
		return nil
	}), store.Close())
	if err != nil {
		t.Fatal(err)
	}
	return it.ID
}

// TestAnOrderWithoutADaemonKnowsTheMailboxesOfADomain: what was in flight for one of them waits for its doubt as its account
// says, not as that of an account which is gone.
func TestAnOrderWithoutADaemonKnowsTheMailboxesOfADomain(t *testing.T) {
	text := strings.Replace(strings.ReplaceAll(peopleConfig, "{VIA}", "smtp"), "rate_per_minute = 2", "rate_per_minute = 2\ndoubt_wait = \"6h\"", 1)
	w := newWorld(t, worldOptions{config: text, unsigned: true})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	mailbox := leaseToTheDead(t, cfg, "people/anna@contoso.test", true)
	other := leaseToTheDead(t, cfg, "people", false)
	svc, done, err := Admin(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = svc.QueueChange(t.Context(), control.QueueChange{Action: "hold", QueueQuery: control.QueueQuery{IDs: []string{string(other)}}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := svc.QueueRows(t.Context(), control.QueueQuery{IDs: []string{string(mailbox)}})
	if err != nil || len(list) != 1 || list[0].State != "in-doubt" || list[0].NextAttempt.Before(began.Add(time.Hour)) {
		t.Errorf("%+v, %v; want a first look after a third of six hours", list, err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}
