package sqlite_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

const (
	frameSize = 24 + 4096 // of the log
	firstAt   = 32        // the first frame
)

// leftLog makes a store whose process died: in its log a message became relayed, and then others of that size came.
func leftLog(t *testing.T, messages, size int) (died string, went envelope.ID, sizes map[envelope.ID]int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	went = addBodies(t, s, 1, size)[0]
	s.Close()
	s = open(t, path)
	defer s.Close()
	if err := s.Update(t.Context(), went, relayed); err != nil {
		t.Fatal(err)
	}
	sizes = map[envelope.ID]int{went: size}
	for range messages {
		sizes[addBodies(t, s, 1, size)[0]] = size
		settle(t, s)
	}
	return crash(t, path), went, sizes
}

// commits are where the frames lie that end a transaction.
func commits(t *testing.T, log []byte) (at []int) {
	t.Helper()
	for n := firstAt; n+frameSize <= len(log); n += frameSize {
		if binary.BigEndian.Uint32(log[n+4:]) != 0 && [8]byte(log[n+8:]) == [8]byte(log[16:]) {
			at = append(at, n)
		}
	}
	return at
}

// TestDamagedLog: SQLite drops all that a log has behind its first wrong bit. What was accepted there is in the new store, and
// nothing is sent again that was relayed there.
func TestDamagedLog(t *testing.T) {
	for _, tc := range []struct {
		name   string
		size   int                             // of each message
		damage func(log []byte, commits []int) // commits are the ends of transactions
	}{
		{"a wrong bit in a page of large messages", 100_000, func(log []byte, c []int) { log[c[0]+frameSize+200] ^= 1 }},
		{"a wrong bit in a page of small messages", 300, func(log []byte, c []int) { log[c[0]+frameSize+200] ^= 1 }},
		{"a wrong bit in a sum", 100_000, func(log []byte, c []int) { log[c[0]+frameSize+20] ^= 1 }},
		{"a wrong bit in a salt", 100_000, func(log []byte, c []int) { log[c[0]+frameSize+10] ^= 1 }},
		{"a wrong bit in the end of the last transaction but one", 100_000, func(log []byte, c []int) { log[c[len(c)-2]+500] ^= 1 }},
		{"a sector is gone", 100_000, func(log []byte, c []int) { clear(log[c[3]/4096*4096:][:4096]) }},
		{"the first sector is gone", 100_000, func(log []byte, c []int) { clear(log[:4096]) }},
		{"a wrong bit in the log's mark", 100_000, func(log []byte, c []int) { log[3] ^= 1 }},
		{"a wrong bit in the log's salt", 100_000, func(log []byte, c []int) { log[17] ^= 16 }},
		{"a wrong bit in the log's sum", 100_000, func(log []byte, c []int) { log[26] ^= 4 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			died, went, sizes := leftLog(t, 6, tc.size)
			log, err := os.ReadFile(died + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			tc.damage(log, commits(t, log))
			if err := os.WriteFile(died+"-wal", log, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := sqlite.OpenSound(t.Context(), died); !errors.Is(err, queue.ErrDamaged) {
				t.Errorf("OpenSound: %v", err)
			}
			s := open(t, died)
			defer s.Close()
			r := s.Salvaged()
			if r == nil {
				t.Fatal("nobody is told")
			}
			checkSalvaged(t, s, sizes)
			if kept, err := os.ReadFile(r.Aside + "-wal"); err != nil || len(kept) != len(log) {
				t.Errorf("of the log %d octets are kept of %d, %v", len(kept), len(log), err)
			}
			c, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: time.Now().Add(time.Hour), Limit: 9, Take: take})
			if err != nil || len(c) > 0 {
				t.Errorf("%d are sent, %v", len(c), err)
			}
			all, err := s.List(t.Context(), queue.Filter{})
			if err != nil || len(all) < len(sizes)-1 { // the damage may lie on one of them
				t.Errorf("%d are there of %d, %v: %+v", len(all), len(sizes), err, r)
			}
			for _, e := range all {
				if state := e.Item.State(); state != queue.Held && e.Item.ID != went {
					t.Errorf("%s is %s", e.Item.ID, state)
				}
			}
		})
	}
}

// TestTornLogs: what two power cuts have torn of the last transaction of each is no damage. Nobody was told that it is kept.
func TestTornLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	ids := addBodies(t, s, 2, 100_000)
	path = tornBy(t, path, func() { addBodies(t, s, 1, 100_000) })
	s.Close()
	s = open(t, path)
	note := func() {
		if err := s.SetNote(t.Context(), "a change", time.Now().String()); err != nil { // shorter than what was torn before
			t.Fatal(err)
		}
	}
	note()
	path = tornBy(t, path, note)
	s.Close()
	checkThere(t, path, queue.Queued, 100_000, ids...)
}

// tornBy is the store whose machine stopped amid a transaction: the end of it came to the disk, its beginning did not.
func tornBy(t *testing.T, path string, change func()) (died string) {
	t.Helper()
	read := func(path string) []byte {
		log, err := os.ReadFile(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	before := read(path)
	change()
	died = crash(t, path)
	log := read(died)
	at := 0
	for at < len(before) && at < len(log) && before[at] == log[at] {
		at++
	}
	if at >= len(log) {
		t.Fatal("nothing was written")
	}
	copy(log[at+100:], bytes.Repeat([]byte("old"), 1000)) // of the page, not of its head
	if err := os.WriteFile(died+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	return died
}
