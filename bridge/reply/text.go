package reply

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxText bounds Reply.Text, in octets.
const MaxText = 1000

// OneLine makes a server's text fit for Reply.Text, a log and a listing: one line of printable characters in UTF-8, at most
// MaxText octets. What it may quote of a secret is the caller's to take out.
func OneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r):
			return ' '
		case r == utf8.RuneError: // also what is no UTF-8
			return '?'
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= MaxText {
		return s
	}
	cut := MaxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
