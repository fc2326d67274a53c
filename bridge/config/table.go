package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// table is one table of the decoded file while its keys are taken out. Each method named after a kind of value takes one
// key: it leaves *dst alone where the key is missing or wrong, and reports what is wrong. finish reports the rest.
type table struct {
	f     *file
	kind  string // for the keys of the manual: "listener", "user.sender"
	path  string // "listener[0]"
	m     map[string]any
	known []string        // the keys asked for so far
	wrong map[string]bool // keys with a mistake, so that no other check builds on them
}

func newTable(f *file, kind, path string, m map[string]any) *table {
	return &table{f: f, kind: kind, path: path, m: m, wrong: map[string]bool{}}
}

// at returns the line and the path of a key of the table, "" being the table itself.
func (t *table) at(key string) (line int, path string) {
	path = t.path
	if key != "" {
		path = joinKey(t.path, key)
	}
	return t.f.x.line(path), path
}

// spot is where the table stands, as a mistake without a text.
func (t *table) spot() Mistake {
	line, key := t.at("")
	return Mistake{File: t.f.name, Line: line, Key: key}
}

// joinKey appends a key of ours, which may end in an element's number, to a path.
func joinKey(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (t *table) mistake(key, format string, args ...any) {
	base, _, _ := strings.Cut(key, "[")
	t.wrong[base] = true
	line, path := t.at(key)
	t.f.mistake(line, path, fmt.Sprintf(format, args...))
}

func (t *table) warn(key, format string, args ...any) {
	line, path := t.at(key)
	t.f.warn(line, path, fmt.Sprintf(format, args...))
}

// place says where a key stands, for the text of another mistake.
func (t *table) place(key string) string {
	line, path := t.at(key)
	return fmt.Sprintf("%s (%s:%d)", path, t.f.name, line)
}

// set reports whether the file gives the key.
func (t *table) set(key string) bool { _, ok := t.m[key]; return ok }

// good reports whether none of the keys has a mistake.
func (t *table) good(keys ...string) bool {
	for _, k := range keys {
		if t.wrong[k] {
			return false
		}
	}
	return true
}

func (t *table) get(key string) (any, bool) {
	t.known = append(t.known, key)
	v, ok := t.m[key]
	return v, ok
}

// finish reports the keys that nobody asked for.
func (t *table) finish() {
	for key := range t.m {
		if t.knows(key) {
			continue
		}
		path := joinPath(t.path, key)
		t.f.mistake(t.f.x.line(path), path, t.unknownText(key))
	}
}

func (t *table) knows(key string) bool {
	for _, k := range t.known {
		if k == key {
			return true
		}
	}
	return false
}

func (t *table) unknownText(key string) string {
	for _, k := range t.known {
		if k != key && strings.EqualFold(k, key) && t.set(k) {
			line, _ := t.at(k)
			return fmt.Sprintf("differs only by case from %s on line %d; keep that one", k, line)
		}
	}
	if s := suggest(key, t.known); s != "" {
		t.wrong[s] = true // it is not missing, it is misspelt
		return "unknown key; did you mean " + s + "?"
	}
	if homes := t.f.out.homesOf(key); len(homes) > 0 && !strings.Contains(t.kind, ".") {
		return "unknown key here; it belongs in " + strings.Join(homes, " or ")
	}
	return "unknown key; known here: " + strings.Join(t.known, ", ")
}

// text takes a string without control characters; an empty one is like a missing one.
func (t *table) text(key string, dst *string) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	if s, ok := t.asText(key, v); ok && s != "" {
		*dst = s
	}
}

func (t *table) asText(key string, v any) (string, bool) {
	s, ok := v.(string)
	if !ok {
		t.mistake(key, "is %s; must be text in quotes", kindOf(v))
		return "", false
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		t.mistake(key, `has a control character: in double quotes a backslash starts an escape (\t is a tab, \n a line feed); `+
			`write it in single quotes`)
		return "", false
	}
	return s, true
}

// checked takes a string that check accepts.
func (t *table) checked(key string, dst *string, check func(string) error) {
	var s string
	t.text(key, &s)
	if s == "" {
		return
	}
	if err := check(s); err != nil {
		t.mistake(key, "%s", err)
		return
	}
	*dst = s
}

// require reports a key that is missing or empty. It comes after the key was taken.
func (t *table) require(key, value, remedy string) {
	if value == "" && t.good(key) {
		t.mistake(key, "is missing; %s", remedy)
	}
}

// choice takes one of the allowed words.
func (t *table) choice(key string, dst *string, allowed ...string) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	s, ok := t.asText(key, v)
	if !ok {
		return
	}
	for _, a := range allowed {
		if a == s {
			*dst = s
			return
		}
	}
	t.mistake(key, "must be one of %s%s", strings.Join(allowed, ", "), didYouMean(s, allowed))
}

// number takes a whole number from least to most.
func (t *table) number(key string, dst *int, least, most int) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		t.mistake(key, "is %s; must be a whole number without quotes", kindOf(v))
	case n < int64(least) || n > int64(most):
		t.mistake(key, "must be from %d to %d", least, most)
	default:
		*dst = int(n)
	}
}

// flag takes true or false.
func (t *table) flag(key string, dst *bool) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	b, ok := v.(bool)
	if !ok {
		t.mistake(key, "is %s; must be true or false, without quotes", kindOf(v))
		return
	}
	*dst = b
}

