package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// textStore is a store of one line; its copy has the notes behind it.
type textStore string

func (s textStore) Backup(_ context.Context, path string, notes map[string]string) error {
	return os.WriteFile(path, []byte(string(s)+notes["origin"]), 0o644)
}

// fullDisk cannot make a copy.
type fullDisk struct{}

func (fullDisk) Backup(context.Context, string, map[string]string) error {
	return errors.New("no space left on device")
}

// gone takes so many octets, and then nobody reads any more.
type gone struct{ after int }

func (g *gone) Write(p []byte) (int, error) {
	if g.after -= len(p); g.after < 0 {
		return 0, errors.New("no reader")
	}
	return len(p), nil
}

// dataDir has these files.
func dataDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// unpack returns the files of an archive, and fails where others than the owner could read one.
func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	got := map[string]string{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o; want 600", h.Name, h.Mode)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(text)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestWrite(t *testing.T) {
	options := func(dir string) Options {
		return Options{DataDir: dir, Store: textStore("mail "), StoreFile: "queue.db", StoreLog: "queue.db-wal", Notes: map[string]string{"origin": "a copy"}, Contents: "contents"}
	}
	for _, tc := range []struct {
		name   string
		files  map[string]string
		sealed map[string][]byte
		want   map[string]string
	}{
		{"all that data_dir keeps and nothing else",
			map[string]string{"queue.db": "live", "queue.db-wal": "live", "vault": "sealed", "vault.key": "key", "lock": "", "contents/a1": "terms", "contents/new/b2": "half"}, nil,
			map[string]string{"queue.db": "mail a copy", "queue.db-wal": "", "vault": "sealed", "vault.key": "key", "contents/a1": "terms"}},
		{"a key that lies elsewhere and contents that nobody has are no failure", map[string]string{"vault": "sealed"}, nil,
			map[string]string{"queue.db": "mail a copy", "queue.db-wal": "", "vault": "sealed"}},
		{"a vault in use hands its files over itself", map[string]string{"vault": "old"}, map[string][]byte{"vault": []byte("as it is now")},
			map[string]string{"queue.db": "mail a copy", "queue.db-wal": "", "vault": "as it is now"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := dataDir(t, tc.files)
			before := names(t, dir)
			o := options(dir)
			if tc.sealed != nil {
				o.Sealed = func() (map[string][]byte, error) { return tc.sealed, nil }
			}
			var to bytes.Buffer
			if err := Write(t.Context(), &to, o); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, unpack(t, &to)); diff != "" {
				t.Errorf("the archive (-want +got):\n%s", diff)
			}
			if after := names(t, dir); !slices.Equal(before, after) {
				t.Errorf("data_dir has %v afterwards; want %v", after, before)
			}
		})
	}
}

func TestWriteFails(t *testing.T) {
	closed := errors.New("the vault is closed")
	for _, tc := range []struct {
		name   string
		change func(*Options)
		to     io.Writer // nil takes everything
	}{
		{"no room for the copy", func(o *Options) { o.Store = fullDisk{} }, nil},
		{"a vault that cannot be read", func(o *Options) { o.Sealed = func() (map[string][]byte, error) { return nil, closed } }, nil},
		{"who asked is gone at the beginning", func(*Options) {}, &gone{0}},
		{"who asked is gone in the middle of the store", func(o *Options) { o.Store = textStore(strings.Repeat("mail", 5000)) }, &gone{9000}},
		{"who asked is gone at the end", func(*Options) {}, &gone{1024}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := dataDir(t, nil)
			o := Options{DataDir: dir, Store: textStore("mail"), StoreFile: "queue.db", StoreLog: "queue.db-wal", Contents: "contents"}
			tc.change(&o)
			to := io.Discard
			if tc.to != nil {
				to = tc.to
			}
			if err := Write(t.Context(), to, o); err == nil {
				t.Error("Write = nil; want an error")
			}
			if left := names(t, dir); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestWriteLeavesRoom(t *testing.T) {
	const size = 4000 // of the store
	for _, tc := range []struct {
		name        string
		free, least int64
		fails       error
		ok          bool
	}{
		{"room for the copy and what must stay free", 5000, 1000, nil, true},
		{"one octet less", 4999, 1000, nil, false},
		{"room for nothing but what must stay free", 1000, 1000, nil, false},
		{"nothing must stay free, and the copy fits", 4000, 0, nil, true},
		{"nothing must stay free, and the copy does not fit", 3999, 0, nil, false},
		{"a disk that does not say", 0, 1000, errors.New("not supported"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := dataDir(t, map[string]string{"queue.db": strings.Repeat("x", size)})
			o := Options{DataDir: dir, Store: textStore("mail"), StoreFile: "queue.db", StoreLog: "queue.db-wal", Contents: "contents", Least: tc.least,
				Free: func() (int64, error) { return tc.free, tc.fails }}
			var to bytes.Buffer
			err := Write(t.Context(), &to, o)
			if tc.ok && err != nil || !tc.ok && (err == nil || !strings.Contains(err.Error(), "about 4000 bytes") || !strings.Contains(err.Error(), "min_free_disk")) {
				t.Errorf("Write = %v", err)
			}
			if !tc.ok && to.Len() != 0 {
				t.Errorf("%d octets of an archive were written", to.Len())
			}
			if left := names(t, dir); !slices.Equal(left, []string{"queue.db"}) {
				t.Errorf("data_dir has %v afterwards", left)
			}
		})
	}
}

// watched looks at data_dir while the copy is made.
type watched struct {
	textStore
	see func()
}

func (w watched) Backup(ctx context.Context, path string, notes map[string]string) error {
	defer w.see()
	return w.textStore.Backup(ctx, path, notes)
}

// TestSweep: what a process left that died amid a copy goes, and what a person put into data_dir stays, whatever he calls it.
func TestSweep(t *testing.T) {
	keep := map[string]string{"queue.db": "mail", "backup-note": "a file of the administrator's", "backup-before-upgrade/queue.db": "his own copy",
		"backup-2026-11-20/vault": "his own copy", "backup-123/queue.db": "his own copy", ".unfinished-backup-note": "a file", "old/.unfinished-backup-1/x": "x"}
	var half []string
	working := dataDir(t, nil)
	o := Options{DataDir: working, Store: watched{"mail", func() { half = names(t, working) }}, StoreFile: "queue.db", StoreLog: "queue.db-wal"}
	if err := Write(t.Context(), io.Discard, o); err != nil || len(half) != 1 {
		t.Fatalf("Write = %v; meanwhile data_dir has %v, want one folder", err, half)
	}
	files := maps.Clone(keep)
	files[half[0]+"/queue.db"] = "half a copy"
	dir := dataDir(t, files)
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, half[0])); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half copy: %v; want it gone", err)
	}
	for name := range keep {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
}
