package message

import (
	"bufio"
	"io"
)

// maxPadding is the longest run of blanks at the end of a line of quoted-printable that is taken off.
const maxPadding = 64 << 10

// quotedReader decodes quoted-printable as mail programs do (RFC 2045 section 6.7, and its notes on robustness): a line may have
// any length, octets that should have been encoded stand for themselves, and so does an equals sign that encodes nothing.
// What printers' and other devices' reports have in it (form feeds, escapes) comes through, so that nothing is ever damaged.
type quotedReader struct {
	r    *bufio.Reader
	held []byte // blanks that are dropped if the line ends after them; behind an equals sign, the line end too
	out  []byte // decoded and not read yet
	buf  []byte
	err  error
}

func newQuotedReader(r io.Reader) *quotedReader {
	return &quotedReader{r: bufio.NewReader(r), buf: make([]byte, 0, 4<<10)}
}

// Read implements io.Reader.
func (q *quotedReader) Read(p []byte) (int, error) {
	for len(q.out) == 0 {
		if q.err != nil {
			return 0, q.err
		}
		q.fill()
	}
	n := copy(p, q.out)
	q.out = q.out[n:]
	return n, nil
}

// fill decodes some octets.
func (q *quotedReader) fill() {
	q.out = q.buf[:0]
	for len(q.out) < cap(q.buf)/2 {
		c, err := q.r.ReadByte()
		switch {
		case err != nil:
			q.err = err // what is held ends the last line
			return
		case c == '\n':
			q.endLine("\n")
		case c == '\r' && q.next('\n'):
			q.endLine("\r\n")
		case c == ' ' || c == '\t':
			if q.held = append(q.held, c); len(q.held) > maxPadding {
				q.release()
			}
		default:
			q.release()
			if c == '=' {
				q.escape()
			} else {
				q.out = append(q.out, c)
			}
		}
	}
}

// endLine drops what is held; an equals sign takes the line end with it.
func (q *quotedReader) endLine(end string) {
	if len(q.held) == 0 || q.held[0] != '=' {
		q.out = append(q.out, end...)
	}
	q.held = q.held[:0]
}

// release gives out what is held: the line goes on.
func (q *quotedReader) release() {
	q.out = append(q.out, q.held...)
	q.held = q.held[:0]
}

// next takes the next octet if it is that one.
func (q *quotedReader) next(c byte) bool {
	b, _ := q.r.Peek(1) // its error comes again
	if len(b) == 0 || b[0] != c {
		return false
	}
	_, _ = q.r.Discard(1)
	return true
}

// escape decodes what follows an equals sign.
func (q *quotedReader) escape() {
	b, _ := q.r.Peek(2) // its error comes again
	if len(b) == 2 {
		high, ok := hexDigit(b[0])
		low, ok2 := hexDigit(b[1])
		if ok && ok2 {
			q.out = append(q.out, high<<4|low)
			_, _ = q.r.Discard(2)
			return
		}
	}
	q.held = append(q.held, '=')
}

// hexDigit also takes small letters, which RFC 2045 does not allow and many write.
func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
