package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxFile is the size above which a file is no configuration.
const maxFile = 1 << 20

// Texts of the TOML traps. None of them quotes the file.
const (
	curlyQuotes = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb"
	curlyText   = `curly quotes, as a word processor or a web page makes them; replace them by straight ones (")`
	escapeText  = `a backslash in double quotes starts an escape, and this one is unknown; ` +
		`write a Windows path in single quotes, such as 'C:\ProgramData\Postern'`
	tooDeep = "nested too deeply; no key of Postern is"
)

// file is one configuration file while it is read.
type file struct {
	name string // for Mistake.File
	path string // absolute
	x    *index
	out  *report
}

// report collects what is found.
type report struct {
	mistakes []Mistake
	warnings []Mistake
	manual   map[string][]string // made when first needed
}

func (f *file) mistake(line int, key, text string) {
	f.out.mistakes = append(f.out.mistakes, Mistake{f.name, line, key, text})
}

func (f *file) warn(line int, key, text string) {
	f.out.warnings = append(f.out.warnings, Mistake{f.name, line, key, text})
}

// dir is the folder that relative paths of the file start from.
func (f *file) dir() string { return filepath.Dir(f.path) }

// decode reads the file and builds its index. ok is false when the file is not TOML and the reasons have been reported;
// err is for what the system refuses.
func (f *file) decode() (tree map[string]any, ok bool, err error) {
	data, err := readFile(f.path)
	if err != nil {
		return nil, false, f.refused(err)
	}
	tree, ok = f.parse(data)
	return tree, ok, nil
}

// parse is decode for what has been read.
func (f *file) parse(data []byte) (tree map[string]any, ok bool) {
	text, bad := decodeText(data)
	if bad != nil {
		f.mistake(bad.line, "", bad.text)
		return nil, false
	}
	f.x = scan(text)
	if f.x.bomb != nil {
		f.mistake(f.x.bomb.line, "", f.x.bomb.text)
		return nil, false
	}
	tree, err := decodeTOML(text)
	if err != nil {
		f.syntax(err, strings.Count(text, "\n"))
		return nil, false
	}
	return tree, true
}

// refused makes a mistake of what only a person can mend: a service that is started again and again cannot read the file
// the next time either. It returns every other reason as it is.
func (f *file) refused(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	text := "cannot be read by this user; use sudo, or join group postern; for the service, as root: chown root:postern " + f.path + "; chmod 640 " + f.path
	if runtime.GOOS == "windows" {
		text = `cannot be read by this user; use a console of an administrator; for the service there: icacls "` + f.path + `" /grant "NT SERVICE\Postern:R"`
	}
	f.mistake(0, "", text)
	return nil
}

// readFile reads at most one octet more than maxFile.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return data, nil
}

// decodeText returns the text of a file without its BOM and with a line feed at its end: the decoder counts lines wrongly
// for a mistake on a last line that has none. The trap says why there is no text.
func decodeText(data []byte) (string, *trap) {
	switch {
	case len(data) > maxFile:
		return "", &trap{line: 1, text: "larger than 1 MiB; this is no configuration file"}
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")),
		bytes.IndexByte(data[:min(len(data), 4)], 0) >= 0:
		return "", &trap{line: 1, text: `encoded in UTF-16 ("Unicode" in Notepad); save it as UTF-8`}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	line := 1
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			return "", &trap{line: line, text: `a letter that is not UTF-8, as files saved as "ANSI" have; save the file as UTF-8`}
		}
		if r == '\n' {
			line++
		}
		rest = rest[n:]
	}
	return string(data) + "\n", nil
}

// decodeTOML runs the decoder. A panic of it is a syntax error like others: it must not take the program down.
func decodeTOML(text string) (tree map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			tree, err = nil, toml.ParseError{Message: "decoder panic", Position: toml.Position{Line: 1}}
		}
	}()
	tree = map[string]any{}
	if _, err := toml.Decode(text, &tree); err != nil {
		return nil, err
	}
	return tree, nil
}

// syntax reports why the decoder refused the text: what we found ourselves, and the decoder's own reason unless that is
// the same place.
func (f *file) syntax(err error, lines int) {
	found := map[int]bool{}
	add := func(line int, key, text string) {
		if !found[line] {
			found[line] = true
			f.mistake(line, key, text)
		}
	}
	for _, h := range f.x.headers {
		if text := shapeText(h.name, h.array); text != "" {
			add(h.line, h.name, text)
		}
	}
	shapes := len(found) > 0
	for _, t := range f.x.traps {
		if shapes && t.key != "" {
			continue // a [user] in the place of the second [[user]] gives every key a second time
		}
		add(t.line, t.key, t.text)
	}
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		pe = toml.ParseError{Position: toml.Position{Line: 1}}
	}
	text, twice := syntaxText(pe.Message)
	if twice && len(found) > 0 {
		return // the scanner has said which, and where the first one is
	}
	add(max(1, min(pe.Position.Line, lines)), "", text)
}

// shapeText returns what to say about [name] that must be [[name]], or the other way round; "" when it is right.
func shapeText(name string, array bool) string {
	switch want, known := isArray[name]; {
	case known && want && !array:
		return fmt.Sprintf("there may be several: write [[%s]], also when there is only one", name)
	case known && !want && array:
		return fmt.Sprintf("there is only one: write [%s]", name)
	}
	return ""
}

// syntaxTexts turns the decoder's messages into ours by a part of theirs. Theirs are never printed: they quote what they
// stumbled over, which may be a secret ("expected value but found \"hunter2\" instead").
var syntaxTexts = []struct{ part, text string }{
	{"invalid escape", escapeText},
	{"hexadecimal digits after", escapeText},
	{"Escaped character", escapeText},
	{"strings cannot contain newlines", `a string does not end on its line; close its quotes`},
	{"already", "a key or table stands here a second time; keep one of them"},
	{"invalid datetime", "not a date; write it without quotes, such as 2027-11-03"},
	{"expected value but", `no value that TOML knows; text stands in double quotes, a Windows path in single quotes`},
	{"expected '.' or '='", `a line is "key = value", and this one has no = after its key`},
	{"key name appears blank", `a line is "key = value", and this one has no key`},
	{"keys cannot start", `a line is "key = value", and this one has no key`},
	{"top-level item to end", "something stands after the value; each key has a line of its own"},
	{"array terminator", "a list has no comma between two values, or no ] at its end"},
	{"unexpected comma", "a comma too many"},
	{"inline table", "an inline table has no comma between two keys, or no } at its end"},
	{"table name", "a table starts with [name] or [[name]]"},
	{"table array name", "a table starts with [name] or [[name]]"},
	{"control characters", "a control character; remove it"},
	{"NULL", "a control character; remove it"},
	{"out of range", "a number is too large"},
	{"nvalid integer", "not a number as TOML writes it"},
	{"nvalid float", "not a number as TOML writes it"},
	{"digit", "not a number as TOML writes it"},
	{"unexpected EOF", "the file ends within a string, a list or a table"},
}

// syntaxText returns our text for a message of the decoder; twice is true when the message is that a key stands twice.
func syntaxText(message string) (text string, twice bool) {
	for _, t := range syntaxTexts {
		if strings.Contains(message, t.part) {
			return t.text, t.part == "already"
		}
	}
	return "not valid TOML", false
}
