package message

import (
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/transform"
)

// textScan finds out about a text while it is written, and keeps nothing of it.
type textScan struct {
	charset string
	n       int64 // octets
	armor   armor

	as      *jsonSize // in its charset; nil where that is not known
	instead *jsonSize // as what is meant where it is not; nil: it is damaged then
}

func newTextScan(charset string) *textScan {
	s := &textScan{charset: charset}
	if isUTF8(charset) {
		s.as, s.instead = newJSONSize(encoding.UTF8Validator), newJSONSize(charmap.Windows1252.NewDecoder())
	} else if enc, err := browserCharset(charset); err == nil {
		s.as = newJSONSize(enc.NewDecoder())
	}
	return s
}

// Write implements io.Writer; it never fails.
func (s *textScan) Write(p []byte) (int, error) {
	s.armor.write(p)
	if s.n += int64(len(p)); s.n <= maxRebuiltText { // else it is too long anyway
		s.as.write(p)
		s.instead.write(p)
	}
	return len(p), nil
}

// verdict says why the whole text cannot be the text of a rebuilt message, nil where it can.
func (s *textScan) verdict() error {
	if s.n > maxRebuiltText {
		return errLongText
	}
	if s.as == nil {
		return unknownCharset(s.charset)
	}
	size, err := s.as.end()
	if err != nil && s.instead != nil {
		size, err = s.instead.end()
	}
	switch {
	case err != nil:
		return notInCharset(s.charset)
	case size > maxRebuiltText:
		return errLongText
	}
	return nil
}

// jsonSize counts the octets that a text has in JSON (RFC 8259 section 7), once it is UTF-8.
type jsonSize struct {
	to   *transform.Writer
	size escapedSize
	err  error
}

func newJSONSize(t transform.Transformer) *jsonSize {
	m := &jsonSize{}
	m.to = transform.NewWriter(&m.size, t)
	return m
}

// write of nil does nothing.
func (m *jsonSize) write(p []byte) {
	if m != nil && m.err == nil {
		_, m.err = m.to.Write(p)
	}
}

func (m *jsonSize) end() (int64, error) {
	if m.err == nil {
		m.err = m.to.Close()
	}
	return int64(m.size), m.err
}

// escapedSize counts what is written.
type escapedSize int64

// Write implements io.Writer.
func (s *escapedSize) Write(text []byte) (int, error) {
	size := len(text)
	for _, b := range text {
		switch {
		case b == '"' || b == '\\' || b == '\n' || b == '\r' || b == '\t':
			size++
		case b < ' ':
			size += 5
		}
	}
	*s += escapedSize(size)
	return len(text), nil
}

// armors begin a PGP message or signed text, at the start of a line (RFC 9580 section 6.2). Within a line somebody quotes
// one, or writes about it.
var armors = []string{"-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP MESSAGE-----"}

const longestArmor = 34

// armor looks for them.
type armor struct {
	line  [longestArmor]byte // its beginning
	n     int                // octets of that; over its end: the rest of the line does not matter
	found bool
}

func (a *armor) write(p []byte) {
	for _, c := range p {
		switch {
		case a.found:
			return
		case c == '\n':
			a.n = 0
		case a.n < longestArmor:
			a.line[a.n] = c
			a.n++
			a.found = c == '-' && a.begins()
		}
	}
}

func (a *armor) begins() bool {
	for _, s := range armors {
		if string(a.line[:a.n]) == s {
			return true
		}
	}
	return false
}

func isUTF8(charset string) bool { return charset == "us-ascii" || charset == "utf-8" }

// browserCharset returns the charset of that name: as browsers have it, to whom iso-8859-1 is windows-1252; and what they do
// not know, the code pages of DOS mostly, which devices and old programs write, as IANA has it.
func browserCharset(name string) (encoding.Encoding, error) {
	enc, err := htmlindex.Get(name)
	if err == nil {
		return enc, nil
	}
	if page, unknown := ianaindex.MIME.Encoding(name); unknown == nil && page != nil {
		return page, nil
	}
	return nil, err
}