// duration takes a duration of at least a second.
func (t *table) duration(key string, dst *time.Duration) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	s, ok := v.(string)
	if !ok {
		t.mistake(key, `is %s; must be a duration in quotes, such as "90s", "4h" or "5d"`, kindOf(v))
		return
	}
	d, err := parseDuration(s)
	switch {
	case err != nil:
		t.mistake(key, "%s", err)
	case d == 0:
		t.mistake(key, "must be longer than nothing")
	default:
		*dst = d
	}
}

// size takes a size of at least one octet, and at most most octets.
func (t *table) size(key string, dst *int64, most int64) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	s, ok := v.(string)
	if !ok {
		t.mistake(key, `is %s; must be a size in quotes, such as "35MB"`, kindOf(v))
		return
	}
	n, err := parseSize(s)
	switch {
	case err != nil:
		t.mistake(key, "%s", err)
	case n == 0:
		t.mistake(key, "must be more than nothing")
	case n > most:
		t.mistake(key, "must not be more than %dMiB", most>>20)
	default:
		*dst = n
	}
}

// date takes a TOML date as midnight UTC of that day.
func (t *table) date(key string, dst *time.Time) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	d, ok := v.(time.Time)
	if !ok || d.Year() == 0 { // a time of day alone has the year 0
		t.mistake(key, "is %s; must be a date without quotes, such as 2027-11-03", kindOf(v))
		return
	}
	*dst = time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, time.UTC)
}

// file takes a path and makes it absolute.
func (t *table) file(key string, dst *string) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	if s, ok := t.asPath(key, v); ok && s != "" {
		*dst = s
	}
}

// files takes a path or a list of them, and makes each absolute.
func (t *table) files(key string, dst *[]string) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	list, many := v.([]any)
	if !many {
		list = []any{v}
	}
	var out []string
	for i, e := range list {
		at := key
		if many {
			at = elemPath(key, i)
		}
		if s, ok := t.asPath(at, e); ok && s != "" {
			out = append(out, s)
		}
	}
	if t.good(key) {
		*dst = out
	}
}

func (t *table) asPath(key string, v any) (string, bool) {
	s, ok := v.(string)
	switch {
	case !ok:
		t.mistake(key, "is %s; must be a path in single quotes", kindOf(v))
		return "", false
	case strings.ContainsFunc(s, unicode.IsControl):
		t.mistake(key, `has a control character: in double quotes \t is a tab and \n a line feed; `+
			`write the path in single quotes, such as 'C:\temp\new.pem'`)
		return "", false
	}
	return t.abs(s), true
}

// abs resolves a path against the folder of the file it stands in; "" stays "".
func (t *table) abs(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(t.f.dir(), path)
}

// texts takes a list of strings, each accepted by check. Where single is true, one string stands for a list of one.
func (t *table) texts(key string, dst *[]string, single bool, check func(string) error) {
	v, ok := t.get(key)
	if !ok {
		return
	}
	if s, ok := v.(string); ok && single {
		v = []any{s}
	}
	list, ok := v.([]any)
	if !ok {
		t.mistake(key, `is %s; must be a list: ["...", "..."]`, kindOf(v))
		return
	}
	out := []string{}
	for i, e := range list {
		at := elemPath(key, i)
		s, ok := t.asText(at, e)
		if !ok {
			continue
		}
		if err := check(s); err != nil {
			t.mistake(at, "%s", err)
			continue
		}
		out = append(out, s)
	}
	if t.good(key) {
		*dst = out
	}
}

// prefixes takes a list of networks.
func (t *table) prefixes(key string, dst *[]netip.Prefix) {
	var list []string
	before := t.set(key)
	t.texts(key, &list, false, func(s string) error { _, err := parsePrefix(s); return err })
	if !before || !t.good(key) {
		return
	}
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i], _ = parsePrefix(s) // checked above
	}
	*dst = out
}

// sub takes an inline or dotted table; nil when there is none.
func (t *table) sub(key string) *table {
	v, ok := t.get(key)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.mistake(key, "is %s; must be a table: { ... }", kindOf(v))
		return nil
	}
	return newTable(t.f, joinKey(t.kind, key), joinPath(t.path, key), m)
}

// secret takes a reference to a secret and refuses the secret itself. entry is the vault entry that the remedy names.
func (t *table) secret(key string, dst *SecretRef, entry string) {
	var s string
	if t.text(key, &s); s == "" {
		return
	}
	kind, name, _ := strings.Cut(s, ":")
	var err error
	switch kind {
	case "vault":
		err = checkName(name)
	case "env":
		err = checkVariable(name)
	case "file":
		name = t.abs(name)
	default:
		t.mistake(key, `the secret itself must not stand in this file; run: postern secret set %s, `+
			`and write here: "vault:%s" ("env:NAME" and "file:PATH" work too)`, entry, entry)
		return
	}
	if name == "" || err != nil {
		t.mistake(key, `must be "vault:NAME", "env:NAME" or "file:PATH"; a NAME has letters, digits, ".", "_" and "-" only`)
		return
	}
	*dst = SecretRef{Kind: kind, Name: name}
}

// checkVariable accepts what every system takes as the name of a variable.
func checkVariable(s string) error {
	for _, r := range s {
		if r >= 0x80 || !isBare(byte(r)) {
			return errNotVariable
		}
	}
	return nil
}

// kindOf names the kind of a decoded value for a person.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	default: // []any, []map[string]any
		return "a list"
	}
}
