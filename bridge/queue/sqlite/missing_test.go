package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// TestLogWithoutItsFile: the log has the latest mail, and SQLite deletes one whose file is not there.
func TestLogWithoutItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	open(t, path).Close()
	s := open(t, path)
	ids := addBodies(t, s, 10, 100_000) // large: not through the intake
	died := crash(t, path)
	s.Close()
	file, err := os.ReadFile(died)
	if err == nil {
		err = os.Remove(died)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string) (*sqlite.Store, error){"Open": sqlite.Open, "OpenSound": sqlite.OpenSound} {
		if _, err := open(t.Context(), died); err == nil || !strings.Contains(err.Error(), "put queue.db back") {
			t.Errorf("%s: %v; want what is to be done", name, err)
		}
	}
	if kept, err := sqlite.Kept(died); !kept || err != nil {
		t.Errorf("Kept: %v, %v", kept, err)
	}
	t.Run("it is put back", func(t *testing.T) {
		again := filepath.Join(t.TempDir(), "queue.db")
		copyStore(t, died+"-wal", again+"-wal")
		copyStore(t, died+".intake", again+".intake")
		if err := os.WriteFile(again, file, 0o600); err != nil {
			t.Fatal(err)
		}
		checkThere(t, again, queue.Queued, 100_000, ids...)
	})
	t.Run("an empty file is made in its place", func(t *testing.T) {
		if err := os.WriteFile(died, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := sqlite.OpenSound(t.Context(), died); !errors.Is(err, queue.ErrDamaged) {
			t.Errorf("OpenSound: %v, %v", s, err)
		}
		s := open(t, died)
		if r := s.Salvaged(); r == nil || r.Saved != len(ids) || len(r.Held)+len(r.Lost) != 0 {
			t.Errorf("%+v; want %d saved", r, len(ids))
		}
		told(t, s)
		s.Close()
		checkThere(t, died, queue.Queued, 100_000, ids...)
	})
}
