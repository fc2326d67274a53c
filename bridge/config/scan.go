package config

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the scanner, checked before the decoder sees the text: it recurses without a limit and joins every key with
// all its parents, so that a small file could take gigabytes. The deepest key of ours is five deep.
const (
	maxDepth = 8
	maxKey   = 100 // octets of one part of a key
)

// index says where the keys of a TOML text stand. Paths are written as in Mistake.Key.
type index struct {
	lines   map[string]int // first line of each key, table and list element
	headers []header
	traps   []trap // what the decoder will refuse and we can explain better, in order
	bomb    *trap  // the text must not be decoded: too deep, or a key too long
}

// header is one [name] or [[name]] line of a single name.
type header struct {
	name  string
	array bool
	line  int
}

// trap is a place where the text is wrong, and what to say about it.
type trap struct {
	line int
	key  string
	text string
}

// line returns the line of the path, or of the nearest parent that has one; 0 when there is none.
func (x *index) line(path string) int {
	for path != "" {
		if n, ok := x.lines[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// joinPath appends one part of a key to a path. A part that is no bare key of TOML is quoted.
func joinPath(path, part string) string {
	bare := part != ""
	for i := range len(part) {
		bare = bare && isBare(part[i])
	}
	if !bare {
		part = strconv.Quote(part)
	}
	if path == "" {
		return part
	}
	return path + "." + part
}

// elemPath appends the number of a list element to a path.
func elemPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// scanner walks over a TOML text to build its index. It is no parser: whatever it cannot read it skips to the end of the
// line, because the decoder refuses such a text anyway. It must agree with the decoder on every text that the decoder
// accepts; a fuzz target holds it to that.
type scanner struct {
	s      string
	pos    int
	breaks []int          // offsets of the line feeds
	table  string         // path of the table that keys go to
	depth  int            // of table
	arrays map[string]int // path of an array of tables -> its tables so far
	given  map[string]int // path of a key or [table] -> the line that gave it
	x      *index
}

// scan builds the index of a text that is valid UTF-8, has no BOM and is not longer than maxFile.
func scan(text string) *index {
	s := &scanner{
		s: text, arrays: map[string]int{}, given: map[string]int{},
		x: &index{lines: map[string]int{}},
	}
	for i := range len(text) {
		if text[i] == '\n' {
			s.breaks = append(s.breaks, i)
		}
	}
	for s.x.bomb == nil {
		s.skip(" \t\r\n")
		switch s.peek() {
		case 0:
			return s.x
		case '#':
		case '[':
			s.header()
		default:
			s.keyValue(s.table, s.depth)
		}
		s.skipLine()
	}
	return s.x
}

// peek returns the next octet, 0 at the end. (A NUL in the text ends the scan; the decoder refuses it.)
func (s *scanner) peek() byte {
	if s.pos < len(s.s) {
		return s.s[s.pos]
	}
	return 0
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.s[s.pos:], prefix) }

func (s *scanner) skip(set string) {
	for s.pos < len(s.s) && strings.IndexByte(set, s.s[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *scanner) skipLine() {
	for s.pos < len(s.s) && s.s[s.pos] != '\n' {
		s.pos++
	}
}

// skipSpace skips what may stand between the values of a list: blanks, line ends and comments.
func (s *scanner) skipSpace() {
	for s.skip(" \t\r\n"); s.peek() == '#'; s.skip(" \t\r\n") {
		s.skipLine()
	}
}

func (s *scanner) line(pos int) int { return sort.SearchInts(s.breaks, pos) + 1 }

func (s *scanner) trap(pos int, key, text string) {
	s.x.traps = append(s.x.traps, trap{s.line(pos), key, text})
}

// tooMuch stops the scan and keeps the decoder from the text.
func (s *scanner) tooMuch(text string) {
	if s.x.bomb == nil {
		s.x.bomb = &trap{line: s.line(s.pos), text: text}
	}
	s.pos = len(s.s)
}

// header reads [a.b] or [[a.b]] and makes it the current table.
func (s *scanner) header() {
	start := s.pos
	s.pos++
	array := s.peek() == '['
	if array {
		s.pos++
	}
	parts := s.key()
	if parts == nil {
		return
	}
	if len(parts) == 1 {
		s.x.headers = append(s.x.headers, header{parts[0], array, s.line(start)})
	}
	path := s.resolve("", parts, start)
	if array {
		path = elemPath(path, s.arrays[path])
		s.arrays[path[:strings.LastIndexByte(path, '[')]]++
		s.note(path, start)
	} else {
		s.give(path, start)
	}
	s.table, s.depth = path, len(parts)
}

// keyValue reads "key = value" of the table at path and reports whether it could.
func (s *scanner) keyValue(table string, depth int) bool {
	start := s.pos
	parts := s.key()
	if parts == nil || s.peek() != '=' {
		return false
	}
	s.pos++
	path := s.resolve(table, parts, start)
	s.give(path, start)
	return s.value(path, depth+len(parts))
}

// key reads a dotted key and the blanks after it; nil when there is none.
func (s *scanner) key() (parts []string) {
	for {
		s.skip(" \t")
		part, ok := s.keyPart()
		if !ok {
			return nil
		}
		parts = append(parts, part)
		if len(part) > maxKey {
			s.tooMuch("a key is longer than " + strconv.Itoa(maxKey) + " octets; no key of Postern is")
			return nil
		}
		if len(parts) > maxDepth {
			s.tooMuch(tooDeep)
			return nil
		}
		s.skip(" \t")
		if s.peek() != '.' {
			return parts
		}
		s.pos++
	}
}

func (s *scanner) keyPart() (part string, ok bool) {
	start := s.pos
	switch s.peek() {
	case '"':
		s.pos++
		if !s.basic() {
			return "", false
		}
		return unescape(s.s[start+1 : s.pos-1]), true
	case '\'':
		s.pos++
		if !s.literal() {
			return "", false
		}
		return s.s[start+1 : s.pos-1], true
	}
	s.curly()
	for s.pos < len(s.s) && isBare(s.s[s.pos]) {
		s.pos++
	}
	return s.s[start:s.pos], s.pos > start
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// resolve returns the path of a key in the table at path and notes its parents. A parent that is an array of tables
// means its last table.
func (s *scanner) resolve(path string, parts []string, start int) string {
	for i, part := range parts {
		path = joinPath(path, part)
		s.note(path, start)
		if n := s.arrays[path]; n > 0 && i < len(parts)-1 {
			path = elemPath(path, n-1)
		}
	}
	return path
}

func (s *scanner) note(path string, pos int) {
	if _, ok := s.x.lines[path]; !ok {
		s.x.lines[path] = s.line(pos)
	}
}

// give notes that a key or a plain table has been given, and sets a trap when it is the second time.
func (s *scanner) give(path string, pos int) {
	if first, ok := s.given[path]; ok {
		s.trap(pos, path, "stands here a second time, first on line "+strconv.Itoa(first)+"; keep one of them")
		return
	}
	s.given[path] = s.line(pos)
}

// value skips the value of the key at path, noting what is inside, and reports whether it could.
func (s *scanner) value(path string, depth int) bool {
	if depth > maxDepth {
		s.tooMuch(tooDeep)
		return false
	}
	s.skip(" \t")
	switch {
	case s.has(`"""`):
		return s.multiline('"')
	case s.has(`'''`):
		return s.multiline('\'')
	case s.has(`"`):
		s.pos++
		return s.basic()
	case s.has(`'`):
		s.pos++
		return s.literal()
	case s.has("["):
		s.pos++
		return s.list(path, depth)
	case s.has("{"):
		s.pos++
		return s.inline(path, depth)
	}
	s.curly()
	start := s.pos
	for s.pos < len(s.s) && strings.IndexByte(",]}#\r\n", s.s[s.pos]) < 0 {
		s.pos++
	}
	return s.pos > start
}

// list reads the elements of [ ... ] after the bracket.
func (s *scanner) list(path string, depth int) bool {
	for i := 0; ; {
		s.skipSpace()
		switch s.peek() {
		case 0:
			return false
		case ']':
			s.pos++
			return true
		case ',':
			s.pos++
		default:
			elem := elemPath(path, i)
			s.note(elem, s.pos)
			if !s.value(elem, depth+1) {
				return false
			}
			i++
		}
	}
}

// inline reads the keys of { ... } after the brace.
func (s *scanner) inline(path string, depth int) bool {
	for {
		s.skipSpace()
		switch s.peek() {
		case 0:
			return false
		case '}':
			s.pos++
			return true
		case ',':
			s.pos++
		default:
			if !s.keyValue(path, depth) {
				return false
			}
		}
	}
}

// basic skips the rest of a "string" on one line.
func (s *scanner) basic() bool {
	start := s.pos
	for ; s.pos < len(s.s); s.pos++ {
		switch s.s[s.pos] {
		case '"':
			s.pos++
			return true
		case '\\':
			s.escape()
		case '\n':
			if strings.ContainsAny(s.s[start:s.pos], curlyQuotes) {
				s.trap(start, "", curlyText)
			}
			return false
		}
	}
	return false
}

// escape looks at the escape that starts at the backslash here and leaves pos on its second octet (or on the backslash
// before a line end).
func (s *scanner) escape() {
	at := s.pos
	if s.pos+1 >= len(s.s) || s.s[s.pos+1] == '\n' || s.s[s.pos+1] == '\r' {
		return
	}
	s.pos++
	if _, _, ok := escaped(s.s[at:]); !ok {
		s.trap(at, "", escapeText)
	}
}

func (s *scanner) literal() bool {
	for ; s.pos < len(s.s) && s.s[s.pos] != '\n'; s.pos++ {
		if s.s[s.pos] == '\'' {
			s.pos++
			return true
		}
	}
	return false
}

// multiline skips a string between three quotes; up to two more quotes before the closing three belong to it.
func (s *scanner) multiline(quote byte) bool {
	closing := strings.Repeat(string(quote), 3)
	for s.pos += 3; s.pos < len(s.s); s.pos++ {
		switch {
		case quote == '"' && s.s[s.pos] == '\\':
			s.pos++ // whatever is escaped ends nothing
		case s.has(closing):
			s.pos += 3
			for extra := 0; extra < 2 && s.peek() == quote; extra++ {
				s.pos++
			}
			return true
		}
	}
	return false
}

// curly sets a trap when a key or a value begins with a quotation mark that a word processor made.
func (s *scanner) curly() {
	r, _ := utf8.DecodeRuneInString(s.s[s.pos:])
	if r != utf8.RuneError && strings.ContainsRune(curlyQuotes, r) {
		s.trap(s.pos, "", curlyText)
	}
}

// escaped reads the escape at the start of s: its character and its length in octets.
func escaped(s string) (r rune, n int, ok bool) {
	if len(s) < 2 {
		return 0, 0, false
	}
	if i := strings.IndexByte(`btnfre"\`, s[1]); i >= 0 {
		return rune("\b\t\n\f\r\x1b\"\\"[i]), 2, true
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits == 0 || len(s) < 2+digits {
		return 0, 0, false
	}
	v, err := strconv.ParseUint(s[2:2+digits], 16, 32)
	if err != nil || !utf8.ValidRune(rune(v)) {
		return 0, 0, false
	}
	return rune(v), 2 + digits, true
}

// unescape returns the text of a basic string, as far as its escapes are valid.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] == '\\' {
			if r, n, ok := escaped(s[i:]); ok {
				b.WriteRune(r)
				i += n
				continue
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}
