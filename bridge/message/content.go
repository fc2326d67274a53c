package message

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// decoded is what only decoding a part shows.
type decoded struct {
	size    int64 // decoded octets
	damage  error // why it cannot be decoded; nil where it can
	pgp     bool  // a text with a PGP message or signature in it (RFC 9580 section 6.2)
	notText error // why it cannot be the text of a rebuilt message; nil where it can, or is none
}

// reading decodes the parts of a message one after the other, while walk reads them. The decoders want to read and walk
// wants to write, so that each part has a goroutine of its own; end waits for it.
type reading struct {
	part  *entity // nil between two parts
	tail  []byte  // the last two octets: they belong to the next delimiter, if one follows (RFC 2046 section 5.1.1)
	to    *bufio.Writer
	pipe  *io.PipeWriter
	ended chan decoded
}

// write takes a piece of the part's content.
func (r *reading) write(e *entity, piece []byte) {
	if r.part != e {
		r.begin(e)
	}
	if len(piece) < 2 {
		piece = append(bytes.Clone(r.tail), piece...)
		r.tail = r.tail[:0]
	}
	keep := min(2, len(piece))
	// The goroutine reads until the pipe is closed, so that no write fails.
	_, _ = r.to.Write(r.tail)
	_, _ = r.to.Write(piece[:len(piece)-keep])
	r.tail = append(r.tail[:0], piece[len(piece)-keep:]...)
}

func (r *reading) begin(e *entity) {
	from, to := io.Pipe()
	r.part, r.tail, r.pipe, r.ended = e, r.tail[:0], to, make(chan decoded, 1)
	r.to = bufio.NewWriterSize(to, 32<<10)
	go func() {
		c := e.judge(from)
		_, _ = io.Copy(io.Discard, from) // an early verdict must not hold the writer up
		r.ended <- c
	}()
}

// end ends the part that is being read, if one is; its last two octets are not its own where a delimiter follows.
func (r *reading) end(delimiter bool) {
	if r.part == nil {
		return
	}
	if !delimiter {
		_, _ = r.to.Write(r.tail)
	}
	_ = r.to.Flush()
	r.pipe.Close()
	r.part.decoded = <-r.ended
	r.part = nil
}

// judge reads the content.
func (e *entity) judge(r io.Reader) (c decoded) {
	counted := &counter{r: decoder(e.transferEncoding(), r)}
	var err error
	if isText(e) && !e.isAttachment() {
		err = c.judgeText(e, counted)
	} else {
		_, err = io.Copy(io.Discard, counted)
	}
	if c.size = counted.n; err != nil {
		c.damage = damaged(err, e)
	}
	return c
}

// judgeText also finds out about what a reader would see.
func (c *decoded) judgeText(e *entity, r io.Reader) error {
	s := newTextScan(e.charset())
	_, err := io.Copy(s, r)
	c.pgp, c.notText = s.armor.found, s.verdict()
	return err
}

// errLongText is why a text is too large to be the text of a rebuilt message.
var errLongText = cannot("its text is larger than %d octets", maxRebuiltText)

func unknownCharset(name string) error {
	return cannot("its text is in the charset %.40q, which is not known", name)
}

func notInCharset(name string) error {
	return cannot("its text is not in the charset %.40q that it names", name)
}

// readable returns the text in UTF-8. It takes what textScan takes.
func readable(raw []byte, charset string) (string, error) {
	if isUTF8(charset) && utf8.Valid(raw) {
		return string(raw), nil
	}
	if isUTF8(charset) {
		charset = "windows-1252" // what devices that write 8 bits without saying so mean
	}
	enc, err := browserCharset(charset)
	if err != nil {
		return "", unknownCharset(charset)
	}
	if raw, err = enc.NewDecoder().Bytes(raw); err != nil {
		return "", notInCharset(charset)
	}
	return string(raw), nil
}

// hasPGP reports whether a text in it is signed or encrypted, also one that would not be taken.
func (e *entity) hasPGP() bool {
	for _, c := range e.children {
		if c.hasPGP() {
			return true
		}
	}
	return e.decoded.pgp
}

// transferEncoding is the encoding without what does not belong there and is written nevertheless: quotes, and a hyphen.
// A comment may stand there (RFC 2045 section 6.1).
func (e *entity) transferEncoding() string {
	var b strings.Builder
	depth := 0
	for _, c := range e.encoding {
		switch {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0 && !strings.ContainsRune(" \t\"';", c):
			b.WriteRune(c)
		}
	}
	switch name := b.String(); name {
	case "":
		return "7bit"
	case "7-bit", "8-bit":
		return name[:1] + "bit"
	default:
		return name
	}
}

// damaged says which part cannot be decoded; what is trouble of the reader stays that.
func damaged(err error, e *entity) error {
	var octets base64.CorruptInputError // it ends in the middle of one
	switch {
	case errors.Is(err, errPadding), errors.As(err, &octets):
	default:
		return err
	}
	part := "its " + e.media + " part"
	if name := e.fileName(); name != "" {
		part = "its file \"" + name + "\""
	}
	return cannot("%.200s is damaged: it is not %s", part, e.transferEncoding())
}

func decoder(encoding string, r io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return base64.NewDecoder(base64.RawStdEncoding, &alphabet{r: r})
	case "quoted-printable":
		return newQuotedReader(r)
	}
	return r
}

// errPadding is what a decoder says of base64 that goes on after its padding: nobody knows whether that belongs to it.
var errPadding = errors.New("base64 goes on after its padding")

// alphabet passes over what is not base64, as RFC 2045 section 6.8 wants, and leaves the padding out.
type alphabet struct {
	r      io.Reader
	padded bool // the padding began: only more of it may follow
}

func (a *alphabet) Read(p []byte) (int, error) {
	for {
		n, err := a.r.Read(p)
		kept := 0
		for _, c := range p[:n] {
			switch {
			case c == '=':
				a.padded = true
			case !isBase64(c):
			case a.padded:
				return kept, errPadding
			default:
				p[kept] = c
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/'
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
