package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"
)

// What walk takes. Beyond these limits a message is left as it is; real mail has a few parts in two or three levels.
const (
	maxParts      = 1000
	maxDepth      = 20
	maxPartHeader = 64 << 10
	maxBoundary   = 200 // RFC 2046 section 5.1.1 allows 70
)

// errTooManyParts is walk's for a message that no person wrote.
var errTooManyParts = errors.New("too many parts")

// entity is one part of a MIME message (RFC 2045 section 2.4), or the message itself. Its places count octets of the
// message's body.
type entity struct {
	header    Header
	media     string // lower case; text/plain where nothing is said; "" where the part cannot be understood
	params    map[string]string
	encoding  string // the Content-Transfer-Encoding in lower case; "7bit" where nothing is said
	start     int64  // where its header begins
	body      int64  // where its content begins
	end       int64  // where that ends: before the CRLF that belongs to the next delimiter (RFC 2046 section 5.1.1)
	children  []*entity
	closed    int64 // of a multipart: where its last delimiter begins, with the CRLF before it; -1 where it has none
	touching  bool  // no CRLF stands between the content and the delimiter: only where there is no content
	delimiter []byte
	decoded   decoded // by walkDecoding
}

// multipart reports whether the entity has parts that can be found.
func (e *entity) multipart() bool { return e.delimiter != nil }

// describe reads the MIME fields of the header.
func (e *entity) describe() {
	e.closed = -1
	e.media, e.encoding = "text/plain", "7bit"
	if s := e.header.Get("Content-Transfer-Encoding"); s != "" {
		e.encoding = strings.ToLower(s)
	}
	if len(e.header.All("Content-Type")) > 0 {
		var err error
		e.media, e.params, err = mime.ParseMediaType(e.header.Get("Content-Type"))
		if err != nil || len(e.header.All("Content-Type")) > 1 {
			e.media, e.params = "", nil
			return
		}
	}
	if strings.HasPrefix(e.media, "multipart/") {
		// Blanks at its end are not part of a boundary.
		if b := strings.TrimRight(e.params["boundary"], " \t"); b != "" && len(b) <= maxBoundary {
			e.delimiter = []byte("--" + b)
		}
	}
}

// isAttachment reports whether a part is shown as a file and not as text.
func (e *entity) isAttachment() bool {
	disposition, params, _ := mime.ParseMediaType(e.header.Get("Content-Disposition"))
	return disposition == "attachment" || params["filename"] != "" || e.params["name"] != ""
}

// walk reads the body of a message with that header to its end and returns its parts. It keeps their headers and no
// content. What is not as RFC 2046 has it becomes a part whose media is "": nobody is to change it.
func walk(header Header, body io.Reader) (*entity, error) { return walkWith(header, body, nil) }

// walkDecoding is walk, and decodes each part while it is read.
func walkDecoding(header Header, body io.Reader) (*entity, error) {
	r := &reading{}
	defer r.end(true) // where walk gave up
	return walkWith(header, body, r)
}

func walkWith(header Header, body io.Reader, r *reading) (*entity, error) {
	top := &entity{header: header}
	top.describe()
	w := walker{in: bufio.NewReaderSize(body, 32<<10), part: top, parts: 1, reading: r}
	if top.multipart() {
		w.open = append(w.open, top)
	}
	for {
		line, begins, err := w.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		if err := w.line(line, begins); err != nil {
			return nil, err
		}
	}
	w.endHeader(w.at)
	w.endContent(false)
	for _, e := range w.open {
		e.end = w.at
	}
	if w.part != nil {
		w.part.end = w.at
	}
	top.end = w.at
	return top, nil
}

// walker is walk's state.
type walker struct {
	in    *bufio.Reader
	at    int64     // octets read
	open  []*entity // multiparts whose delimiters count, outermost first
	part  *entity   // whose header or content is being read; nil in a multipart's epilogue
	block []byte    // the header lines of part so far; nil once its content began
	parts int
	mid   bool // the next read goes on within a line

	reading *reading // nil: nobody decodes
}

// next reads a line with its end, or the piece of one that fits into memory.
func (w *walker) next() (line []byte, begins bool, err error) {
	line, err = w.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	begins = !w.mid
	w.mid = !bytes.HasSuffix(line, []byte("\n"))
	return line, begins, err
}

