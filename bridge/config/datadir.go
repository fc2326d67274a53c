package config

import (
	"bytes"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Errors of DataDir.
var (
	// ErrNoDataDir says that nothing in the file is about data_dir, and that the file is too broken for that to mean the
	// default.
	ErrNoDataDir = errors.New("the file names no data_dir")
	// ErrDoubtfulDataDir says that something in the file is about data_dir, or may be, and that it cannot be relied on.
	ErrDoubtfulDataDir = errors.New("what the file says of data_dir cannot be relied on")
)

// DataDir returns the data_dir that the file at path names, however wrong the file is otherwise: the command line finds the
// running daemon by it while somebody edits the file. It returns the default only where the file is TOML and nothing in it
// can have been meant as a data_dir, because a wrong answer is the queue of another daemon. The error is ErrNoDataDir,
// ErrDoubtfulDataDir, or the system's reason why the file cannot be read. Nothing else may be believed of such a file.
func DataDir(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	l := &loader{dir: filepath.Dir(abs), seen: map[string]bool{abs: true}}
	s, err := l.salvage(abs)
	if err != nil {
		return "", err
	}
	var patterns []string
	s.top.texts("include", &patterns, false, func(string) error { return nil })
	for i, p := range patterns {
		paths, err := l.glob(s.top, elemPath("include", i), p)
		if err != nil {
			return "", ErrDoubtfulDataDir
		}
		for _, path := range paths {
			if err := l.salvageIncluded(path, &s); err != nil {
				return "", err
			}
		}
	}
	switch {
	case s.dir != "":
		return s.dir, nil
	case s.lost || !s.top.good("include"):
		return "", ErrDoubtfulDataDir
	case s.whole:
		return Default().Bridge.DataDir, nil
	}
	return "", ErrNoDataDir
}

// salvaged is what can be believed of a file that may be no TOML.
type salvaged struct {
	top   *table // include alone
	dir   string // its data_dir; "" for none
	lost  bool   // there is more, in a file that it includes, that cannot be known
	whole bool   // it is TOML, and what it does not say is meant not to be said
}

// salvageIncluded adds what an included file says. One that cannot be read is without importance where the main file names
// data_dir.
func (l *loader) salvageIncluded(path string, s *salvaged) error {
	if l.seen[path] {
		return nil
	}
	l.seen[path] = true
	more, err := l.salvage(path)
	switch {
	case errors.Is(err, ErrDoubtfulDataDir), s.dir != "" && more.dir != "":
		return ErrDoubtfulDataDir
	case err != nil:
		s.lost = true
		return nil
	case more.dir != "":
		s.dir = more.dir
	}
	s.lost = s.lost || more.lost || more.top.set("include")
	s.whole = s.whole && more.whole
	return nil
}

// errNoText says that a file is no text in UTF-8 or in a code page.
var errNoText = errors.New("not a text")

// salvage reads one file: as TOML, or else the lines that count, each by itself.
func (l *loader) salvage(path string) (s salvaged, err error) {
	f := l.open(path)
	data, err := readFile(path)
	if err != nil {
		return s, err
	}
	if len(data) > maxFile || bytes.IndexByte(data, 0) >= 0 { // UTF-16
		return s, errNoText
	}
	if tree, ok := f.parse(data); ok {
		s.top = newTable(f, "", "", tree)
		return s, s.fromTree(tree)
	}
	text := strings.TrimPrefix(string(data), "\ufeff") + "\n"
	f.x = scan(strings.ToValidUTF8(text, "?"))
	s.top = newTable(f, "", "", map[string]any{})
	return s, s.fromLines(text)
}

// fromTree takes what a file says that is TOML.
func (s *salvaged) fromTree(tree map[string]any) error {
	bridge, _ := tree["bridge"].(map[string]any)
	if list, ok := tablesOf(tree["bridge"]); ok && len(list) == 1 {
		bridge = list[0] // [[bridge]]
	}
	t := newTable(s.top.f, "bridge", "bridge", bridge)
	readBridge(t)
	s.whole = tree["bridge"] == nil || bridge != nil
	for key := range bridge {
		s.whole = s.whole && t.knows(key)
	}
	for key, v := range tree {
		_, known := isArray[key]
		_, isTable := v.(map[string]any)
		_, isTables := tablesOf(v)
		s.whole = s.whole && (known || key == "include" || (isTable || isTables) && suggest(key, []string{"bridge"}) == "")
	}
	includes := attempts(tree, "include")
	s.lost = includes > 1 || includes == 1 && !s.top.set("include")
	switch n := attempts(tree, "data_dir"); {
	case n == 0:
		return nil
	case n == 1 && t.set("data_dir"):
		return s.name(bridge["data_dir"])
	}
	return ErrDoubtfulDataDir
}

// attempts counts the keys of a tree that are the key, or may have been meant as it.
func attempts(v any, key string) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for word, below := range v {
			if resembles(word, key) {
				n++
			}
			n += attempts(below, key)
		}
	case []map[string]any:
		for _, below := range v {
			n += attempts(below, key)
		}
	case []any:
		for _, below := range v {
			n += attempts(below, key)
		}
	}
	return n
}

