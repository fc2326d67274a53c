package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// TestOpenOnAFullDisk: however little room is left, a store is opened, or the disk is called full; and nothing is lost by it.
func TestOpenOnAFullDisk(t *testing.T) {
	for _, after := range []string{"a stop", "a crash"} {
		t.Run("after "+after, func(t *testing.T) {
			dir := t.TempDir()
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=700"); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("no file system can be mounted here: %v; CI runs as root", err)
				}
				t.Skipf("no file system can be mounted here: %v; run the tests as root", err)
			}
			defer func() {
				if err := syscall.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			}()
			path, left := filepath.Join(dir, "queue.db"), filepath.Join(t.TempDir(), "queue.db")
			s := open(t, left)
			ids := addBodies(t, s, 3, 2000)
			settle(t, s)
			s.KeepWaiting()
			ids = append(ids, addBodies(t, s, 3, 2000)...)
			if after == "a crash" {
				left = crash(t, left)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			full, opened := 0, 0
			for room := int64(0); room <= 128<<10; room += 4 << 10 {
				for _, suffix := range []string{"", "-wal", "-shm", ".intake"} {
					os.Remove(path + suffix)
					if _, err := os.Stat(left + suffix); err == nil {
						copyStore(t, left+suffix, path+suffix)
					}
				}
				ballast := fill(t, filepath.Join(dir, "ballast"), room)
				s, err := sqlite.Open(t.Context(), path)
				switch {
				case err == nil:
					opened++
					s.Close()
				case errors.Is(err, queue.ErrFull):
					full++
				default:
					t.Errorf("with room for %d octets: %v; want it to open, or %q", room, err, queue.ErrFull)
				}
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				checkThere(t, path, queue.Queued, 2000, ids...)
			}
			if full == 0 || opened == 0 {
				t.Errorf("%d times the disk was full, %d times not; want both", full, opened)
			}
		})
	}
}

// fill takes the room of a file system but for so many octets.
func fill(t *testing.T, name string, but int64) string {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for block := make([]byte, 4096); err == nil; size += 4096 {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(max(size-4096-but, 0)); err != nil {
		t.Fatal(err)
	}
	return name
}
