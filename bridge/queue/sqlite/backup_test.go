package sqlite_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// TestBackupIsOneMoment: a copy that is taken while mail comes in has whole messages alone, and each of them or none.
func TestBackupIsOneMoment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "queue.db"))
	first := add(t, s, "before")
	if err := s.SetNote(t.Context(), "kept", "as it is"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				item, m := queuetest.NewMessage("erp", time.Now())
				if err := s.Add(t.Context(), item, m, strings.NewReader(strings.Repeat("x", 200_000))); err != nil {
					t.Errorf("Add while a backup runs: %v", err)
					return
				}
			}
		})
	}
	path := filepath.Join(dir, "copy 100%#.db")
	err := s.Backup(t.Context(), path, map[string]string{"origin": "copy"})
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("the copy: %v, %v; want mode 0600", fi.Mode(), err)
	}
	if left, _ := filepath.Glob(path + "-*"); len(left) > 0 {
		t.Errorf("files beside the copy: %v", left)
	}
	own, err := s.Notes(t.Context(), "")
	if err != nil || own["origin"] != "" {
		t.Errorf("the store itself was marked: %v, %v", own, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	c := open(t, path)
	defer c.Close()
	notes, err := c.Notes(t.Context(), "")
	if err != nil || notes["origin"] != "copy" || notes["kept"] != "as it is" {
		t.Errorf("notes of the copy: %v, %v", notes, err)
	}
	all, err := c.List(t.Context(), queue.Filter{})
	if err != nil || len(all) == 0 || all[0].Item.ID != first.ID {
		t.Fatalf("the copy has %d messages, %v", len(all), err)
	}
	for _, e := range all {
		body, err := c.Open(t.Context(), e.Item.ID)
		if err != nil {
			t.Fatal(err)
		}
		// A body ends with ErrDamaged where it is not whole.
		if n, err := io.Copy(io.Discard, body); err != nil || n != e.BodySize {
			t.Errorf("%s: %d octets of %d, %v", e.Item.ID, n, e.BodySize, err)
		}
		body.Close()
	}
}

func TestBackupReplacesNoFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "queue.db"))
	defer s.Close()
	path := filepath.Join(dir, "there")
	if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), path, nil); err == nil {
		t.Error("Backup over a file = nil; want an error")
	}
	if b, _ := os.ReadFile(path); string(b) != "something else" {
		t.Error("the file that was there is gone")
	}
}

// TestCopyBesideTheLogOfAnother: a copy that is put in the place of a queue which crashed is not mixed with that one's log.
func TestCopyBesideTheLogOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	ids := addBodies(t, s, 3, 2000)
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Backup(t.Context(), copied, nil); err != nil {
		t.Fatal(err)
	}
	addBodies(t, s, 3, 2000)
	settle(t, s)
	died := crash(t, path)
	s.Close()
	copyStore(t, copied, died)
	if err := os.Remove(died + ".intake"); err != nil {
		t.Fatal(err)
	}

	for name, open := range map[string]func(context.Context, string) (*sqlite.Store, error){"Open": sqlite.Open, "OpenSound": sqlite.OpenSound} {
		if s, err := open(t.Context(), died); err == nil || errors.Is(err, queue.ErrDamaged) || !strings.Contains(err.Error(), "move queue.db-wal elsewhere") {
			t.Errorf("%s: %v; want what is to be done about the log", name, err)
			if err == nil {
				s.Close()
			}
		}
	}
	if err := os.Rename(died+"-wal", died+"-elsewhere"); err != nil {
		t.Fatal(err)
	}
	checkThere(t, died, queue.Queued, 2000, ids...)
}
