//go:build !windows

package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASocketOfAKilledDaemonIsReplaced(t *testing.T) {
	dead := serveAndKill(t)
	if _, err := Dial(t.Context(), dead); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial on a dead socket = %v; want ErrNotRunning", err)
	}
	l, _, err := Listen(dead)
	if err != nil {
		t.Fatalf("Listen over a dead socket = %v; want success", err)
	}
	l.Close()
}

// serveAndKill leaves a socket file that nobody serves.
func serveAndKill(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, _, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(filepath.Join(dir, "control.sock")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSocketIsForUserAndGroup(t *testing.T) {
	dir := serve(t, &fakeService{})
	fi, err := os.Stat(filepath.Join(dir, "control.sock"))
	if err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("mode = %v, %v; want 0660", fi.Mode(), err)
	}
	if _, _, err := Listen(strings.Repeat("x", 120)); err == nil || !strings.Contains(err.Error(), "shorter data_dir") {
		t.Errorf("Listen on a long path = %v; want the remedy", err)
	}
}
