package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// crash copies the files of an open store as a dying process leaves them, and returns the copy's path.
func crash(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "queue.db")
	for _, suffix := range []string{"", "-wal", ".intake"} {
		if _, err := os.Stat(path + suffix); err == nil {
			copyStore(t, path+suffix, to+suffix)
		}
	}
	return to
}

// addBodies adds messages of that size.
func addBodies(t testing.TB, s queue.Store, messages, size int) (ids []envelope.ID) {
	t.Helper()
	for range messages {
		item, m := queuetest.NewMessage("erp", time.Now())
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, item.ID)
	}
	return ids
}

// checkThere opens the store twice: each of the messages is there once and whole, in that state, and no other is.
func checkThere(t *testing.T, path string, state queue.State, size int, ids ...envelope.ID) {
	t.Helper()
	for range 2 {
		s := open(t, path)
		defer s.Close()
		if s.Salvaged() != nil {
			t.Errorf("reported: %+v", s.Salvaged())
		}
		all, err := s.List(t.Context(), queue.Filter{})
		if err != nil || len(all) != len(ids) {
			t.Errorf("%d messages, %v; want %d", len(all), err, len(ids))
		}
		for _, e := range all {
			b, err := readBody(s, e.Item.ID)
			if err != nil || !bytes.Equal(b, bodyOf(e.Item.ID, size)) || e.Item.State() != state || !slices.Contains(ids, e.Item.ID) {
				t.Errorf("%s: %s, %d octets, %v", e.Item.ID, e.Item.State(), len(b), err)
			}
		}
		if c, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: time.Now(), Limit: 1, Take: func(*queue.Item) error { return nil }}); err != nil || (len(c) > 0) != (state == queue.Queued && len(ids) > 0) {
			t.Errorf("claimed %d, %v", len(c), err)
		}
		s.Close()
	}
}

