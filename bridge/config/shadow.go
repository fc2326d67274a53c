package config

import (
	"slices"
	"strings"
)

// checkScenario looks at what a scenario says of other tables, and at whether it can ever be reached.
func (l *loader) checkScenario(i int) {
	e := l.scenarios[i]
	t, s := e.t, e.v
	pointer(t, "account", s.Account, "account", names(l.accounts, accountName))
	if t.set("save_to_sent") && !s.SaveToSent {
		t.warn("save_to_sent", "has no effect: Microsoft keeps a copy in Sent Items of all that is sent as it came, by Graph and by SMTP alike")
	}
	users := names(l.users, userName)
	l.checkNames(t, "user", s.Match.User, users, "no [[user]] has such a name, so this never holds")
	var listeners []string
	for _, li := range l.listeners {
		listeners = append(listeners, li.v.Address)
	}
	l.checkNames(t, "listener", s.Match.Listener, listeners, "no [[listener]] has such an address, so this never holds; write it as there")
	for _, earlier := range l.scenarios[:i] {
		if earlier.v.Match.covers(s.Match) {
			t.warn("match", "never holds: all of it is taken by scenario %q, %s; move this one before that", earlier.v.Name, earlier.t.place(""))
			return
		}
	}
}

// checkNames warns of globs that cover none of the names.
func (l *loader) checkNames(t *table, key string, globs, known []string, text string) {
	for _, g := range globs {
		if len(known) > 0 && !slices.ContainsFunc(known, func(name string) bool { return covers(g, name) }) {
			t.warn("match", "%s: %s", key, text)
			return
		}
	}
}

// covers reports whether m holds for all that other holds for, as far as that can be proved from the texts.
func (m Match) covers(other Match) bool {
	for _, k := range []struct{ wide, narrow []string }{
		{m.User, other.User}, {m.Listener, other.Listener}, {m.From, other.From}, {m.To, other.To},
	} {
		// Every message has one of these, perhaps an empty one.
		if !coversAll(k.wide, k.narrow) && !slices.Contains(k.wide, "*") {
			return false
		}
	}
	if !coversAll(m.Subject, other.Subject) {
		return false
	}
	for name, wide := range m.Header {
		found := false
		for other, narrow := range other.Header {
			found = found || strings.EqualFold(name, other) && coversAll(wide, narrow)
		}
		if !found {
			return false
		}
	}
	return m.Larger <= other.Larger && (m.Smaller == 0 || other.Smaller > 0 && other.Smaller <= m.Smaller)
}

// coversAll reports whether each of the narrow globs is covered by one of the wide ones. No globs are no condition.
func coversAll(wide, narrow []string) bool {
	if len(wide) == 0 {
		return true
	}
	if len(narrow) == 0 {
		return false
	}
	for _, n := range narrow {
		if !slices.ContainsFunc(wide, func(w string) bool { return covers(w, n) }) {
			return false
		}
	}
	return true
}

// covers reports whether the glob covers a text, or all that another glob covers: only a star covers a star.
func covers(glob, text string) bool {
	g, t := []rune(strings.ToLower(glob)), []rune(strings.ToLower(text))
	p, i, star, from := 0, 0, -1, 0
	for i < len(t) {
		switch {
		case p < len(g) && g[p] == '*':
			star, from = p, i
			p++
		case p < len(g) && (g[p] == '?' && t[i] != '*' || g[p] == t[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(g) && g[p] == '*' {
		p++
	}
	return p == len(g)
}
