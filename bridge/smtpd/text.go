package smtpd

import (
	"bytes"
	"io"
)

// endOfText ends what the normalizer puts out. It is all of the text that the library sees.
const endOfText = ".\r\n"

// text is the message as the desk reads it: the normalised lines, without the dots that the wire needs (RFC 5321 section
// 4.5.2). They come past the library, whose reader takes octet by octet: a seventh of all that a message cost.
type text struct {
	g     *guard
	lines []byte // of the normalizer, not yielded yet
	mid   bool   // lines begins inside a line
	ended bool   // the final dot has come; nothing else is io.EOF
}

// Read yields the message. Only CR LF ends a normalised line, so each LF does.
func (t *text) Read(b []byte) (n int, err error) {
	for n == 0 && len(b) > 0 {
		if len(t.lines) == 0 {
			if t.ended {
				return 0, io.EOF
			}
			if err := t.next(); err != nil {
				return 0, err
			}
		}
		for n < len(b) && len(t.lines) > 0 {
			if !t.mid && t.lines[0] == '.' {
				t.lines, t.mid = t.lines[1:], true
				continue
			}
			line := t.lines
			if i := bytes.IndexByte(line, '\n'); i >= 0 {
				line = line[:i+1]
			}
			k := copy(b[n:], line)
			n, t.lines, t.mid = n+k, t.lines[k:], line[k-1] != '\n'
		}
	}
	return n, nil
}

// next takes lines from the guard, and at their end leaves the final dot to the library.
func (t *text) next() (err error) {
	defer func() {
		if err == io.EOF { // the guard has broken
			err = io.ErrUnexpectedEOF
		}
	}()
	defer t.g.recover(&err)
	if t.lines, err = t.g.readText(); err == nil && t.g.mode == commands {
		t.lines, t.ended = bytes.TrimSuffix(t.lines, []byte(endOfText)), true
		t.g.toLib = []byte(endOfText)
	}
	return err
}

// skip reads what the desk has left.
func (t *text) skip() {
	t.g.norm.discard = true
	for t.g.mode == inText && t.next() == nil {
	}
}
