package sqlite_test

import (
	"path/filepath"
	"testing"

	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

func TestStore(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Opener {
		// A name that would break a DSN pasted together.
		path := filepath.Join(t.TempDir(), "queue 100%#.db")
		return func(t testing.TB) queue.Store { return open(t, path) }
	})
}

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}
