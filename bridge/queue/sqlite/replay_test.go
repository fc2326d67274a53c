package sqlite_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/intake"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// regroup writes an intake anew, with so many of its records in each frame. between is called before the n-th.
func regroup(t *testing.T, path string, groups []int, between func(n int, l *intake.Log)) {
	t.Helper()
	frames, bad, err := intake.Read(path, intake.ID{})
	if err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	var records [][]byte
	for _, f := range frames {
		records = append(records, f.Records...)
	}
	l := intake.New(intake.Options{Path: path, ID: frames[0].ID, Made: func() error { return nil }})
	defer l.Close()
	for n, size := range groups {
		between(n, l)
		if _, err := l.Append(records[:size]); err != nil {
			t.Fatal(err)
		}
		records = records[size:]
	}
}

// leftBehind is a store whose process died with so many messages of 300 octets in front of the tables, a frame each.
func leftBehind(t *testing.T, messages int) (path string, ids []envelope.ID) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	s.KeepWaiting()
	ids = addBodies(t, s, messages, 300)
	return crash(t, path), ids
}

// TestDamagedFrameOfSeveral: a wrong bit takes one message of those that shared a frame.
func TestDamagedFrameOfSeveral(t *testing.T) {
	died, ids := leftBehind(t, 4)
	regroup(t, died+".intake", []int{3, 1}, func(int, *intake.Log) {})
	file, err := os.ReadFile(died + ".intake")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, bodyOf(ids[1], 300))
	damage(t, died+".intake", int64(at), []byte{'!'})
	s := open(t, died)
	defer s.Close()
	if r := s.Salvaged(); r == nil || len(r.Lost) != 1 || len(r.Held) != 0 {
		t.Fatalf("reported: %+v", r)
	}
	told(t, s)
	s.Close()
	checkThere(t, died, queue.Queued, 300, ids[0], ids[2], ids[3])
}

// TestTablesThatWentBack: a frame that was written when others had been released shows that the tables have lost what they
// knew of those, although none is missing.
func TestTablesThatWentBack(t *testing.T) {
	died, ids := leftBehind(t, 3)
	regroup(t, died+".intake", []int{1, 1, 1}, func(n int, l *intake.Log) {
		if n == 2 {
			l.Release(1) // the first is in the tables, and perhaps relayed
		}
	})
	s := open(t, died)
	defer s.Close()
	if r := s.Salvaged(); r == nil || len(r.Held) != 3 || len(r.Lost) != 0 {
		t.Fatalf("reported: %+v", r)
	}
	told(t, s)
	s.Close()
	checkThere(t, died, queue.Held, 300, ids...)
}

// TestStrangeAndOld: what a queue does not know, and is older than its newest message, is not held, for it may have been
// finished long ago; but the file is kept, and a person is told.
func TestStrangeAndOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	s.KeepWaiting()
	item, m := queuetest.NewMessage("erp", time.Now().Add(-time.Hour))
	if err := s.Add(t.Context(), item, m, strings.NewReader("long ago")); err != nil {
		t.Fatal(err)
	}
	died := crash(t, path)
	s.Close()
	other := filepath.Join(t.TempDir(), "queue.db")
	s = open(t, other)
	ids := addBodies(t, s, 1, 300)
	s.Close()
	copyStore(t, died+".intake", other+".intake")
	s = open(t, other)
	defer s.Close()
	r := s.Salvaged()
	if r == nil || len(r.Held)+len(r.Lost) != 0 || !strings.Contains(r.Why.Error(), "1 messages in it are older") {
		t.Fatalf("reported: %+v", r)
	}
	if frames, _, err := intake.Read(r.Aside, intake.ID{}); err != nil || len(frames) != 1 {
		t.Errorf("aside: %d frames, %v", len(frames), err)
	}
	told(t, s)
	s.Close()
	checkThere(t, other, queue.Queued, 300, ids...)
}

