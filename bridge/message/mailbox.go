package message

import (
	"bytes"
	"errors"
	"strings"
	"unicode"

	"postern/bridge/envelope"
)

// lexeme is one token of a mailbox (RFC 5322 section 3.2).
type lexeme struct {
	kind       byte   // 'a' atom, 'q' quoted string, 'l' literal, or the special itself
	text       string // of a quoted string its content
	start, end int
}

// mailboxParser holds one element of a list.
type mailboxParser struct {
	raw     []byte
	lexemes []lexeme // without comments
	comment string   // content of the last comment
	entry   Entry
}

// parseMailbox parses one element of a list; ok is false for one of blanks and comments alone.
func parseMailbox(raw []byte) (e Entry, ok bool) {
	p := mailboxParser{raw: raw, lexemes: make([]lexeme, 0, 8)} // a name and an address have no more
	p.entry.Plain = true
	err := p.lex()
	if err == nil && len(p.lexemes) == 0 {
		return Entry{}, false
	}
	if err == nil {
		err = p.mailbox()
	}
	if p.entry.Name == "" && p.comment != "" {
		p.entry.Name = decodeName(p.comment)
	}
	if err != nil {
		p.entry.Err, p.entry.Address, p.entry.Plain = err, envelope.Address{}, false
		if p.entry.Name == "" {
			p.entry.Name = decodeName(strings.Trim(string(bytes.ReplaceAll(raw, []byte("\r\n"), nil)), blank+`<>"`))
		}
	}
	return p.entry, true
}

// lex cuts the element into lexemes.
func (p *mailboxParser) lex() error {
	for i := 0; i < len(p.raw); {
		start, c := i, p.raw[i]
		switch {
		case strings.IndexByte(blank, c) >= 0:
			i++
			continue
		case c == '"' || c == '(' || c == '[':
			i = skipToken(p.raw, i)
			closer := map[byte]byte{'"': '"', '(': ')', '[': ']'}[c]
			if i-start < 2 || p.raw[i-1] != closer || c == '(' && !balanced(p.raw[start:i]) || c == '"' && escapedEnd(p.raw[start:i]) {
				return errors.New("a quote, comment or bracket does not end")
			}
		case strings.IndexByte(specials, c) >= 0:
			i++
			p.lexemes = append(p.lexemes, lexeme{c, string(c), start, i})
			continue
		default:
			i = p.atomEnd(i)
		}
		text := string(p.raw[start:i])
		switch c {
		case '(':
			p.comment = unquote(text[1 : len(text)-1])
		case '"':
			p.lexemes = append(p.lexemes, lexeme{'q', unquote(text[1 : len(text)-1]), start, i})
		case '[':
			p.lexemes = append(p.lexemes, lexeme{'l', text, start, i})
		default:
			p.lexemes = append(p.lexemes, lexeme{'a', text, start, i})
		}
	}
	return nil
}

// specials ends an atom (RFC 5322 section 3.2.3).
const specials = `()<>[]:;@\,."`

func (p *mailboxParser) atomEnd(i int) int {
	for i < len(p.raw) && strings.IndexByte(specials+blank, p.raw[i]) < 0 {
		i++
	}
	return i
}

// balanced reports whether a comment that skipComment gave ends by itself, not by the end of the text.
func balanced(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth--
		}
	}
	return depth == 0
}

// escapedEnd reports whether the last quote of a quoted string is a quoted pair, so that the string does not end.
func escapedEnd(b []byte) bool {
	backslashes := 0
	for i := len(b) - 2; i > 0 && b[i] == '\\'; i-- {
		backslashes++
	}
	return backslashes%2 == 1
}

