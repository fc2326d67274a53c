package sandbox

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"
)

// This is a header reader of the sandbox's own, so that it does not share the faults of the bridge's.

// field is one header field as it stands, with its folded lines and line ends.
type field struct {
	name string // "" for a line that is no field
	raw  []byte
}

// value is the field's unfolded body.
func (f field) value() string {
	_, v, _ := bytes.Cut(f.raw, []byte(":"))
	return strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(string(v)))
}

// mailText is a message cut into header fields and the rest, which begins with the blank line.
type mailText struct {
	fields []field
	rest   []byte
}

// parseMail never fails: a line that is no field is kept where it stands. A bare LF ends a line too, because Exchange
// takes it so.
func parseMail(raw []byte) mailText {
	var m mailText
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n') + 1
		if end == 0 {
			end = len(raw)
		}
		line := raw[:end]
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		raw = raw[end:]
		if n := len(m.fields); n > 0 && (line[0] == ' ' || line[0] == '\t') {
			last := &m.fields[n-1]
			last.raw = append(last.raw[:len(last.raw):len(last.raw)], line...)
			continue
		}
		name, _, ok := bytes.Cut(line, []byte(":"))
		f := field{raw: line}
		if ok {
			f.name = strings.TrimSpace(string(name))
		}
		m.fields = append(m.fields, f)
	}
	m.rest = raw
	return m
}

func (m mailText) all(name string) (found []field) {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			found = append(found, f)
		}
	}
	return found
}

// first is the value of the first field of that name, "" without one.
func (m mailText) first(name string) string {
	if found := m.all(name); len(found) > 0 {
		return found[0].value()
	}
	return ""
}

// without drops all fields of that name.
func (m mailText) without(name string) mailText {
	kept := mailText{rest: m.rest}
	for _, f := range m.fields {
		if !strings.EqualFold(f.name, name) {
			kept.fields = append(kept.fields, f)
		}
	}
	return kept
}

// with puts a field before all others; value is ASCII and short.
func (m mailText) with(name, value string) mailText {
	f := field{name: name, raw: []byte(name + ": " + value + "\r\n")}
	return mailText{fields: append([]field{f}, m.fields...), rest: m.rest}
}

func (m mailText) bytes() []byte {
	var b bytes.Buffer
	for _, f := range m.fields {
		b.Write(f.raw)
	}
	b.Write(m.rest)
	return b.Bytes()
}

// addresses parses all fields of that name; empty ones are none.
func (m mailText) addresses(name string) (list []*mail.Address, err error) {
	p := mail.AddressParser{WordDecoder: wordDecoder()}
	for _, f := range m.all(name) {
		if f.value() == "" {
			continue
		}
		some, err := p.ParseList(withoutLeadingComments(f.value()))
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// withoutLeadingComments takes off a comment before an address, where RFC 5322 section 3.4 allows it and net/mail does not.
func withoutLeadingComments(v string) string {
	var b strings.Builder
	quoted, depth, begins := false, 0, true // begins: nothing but blanks since the last comma
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case depth > 0:
			if c == '\\' {
				i++
			} else if c == '(' {
				depth++
			} else if c == ')' {
				depth--
			}
			continue
		case c == '\\' && quoted && i+1 < len(v):
			b.WriteByte(c)
			i++
			c = v[i]
		case c == '"':
			quoted = !quoted
		case c == '(' && !quoted && begins:
			depth = 1
			continue
		}
		begins = !quoted && (c == ',' || c == ':' || begins && (c == ' ' || c == '\t'))
		b.WriteByte(c)
	}
	return b.String()
}

// decoded is the value of a field as people read it.
func (m mailText) decoded(name string) string {
	v := m.first(name)
	if text, err := wordDecoder().DecodeHeader(v); err == nil {
		return text
	}
	return v
}

// windows1252 is what the octets 0x80 to 0x9f mean there; Latin-1 has controls in their place.
const windows1252 = "\u20ac\ufffd\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\ufffd\u017d\ufffd" +
	"\ufffd\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\ufffd\u017e\u0178"

// wordDecoder adds windows-1252, which old applications write, to what package mime knows. Of another charset the ASCII
// stays and the rest is shown as U+FFFD: a name that cannot be read must not make an address unreadable.
func wordDecoder() *mime.WordDecoder {
	return &mime.WordDecoder{CharsetReader: func(charset string, r io.Reader) (io.Reader, error) {
		raw, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		high := []rune(windows1252)
		var b strings.Builder
		for _, c := range raw {
			switch {
			case c < 0x80:
				b.WriteByte(c)
			case charset != "windows-1252":
				b.WriteRune('\ufffd')
			case c < 0xa0:
				b.WriteRune(high[c-0x80])
			default:
				b.WriteRune(rune(c))
			}
		}
		return strings.NewReader(b.String()), nil
	}}
}
