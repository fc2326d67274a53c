package sqlite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// fewMessages makes a store with messages of 500 octets.
func fewMessages(t *testing.T, path string, messages int) map[envelope.ID]int {
	t.Helper()
	s := open(t, path)
	defer s.Close()
	sizes := map[envelope.ID]int{}
	for range messages {
		item, m := newMessage()
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, 500))); err != nil {
			t.Fatal(err)
		}
		sizes[item.ID] = 500
	}
	return sizes
}

// TestFlippedBits flips single bits all over the file: whatever that makes of it, Open comes back with the store, and no
// message of it is another one without being damaged.
// POSTERN_FLIPS sets how many of them, beside those in the header, for the long form.
func TestFlippedBits(t *testing.T) {
	flips := 60
	if n, err := strconv.Atoi(os.Getenv("POSTERN_FLIPS")); err == nil {
		flips = n
	}
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound.db")
	sizes := fewMessages(t, sound, 20)
	s := open(t, sound)
	defer s.Close()
	want := contents(t, s)
	s.Close()
	if len(want) != len(sizes) {
		t.Fatalf("%d of %d are whole", len(want), len(sizes))
	}
	file, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	var bits []int
	for at := range 72 { // one of each octet of the header that says something
		bits = append(bits, at*8+at*5%8)
	}
	for n := range flips { // and of the rest, each page and each of the eight
		bits = append(bits, 800+int(int64(len(file)*8-800)*int64(n)/int64(flips)))
	}
	salvaged := 0
	for _, bit := range bits {
		at := bit / 8
		path := filepath.Join(dir, "queue.db")
		file[at] ^= 1 << (bit % 8)
		err := os.WriteFile(path, file, 0o600)
		file[at] ^= 1 << (bit % 8)
		if err != nil {
			t.Fatal(err)
		}
		if flipped(t, path, sizes, want, at) {
			salvaged++
		}
		list, _ := filepath.Glob(path + "*")
		for _, name := range list {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if salvaged == 0 {
		t.Error("nothing was found damaged; the test proves nothing")
	}
	t.Logf("%d bits flipped, %d stores salvaged", len(bits), salvaged)
}

// contents are all that should never change of the messages that are not damaged.
func contents(t *testing.T, s *sqlite.Store) map[envelope.ID]string {
	t.Helper()
	list, err := s.List(t.Context(), queue.Filter{})
	if err != nil && !errors.Is(err, queue.ErrDamaged) {
		t.Error(err)
	}
	all := map[envelope.ID]string{}
	for _, e := range list {
		body, err := readBody(s, e.Item.ID)
		if err != nil || e.Damage != nil {
			continue
		}
		if e, err = s.Get(t.Context(), e.Item.ID); err != nil || e.Damage != nil {
			continue
		}
		text, err := json.Marshal([]any{e.Message, e.Item.Account, e.Item.Sender, e.Item.Accepted, e.HeaderSize, e.BodySize, body})
		if err != nil {
			t.Fatal(err)
		}
		all[e.Item.ID] = string(text)
	}
	return all
}

// flipped opens a store with a wrong bit in the octet at that place. want, where it is not nil, is what the messages had.
func flipped(t *testing.T, path string, sizes map[envelope.ID]int, want map[envelope.ID]string, at int) (salvaged bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute) // far more than it takes, so that the test ends
	defer stop()
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		t.Errorf("octet %d: Open: %v", at, err)
		return false
	}
	defer s.Close()
	for id, text := range contents(t, s) {
		if want != nil && text != want[id] {
			t.Errorf("octet %d: of %s there is\n%s\nwant\n%s", at, id, text, want[id])
		}
	}
	if s.Salvaged() == nil {
		return false
	}
	checkSalvaged(t, s, sizes)
	if t.Failed() {
		t.Fatalf("octet %d: %+v", at, s.Salvaged())
	}
	return true
}

