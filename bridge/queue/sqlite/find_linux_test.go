package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadThrough: the file of a process that died is read from its beginning to its end beside the check, and that does not
// end SQLite's own lock on it, without which another program takes the log away when it closes the file.
func TestReadThrough(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	addBodies(t, s, 20, 100_000)
	s.Close()
	s = open(t, path)
	addBodies(t, s, 1, 100)
	died := crash(t, path)
	s.Close()
	s = open(t, died)
	octets, err := s.HasReadThrough()
	if err != nil {
		t.Error(err)
	}
	st, err := os.Stat(died)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() < 2_000_000 || octets != st.Size() {
		t.Errorf("%d octets were read of %d", octets, st.Size())
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	if inode := fmt.Sprintf(":%d ", st.Sys().(*syscall.Stat_t).Ino); !strings.Contains(string(locks), inode) {
		t.Errorf("no lock on %s in\n%s", inode, locks)
	}
	s.Close()
	s = open(t, died)
	defer s.Close()
	if octets, err := s.HasReadThrough(); err != nil || octets != 0 {
		t.Errorf("%d octets were read of a store that was closed, %v", octets, err)
	}
}
