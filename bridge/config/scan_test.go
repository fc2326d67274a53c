package config

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// flatten adds the paths of everything in a decoded value.
func flatten(paths map[string]bool, path string, v any) {
	if path != "" {
		paths[path] = true
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flatten(paths, joinPath(path, k), e)
		}
	case []map[string]any:
		for i, e := range v {
			flatten(paths, elemPath(path, i), e)
		}
	case []any:
		for i, e := range v {
			flatten(paths, elemPath(path, i), e)
		}
	}
}

// FuzzScan holds the scanner to the decoder: whatever the decoder accepts, both know the same keys, and nothing is a
// trap.
func FuzzScan(f *testing.F) {
	for _, s := range scanSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text, bad := decodeText([]byte(text))
		if bad != nil {
			return
		}
		x := scan(text)
		lines := strings.Count(text, "\n") + 1
		for path, n := range x.lines {
			if n < 1 || n > lines {
				t.Fatalf("line of %s = %d of %d", path, n, lines)
			}
		}
		if x.bomb != nil {
			return
		}
		tree, err := decodeTOML(text)
		if err != nil {
			return
		}
		want := map[string]bool{}
		flatten(want, "", tree)
		got := map[string]bool{}
		for path := range x.lines {
			got[path] = true
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Fatalf("keys (-decoder +scanner):\n%s", diff)
		}
		for _, trap := range x.traps {
			if trap.key == "" {
				t.Fatalf("line %d: trap in a text that the decoder accepts: %s", trap.line, trap.text)
			}
		}
	})
}

func scanSeeds(tb testing.TB) []string {
	tb.Helper()
	seeds := []string{
		"a = 1\n[b]\nc.d = \"x\"\n[[e]]\nf = [1, [2, {g = 3}]]\n[[e]]\n[e.h]\ni = 1\n",
		"a = \"\"\"x\n\\\"\"\"\" \"\"\"\"\"\nb = '''y\n''''\nc = 1979-05-27 07:32:00 # d = 1\n",
		"\"a.b\" = 1\n'c' . \"\\u00e9\\t\" = 2\n[ x . \"\" ]\n\"\" = {}\n",
		"a = [ # x\n  \"#\", '\"', # y\n  { b = 1,\n c = 2 },\n]\n",
		"a = \u201cx\u201d\nb = \"C:\\p\"\n",
		"a.b = 1\na.c = 2\n[[x.y]]\n[x]\ny.z = 1\n",
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.toml"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no testdata: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		seeds = append(seeds, string(data))
	}
	return seeds
}

// FuzzParse reads any octets as a configuration: no panic, every mistake within the file, printable.
func FuzzParse(f *testing.F) {
	for _, s := range scanSeeds(f) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &loader{c: Default(), dir: "/etc/postern", plain: map[string]*table{}}
		l.main = l.open("/etc/postern/postern.toml")
		tree, ok := l.main.parse(data)
		if !ok && len(l.out.mistakes) == 0 {
			t.Fatal("refused without a mistake")
		}
		if ok {
			l.read(l.main, tree).finish()
			l.check()
			if len(l.out.mistakes) == 0 {
				l.fill()
			}
		}
		for _, m := range slices.Concat(l.out.mistakes, l.out.warnings) {
			if lines := strings.Count(string(data), "\n") + 1; m.Line < 0 || m.Line > lines {
				t.Fatalf("%s: line %d of %d", m, m.Line, lines)
			}
			if s := m.String(); !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
				t.Fatalf("%q is not one printable line", s)
			}
		}
	})
}

func TestScanFindsTheLines(t *testing.T) {
	x := scan("# comment\n[[user]]\nname = \"a\"\nnetworks = [\n  \"10.0.0.1\", # one\n  \"10.0.0.2\",\n]\n" +
		"[user.sender]\nmode = '''\nkeep\n'''\n\n[[user]]\nname = \"b\"\nsender = {\n  mode = \"keep\",\n  name = \"x\" }\n\"a b\".c = 1\n")
	for path, want := range map[string]int{
		"user[0]": 2, "user[0].name": 3, "user[0].networks": 4, "user[0].networks[0]": 5, "user[0].networks[1]": 6,
		"user[0].sender": 8, "user[0].sender.mode": 9, "user[1]": 13, "user[1].name": 14, "user[1].sender.mode": 16,
		"user[1].sender.name": 17, `user[1]."a b".c`: 18,
		"user[1].missing": 13, "user[0].networks[9]": 4, "nothing": 0, "": 0,
	} {
		if got := x.line(path); got != want {
			t.Errorf("line(%s) = %d, want %d", path, got, want)
		}
	}
}