// TestAcceptedIsNotYetInTheTables: a small message is kept before any table has it, and is in them after the next change, a
// close, or the next process's start.
func TestAcceptedIsNotYetInTheTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	s.KeepWaiting()
	ids := addBodies(t, s, 5, 700)
	if s.Waiting() != 5 {
		t.Fatalf("%d wait, want 5", s.Waiting())
	}
	died := crash(t, path)
	inTables := func(path string) (n int) {
		if err := raw(t, path).QueryRow("SELECT count(*) FROM messages").Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	if n := inTables(died); n != 0 {
		t.Errorf("the tables have %d before the start", n)
	}
	checkThere(t, died, queue.Queued, 700, ids...)
	if err := s.SetNote(t.Context(), "any", "change"); err != nil || s.Waiting() != 0 {
		t.Errorf("after a change %d wait, %v", s.Waiting(), err)
	}
	moved := crash(t, path)
	if n := inTables(moved); n != 5 {
		t.Errorf("after a change the tables have %d", n)
	}
	checkThere(t, moved, queue.Queued, 700, ids...)
	ids = append(ids, addBodies(t, s, 1, 700)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := inTables(path); n != 6 {
		t.Errorf("after the close the tables have %d", n)
	}
	checkThere(t, path, queue.Queued, 700, ids...)
}

// TestReplayKnowsWhatTheTablesHave: the mark is older than what was written, as a start leaves it that dies amid the replay.
func TestReplayKnowsWhatTheTablesHave(t *testing.T) {
	died, ids := leftBehind(t, 4)
	half := crash(t, died)
	var mark string
	if err := raw(t, half).QueryRow("SELECT value FROM notes WHERE key = 'intake'").Scan(&mark); err != nil {
		t.Fatal(err)
	}
	one := open(t, half)
	one.Close()
	tamper(t, half, "UPDATE notes SET value = ? WHERE key = 'intake'", mark)
	tamper(t, half, "DELETE FROM messages WHERE id = ?", string(ids[2]))
	checkThere(t, half, queue.Queued, 300, ids...)
}

// TestDamagedIntake: what the intake of a dead process can still tell is taken, and what it cannot is named.
func TestDamagedIntake(t *testing.T) {
	for _, tc := range []struct {
		name      string
		harm      func(b []byte) []byte // four frames, one a block
		lost      int                   // entries of the report
		kept      []int
		state     queue.State
		forgotten bool // no report, although a frame is gone: it was cut, and nobody was told that it is kept
	}{
		{"the last frame was cut", func(b []byte) []byte { clear(b[3*4096+200 : 4*4096]); return b }, 0, []int{0, 1, 2}, queue.Queued, true},
		{"the last frame never came", func(b []byte) []byte { clear(b[3*4096 : 4*4096]); return b }, 0, []int{0, 1, 2}, queue.Queued, true},
		{"the last frame was cut within its block", func(b []byte) []byte { clear(b[3*4096+200 : 4*4096-8]); return b }, 0, []int{0, 1, 2}, queue.Queued, true},
		{"the file ends within the last frame", func(b []byte) []byte { return b[:3*4096+100] }, 1, []int{0, 1, 2}, queue.Queued, false},
		{"a bit of the last frame's text is wrong", func(b []byte) []byte { b[3*4096+100] ^= 4; return b }, 1, []int{0, 1, 2}, queue.Queued, false},
		{"a bit of the second frame's text is wrong", func(b []byte) []byte { b[4096+100] ^= 4; return b }, 1, []int{0, 2, 3}, queue.Queued, false},
		{"a bit of the third frame's head is wrong", func(b []byte) []byte { b[2*4096+20] ^= 4; return b }, 1, []int{0, 1, 2, 3}, queue.Queued, false},
		{"the first frame is gone, and with it where the tables left off", func(b []byte) []byte { clear(b[:4096]); return b }, 0, []int{1, 2, 3}, queue.Held, false},
		{"nothing but noise", func(b []byte) []byte {
			for i := range b {
				b[i] = byte(rand.Int())
			}
			return b
		}, 1, nil, queue.Queued, false},
		{"nothing, where frames were", func(b []byte) []byte { return b[:0] }, 0, nil, queue.Queued, true},
		{"a file that is gone", func(b []byte) []byte { return nil }, 1, nil, queue.Queued, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			died, ids := leftBehind(t, 4)
			b, err := os.ReadFile(died + ".intake")
			if err != nil {
				t.Fatal(err)
			}
			if b = tc.harm(b); b == nil {
				err = os.Remove(died + ".intake")
			} else {
				err = os.WriteFile(died+".intake", b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, died)
			defer s.Close()
			r := s.Salvaged()
			switch {
			case tc.forgotten && r != nil:
				t.Errorf("reported: %+v", r)
			case !tc.forgotten && (r == nil || len(r.Lost) != tc.lost || r.Why == nil || (r.Aside != "") != (tc.lost > 0 && b != nil)):
				t.Errorf("reported: %+v; want %d lost", r, tc.lost)
			case tc.lost > 0 && b != nil:
				if _, err := os.Stat(r.Aside); err != nil {
					t.Errorf("the damaged file is not kept: %v", err)
				}
			case tc.state == queue.Held && len(r.Held) != len(tc.kept):
				t.Errorf("held: %+v", r.Held)
			}
			told(t, s)
			s.Close()
			var kept []envelope.ID
			for _, n := range tc.kept {
				kept = append(kept, ids[n])
			}
			checkThere(t, died, tc.state, 300, kept...)
			s = open(t, died)
			defer s.Close()
			if s.Salvaged() != nil {
				t.Errorf("told again: %+v", s.Salvaged())
			}
			kept = append(kept, addBodies(t, s, 1, 300)...)
			if tc.state == queue.Queued {
				checkThere(t, crash(t, died), tc.state, 300, kept...)
			}
		})
	}
}

// TestStrangeIntake: tables that were put back beside an intake of later mail hold what they do not know: it may have been
// relayed.
func TestStrangeIntake(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before int // messages that the put back tables have
		why    string
	}{
		{"tables of an earlier time, with a gap", 3, "does not go on where this queue ends: what came between (frames 4 to 4)"},
		{"empty tables", 0, "not of this queue"},
		{"a copy that postern backup made", 2, "not of this queue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			before := addBodies(t, s, tc.before, 400)
			settle(t, s)
			copied := filepath.Join(t.TempDir(), "queue.db")
			switch {
			case tc.before == 0:
				copied = filepath.Join(t.TempDir(), "fresh.db")
				open(t, copied).Close()
			case strings.Contains(tc.name, "backup"):
				if err := s.Backup(t.Context(), copied, nil); err != nil {
					t.Fatal(err)
				}
			default:
				died := crash(t, path)
				open(t, died).Close()
				copied = died
			}
			if !strings.Contains(tc.name, "backup") {
				addBodies(t, s, 1, 400) // its frame is written over, and what became of it is not known
				settle(t, s)
			}
			s.KeepWaiting()
			after := addBodies(t, s, 2, 400)
			died := crash(t, path)
			s.Close()
			copyStore(t, died+".intake", copied+".intake")

			s = open(t, copied)
			defer s.Close()
			r := s.Salvaged()
			if r == nil || len(r.Held) != 2 || len(r.Lost) != 0 || !strings.Contains(fmt.Sprint(r.Why), tc.why) {
				t.Fatalf("reported: %+v", r)
			}
			for _, id := range after {
				if e, err := s.Get(t.Context(), id); err != nil || e.Item.State() != queue.Held || !strings.Contains(e.Item.Recipients[0].Last.Err, "taken the place of") {
					t.Errorf("%s: %+v, %v", id, e.Item, err)
				}
			}
			for _, id := range before {
				if e, err := s.Get(t.Context(), id); err != nil || e.Item.State() != queue.Queued {
					t.Errorf("%s: %+v, %v", id, e.Item, err)
				}
			}
			told(t, s)
			s.Close()
			s = open(t, copied)
			defer s.Close()
			if all, err := s.List(t.Context(), queue.Filter{}); s.Salvaged() != nil || err != nil || len(all) != len(before)+2 {
				t.Errorf("at the next start: %d messages, %v, %+v", len(all), err, s.Salvaged())
			}
		})
	}
}

