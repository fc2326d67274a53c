package sqlite_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// TestDamageWhileOpen: whoever meets damage in a store that is open leaves a mark, and it is told once; the next Open
// salvages.
func TestDamageWhileOpen(t *testing.T) {
	for _, tc := range []struct {
		name, root string
		meet       func(t *testing.T, s *sqlite.Store) error
	}{
		{"the writer meets it", "chunks", func(t *testing.T, s *sqlite.Store) error {
			item, m := newMessage()
			err := s.Add(t.Context(), item, m, strings.NewReader("one more"))
			if err == nil { // it waits in front of the tables, and the next has to find out
				_, _ = s.Counts(t.Context())
				item, m = newMessage()
				err = s.Add(t.Context(), item, m, strings.NewReader("another"))
			}
			return err
		}},
		{"a reader meets it", "recipients", func(t *testing.T, s *sqlite.Store) error {
			_, err := s.List(t.Context(), queue.Filter{})
			return err
		}},
		{"a claim meets it", "messages_due", func(t *testing.T, s *sqlite.Store) error {
			_, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: accepted, Limit: 1, Take: func(*queue.Item) error { return nil }})
			return err
		}},
		{"whoever sends a body meets it", "chunks", func(t *testing.T, s *sqlite.Store) error {
			all, err := s.List(t.Context(), queue.Filter{})
			if err == nil {
				_, err = readBody(s, all[0].Item.ID)
			}
			return err
		}},
		{"the check beside the mail finds it", "messages", func(t *testing.T, s *sqlite.Store) error { return s.CheckNow(t.Context()) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			s := open(t, path)
			sizes := addMany(t, s, 50)
			s.Close()
			s = open(t, path)
			defer s.Close()
			if s.Damage() != nil {
				t.Fatalf("before: %v", s.Damage())
			}
			damage(t, path, (roots(t, path)[tc.root]-1)*4096, make([]byte, 4096))
			if err := s.SetNote(t.Context(), "a change", "has connections forget the pages that they know"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := tc.meet(t, s); !errors.Is(err, queue.ErrDamaged) {
					t.Fatalf("it ends with %v", err)
				}
			}
			select {
			case err := <-s.Damaged():
				if !errors.Is(err, queue.ErrDamaged) || s.Damage() != err {
					t.Errorf("told: %v; Damage: %v", err, s.Damage())
				}
			default:
				t.Error("nobody is told")
			}
			select {
			case err := <-s.Damaged():
				t.Errorf("it is told again: %v", err)
			default:
			}
			s.Close()
			if _, err := os.Stat(path + ".damaged"); err != nil {
				t.Errorf("there is no mark: %v", err)
			}
			s = open(t, path)
			defer s.Close()
			if s.Salvaged() == nil {
				t.Fatal("the next Open does not salvage")
			}
			checkSalvaged(t, s, sizes)
		})
	}
}

// withFree makes a store with free pages, and returns the messages of 3,000 octets that are in it.
func withFree(t *testing.T, path string) (ids []envelope.ID) {
	t.Helper()
	s := open(t, path)
	ids = addBodies(t, s, 40, 3000)
	s.Close()
	db := raw(t, path)
	for _, statement := range []string{"DELETE FROM chunks WHERE at >> 20 <= 20", "DELETE FROM recipients WHERE seq <= 20", "DELETE FROM messages WHERE seq <= 20"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	db.Close() // so that it is in the file, not in its log
	return ids[20:]
}

// wrongFree has the list of free pages name some in which bodies of the messages are.
func wrongFree(t *testing.T, path string, ids []envelope.ID) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(binary.BigEndian.Uint32(file[32:])-1) * 4096
	free := int(binary.BigEndian.Uint32(file[at+4:]))
	if free < len(ids) {
		t.Fatalf("%d pages are free", free)
	}
	for n, id := range ids {
		body := bytes.Index(file, bodyOf(id, 3000)[:1000])
		damage(t, path, at+8+4*int64(n), binary.BigEndian.AppendUint32(nil, uint32(body/4096+1)))
	}
}

// checkWhole holds the store to having the messages as they came.
func checkWhole(t *testing.T, s *sqlite.Store, size int, ids ...envelope.ID) {
	t.Helper()
	for _, id := range ids {
		if b, err := readBody(s, id); err != nil || !bytes.Equal(b, bodyOf(id, size)) {
			t.Errorf("%s: %d octets of %d, %v", id, len(b), size, err)
		}
	}
}

