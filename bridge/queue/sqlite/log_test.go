package sqlite_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// addOneByOne adds messages of 10 KB, each in a commit of its own.
func addOneByOne(t *testing.T, s *sqlite.Store, n int) {
	t.Helper()
	body := bytes.Repeat([]byte("0123456789abcde\n"), 10<<10/16)
	for range n {
		item, m := queuetest.NewMessage("erp", accepted)
		if err := s.Add(t.Context(), item, m, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := open(t, path)
	defer s.Close()
	addOneByOne(t, s, 700) // about 10,000 pages
	log, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(20 << 20); log.Size() > most {
		t.Errorf("the log has %d octets; want %d at most", log.Size(), most)
	}
}
