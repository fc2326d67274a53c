package submission

import (
	"strings"
	"unicode"

	"postern/bridge/envelope"
)

// glob is a pattern in which * stands for any text and ? for one character, without regard to case.
type glob struct {
	text    string // as the file has it
	pattern []rune
}

func newGlob(s string) glob { return glob{s, []rune(fold(s))} }

// newAddressGlob is a glob for addresses. Its domain is brought to the form that addresses are compared in, so that
// IDNA forms are one. "*@x" does not match sub-domains of x.
func newAddressGlob(s string) glob {
	at := strings.LastIndexByte(s, '@')
	if at < 0 || strings.ContainsAny(s[at:], "*?") {
		return newGlob(s)
	}
	a, err := envelope.ParseAddress("x" + s[at:])
	if err != nil {
		return newGlob(s)
	}
	return glob{s, []rune(fold(s[:at+1] + domainKey(a)))}
}

func newGlobs(all []string, one func(string) glob) []glob {
	var globs []glob
	for _, s := range all {
		globs = append(globs, one(s))
	}
	return globs
}

// fold makes upper and lower case one. What would turn into US-ASCII stays: the Kelvin sign is no k.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if l := unicode.ToLower(r); l >= 0x80 || r < 0x80 {
			return l
		}
		return r
	}, s)
}

// match reports whether the glob covers the whole text. It takes time in proportion to the product of both lengths at
// most, whatever the pattern.
func (g glob) match(s string) bool {
	text := []rune(fold(s))
	p, t := 0, 0
	star, from := -1, 0 // the last star, and where in text what follows it was last tried
	for t < len(text) {
		switch {
		case p < len(g.pattern) && g.pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(g.pattern) && (g.pattern[p] == '?' || g.pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	for p < len(g.pattern) && g.pattern[p] == '*' {
		p++
	}
	return p == len(g.pattern)
}

// anyMatch reports whether one of the globs covers one of the texts.
func anyMatch(globs []glob, texts ...string) bool {
	for _, g := range globs {
		for _, s := range texts {
			if g.match(s) {
				return true
			}
		}
	}
	return false
}