// name takes the value of data_dir.
func (s *salvaged) name(value any) error {
	t := newTable(s.top.f, "bridge", "bridge", map[string]any{"data_dir": value})
	if t.file("data_dir", &s.dir); s.dir == "" {
		return ErrDoubtfulDataDir
	}
	return nil
}

// counts is a line that counts. It knows no blanks but TOML's.
var counts = regexp.MustCompile(`^[ \t]*(?:bridge[ \t]*\.[ \t]*)?(data_dir|include)[ \t]*=(.*)`)

// fromLines takes what a file says that is no TOML: from one line for each key, which stands where it belongs, is in order
// by itself, and has nothing beside it that may have been meant as the same key. Within a string of several lines a line
// says nothing, and where such a string ends nobody knows in a broken file.
func (s *salvaged) fromLines(text string) error {
	found := map[string]any{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		m := counts.FindStringSubmatch(line)
		if m == nil || !s.belongs(m[1], number) {
			continue
		}
		if one, bad := decodeText([]byte("value =" + m[2])); bad == nil && scan(one).bomb == nil {
			if decoded, err := decodeTOML(one); err == nil {
				found[m[1]] = decoded["value"]
			}
		}
	}
	like := map[string]int{}
	for _, line := range strings.FieldsFunc(text, endsLine) {
		for _, key := range []string{"data_dir", "include"} {
			if lineResembles(line, key) {
				like[key]++
			}
		}
	}
	several := strings.Contains(text, `"""`) || strings.Contains(text, `'''`)
	trusted := func(key string) bool { return like[key] == 1 && found[key] != nil && !several }
	if trusted("include") {
		s.top.m["include"] = found["include"]
	} else {
		s.lost = like["include"] > 0
	}
	switch {
	case like["data_dir"] == 0:
		return nil
	case trusted("data_dir"):
		return s.name(found["data_dir"])
	}
	return ErrDoubtfulDataDir
}

// belongs reports whether the key stands on the line as one of [bridge], or include above all tables.
func (s *salvaged) belongs(key string, line int) bool {
	lines := s.top.f.x.lines
	if key == "include" {
		return lines[key] == line
	}
	return lines["bridge."+key] == line || lines["bridge[0]."+key] == line
}

// endsLine has what TOML or an editor takes as the end of a line.
func endsLine(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r) }

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'`)

// lineResembles reports whether a line has a word, outside of comments and values in quotes, that may have been meant as
// the key.
func lineResembles(line, key string) bool {
	var plain strings.Builder
	from := 0
	for _, at := range quoted.FindAllStringIndex(line, -1) {
		plain.WriteString(line[from:at[0]])
		if rest := strings.TrimSpace(line[at[1]:]); rest != "" && strings.ContainsRune("=:.", rune(rest[0])) {
			plain.WriteString(" " + strings.ReplaceAll(line[at[0]+1:at[1]-1], "#", "") + " ") // a key
		}
		from = at[1]
	}
	plain.WriteString(line[from:])
	words, _, _ := strings.Cut(plain.String(), "#")
	for _, word := range strings.FieldsFunc(words, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-'
	}) {
		if resembles(word, key) {
			return true
		}
	}
	return false
}

// resembles reports whether a word may have been meant as the key, data_dir or include; more is taken for it than suggest
// would, because a word too many only refuses.
func resembles(word, key string) bool {
	fold := strings.NewReplacer("_", "", "-", "")
	word, key = fold.Replace(strings.ToLower(word)), fold.Replace(key)
	return strings.HasPrefix(word, key[:4]) || key == "datadir" && strings.Contains(word, "dir") ||
		len(word) <= maxKey && distance(word, key) <= 2
}