func (w *walker) line(line []byte, begins bool) error {
	before := w.at
	w.at += int64(len(line))
	if begins && bytes.HasPrefix(line, []byte("--")) {
		for i := len(w.open) - 1; i >= 0; i-- {
			if last, ok := matchDelimiter(line, w.open[i].delimiter); ok {
				return w.delimiter(i, before, last)
			}
		}
	}
	if w.block == nil {
		if e := w.part; w.reading != nil && e != nil && !e.multipart() {
			w.reading.write(e, line)
		}
		return nil
	}
	switch kind := lineKind(line); {
	case begins && kind == blankLine:
		w.endHeader(w.at)
	case begins && kind == textLine, len(w.block)+len(line) > maxPartHeader:
		w.block = nil // no header: nobody can say what follows
		w.part.media, w.part.body = "", before
	default:
		w.block = append(w.block, line...)
	}
	return nil
}

// matchDelimiter reports whether the line is that delimiter, and whether it is the one that ends the multipart. Blanks
// may follow it.
func matchDelimiter(line, delimiter []byte) (last, ok bool) {
	rest, ok := bytes.CutPrefix(line, delimiter)
	if !ok {
		return false, false
	}
	if after, cut := bytes.CutPrefix(rest, []byte("--")); cut && len(bytes.Trim(after, blank)) == 0 {
		return true, true
	}
	return false, len(bytes.Trim(rest, blank)) == 0
}

// delimiter ends the part before it and begins the next one of open[i].
func (w *walker) delimiter(i int, at int64, last bool) error {
	w.endHeader(at)
	w.endContent(true)
	owner := w.open[i]
	for _, e := range append(w.open[i+1:], w.part) {
		if e != nil && e != owner {
			e.end, e.touching = max(at-2, e.body), at-2 < e.body
		}
	}
	w.open = w.open[:i+1]
	if last {
		owner.closed, owner.touching = max(at-2, owner.body), at-2 < owner.body
		w.open, w.part = w.open[:i], nil
		return nil
	}
	if w.parts++; w.parts > maxParts || len(w.open) > maxDepth {
		return errTooManyParts
	}
	w.part = &entity{start: w.at, body: w.at, closed: -1}
	w.block = []byte{}
	owner.children = append(owner.children, w.part)
	return nil
}

// endContent ends what is being decoded.
func (w *walker) endContent(delimiter bool) {
	if w.reading != nil {
		w.reading.end(delimiter)
	}
}

// endHeader ends the header of the part, if one is being read; its content begins at that place.
func (w *walker) endHeader(at int64) {
	if w.block == nil {
		return
	}
	e := w.part
	header, err := ParseHeader(append(w.block, "\r\n"...))
	w.block = nil
	e.header, e.body = header, at
	e.describe()
	if err != nil {
		e.media, e.delimiter = "", nil
	}
	if e.multipart() {
		w.open = append(w.open, e)
	}
}

// texts returns the parts that a reader sees as the text of the message, and that may be changed: the versions of an
// alternative, the first text of a mixed one, the root of a related one. What is signed or encrypted, a file, a message
// within the message or a report has none.
func (e *entity) texts() []*entity {
	switch {
	case e.media == "text/plain" || e.media == "text/html":
		if e.isAttachment() {
			return nil
		}
		return []*entity{e}
	case !e.multipart():
		return nil
	}
	switch e.media {
	case "multipart/alternative":
		var all []*entity
		for _, c := range e.children {
			all = append(all, c.texts()...)
		}
		return all
	case "multipart/related":
		if len(e.children) > 0 {
			return e.children[0].texts()
		}
	case "multipart/mixed":
		return e.textOfMixed()
	}
	return nil
}

// textOfMixed finds the text of a multipart/mixed. Apple Mail writes text, picture, text: the end is the last of them.
func (e *entity) textOfMixed() []*entity {
	for i, c := range e.children {
		first := c.texts()
		if len(first) == 0 {
			continue
		}
		for _, later := range e.children[i+1:] {
			if first[0] == c && later.media == c.media && !later.isAttachment() {
				first = []*entity{later}
				c = later
			}
		}
		return first
	}
	return nil
}

// IsProtected reports whether the message is signed or encrypted as a whole (RFC 1847, RFC 8551), so that nothing may be
// changed in it.
func (h Header) IsProtected() bool {
	e := entity{header: h}
	e.describe()
	switch e.media {
	case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	}
	return false
}