// TestWrongColumnName flips a bit in the name of each column of messages: their places tell what they are.
func TestWrongColumnName(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "queue.db")
	sizes := fewMessages(t, sound, 3)
	file, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	schema := bytes.Index(file, []byte("CREATE TABLE messages"))
	names := regexp.MustCompile(`[\t ]([a-z_]+) +(INTEGER|TEXT)`).FindAllSubmatchIndex(file[schema:][:2000], -1)
	if len(names) < 27 {
		t.Fatalf("%d names are found", len(names))
	}
	for _, name := range names[:27] {
		from, end := schema+name[2], schema+name[3]
		t.Run(string(file[from:end]), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "queue.db")
			copyStore(t, sound, path)
			damage(t, path, int64(end-1), []byte{file[end-1] ^ 1})
			s := open(t, path)
			defer s.Close()
			// The last is held where SQLite reads nothing: it may have had more recipients.
			if r := s.Salvaged(); r == nil || r.Saved+len(r.Held) != len(sizes) || len(r.Held) > 1 || len(r.Lost) > 0 {
				t.Fatalf("%+v; want %d saved", r, len(sizes))
			}
			checkSalvaged(t, s, sizes)
		})
	}
}

// TestNumberOfAnySize: a wrong bit in what says how long a number is makes it one that no walk comes to.
func TestNumberOfAnySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	sizes := fewMessages(t, path, 300)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A recipient's record: its number has two octets, n is 0, then the address, and the state "queued".
	at := -1
	for i := 0; i+9 < len(file); i++ {
		if file[i] == 2 && file[i+1] == 8 && bytes.Equal(file[i+3:i+9], []byte{0x19, 6, 8, 8, 8, 0x0d}) {
			at = i
			break
		}
	}
	if at < 0 {
		t.Fatal("there is no such record")
	}
	damage(t, path, int64(at), []byte{6}) // eight octets
	if err := os.WriteFile(path+".damaged", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !flipped(t, path, sizes, nil, at) {
		t.Error("it is not salvaged")
	}
}

// TestLostAreThoseThatWere: without the table's root only numbers of which something is left are called lost, each by
// the name that the index has.
func TestLostAreThoseThatWere(t *testing.T) {
	const messages = 5
	path := filepath.Join(t.TempDir(), "queue.db")
	sizes := fewMessages(t, path, messages)
	db := raw(t, path)
	for _, change := range []string{"UPDATE recipients SET seq = seq + 300000", "UPDATE chunks SET at = at + (300000 << 20)",
		"UPDATE messages SET seq = seq + 300000"} {
		if _, err := db.Exec("PRAGMA foreign_keys = 0; " + change); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	damage(t, path, (roots(t, path)["messages"]-1)*4096, make([]byte, 4096))
	s := open(t, path)
	defer s.Close()
	r := s.Salvaged()
	if r == nil || r.Saved+len(r.Held) != 0 || len(r.Lost) != messages {
		t.Fatalf("%+v; want the %d lost", r, messages)
	}
	for _, l := range r.Lost {
		if _, ok := sizes[envelope.ID(l.ID)]; !ok || l.Number <= 300_000 {
			t.Errorf("lost: %+v", l)
		}
	}
}

// TestRowThatIsGone: a page that says that it has fewer rows than it had hides them from every look at the table. The
// index knows of them.
func TestRowThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	sizes := fewMessages(t, path, 3)
	at := (roots(t, path)["messages"] - 1) * 4096
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint16(file[at+3:]); file[at] != 0x0d || n != 3 {
		t.Fatalf("a page of kind %d with %d rows", file[at], n)
	}
	damage(t, path, at+3, []byte{0, 2})
	s := open(t, path)
	defer s.Close()
	r := s.Salvaged()
	if r == nil || len(r.Lost) != 1 || r.Lost[0].ID == "" || r.Saved != 2 {
		t.Fatalf("%+v; want one lost, with its ID", r)
	}
	checkSalvaged(t, s, sizes)
}
