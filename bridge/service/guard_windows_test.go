package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeeperOfThisMachine: what Windows says of files that this process makes, and that it takes the rights which an
// installation sets.
func TestKeeperOfThisMachine(t *testing.T) {
	k, err := newKeeper()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(k.self, "S-1-5-") || !filepath.IsAbs(k.profiles) || len(k.common) != 4 {
		t.Errorf("it installs as %q; profiles are in %q; the system's folders are %q", k.self, k.profiles, k.common)
	}
	base, err := os.MkdirTemp("", "guard")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(base, "Postern")
	if list, err := k.list(root); err != nil || len(list) > 0 {
		t.Errorf("of a folder that is not there: %v, %v", list, err)
	}
	file := filepath.Join(root, "postern.toml")
	t.Cleanup(func() { // one by one: Wine has not what os.RemoveAll needs
		for _, path := range []string{file, root, base} {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	})
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := k.list(root)
	if err != nil || len(list) != 2 || list[0].path != root || list[1].path != file {
		t.Fatalf("it finds %v, %v", list, err)
	}
	for _, o := range list {
		if !k.trusts(o.owner) || o.name == "" || o.link {
			t.Errorf("it finds %+v, which this process made", o)
		}
	}
	var r Result
	if err := k.guard(&r, guarded{path: root, rights: "FA"}); err != nil {
		t.Fatal(err)
	}
	owner, dacl, err := k.read(root)
	if err != nil || !strings.HasPrefix(owner, "S-1-5-") || !strings.Contains(dacl, "D:") {
		t.Errorf("the rights are %q %q, %v", owner, dacl, err)
	}
}
