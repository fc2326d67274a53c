package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles is the number of included files above which the pattern is a mistake.
const maxFiles = 200

// Load reads the file at path with what it includes. The error is a *Mistakes where the configuration is wrong (all of
// it, except that bad syntax hides the rest of its file and the checks across files), else the system's reason why a
// file cannot be read. Load changes nothing; it is safe for concurrent use.
func Load(path string) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	l := &loader{c: Default(), dir: filepath.Dir(abs), seen: map[string]bool{abs: true}, plain: map[string]*table{}}
	l.c.Path = path
	if err := l.load(abs); err != nil {
		return nil, err
	}
	if l.broken == 0 {
		l.check()
	}
	sortMistakes(l.out.mistakes)
	sortMistakes(l.out.warnings)
	if len(l.out.mistakes) > 0 {
		return nil, &Mistakes{List: l.out.mistakes}
	}
	l.fill()
	l.c.Warnings = l.out.warnings
	return &l.c, nil
}

// loader puts one configuration together from its files.
type loader struct {
	c      Config
	dir    string          // absolute folder of the main file
	seen   map[string]bool // absolute paths of the files read
	broken int             // files that are not TOML
	out    report
	main   *file

	plain     map[string]*table // the first table of each plain kind
	listeners []entry[Listener]
	providers []entry[Provider]
	accounts  []entry[Account]
	users     []entry[User]
	scenarios []entry[Scenario]
}

// entry is one table of an array, and where it stands.
type entry[T any] struct {
	t *table
	v T
}

