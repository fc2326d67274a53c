package sqlite_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// addMany fills a store with messages to three each, and returns their sizes.
func addMany(t testing.TB, s queue.Store, messages int) map[envelope.ID]int {
	t.Helper()
	sizes := map[envelope.ID]int{}
	for n := range messages {
		item, m := newMessage()
		for _, local := range []string{"second", "third"} {
			item.Recipients = append(item.Recipients, queue.Recipient{Address: envelope.Address{Local: local, Domain: "fabrikam.test"},
				State: queue.Queued, Next: item.Accepted})
		}
		size := []int{0, 500, 9_000, 70_000}[n%4]
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); err != nil {
			t.Fatal(err)
		}
		settle(t, s) // so that each has a transaction of its own
		sizes[item.ID] = size
	}
	return sizes
}

// roots are the pages that everything of a table or an index is found from.
func roots(t *testing.T, path string) map[string]int64 {
	t.Helper()
	rows, err := raw(t, path).Query("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int64{"sqlite_schema": 1}
	for rows.Next() {
		var name string
		var page int64
		if err := rows.Scan(&name, &page); err != nil {
			t.Fatal(err)
		}
		all[name] = page
	}
	return all
}

// TestSalvageWithoutRoots destroys the page that leads to all rows of a table. A row of a table lies in a leaf, so nothing
// is lost; of the recipients a few lie in the root itself, and who might be one of them is held.
func TestSalvageWithoutRoots(t *testing.T) {
	const messages = 50
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound.db")
	s := open(t, sound)
	sizes := addMany(t, s, messages)
	gone := add(t, s, "deleted")
	finish(t, s, gone)
	if _, err := s.Purge(t.Context(), queue.Purge{History: accepted.AddDate(1, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	file, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	pages := roots(t, sound)
	for name, at := range map[string][]int64{
		"messages": {pages["messages"]}, "chunks": {pages["chunks"]}, "recipients": {pages["recipients"]}, "notes": {pages["notes"]},
		"the ids": {pages["sqlite_autoindex_messages_1"]}, "what is due": {pages["messages_due"]}, "the schema": {1},
		"all tables":                         {1, pages["messages"], pages["chunks"], pages["recipients"], pages["notes"]},
		"messages, and the map of the pages": {pages["messages"], 2},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "queue.db")
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, page := range at {
				damage(t, path, (page-1)*4096, bytes.Repeat([]byte{0xa5}, 4096))
			}
			s := open(t, path)
			defer s.Close()
			if s.Salvaged() == nil {
				t.Fatal("nothing was found")
			}
			least := messages
			switch {
			case slices.Contains(at, 2): // what a page is for is not known, so that all are held
				least = 0
			case slices.Contains(at, pages["recipients"]), slices.Contains(at, 1): // the last of a page may have had more
				least = messages * 3 / 4
			}
			whole := checkSalvaged(t, s, sizes)
			r := s.Salvaged()
			t.Logf("%d whole, %d held, %d lost of %d", whole, len(r.Held), len(r.Lost), messages)
			if whole < least || whole+len(r.Held)+len(r.Lost) != messages {
				t.Errorf("at least %d are to be whole, and each is to be named: %+v", least, r)
			}
			if l, err := s.List(t.Context(), queue.Filter{}); err != nil || len(l) < messages*9/10 || len(l) > messages {
				t.Errorf("%d are in the new store, %v", len(l), err)
			}
			for _, l := range r.Lost {
				if l.ID == "" {
					t.Errorf("lost, and not named: %+v", l)
				}
			}
		})
	}
}

// TestSalvageWithoutRecipients: whom a message is for is gone, and its header may still say it: it is held, to be exported.
func TestSalvageWithoutRecipients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	item := add(t, s, "to whom?")
	s.Close()
	damage(t, path, (roots(t, path)["recipients"]-1)*4096, make([]byte, 4096))
	s = open(t, path)
	defer s.Close()
	r := s.Salvaged()
	if r == nil || len(r.Held) != 1 || r.Held[0].ID != string(item.ID) {
		t.Fatalf("%+v", r)
	}
	e, err := s.Get(t.Context(), item.ID)
	if err != nil || e.Item.State() != queue.Held || e.Damage == nil || len(e.Message.Header) == 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if b, err := readBody(s, item.ID); err != nil || string(b) != "to whom?" {
		t.Errorf("its body: %q, %v", b, err)
	}
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.IsZero() {
		t.Errorf("it is due at %v, %v", next, err)
	}
}

func finish(t *testing.T, s queue.Store, item queue.Item) {
	t.Helper()
	err := s.Update(t.Context(), item.ID, func(it *queue.Item) error {
		it.Recipients[0].State, it.Finished = queue.Failed, accepted
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRemainsInTheLog: what was committed and is only in the write-ahead log is found too, and of a cut log what its whole
// transactions have.
func TestRemainsInTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	addMany(t, s, 8) // few, so that SQLite does not fold the log into the file
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if m, r, c := sqlite.ReadRemains(file, log); m != 8 || r != 24 || c != 10 {
		t.Errorf("%d messages, %d recipients, %d chunks; want 8, 24 and 10", m, r, c)
	}
	last := 0
	for cut := 0; cut < len(log); cut += 10_000 {
		m, _, _ := sqlite.ReadRemains(file, log[:cut])
		if m < last || m > 8 {
			t.Errorf("cut at %d: %d messages after %d", cut, m, last)
		}
		last = m
	}
	log[len(log)/2] ^= 1
	if m, _, _ := sqlite.ReadRemains(file, log); m < 7 { // it may be in the row of one
		t.Errorf("with a wrong octet in the middle of the log: %d messages; want those behind it too", m)
	}
}

// FuzzRemains: whatever the file holds, reading it ends, without a panic.
func FuzzRemains(f *testing.F) {
	path := filepath.Join(f.TempDir(), "queue.db")
	s := open(f, path)
	addMany(f, s, 6)
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		f.Fatal(err)
	}
	s.Close()
	file, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file[:min(len(file), 20*4096)], log[:min(len(log), 4*4096)])
	f.Add(file[:3*4096], []byte{})
	f.Add([]byte{}, log[:100])
	f.Fuzz(func(t *testing.T, file, log []byte) {
		m, r, c := sqlite.ReadRemains(file, log)
		if most := len(file) + len(log); m > most || r > most || c > most {
			t.Errorf("%d messages, %d recipients, %d chunks in %d octets", m, r, c, most)
		}
	})
}
