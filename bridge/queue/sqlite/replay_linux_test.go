package sqlite_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"postern/bridge/queue"
)

// TestCommitThatFails: on a full disk it is the commit that has no room. What waits stays, changes that have room go on
// without it, and once there is more it is moved without another change.
func TestCommitThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	s.KeepWaiting()
	ids := addBodies(t, s, 60, 10_000)
	settle(t, s)
	log, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was)
	limit := was
	limit.Cur = max(uint64(log.Size())+100<<10, 1<<20) // the intake has room in its file
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, addBodies(t, s, 60, 10_000)...)
	for range 3 {
		if err := s.SetNote(t.Context(), "small", "change"); err != nil {
			t.Errorf("a change that has room: %v", err)
		}
	}
	if s.Waiting() != 60 {
		t.Errorf("%d wait", s.Waiting())
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	s.TryAgain()
	settle(t, s)
	if s.Waiting() != 0 {
		t.Errorf("with room %d wait", s.Waiting())
	}
	s.Close()
	checkThere(t, path, queue.Queued, 10_000, ids...)
}
