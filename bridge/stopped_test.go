package bridge

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/event"
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
	if list, err := filepath.Glob(storeFile(cfg) + "*"); err != nil || len(list) != 1 {
		t.Errorf("beside the queue there are %q, %v", list, err)
	}
	if after, err := os.ReadFile(storeFile(cfg)); err != nil || string(after) != string(file) {
		t.Errorf("the file is another one: %v", err)
	}
}