// TestTablesThatTakeNothing: with a full disk what was kept stays kept, what comes is refused, and it goes on by itself.
func TestTablesThatTakeNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	s.KeepWaiting()
	if err := s.LimitPages(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ids := addBodies(t, s, 3, 10_000)
	if _, err := s.Counts(t.Context()); err != nil { // has them moved
		t.Errorf("the tables cannot be read: %v", err)
	}
	item, m := newMessage()
	if err := s.Add(t.Context(), item, m, bytes.NewReader(make([]byte, 10_000))); !errors.Is(err, queue.ErrFull) {
		t.Errorf("Add: %v, want ErrFull", err)
	}
	if s.Waiting() != 3 || s.Damage() != nil {
		t.Errorf("%d wait, %v", s.Waiting(), s.Damage())
	}
	checkThere(t, crash(t, path), queue.Queued, 10_000, ids...)
	if err := s.LimitPages(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.TryAgain()
	if c, err := s.Counts(t.Context()); err != nil || len(c) != 1 || c[0].N != 3 || s.Waiting() != 0 {
		t.Errorf("with room: %+v, %v, %d wait", c, err, s.Waiting())
	}
	ids = append(ids, addBodies(t, s, 1, 10_000)...)
	s.Close()
	checkThere(t, path, queue.Queued, 10_000, ids...)
}

// TestNobodyIsToldThatItIsNotThere: while the tables do not take what was accepted, who asks for it gets an error, and who
// counts has it counted.
func TestNobodyIsToldThatItIsNotThere(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	defer s.Close()
	first := addBodies(t, s, 1, 300)
	settle(t, s)
	s.KeepWaiting()
	if err := s.LimitPages(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ids := addBodies(t, s, 3, 10_000)
	same := func(*queue.Item) error { return nil }
	for _, tc := range []struct {
		name string
		ask  func() error
	}{
		{"all of them", func() error { _, err := s.List(t.Context(), queue.Filter{}); return err }},
		{"the rest of them", func() error { _, err := s.List(t.Context(), queue.Filter{After: ids[2]}); return err }},
		{"one of them", func() error { _, err := s.Get(t.Context(), ids[0]); return err }},
		{"its body", func() error { _, err := s.Open(t.Context(), ids[1]); return err }},
		{"a change of one", func() error { return s.Update(t.Context(), ids[2], same) }},
		{"a change of some", func() error { return s.UpdateAll(t.Context(), append(first, ids...), same) }},
	} {
		if err := tc.ask(); !errors.Is(err, sqlite.ErrBehind) || errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := s.List(t.Context(), queue.Filter{}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("List does not say why: %v", err)
	}
	if e, err := s.Get(t.Context(), first[0]); err != nil || e.Item.ID != first[0] {
		t.Errorf("one that the tables have: %v", err)
	}
	if ids, err := s.Find(t.Context(), queue.Selection{Which: queue.Owing, Limit: 9}); err != nil || len(ids) != 0 {
		t.Errorf("reports are kept back: %v, %v", ids, err)
	}
	q := queue.New(queue.Options{Store: s, Accounts: []queue.Account{{Name: "erp"}}})
	if n, _, err := q.ChangeAll(t.Context(), queue.Filter{}, queue.Order{Action: queue.HoldBack, By: "root"}); err == nil {
		t.Errorf("hold --all says that it held %d, and no more", n)
	}
	count := func(when string) {
		t.Helper()
		if c, err := s.Counts(t.Context()); err != nil || len(c) != 1 || c[0] != (queue.Count{Account: "erp", State: queue.Queued, N: 4}) {
			t.Errorf("%s: counted %+v, %v", when, c, err)
		}
		if u, err := s.Usage(t.Context()); err != nil || len(u) != 1 || u["nav"].Messages != 4 || u["nav"].Bytes < 30_300 || u["nav"].Bytes > 31_000 {
			t.Errorf("%s: in use %+v, %v", when, u, err)
		}
	}
	count("while they wait")
	if err := s.LimitPages(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.TryAgain()
	count("with room")
	if all, err := s.List(t.Context(), queue.Filter{}); err != nil || len(all) != 4 {
		t.Errorf("with room: %d messages, %v", len(all), err)
	}
}

// TestFullIntake: who comes while the ring is full waits for the tables, and nobody is refused.
func TestFullIntake(t *testing.T) {
	const senders, each, size = 8, 60, 12_000 // 480 frames of 4 blocks at most, and the file has 1,024 blocks
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	leave := s.Occupy(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	var ids []envelope.ID
	arrived := make(chan struct{}, senders*each)
	for range senders {
		all.Go(func() {
			for range each {
				item, m := queuetest.NewMessage("erp", time.Now())
				if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); err != nil {
					t.Errorf("Add: %v", err)
					return
				}
				mu.Lock()
				ids = append(ids, item.ID)
				mu.Unlock()
				arrived <- struct{}{}
			}
		})
	}
	for range 200 {
		<-arrived // without the tables
	}
	leave()
	all.Wait()
	s.Close()
	if len(ids) != senders*each {
		t.Fatalf("%d were kept", len(ids))
	}
	if st, err := os.Stat(path + ".intake"); err != nil || st.Size() > 4<<20 {
		t.Errorf("the intake has %d octets, %v", st.Size(), err)
	}
	checkThere(t, path, queue.Queued, size, ids...)
}

// TestOneOfTheSameID: of many at once that have one ID one is kept.
func TestOneOfTheSameID(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	defer s.Close()
	item, m := newMessage()
	results := make(chan error, 20)
	for range cap(results) {
		go func() { results <- s.Add(t.Context(), item, m, strings.NewReader("once")) }()
	}
	kept := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			kept++
		case !errors.Is(err, queue.ErrExists):
			t.Errorf("Add: %v", err)
		}
	}
	if kept != 1 {
		t.Errorf("%d were kept", kept)
	}
}

// TestSeenExcludesNoIDThatIsThere: it may be unsure of one that is not there, and never sure of one that is.
func TestSeenExcludesNoIDThatIsThere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := sqlite.NewSeen("000500")
	there := map[string]bool{"000500": true, "000123": true}
	sure := 0
	for n := range 3 * sqlite.MaxSeen {
		id := fmt.Sprintf("%06d", n/2+random.IntN(2000))
		if s.Excludes(id) {
			sure++
			if there[id] {
				t.Fatalf("it excludes %s, which is there", id)
			}
		}
		s.Add(id)
		there[id] = true
	}
	for id := range there {
		if s.Excludes(id) {
			t.Fatalf("it excludes %s, which is there", id)
		}
	}
	if sure == 0 {
		t.Error("it is never sure")
	}
}

// TestTwoOfOneIDSinceLong: an ID is known after so many others that it is not remembered.
func TestTwoOfOneIDSinceLong(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "queue.db"))
	defer s.Close()
	item, m := queuetest.NewMessage("erp", time.Now())
	if err := s.Add(t.Context(), item, m, strings.NewReader("once")); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() { addBodies(t, s, sqlite.MaxSeen/64+1, 10) })
	}
	all.Wait()
	if err := s.Add(t.Context(), item, m, strings.NewReader("twice")); !errors.Is(err, queue.ErrExists) {
		t.Errorf("Add under an ID of long ago: %v, want ErrExists", err)
	}
}

// FuzzRecord: whatever lies in the intake, reading it ends without a panic, and what can be read is written alike.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{1})
	f.Add([]byte("\x01\x02id\x01a\x06queued\x00\x00\x00\x00\x00\x02\x00\x04\x00\x00\x00\x00\x01\x01b\x06queued\x01\x02\x00ab"))
	f.Add([]byte("\x01\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := sqlite.DecodeEncode(text)
		if err != nil {
			return
		}
		twice, err := sqlite.DecodeEncode(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q is read from %q, and then %q, %v", once, text, twice, err)
		}
	})
}