// load reads the main file, then what it includes.
func (l *loader) load(path string) error {
	l.main = l.open(path)
	tree, ok, err := l.main.decode()
	if err != nil {
		return err
	}
	if !ok {
		l.broken++
		return nil
	}
	top := l.read(l.main, tree)
	var patterns []string
	top.texts("include", &patterns, false, func(string) error { return nil })
	top.finish()
	if !top.good("include") {
		l.broken++ // names may point to what it would have included
	}
	for i, p := range patterns {
		paths, err := l.glob(top, elemPath("include", i), p)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := l.include(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *loader) open(path string) *file {
	name, err := filepath.Rel(l.dir, path)
	if err != nil {
		name = path
	}
	return &file{name: filepath.ToSlash(name), path: path, out: &l.out}
}

// include reads one included file.
func (l *loader) include(path string) error {
	if l.seen[path] {
		return nil // matched by two patterns, or the main file itself
	}
	l.seen[path] = true
	f := l.open(path)
	tree, ok, err := f.decode()
	if err != nil {
		return err
	}
	if !ok {
		l.broken++
		return nil
	}
	top := l.read(f, tree)
	if _, ok := top.get("include"); ok {
		top.mistake("include", "only the main file may include others; name the files there")
	}
	top.finish()
	return nil
}

// glob returns the files that a pattern of include names, sorted.
func (l *loader) glob(top *table, key, pattern string) ([]string, error) {
	switch {
	case pattern == "":
		top.mistake(key, "is empty; remove it")
		return nil, nil
	case !strings.ContainsAny(pattern, "*?["):
		path := top.abs(pattern)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			top.mistake(key, "there is no such file; create it, or write a pattern with * that may match nothing")
			return nil, nil
		}
		return []string{path}, nil // what else is wrong with it, reading says
	}
	var paths []string
	var err error
	if slashed := filepath.ToSlash(pattern); fs.ValidPath(slashed) {
		// By os.DirFS, because the folder's own name may have the characters of a pattern.
		paths, err = fs.Glob(os.DirFS(l.dir), slashed)
		for i := range paths {
			paths[i] = filepath.Join(l.dir, filepath.FromSlash(paths[i]))
		}
	} else {
		paths, err = filepath.Glob(top.abs(pattern))
	}
	switch {
	case err != nil:
		top.mistake(key, "not a pattern for file names")
		return nil, nil
	case len(paths) > maxFiles:
		top.mistake(key, "matches more than %d files", maxFiles)
		return nil, nil
	}
	slices.Sort(paths)
	return paths, nil
}

// read takes the tables out of one file and returns its top, whose own keys are still to be taken.
func (l *loader) read(f *file, tree map[string]any) *table {
	top := newTable(f, "", "", tree)
	l.plainTable(top, "bridge", func(t *table) { l.c.Bridge = readBridge(t) })
	l.plainTable(top, "log", func(t *table) { l.c.Log = readLog(t) })
	appendTables(top, "listener", &l.listeners, readListener)
	appendTables(top, "provider", &l.providers, readProvider)
	appendTables(top, "account", &l.accounts, readAccount)
	appendTables(top, "user", &l.users, readUser)
	appendTables(top, "scenario", &l.scenarios, readScenario)
	l.plainTable(top, "queue", func(t *table) { l.c.Queue = readQueue(t) })
	l.plainTable(top, "notify", func(t *table) { l.c.Notify = readNotify(t) })
	return top
}

// plainTable reads a [name] table. A second one, in another file, is read for its mistakes only.
func (l *loader) plainTable(top *table, name string, read func(*table)) {
	v, ok := top.get(name)
	if !ok {
		return
	}
	path := name
	m, ok := v.(map[string]any)
	if list, isList := tablesOf(v); !ok && isList && len(list) > 0 {
		top.mistake(name, "%s", shapeText(name, true))
		m, path = list[0], elemPath(name, 0)
	} else if !ok {
		top.mistake(name, "is %s; must be a table: [%s]", kindOf(v), name)
		return
	}
	t := newTable(top.f, name, path, m)
	if first := l.plain[name]; first != nil {
		t.mistake("", "a second [%s]; the first is %s; make one of them", name, first.place(""))
	} else {
		l.plain[name] = t
	}
	read(t)
}

// appendTables reads the [[name]] tables of a file.
func appendTables[T any](top *table, name string, dst *[]entry[T], read func(*table) T) {
	v, ok := top.get(name)
	if !ok {
		return
	}
	if m, ok := v.(map[string]any); ok {
		top.mistake(name, "%s", shapeText(name, false))
		t := newTable(top.f, name, name, m)
		*dst = append(*dst, entry[T]{t, read(t)})
		return
	}
	list, ok := tablesOf(v)
	if !ok {
		top.mistake(name, "is %s; must be tables: [[%s]]", kindOf(v), name)
		return
	}
	for i, m := range list {
		t := newTable(top.f, name, elemPath(name, i), m)
		*dst = append(*dst, entry[T]{t, read(t)})
	}
}

// tablesOf returns the tables of [[name]], or of name = [{...}, {...}].
func tablesOf(v any) ([]map[string]any, bool) {
	switch v := v.(type) {
	case []map[string]any:
		return v, true
	case []any:
		list := make([]map[string]any, len(v))
		for i, e := range v {
			m, ok := e.(map[string]any)
			if !ok {
				return nil, false
			}
			list[i] = m
		}
		return list, true
	}
	return nil, false
}

// fill sets what the file leaves open and what depends on other tables. The configuration has no mistakes.
func (l *loader) fill() {
	c := &l.c
	if c.Bridge.Hostname == "" {
		c.Bridge.Hostname = machineName()
	}
	if t := l.plain["log"]; t == nil || !t.set("file") {
		c.Log.File = filepath.Join(c.Bridge.DataDir, c.Log.File)
	}
	c.Listeners = values(l.listeners)
	c.Providers = values(l.providers)
	c.Accounts = values(l.accounts)
	c.Users = values(l.users)
	c.Scenarios = values(l.scenarios)
	for i, e := range l.listeners {
		c.Listeners[i].At = e.t.spot()
	}
	for i, e := range l.scenarios {
		c.Scenarios[i].At = e.t.spot()
	}
	for i := range c.Providers {
		fillEndpoints(&c.Providers[i])
	}
	if len(c.Accounts) == 1 {
		c.Accounts[0].Default = true
	}
	for i := range c.Users {
		c.fillUser(&c.Users[i])
	}
}

func values[T any](list []entry[T]) []T {
	var out []T
	for _, e := range list {
		out = append(out, e.v)
	}
	return out
}

// machineName is the machine's own name, or localhost where it has none that can stand in a greeting.
func machineName() string {
	name, err := os.Hostname()
	if err != nil || checkDomain(name) != nil {
		return "localhost"
	}
	return name
}

// fillUser names the user's account and the addresses that the user may send as by default.
func (c *Config) fillUser(u *User) {
	i := slices.IndexFunc(c.Accounts, func(a Account) bool {
		return a.Name == u.Account || u.Account == "" && a.Default
	})
	if i < 0 {
		return // check has found it
	}
	u.Account = c.Accounts[i].Name
	if u.MaySendAs != nil {
		return
	}
	u.DefaultSenders = true
	u.MaySendAs = []string{c.Accounts[i].Mailbox}
	own := []string{u.Address}
	if u.Sender != nil {
		own = append(own, u.Sender.Address)
	}
	for _, a := range own {
		if a != "" && !slices.ContainsFunc(u.MaySendAs, func(b string) bool { return strings.EqualFold(a, b) }) {
			u.MaySendAs = append(u.MaySendAs, a)
		}
	}
}
