package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
)

// manyDamaged makes a store of which some messages are damaged and the most are not, and returns the bodies' sizes. It has
// more messages than a salvage writes at once.
func manyDamaged(t *testing.T, path string) map[envelope.ID]int {
	t.Helper()
	const messages = 300
	s := open(t, path)
	sizes := map[envelope.ID]int{}
	for n := range messages {
		item, m := newMessage()
		size := []int{0, 500, 3_000}[n%3]
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, size))); err != nil {
			t.Fatal(err)
		}
		sizes[item.ID] = size
	}
	s.Close()
	db := raw(t, path)
	if _, err := db.Exec("UPDATE messages SET sum = sum + 1 WHERE seq = 7"); err != nil { // it is held in the new store, and so it is named
		t.Fatal(err)
	}
	db.Close() // so that it is in the file, not in its log
	damage(t, path, (roots(t, path)["chunks"]-1)*4096, make([]byte, 4096))
	return sizes
}

// copyStore copies a store's file.
func copyStore(t *testing.T, from, to string) {
	t.Helper()
	file, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkComplete opens a store whose salvage was interrupted, twice: all that can be saved is there and the report is made,
// until somebody has heard of it.
func checkComplete(t *testing.T, path string, sizes map[envelope.ID]int) {
	t.Helper()
	for _, heard := range []bool{false, true} {
		s := open(t, path)
		defer s.Close()
		r := s.Salvaged()
		if r == nil {
			t.Fatal("nobody is told of the salvage")
		}
		if len(r.Held) != 1 || r.Held[0].Number != 7 || len(r.Lost) != 0 || r.Saved != len(sizes)-1 || r.Why == nil {
			t.Errorf("%d saved, held %+v, lost %+v of %d: %v", r.Saved, r.Held, r.Lost, len(sizes), r.Why)
		}
		if whole := checkSalvaged(t, s, sizes); whole != len(sizes)-1 {
			t.Errorf("%d are whole of %d", whole, len(sizes))
		}
		if _, err := os.Stat(r.Aside); err != nil {
			t.Errorf("the damaged file is not kept: %v", err)
		}
		if heard {
			told(t, s)
		}
		s.Close()
	}
	s := open(t, path)
	defer s.Close()
	if s.Salvaged() != nil {
		t.Errorf("it is told again: %+v", s.Salvaged())
	}
	left, err := filepath.Glob(path + "*")
	for _, name := range left {
		if strings.Contains(name, ".salvaging") || strings.HasSuffix(name, ".damaged") || strings.Contains(name, ".repaired") {
			t.Errorf("%s is left", filepath.Base(name))
		}
	}
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 || err != nil {
		t.Errorf("aside are %q, %v", aside, err)
	}
}

// salvageVictim salvages until it is killed: at the n-th occurrence of a step, where it waits for that, or anywhere.
func salvageVictim(ctx context.Context, path, at string) error {
	_, err := sqlite.Open(sqlite.WithSteps(ctx, func(step string, _ func(int) error) {
		fmt.Println(step)
		if step == at {
			select {}
		}
	}), path)
	if err == nil {
		fmt.Println("opened")
		select {}
	}
	return err
}

// salvageSteps are those of salvageVictim, in their order.
var salvageSteps = []string{"marked", "begun", "batch", "copied", "whole", "log aside", "aside", "in place", "synced", "opened"}

// TestKillInSalvage kills a salvage at each of its steps: the next Open has all messages that can be saved, and tells.
func TestKillInSalvage(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	sizes := manyDamaged(t, damaged)
	for _, step := range salvageSteps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "queue.db")
			copyStore(t, damaged, path)
			killSalvage(t, path, step, func(line string) bool { return line == step })
			checkComplete(t, path, sizes)
		})
	}
	t.Run("anywhere, again and again", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "queue.db")
		copyStore(t, damaged, path)
		for range 6 {
			lines := 1 + rand.IntN(5)
			killSalvage(t, path, "", func(string) bool { lines--; return lines == 0 })
		}
		checkComplete(t, path, sizes)
	})
}