// TestStrangeAndDamaged: of what is not known, what cannot be read is named too, and the file is kept.
func TestStrangeAndDamaged(t *testing.T) {
	died, ids := leftBehind(t, 3)
	tamper(t, died, "DELETE FROM notes WHERE key = 'intake'")
	damage(t, died+".intake", 4096+200, []byte{0xff, 0xff})
	for range 2 { // as from a start that ended before the mark
		mark := copyOf(t, died+".intake")
		s := open(t, died)
		if r := s.Salvaged(); r == nil || len(r.Held) != 2 || len(r.Lost) != 1 {
			t.Fatalf("reported: %+v", r)
		} else if _, err := os.Stat(r.Aside); err != nil {
			t.Error(err)
		}
		s.Close()
		tamper(t, died, "DELETE FROM notes WHERE key = 'intake'")
		mark()
	}
	if err := os.Remove(died + ".intake"); err != nil {
		t.Fatal(err)
	}
	s := open(t, died)
	defer s.Close()
	told(t, s)
	s.Close()
	checkThere(t, died, queue.Held, 300, ids[0], ids[2])
}

// copyOf remembers a file; the returned function puts it back as it was.
func copyOf(t *testing.T, path string) (putBack func()) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.WriteFile(path, text, 0o600), os.Chtimes(path, st.ModTime(), st.ModTime())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNothingIsMovedIntoDamage: what was left in front goes into the salvaged store, not into the damaged one, where it could
// take the place of what is still whole.
func TestNothingIsMovedIntoDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	before := addBodies(t, s, 30, 3000)
	settle(t, s)
	s.KeepWaiting()
	left := addBodies(t, s, 12, 3000)
	died := crash(t, path)
	s.Close()
	db := raw(t, died)
	for _, statement := range []string{"DELETE FROM chunks WHERE at >> 20 <= 10", "DELETE FROM recipients WHERE seq <= 10", "DELETE FROM messages WHERE seq <= 10",
		"PRAGMA wal_checkpoint(TRUNCATE)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	file, err := os.ReadFile(died)
	if err != nil {
		t.Fatal(err)
	}
	// The list of free pages names pages that are in use.
	trunk := file[(binary.BigEndian.Uint32(file[32:])-1)*4096:]
	entries := min(int(binary.BigEndian.Uint32(trunk[4:])), 10)
	for n, id := range before[20 : 20+entries] {
		at := bytes.Index(file, bodyOf(id, 3000)[:1000])
		binary.BigEndian.PutUint32(trunk[8+4*n:], uint32(at/4096+1))
	}
	if err := os.WriteFile(died, file, 0o600); err != nil || entries < 5 {
		t.Fatal(err, entries)
	}
	if _, err := sqlite.OpenSound(t.Context(), died); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("OpenSound: %v", err)
	}
	s = open(t, died)
	defer s.Close()
	if r := s.Salvaged(); r == nil || len(r.Held)+len(r.Lost) != 0 {
		t.Fatalf("reported: %+v", r)
	}
	told(t, s)
	s.Close()
	checkThere(t, died, queue.Queued, 3000, append(before[10:], left...)...)
}

// TestIntakeThatCannotBeOpened: what cannot be read just now is not thrown away.
func TestIntakeThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	open(t, path).Close()
	if err := errors.Join(os.Remove(path+".intake"), os.Mkdir(path+".intake", 0o700)); err != nil {
		t.Fatal(err)
	}
	if s, err := sqlite.Open(t.Context(), path); err == nil {
		s.Close()
		t.Error("it opens")
	} else if !strings.Contains(err.Error(), "what was accepted last") {
		t.Errorf("Open: %v", err)
	}
	if _, err := os.Stat(path + ".intake"); err != nil {
		t.Error(err)
	}
}

// TestMessageThatTheTablesRefuse: it lies aside and a person is told; all others go on.
func TestMessageThatTheTablesRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	first := addBodies(t, s, 1, 300)
	settle(t, s)
	s.KeepWaiting()
	ids := addBodies(t, s, 3, 300)
	tamper(t, path, fmt.Sprintf("CREATE TRIGGER no BEFORE INSERT ON messages WHEN new.id = '%s' BEGIN SELECT raise(ABORT, 'not this one'); END", ids[0]))
	tamper(t, path, "INSERT INTO chunks (at, data) VALUES (2 << 20, x'6c656674')") // which fits nobody
	if all, err := s.List(t.Context(), queue.Filter{}); err != nil || len(all) != 3 || s.Waiting() != 0 {
		t.Fatalf("%d messages, %v, %d wait", len(all), err, s.Waiting())
	}
	refused := path + ".refused-" + string(ids[0]) + ".eml"
	if b, err := os.ReadFile(refused); err != nil || !bytes.HasSuffix(b, bodyOf(ids[0], 300)) || !bytes.HasPrefix(b, []byte("From: ")) {
		t.Errorf("%s: %d octets, %v", filepath.Base(refused), len(b), err)
	}
	select {
	case err := <-s.Damaged():
		if !errors.Is(err, sqlite.ErrRefused) || !strings.Contains(err.Error(), filepath.Base(refused)) || !strings.Contains(err.Error(), string(ids[0])) {
			t.Errorf("told: %v", err)
		}
	default:
		t.Error("nobody is told")
	}
	s.Close()
	tamper(t, path, "DROP TRIGGER no")
	s = open(t, path)
	if r := s.Salvaged(); r == nil || len(r.Lost) != 1 || r.Lost[0].ID != string(ids[0]) || !strings.Contains(r.Lost[0].Err.Error(), "buyer@fabrikam.test") {
		t.Errorf("the next start reports %+v", r)
	}
	told(t, s)
	s.Close()
	checkThere(t, path, queue.Queued, 300, first[0], ids[1], ids[2])
}

