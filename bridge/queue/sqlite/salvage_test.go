package sqlite_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// filled makes a store with messages of up to a megabyte and returns their sizes, in the order of their numbers.
func filled(t *testing.T, path string, messages int) (ids []envelope.ID, sizes map[envelope.ID]int) {
	t.Helper()
	s := open(t, path)
	defer s.Close()
	sizes = map[envelope.ID]int{}
	for n := range messages {
		size := []int{0, 500, 9_000, 70_000, 300_000}[n%5]
		item, m := newMessage()
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); err != nil {
			t.Fatal(err)
		}
		ids, sizes[item.ID] = append(ids, item.ID), size
	}
	return ids, sizes
}

// checkSalvaged holds a salvaged store to this: each message is there whole, there and held, or named as lost.
func checkSalvaged(t *testing.T, s *sqlite.Store, sizes map[envelope.ID]int) (whole int) {
	t.Helper()
	r := s.Salvaged()
	named := map[envelope.ID]bool{}
	nameless := 0
	for _, l := range append(append([]sqlite.Loss(nil), r.Held...), r.Lost...) {
		if l.Err == nil {
			t.Errorf("loss without a reason: %+v", l)
		}
		named[envelope.ID(l.ID)] = true
		switch {
		case l.Number == 0: // nothing can be read at all
			nameless = len(sizes)
		case l.ID == "":
			nameless++
		}
	}
	missing := 0
	for id, size := range sizes {
		e, err := s.Get(t.Context(), id)
		switch {
		case err != nil && !named[id]:
			missing++
		case err != nil:
		case e.Item.State() == queue.Held:
			if b, err := readBody(s, id); !named[id] || e.HasBody && (err != nil || !bytes.Equal(b, bodyOf(id, size))) {
				t.Errorf("%s is held without a name, or with another body: %v", id, err)
			}
		default:
			if b, err := readBody(s, id); err != nil || !bytes.Equal(b, bodyOf(id, size)) || e.Damage != nil {
				t.Errorf("%s: %d octets of %d, %v, %v", id, len(b), size, err, e.Damage)
			}
			whole++
		}
	}
	if missing > nameless {
		t.Errorf("%d messages are gone, and only %d losses are reported without an ID", missing, nameless)
	}
	return whole
}

func told(t *testing.T, s *sqlite.Store) {
	t.Helper()
	if err := s.SalvageTold(t.Context()); err != nil {
		t.Error(err)
	}
}

func damage(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestSalvagePages overwrites one page after the other. POSTERN_DAMAGES sets how many, for the long form.
func TestSalvagePages(t *testing.T) {
	const messages = 40
	damages := 6
	if n, err := strconv.Atoi(os.Getenv("POSTERN_DAMAGES")); err == nil {
		damages = n
	}
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound.db")
	_, sizes := filled(t, sound, messages)
	file, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	salvaged, worst := 0, messages
	random := rand.New(rand.NewPCG(1, 2))
	for n := range damages {
		path := filepath.Join(dir, strconv.Itoa(n)+".db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		page := 2 + random.IntN(len(file)/4096-2)
		if n < damages/2 {
			page = 2 + n // those at the beginning hold the tables' roots
		}
		garbage := make([]byte, 4096)
		for i := range garbage {
			garbage[i] = byte(random.Uint32())
		}
		damage(t, path, int64(page)*4096, garbage)
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Errorf("page %d: Open: %v", page, err)
			continue
		}
		if s.Salvaged() == nil { // the text of a body, or a page that nothing uses
			s.Close()
			continue
		}
		salvaged++
		whole := checkSalvaged(t, s, sizes)
		worst = min(worst, whole)
		if _, err := os.Stat(s.Salvaged().Aside); err != nil {
			t.Errorf("page %d: the damaged file is not kept: %v", page, err)
		}
		told(t, s)
		s.Close()
		s = open(t, path)
		if s.Salvaged() != nil {
			t.Errorf("page %d: it is damaged again: %v", page, s.Salvaged().Why)
		}
		s.Close()
	}
	if salvaged == 0 {
		t.Error("no page was found damaged; the test proves nothing")
	}
	t.Logf("%d pages overwritten, %d stores salvaged, at worst %d of %d messages whole", damages, salvaged, worst, messages)
}

func TestSalvage(t *testing.T) {
	const messages = 20
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, path string)
		whole  int // messages that must be there
	}{
		{"the header is zeroed", func(t *testing.T, path string) { damage(t, path, 0, make([]byte, 100)) }, messages},
		{"the whole file is something else", func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("not a database. "), 512), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"the file is cut in half", func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, st.Size()/2/4096*4096)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 3},
		{"the check of the former run has left its mark", func(t *testing.T, path string) {
			if err := os.WriteFile(path+".damaged", nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, messages},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			_, sizes := filled(t, path, messages)
			tc.damage(t, path)
			s := open(t, path)
			defer s.Close()
			if s.Salvaged() == nil {
				t.Fatal("nothing was found")
			}
			if tc.whole == 0 {
				if len(s.Salvaged().Lost) == 0 {
					t.Error("nothing is named as lost")
				}
			} else if whole := checkSalvaged(t, s, sizes); whole < tc.whole {
				t.Errorf("%d messages are whole, want at least %d; %+v", whole, tc.whole, s.Salvaged())
			}
			add(t, s, "the new store works")
		})
	}
}