// killSalvage kills a victim once it has said what is waited for.
func killSalvage(t *testing.T, path, step string, now func(line string) bool) {
	t.Helper()
	c, lines := start(t, path, "salvage "+step)
	killed := false
	for lines.Scan() {
		if !killed && (now(lines.Text()) || lines.Text() == "opened") {
			killed = true
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Wait() // killed: its error says so
	if !killed {
		t.Fatalf("the victim did not come to %q", step)
	}
}

// TestSalvageCannotEnd: a full disk, or the end of the program's patience, leaves the damaged store as it was.
func TestSalvageCannotEnd(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	sizes := manyDamaged(t, damaged)
	for _, step := range []string{"begun", "batch"} {
		t.Run("the disk is full after: "+step, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "queue.db")
			copyStore(t, damaged, path)
			_, err := sqlite.Open(sqlite.WithSteps(t.Context(), func(at string, limit func(int) error) {
				if at != step {
					return
				}
				if err := limit(1); err != nil { // no more than there are
					t.Error(err)
				}
			}), path)
			if !errors.Is(err, queue.ErrFull) {
				t.Fatalf("Open: %v", err)
			}
			if left, _ := filepath.Glob(path + ".salvaging*"); len(left) > 0 {
				t.Errorf("%q take up the room that is short", left)
			}
			checkComplete(t, path, sizes)
		})
	}
	for _, step := range []string{"marked", "begun", "batch"} {
		t.Run("it is stopped after: "+step, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "queue.db")
			copyStore(t, damaged, path)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			_, err := sqlite.Open(sqlite.WithSteps(ctx, func(at string, _ func(int) error) {
				if at == step {
					stop()
				}
			}), path)
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("Open: %v", err)
			}
			checkComplete(t, path, sizes)
		})
	}
}

// TestHalfExchanged: a power cut may keep one renaming of two and not the other.
func TestHalfExchanged(t *testing.T) {
	dir := t.TempDir()
	// A damaged store of which a part lies in its log.
	sound := filepath.Join(dir, "sound.db")
	s := open(t, sound)
	sizes := map[envelope.ID]int{}
	for range 20 {
		item, m := newMessage()
		if err := s.Add(t.Context(), item, m, bytes.NewReader(bodyOf(item.ID, 500))); err != nil {
			t.Fatal(err)
		}
		sizes[item.ID] = 500
	}
	settle(t, s)
	damaged := filepath.Join(dir, "damaged.db")
	copyStore(t, sound, damaged)
	copyStore(t, sound+"-wal", damaged+"-wal")
	s.Close()
	const aside = "queue.db.damaged-20261120T120000.000"
	for _, tc := range []struct{ name, file, log string }{
		{"neither", "queue.db", "queue.db-wal"},
		{"the log", "queue.db", aside + "-wal"},
		{"the file", aside, "queue.db-wal"},
		{"both", aside, aside + "-wal"},
	} {
		t.Run(tc.name+" lies aside", func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "queue.db")
			copyStore(t, damaged, filepath.Join(dir, tc.file))
			copyStore(t, damaged+"-wal", filepath.Join(dir, tc.log))
			if err := os.WriteFile(path+".damaged", []byte("malformed\naside: "+aside+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path+".salvaging", []byte("half of it"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := sqlite.OpenSound(t.Context(), path); !errors.Is(err, queue.ErrDamaged) {
				t.Errorf("OpenSound: %v", err)
			}
			s := open(t, path)
			defer s.Close()
			r := s.Salvaged()
			if r == nil || r.Saved != len(sizes) || !strings.Contains(r.Why.Error(), "malformed") {
				t.Fatalf("%+v", r)
			}
			if whole := checkSalvaged(t, s, sizes); whole != len(sizes) {
				t.Errorf("%d are whole of %d", whole, len(sizes))
			}
		})
	}
}

// TestNoStoreBesideADamagedOne: an empty queue is not made where a damaged one waits for somebody.
func TestNoStoreBesideADamagedOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	_, sizes := filled(t, path, 5)
	aside := path + ".damaged-20261120T120000.000"
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(context.Context, string) (*sqlite.Store, error){"Open": sqlite.Open, "OpenSound": sqlite.OpenSound} {
		if _, err := open(t.Context(), path); err == nil || !strings.Contains(err.Error(), filepath.Base(aside)) {
			t.Errorf("%s: %v; want what is to be done about %s", name, err, filepath.Base(aside))
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a store was made")
	}
	if kept, err := sqlite.Kept(path); !kept || err != nil {
		t.Errorf("Kept: %v, %v", kept, err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	defer s.Close()
	if l, err := s.List(t.Context(), queue.Filter{}); err != nil || len(l) != len(sizes) {
		t.Errorf("after the renaming: %d messages of %d, %v", len(l), len(sizes), err)
	}
}
