package sqlite_test

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// version1 makes a store as the first version wrote it: one message that waits, and one that is relayed.
func version1(t *testing.T, path string) (waits, went queue.Item) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_auto_vacuum=incremental&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(sqlite.Schema1 + "PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	for seq, state := range []string{"queued", "relayed"} {
		item, m := queuetest.NewMessage("erp", accepted.Add(time.Duration(seq)*time.Second))
		var docs [3]string
		for i, d := range []any{m.Session, m.Envelope, m.Plan} {
			b, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			docs[i] = string(b)
		}
		next := sql.NullInt64{Int64: item.Accepted.UnixMicro(), Valid: state == "queued"}
		_, err := db.Exec(`INSERT INTO messages (seq, id, account, state, next_attempt, accepted, header_size, body_size, has_body, session, envelope, plan)
			VALUES (?, ?, 'erp', ?, ?, ?, ?, 4, 1, ?, ?, ?)`, seq+1, string(item.ID), state, next, item.Accepted.UnixMicro(), len(m.Header), docs[0], docs[1], docs[2])
		if err == nil {
			_, err = db.Exec("INSERT INTO recipients (seq, n, address, state, next_attempt) VALUES (?, 0, ?, ?, ?)", seq+1,
				item.Recipients[0].Address.String(), state, next)
		}
		if err == nil {
			_, err = db.Exec("INSERT INTO chunks VALUES (?, ?)", (seq+1)<<20, append(m.Header, "body"...))
		}
		if err != nil {
			t.Fatal(err)
		}
		if seq == 0 {
			waits = item
		} else {
			went = item
		}
	}
	return waits, went
}

// TestUpgrade: a store of version 1 is copied and then upgraded, and its mail goes on.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	waits, went := version1(t, path)
	s := open(t, path)
	es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: accepted.Add(time.Hour), Limit: 9, Take: take})
	if err != nil || len(es) != 1 || es[0].Item.ID != waits.ID || es[0].Item.Sender != waits.Sender || es[0].Damage != nil {
		t.Fatalf("Claim: %+v, %v; want the one that waits, with its sender", es, err)
	}
	if b, err := readBody(s, waits.ID); err != nil || string(b) != "body" {
		t.Errorf("its body is %q, %v", b, err)
	}
	if ids, err := s.Find(t.Context(), queue.Selection{Which: queue.Watched, Before: accepted, Limit: 9}); err != nil || len(ids) != 1 || ids[0] != waits.ID {
		t.Errorf("to be looked at: %v, %v", ids, err)
	}
	if e, err := s.Get(t.Context(), went.ID); err != nil || !e.Item.Finished.Equal(went.Accepted) {
		t.Errorf("the relayed one: %+v, %v", e.Item, err)
	}
	s.Close()

	old := path + ".v1"
	st, err := os.Stat(old)
	if err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Fatalf("the copy: %v, %v", st, err)
	}
	var version, rows int
	if err := raw(t, old).QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 1 {
		t.Errorf("the copy is of version %d, %v", version, err)
	}
	if err := raw(t, old).QueryRow("SELECT count(*) FROM chunks").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("the copy has %d bodies, %v", rows, err)
	}
}

// TestUpgradeFrom2: version 2 had the same tables, and no intake.
func TestUpgradeFrom2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	first := addBodies(t, s, 1, 500)
	s.Close()
	tamper(t, path, "DELETE FROM notes WHERE key = 'intake'")
	tamper(t, path, "PRAGMA application_id = 0; PRAGMA user_version = 2")
	if err := os.Remove(path + ".intake"); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	s.KeepWaiting()
	ids := append(first, addBodies(t, s, 2, 500)...)
	died := crash(t, path)
	s.Close()
	checkThere(t, died, queue.Queued, 500, ids...)
	old := raw(t, path+".v2")
	var version, rows int
	if err := old.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 2 {
		t.Errorf("the copy is of version %d, %v", version, err)
	}
	if err := old.QueryRow("SELECT count(*) FROM messages").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the copy has %d messages, %v", rows, err)
	}
}

