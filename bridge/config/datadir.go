package config

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
)

// DataDir returns the data_dir that the file at path names, or the default where it names none, however wrong the file is
// otherwise: the command line finds the running daemon by it while somebody edits the file. ok is false where the file
// cannot be read, and where what it says of data_dir cannot. Nothing else may be believed of such a file.
func DataDir(path string) (dir string, ok bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	l := &loader{dir: filepath.Dir(abs)}
	top, ok := l.salvage(abs)
	if !ok {
		return "", false
	}
	if dir, named, ok := dataDirOf(top); named {
		return dir, ok
	}
	var patterns []string
	top.texts("include", &patterns, false, func(string) error { return nil })
	for i, p := range patterns {
		paths, err := l.glob(top, elemPath("include", i), p)
		if err != nil {
			return "", false
		}
		for _, path := range paths {
			included, ok := l.salvage(path)
			if !ok {
				return "", false
			}
			if dir, named, ok := dataDirOf(included); named {
				return dir, ok
			}
		}
	}
	return Default().Bridge.DataDir, top.good("include")
}

// dataDirOf reads the key; ok says whether it could be, where the file has it.
func dataDirOf(top *table) (dir string, named, ok bool) {
	v, _ := top.get("bridge")
	m, isTable := v.(map[string]any)
	if list, isList := tablesOf(v); !isTable && isList && len(list) > 0 {
		m = list[0] // [[bridge]]
	}
	t := newTable(top.f, "bridge", "bridge", m)
	if !t.set("data_dir") {
		return "", false, false
	}
	dir = Default().Bridge.DataDir
	t.file("data_dir", &dir)
	return dir, true, t.good("data_dir")
}

// salvage reads a file that may be no TOML: it decodes the whole, or else the lines that count, each by itself.
func (l *loader) salvage(path string) (top *table, ok bool) {
	f := l.open(path)
	data, err := readFile(path)
	if err != nil || bytes.IndexByte(data, 0) >= 0 { // UTF-16
		return nil, false
	}
	tree, ok := f.parse(data)
	if !ok {
		f.x, tree = &index{}, map[string]any{}
	}
	if tree["bridge"] == nil && !salvageLines(string(data), tree) {
		return nil, false
	}
	return newTable(f, "", "", tree), true
}

// salvaged is a line that counts; no other table has a key data_dir.
var salvaged = regexp.MustCompile(`^\s*(?:bridge\s*\.\s*)?(data_dir|include)\s*=(.*)`)

// salvageLines adds to tree what the lines say of the keys that it lacks; false where one of them cannot be decoded.
func salvageLines(text string, tree map[string]any) bool {
	_, included := tree["include"]
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		found := salvaged.FindStringSubmatch(line)
		if found == nil || included && found[1] == "include" {
			continue
		}
		one := "value =" + found[2] + "\n"
		if scan(one).bomb != nil {
			return false
		}
		decoded, err := decodeTOML(one)
		switch {
		case err != nil:
			return false
		case found[1] == "include":
			tree["include"], included = decoded["value"], true
		case tree["bridge"] == nil:
			tree["bridge"] = map[string]any{"data_dir": decoded["value"]}
		}
	}
	return true
}
