package smtpd

import (
	"errors"
	"strings"
)

// param is one parameter of MAIL or RCPT, its name in upper case.
type param struct{ name, value string }

var errSyntax = errors.New("syntax error")

// parseCommand reads the argument of MAIL ("FROM") or RCPT ("TO"): keyword, colon, path, parameters. The path comes back
// without angle brackets and without a source route, otherwise as written; "" is the null path. It takes what old
// applications write: blanks anywhere between the parts, any case, and a path without angle brackets.
func parseCommand(arg, keyword string) (path string, params []param, err error) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", nil, errSyntax
	}
	rest, ok := strings.CutPrefix(trimBlanks(arg[len(keyword):]), ":")
	if !ok {
		return "", nil, errSyntax
	}
	if path, rest, err = cutPath(trimBlanks(rest)); err != nil {
		return "", nil, err
	}
	seen := map[string]bool{}
	for _, f := range strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '\t' }) {
		name, value, _ := strings.Cut(f, "=")
		name = strings.ToUpper(name)
		if !isKeyword(name) || seen[name] {
			return "", nil, errSyntax
		}
		seen[name] = true
		params = append(params, param{name, value})
	}
	return path, params, nil
}

// cutPath takes a path off s. A ">" or a blank inside a quoted local part does not end it.
func cutPath(s string) (path, rest string, err error) {
	bracket := strings.HasPrefix(s, "<")
	if bracket {
		s = s[1:]
	}
	end, quoted := -1, false
	for i := 0; i < len(s) && end < 0; i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case bracket && c == '>', !bracket && (c == ' ' || c == '\t'):
			end = i
		case c == '<' || c == '>':
			return "", "", errSyntax
		}
	}
	switch {
	case end >= 0:
		path, rest = s[:end], s[end:]
	case bracket || quoted:
		return "", "", errSyntax
	default:
		path = s
	}
	if bracket {
		rest = rest[1:]
	}
	if path = trimBlanks(path); path == "" && !bracket || rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return "", "", errSyntax
	}
	return cutRoute(path), rest, nil
}

// cutRoute takes a source route off a path: it must be accepted and should be ignored (RFC 5321 appendix C).
func cutRoute(path string) string {
	if strings.HasPrefix(path, "@") {
		if _, mailbox, ok := strings.Cut(path, ":"); ok {
			return mailbox
		}
	}
	return path
}

// cutBlank splits s at its first blank and trims the rest.
func cutBlank(s string) (first, rest string) {
	s = trimBlanks(s)
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], trimBlanks(s[i:])
	}
	return s, ""
}

func trimBlanks(s string) string { return strings.Trim(s, " \t") }

// isKeyword checks an esmtp-keyword in upper case (RFC 5321 section 4.1.2).
func isKeyword(s string) bool {
	for _, r := range s {
		if !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-') {
			return false
		}
	}
	return s != "" && s[0] != '-'
}