// TestUpgradeForgetsTheProgram: the program that wrote the older schema is not the one that opens the newer.
func TestUpgradeForgetsTheProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	if err := s.SetNote(t.Context(), sqlite.ProgramNote, "1.0.0"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	tamper(t, path, "PRAGMA application_id = 0; PRAGMA user_version = 2")
	s = open(t, path)
	notes, err := s.Notes(t.Context(), sqlite.ProgramNote)
	s.Close()
	if err != nil || len(notes) > 0 {
		t.Errorf("noted after the upgrade: %q, %v", notes, err)
	}
	var program string
	if err := raw(t, path+".v2").QueryRow("SELECT value FROM notes WHERE key = ?", sqlite.ProgramNote).Scan(&program); err != nil || program != "1.0.0" {
		t.Errorf("the copy was written by %q, %v", program, err)
	}
	tamper(t, path, "PRAGMA user_version = 9")
	if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, queue.ErrNewer) || !strings.Contains(err.Error(), "run the version that wrote it") {
		t.Errorf("Open: %v", err)
	}
}

// TestUpgradeOfADamagedStore: an upgrade writes, and so looks before.
func TestUpgradeOfADamagedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	ids := withFree(t, path)
	tamper(t, path, "PRAGMA application_id = 0; PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE)")
	wrongFree(t, path, ids[10:])
	s := open(t, path)
	defer s.Close()
	if r := s.Salvaged(); r == nil || r.Saved != len(ids) {
		t.Errorf("%+v", r)
	}
	checkWhole(t, s, 3000, ids...)
	if _, err := os.Stat(path + ".v2"); err == nil {
		t.Error("the upgrade has begun")
	}
}

// TestWrongBitInTheVersion: it makes neither a newer store of ours nor an older one. Where the version stands only once, as
// programs wrote it before, it is no older one either.
func TestWrongBitInTheVersion(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "queue.db")
	sizes := fewMessages(t, sound, 3)
	type store struct {
		version uint32
		again   int
	}
	stores := []store{{1, 0}}
	for bit := range 32 {
		stores = append(stores, store{3 ^ 1<<bit, 3})
	}
	for _, st := range stores {
		path := filepath.Join(t.TempDir(), "queue.db")
		copyStore(t, sound, path)
		damage(t, path, 60, binary.BigEndian.AppendUint32(nil, st.version))
		damage(t, path, 68, binary.BigEndian.AppendUint32(nil, uint32(st.again)))
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Errorf("version %d: %v", st.version, err)
			continue
		}
		if r := s.Salvaged(); r == nil || r.Saved != len(sizes) {
			t.Errorf("version %d: %+v; want %d saved", st.version, r, len(sizes))
		}
		s.Close()
	}
}

// TestUpgradeFails: nothing is changed where the copy cannot be written, and the next start does it.
func TestUpgradeFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	version1(t, path)
	block := filepath.Join(path+".v1.part", "full") // a folder that is not empty cannot be replaced
	if err := os.MkdirAll(block, 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "copy the store") {
		if err == nil {
			s.Close()
		}
		t.Fatalf("Open: %v", err)
	}
	var version int
	if err := raw(t, path).QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 1 {
		t.Errorf("the store is of version %d, %v; want 1", version, err)
	}
	if err := os.RemoveAll(path + ".v1.part"); err != nil {
		t.Fatal(err)
	}
	open(t, path).Close()
}

// TestNewerSaysWhichVersion names the program that can open the store.
func TestNewerSaysWhichVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	if err := s.SetNote(t.Context(), sqlite.ProgramNote, "9.1.0"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	tamper(t, path, "PRAGMA user_version = 9")
	s, err := sqlite.Open(t.Context(), path)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, queue.ErrNewer) || !strings.Contains(err.Error(), "run version 9.1.0 or a later one") {
		t.Errorf("Open: %v", err)
	}
}

// TestFileShrinks: room that nobody needs is given back.
func TestFileShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	for range 60 {
		item := add(t, s, strings.Repeat("x", 1<<20))
		err := s.Update(t.Context(), item.ID, func(it *queue.Item) error {
			it.Recipients[0].State, it.Finished = queue.Failed, accepted
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	p := queue.Purge{History: accepted.Add(time.Second)}
	for more := true; more; {
		var err error
		if more, err = s.Purge(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() > 20<<20 {
		t.Errorf("%d bytes are left of 60 MiB, %v", st.Size(), err)
	}
}