// TestKnownDamageIsNotWrittenInto: of a damaged file anything may be written over, where its list of free pages is wrong. So
// nothing new is written once that is known.
func TestKnownDamageIsNotWrittenInto(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	ids := withFree(t, path)
	s := open(t, path)
	defer s.Close()
	flying, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: time.Now().Add(time.Hour), Limit: 1, Take: take})
	if err != nil || len(flying) != 1 {
		t.Fatal(flying, err)
	}
	s.KeepWaiting()
	waits := addBodies(t, s, 20, 3000)
	wrongFree(t, path, ids[10:])
	if err := s.CheckNow(t.Context()); !errors.Is(err, queue.ErrDamaged) {
		t.Fatalf("the check: %v", err)
	}
	for _, size := range []int{3000, 100_000, 3 << 20} {
		item, m := newMessage()
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); !errors.Is(err, queue.ErrDamaged) {
			t.Errorf("Add of %d octets: %v", size, err)
		}
	}
	if c, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: time.Now().Add(time.Hour), Limit: 1, Take: take}); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("%d are claimed, %v", len(c), err)
	}
	if _, err := s.Purge(t.Context(), queue.Purge{Short: true}); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("Purge: %v", err)
	}
	if err := s.Update(t.Context(), flying[0].Item.ID, relayed); err != nil {
		t.Errorf("what became of an attempt is not noted: %v", err)
	}
	if n := s.Waiting(); n != len(waits) {
		t.Errorf("%d wait in front of the tables; want %d", n, len(waits))
	}
	checkWhole(t, s, 3000, ids...)
	s.Close()
	s = open(t, path)
	defer s.Close()
	if r := s.Salvaged(); r == nil || r.Saved != len(ids) {
		t.Errorf("%+v", r)
	}
	checkWhole(t, s, 3000, append(waits, ids...)...)
	if e, err := s.Get(t.Context(), flying[0].Item.ID); err != nil || e.Item.State() != queue.Relayed {
		t.Errorf("what was relayed is %s, %v", e.Item.State(), err)
	}
}

// TestCheckBeforeTheFirstWrite: after a crash there is something to write at once, and it waits for the check.
func TestCheckBeforeTheFirstWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	ids := withFree(t, path)
	s := open(t, path)
	s.KeepWaiting()
	waits := addBodies(t, s, 20, 3000)
	died := crash(t, path)
	s.Close()
	wrongFree(t, died, ids[10:])
	if s, err := sqlite.OpenSlowCheck(t.Context(), died); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("opened: %v", err)
		if err == nil {
			s.Close()
		}
	}
	s = open(t, died)
	defer s.Close()
	if r := s.Salvaged(); r == nil || r.Saved != len(ids) {
		t.Errorf("%+v", r)
	}
	checkWhole(t, s, 3000, append(waits, ids...)...)
}

// wrongIndex changes the message's entry in the index of IDs, and in no table.
func wrongIndex(t *testing.T, path string, id envelope.ID) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := 0; page < len(file); page += 4096 {
		at := bytes.Index(file[page:page+4096], []byte(id))
		if file[page] == 0x0a && at >= 0 { // an index's
			last := page + at + len(id) - 1
			damage(t, path, int64(last), []byte{file[last] ^ 1})
			return
		}
	}
	t.Fatal("it is in no index")
}

// TestWrongIndex: a message that is not found by its ID could be leased, and then be ended by nobody.
func TestWrongIndex(t *testing.T) {
	claim := queue.Claim{Account: "erp", Now: time.Now().Add(time.Hour), Limit: 1, Take: take}
	salvaged := func(t *testing.T, path string, id envelope.ID) {
		t.Helper()
		s := open(t, path)
		defer s.Close()
		if r := s.Salvaged(); r == nil || r.Saved != 1 {
			t.Errorf("%+v; want one saved", r)
		}
		if c, err := s.Claim(t.Context(), claim); err != nil || len(c) != 1 {
			t.Fatalf("%d are claimed, %v", len(c), err)
		}
		if err := s.Update(t.Context(), id, relayed); err != nil {
			t.Error(err)
		}
	}
	t.Run("Open finds it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "queue.db")
		s := open(t, path)
		id := addBodies(t, s, 1, 300)[0]
		s.Close()
		wrongIndex(t, path, id)
		salvaged(t, path, id)
	})
	t.Run("a claim finds it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "queue.db")
		s := open(t, path)
		id := addBodies(t, s, 1, 300)[0]
		s.Close()
		s = open(t, path)
		defer s.Close()
		wrongIndex(t, path, id)
		if c, err := s.Claim(t.Context(), claim); !errors.Is(err, queue.ErrDamaged) || s.Damage() == nil {
			t.Errorf("%d are claimed, %v; damage: %v", len(c), err, s.Damage())
		}
		s.Close()
		salvaged(t, path, id)
	})
}