// TestSalvageOfASalvagedStore: what the first salvage lost, and nobody was told of, the second still tells, and where the
// file is that has it.
func TestSalvageOfASalvagedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	sizes := fewMessages(t, path, 100)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	leaf := bytes.LastIndex(file, []byte(`"user":`)) / 4096 // of messages
	damage(t, path, int64(leaf)*4096, make([]byte, 4096))
	s := open(t, path)
	first := s.Salvaged()
	s.Close()
	if first == nil || len(first.Lost) == 0 || first.Saved+len(first.Lost) != len(sizes) {
		t.Fatalf("%+v; want some lost", first)
	}
	damage(t, path, (roots(t, path)["chunks"]-1)*4096, make([]byte, 4096))
	s = open(t, path)
	defer s.Close()
	second := s.Salvaged()
	if second == nil || second.Saved != first.Saved || len(second.Lost) != len(first.Lost) {
		t.Fatalf("%+v; want %d saved, and the %d that were lost before", second, first.Saved, len(first.Lost))
	}
	checkSalvaged(t, s, sizes)
	told := filepath.Base(second.Aside) + ": " + second.Why.Error()
	if !strings.Contains(told, filepath.Base(first.Aside)) || strings.Count(told, "queue.db.damaged-") != 2 {
		t.Errorf("%q; want the names of both files", told)
	}
}

// TestDamagedHeaderBesideALog: what the log of a damaged file has counts, or what was relayed would be sent again.
func TestDamagedHeaderBesideALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	went := addBodies(t, s, 1, 500)[0]
	s.Close()
	s = open(t, path)
	if err := s.Update(t.Context(), went, relayed); err != nil {
		t.Fatal(err)
	}
	came := addBodies(t, s, 1, 100_000)[0]
	died := crash(t, path)
	s.Close()
	damage(t, died, 0, make([]byte, 100))
	s = open(t, died)
	defer s.Close()
	if r := s.Salvaged(); r == nil || r.Saved != 2 {
		t.Errorf("%+v", r)
	}
	for id, want := range map[envelope.ID]queue.State{went: queue.Relayed, came: queue.Queued} {
		if e, err := s.Get(t.Context(), id); err != nil || e.Item.State() != want {
			t.Errorf("%s is %s, %v; want %s", id, e.Item.State(), err, want)
		}
	}
}

// relayed ends an item well.
func relayed(it *queue.Item) error {
	for i := range it.Recipients {
		it.Recipients[i].State, it.Recipients[i].Next = queue.Relayed, time.Time{}
	}
	it.Lease, it.Finished = "", accepted
	return nil
}

// TestCutLog: what the write-ahead log held is committed or not, never half.
func TestCutLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "queue.db")
	s := open(t, path)
	ids := map[envelope.ID]int{}
	for range 10 {
		item, m := newMessage()
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, 5000))); err != nil {
			t.Fatal(err)
		}
		ids[item.ID] = 5000
	}
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	last := 0
	for cut := 0; cut < len(wal); cut += 16 * 512 {
		again := filepath.Join(dir, strconv.Itoa(cut)+".db")
		if err := os.WriteFile(again, db, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(again+"-wal", wal[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, again)
		there := 0
		for id, size := range ids {
			if b, err := readBody(s, id); err == nil {
				if there++; !bytes.Equal(b, bodyOf(id, size)) {
					t.Errorf("cut at %d: half a message", cut)
				}
			}
		}
		if there < last {
			t.Errorf("cut at %d: %d messages, and %d with less of the log", cut, there, last)
		}
		last = there
		s.Close()
	}
}