// unquote takes folding and the backslashes of quoted pairs out of a quoted string or comment.
func unquote(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mailbox parses name-addr or addr-spec.
func (p *mailboxParser) mailbox() error {
	open := indexKind(p.lexemes, '<')
	if open < 0 {
		if indexKind(p.lexemes, '>') >= 0 {
			return errors.New("> without <")
		}
		return p.address(p.lexemes)
	}
	p.phraseOf(p.lexemes[:open])
	inner := p.lexemes[open+1:]
	shut := indexKind(inner, '>')
	if shut < 0 || shut != len(inner)-1 || indexKind(inner, '<') >= 0 {
		return errors.New("text after its address, or more than one pair of angle brackets")
	}
	inner = inner[:shut]
	if len(inner) > 0 && inner[0].kind == '@' { // the source route of RFC 5322 section 4.4, to be passed over
		colon := indexKind(inner, ':')
		if colon < 0 {
			return errors.New("a source route that does not end")
		}
		inner = inner[colon+1:]
		p.entry.Plain = false
	}
	if err := p.address(inner); err != nil {
		return err
	}
	return p.checkPhrase(p.lexemes[:open])
}

func indexKind(ls []lexeme, kind byte) int {
	for i, l := range ls {
		if l.kind == kind {
			return i
		}
	}
	return -1
}

// phraseOf takes the display name.
func (p *mailboxParser) phraseOf(ls []lexeme) {
	if len(ls) == 0 {
		return
	}
	var name strings.Builder
	rewritable := true
	for i, l := range ls {
		if i > 0 && l.start > ls[i-1].end {
			name.WriteByte(' ')
		}
		name.WriteString(l.text)
		// A dot is obsolete in a phrase, though everybody takes it.
		rewritable = rewritable && (l.kind == 'a' || l.kind == 'q')
		p.entry.Plain = p.entry.Plain && (l.kind == 'a' || l.kind == 'q' || l.kind == '.')
	}
	decoded := decodeWords(name.String())
	p.entry.Name = cleanName(decoded)
	if strings.ContainsFunc(decoded, unicode.IsControl) {
		// An encoded CR or LF: some programs write a header of what they have decoded, and then it is a field.
		p.entry.Plain, rewritable = false, false
	}
	phrase := strings.ReplaceAll(string(p.raw[ls[0].start:ls[len(ls)-1].end]), "\r\n", "")
	if rewritable && len(phrase) <= maxName && isPrintable(phrase) {
		p.entry.phrase = phrase
	}
}

// checkPhrase refuses a display name that holds an unquoted address, unless it is the same one: "a@b <c@d>" is read as
// the one by some servers and as the other by others.
func (p *mailboxParser) checkPhrase(ls []lexeme) error {
	if indexKind(ls, '@') < 0 {
		return nil
	}
	other := mailboxParser{raw: p.raw}
	if err := other.address(ls); err != nil || other.entry.Address.Key() != p.entry.Address.Key() {
		return errors.New("an unquoted address in its display name")
	}
	return nil
}

// address parses addr-spec, with the blanks and comments around dots and @ that obsolete syntax allows.
func (p *mailboxParser) address(ls []lexeme) error {
	if len(ls) == 0 {
		return errors.New("it is empty")
	}
	for i := 1; i < len(ls); i++ {
		p.entry.Plain = p.entry.Plain && ls[i].start == ls[i-1].end
	}
	at := indexKind(ls, '@')
	if at < 0 {
		at = len(ls)
	}
	local, err := join(ls[:at])
	if err != nil {
		return err
	}
	// Some servers decode an encoded word even here, where RFC 2047 section 5 forbids it, and then see another address.
	if strings.Contains(local, "=?") {
		return errors.New("an encoded word in its address")
	}
	if at == len(ls) {
		p.entry.local, p.entry.Name = local, firstOf(p.entry.Name, decodeName(p.comment), decodeName(local))
		return envelope.ErrNoDomain
	}
	domain, err := join(ls[at+1:])
	if err != nil {
		return err
	}
	p.entry.Address, err = envelope.ParseAddress(envelope.Address{Local: local, Domain: domain}.String())
	return err
}

func firstOf(names ...string) string {
	for _, n := range names {
		if n != "" {
			return n
		}
	}
	return ""
}

// join puts words and dots together: word *("." word).
func join(ls []lexeme) (string, error) {
	var b strings.Builder
	for i, l := range ls {
		word := l.kind == 'a' || l.kind == 'q' || l.kind == 'l'
		if word != (i%2 == 0) || !word && l.kind != '.' {
			return "", errors.New("it is no address")
		}
		b.WriteString(l.text)
	}
	if len(ls)%2 == 0 {
		return "", errors.New("it is no address")
	}
	return b.String(), nil
}
