package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/bridge/queue"
)

// TestReaderOnAShortDisk: who reads for long keeps the log from being emptied, and the writer goes on.
func TestReaderOnAShortDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	ids := addBodies(t, s, 20, 100_000)
	// Whoever waits for a reader does it longer than the test.
	usual, err := s.BusyTimeout(t.Context(), int(time.Hour.Milliseconds()))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := raw(t, path).Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM messages").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := s.UpdateAll(t.Context(), ids, relayed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Purge(t.Context(), queue.Purge{Relayed: accepted.Add(time.Hour)}); err != nil { // their bodies' pages are free
		t.Fatal(err)
	}
	size := func(name string) int64 {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	log := size(path + "-wal")
	done := make(chan error, 1)
	go func() {
		more, err := s.Purge(t.Context(), queue.Purge{Short: true})
		if more {
			t.Error("more is to be done while somebody reads")
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Error("the writer waits for the reader")
		reader.Rollback()
		<-done
		return
	}
	if now := size(path + "-wal"); now != log {
		t.Errorf("the log had %d octets and has %d; want it as it was while somebody reads", log, now)
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		if more, err = s.Purge(t.Context(), queue.Purge{Short: true}); err != nil {
			t.Fatal(err)
		}
	}
	if now := size(path); now >= log/2 || size(path+"-wal") > 0 {
		t.Errorf("of the log's %d octets the file has %d afterwards, and the log %d; want the room back", log, now, size(path+"-wal"))
	}
	if again, err := s.BusyTimeout(t.Context(), 0); err != nil || again != usual || again == 0 {
		t.Errorf("the writer waits %d ms for others, and did %d before; %v", again, usual, err)
	}
}