// TestCloseWithinAdd: nothing is kept after the close, when another process may have the file.
func TestCloseWithinAdd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	ids := addBodies(t, s, 1, 300)
	if err := s.CloseWithinAdd(); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Add: %v, want ErrClosed", err)
	}
	checkThere(t, path, queue.Queued, 300, ids...)
}

// TestBackupOfAllThatWasAccepted: where the tables do not take what waits, there is no copy that lacks it.
func TestBackupOfAllThatWasAccepted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "queue.db"))
	defer s.Close()
	s.KeepWaiting()
	if err := s.LimitPages(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	addBodies(t, s, 3, 10_000)
	copied := filepath.Join(dir, "copy.db")
	if err := s.Backup(t.Context(), copied, nil); err == nil {
		t.Error("there is a copy that lacks mail")
	}
	if err := s.LimitPages(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.TryAgain()
	if err := s.Backup(t.Context(), copied, nil); err != nil {
		t.Fatal(err)
	}
	c := open(t, copied)
	defer c.Close()
	if all, err := c.List(t.Context(), queue.Filter{}); err != nil || len(all) != 3 {
		t.Errorf("the copy has %d messages, %v", len(all), err)
	}
}

// TestDamagedLastFrame: a wrong bit in it is told, for a crash makes none. Nobody knows whether its messages were promised, so
// those that are whole are held.
func TestDamagedLastFrame(t *testing.T) {
	for _, tc := range []struct {
		name string
		at   func(file []byte, second []byte) int
		held []int
	}{
		{"in one of 20 messages", func(file, second []byte) int { return bytes.Index(file, second) }, []int{0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
		{"in its head", func([]byte, []byte) int { return 30 }, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			died, ids := leftBehind(t, 20)
			regroup(t, died+".intake", []int{20}, func(int, *intake.Log) {})
			file, err := os.ReadFile(died + ".intake")
			if err != nil {
				t.Fatal(err)
			}
			at := tc.at(file, bodyOf(ids[1], 300)[:20])
			damage(t, died+".intake", int64(at), []byte{file[at] ^ 1})
			var held []envelope.ID
			for _, n := range tc.held {
				held = append(held, ids[n])
			}
			s := open(t, died)
			defer s.Close()
			r := s.Salvaged()
			if r == nil || len(r.Held) != len(held) || len(r.Lost) != 1 || !strings.Contains(r.Lost[0].Err.Error(), "frame 1 of the intake") {
				t.Fatalf("reported: %+v", r)
			}
			if frames, _, err := intake.Read(r.Aside, intake.ID{}); err != nil || len(frames) != 1 {
				t.Errorf("aside: %d frames, %v", len(frames), err)
			}
			if e, err := s.Get(t.Context(), held[0]); err != nil || !strings.Contains(e.Item.Recipients[0].Last.Err, "it may come again") {
				t.Errorf("%+v, %v", e.Item, err)
			}
			told(t, s)
			s.Close()
			checkThere(t, died, queue.Held, 300, held...)
		})
	}
}

// TestIntakeOfAStoreThatWasClosed: without it nothing is missing.
func TestIntakeOfAStoreThatWasClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	ids := addBodies(t, s, 2, 300)
	s.Close()
	if err := os.Remove(path + ".intake"); err != nil {
		t.Fatal(err)
	}
	checkThere(t, path, queue.Queued, 300, ids...)
}

// TestStoreThatDiedBeforeItsFirstFrame: it has an intake, so that none is missed.
func TestStoreThatDiedBeforeItsFirstFrame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	checkThere(t, crash(t, path), queue.Queued, 300)
}
