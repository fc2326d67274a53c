package contents

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "contents"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, text string) string {
	t.Helper()
	hash, size, err := s.Put(strings.NewReader(text))
	if err != nil || size != int64(len(text)) {
		t.Fatalf("Put = %d octets, %v", size, err)
	}
	return hash
}

func TestContentIsKeptByItsHash(t *testing.T) {
	s := open(t)
	hash := put(t, s, "abc")
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; hash != want {
		t.Errorf("hash %s, want %s (FIPS 180-2)", hash, want)
	}
	if again := put(t, s, "abc"); again != hash {
		t.Errorf("put twice it is %s and %s", hash, again)
	}
	r, err := s.Open(hash)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "abc" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestABrokenReaderLeavesNothing(t *testing.T) {
	s := open(t)
	broken := errors.New("broken")
	if _, _, err := s.Put(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("Put = %v, want %v", err, broken)
	}
	if all, err := os.ReadDir(s.dir); err != nil || len(all) != 0 {
		t.Errorf("left %v, %v", all, err)
	}
}

func TestNamesThatAreNoHashAreRefused(t *testing.T) {
	s := open(t)
	for _, name := range []string{"", "../vault", strings.Repeat("A", 64), strings.Repeat("a", 63)} {
		if _, err := s.Open(name); err == nil {
			t.Errorf("Open(%q) = nil", name)
		}
	}
}

func TestSweepKeepsWhatIsNeeded(t *testing.T) {
	s := open(t)
	current, planned, old := put(t, s, "current"), put(t, s, "planned"), put(t, s, "old")
	if err := os.WriteFile(filepath.Join(s.dir, "new-left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	unknown := errors.New("the queue cannot be read")
	if err := s.Sweep(map[string]bool{current: true}, func() (map[string]bool, error) { return nil, unknown }); !errors.Is(err, unknown) {
		t.Errorf("Sweep = %v, want %v", err, unknown)
	}
	if err := s.Sweep(map[string]bool{current: true}, func() (map[string]bool, error) { return map[string]bool{planned: true}, nil }); err != nil {
		t.Fatal(err)
	}
	for hash, want := range map[string]bool{current: true, planned: true, old: false} {
		r, err := s.Open(hash)
		if (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", hash, err == nil, want)
		}
		if err == nil {
			r.Close()
		}
	}
	if all, _ := os.ReadDir(s.dir); len(all) != 2 {
		t.Errorf("%d files are left, want 2", len(all))
	}
	asked := false
	if err := s.Sweep(map[string]bool{current: true, planned: true}, func() (map[string]bool, error) { asked = true; return nil, nil }); err != nil || asked {
		t.Errorf("Sweep = %v, and asked for the plans: %v", err, asked)
	}
}
