package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
)

// FooterOfText returns a footer for text parts: UTF-8 with CRLF lines, one at its end. What is not UTF-8 is refused.
func FooterOfText(file []byte) (string, error) {
	file = bytes.TrimPrefix(file, []byte("\ufeff"))
	if !utf8.Valid(file) {
		return "", errors.New("it is not UTF-8")
	}
	text := strings.ReplaceAll(string(file), "\r\n", "\n")
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r == 0x7f }); i >= 0 {
		return "", fmt.Errorf("it has the control character %#02x", text[i])
	}
	text = strings.TrimRight(text, "\n") + "\n"
	return strings.ReplaceAll(text, "\n", "\r\n"), nil
}

// FooterOfHTML returns a footer for HTML parts: the file in US-ASCII, whatever else as character references, so that it
// can stand in a part of any charset.
func FooterOfHTML(file []byte) (string, error) {
	text, err := FooterOfText(file)
	if err != nil {
		return "", err
	}
	return inASCII(text), nil
}

// FooterHTMLOfText returns the HTML that shows a text footer.
func FooterHTMLOfText(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	for i, l := range lines {
		lines[i] = html.EscapeString(l)
	}
	return inASCII("<p>" + strings.Join(lines, "<br>\r\n") + "</p>\r\n")
}

func inASCII(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#%d;", r)
		}
	}
	return b.String()
}

// textChange is how one text part is written again with a footer.
type textChange struct {
	at      int64 // in the decoded text: where the footer goes
	insert  []byte
	from    string            // the transfer encoding that the part has
	to      string            // the one that it gets; "" where its octets stay as they are
	charset encoding.Encoding // to be turned into UTF-8; nil where it stays
	fields  []Edit            // of the part's header
	last    bool              // no delimiter follows, and the last line must have its end
}

// errUnchangeable says that a part gets no footer: it would be damaged, or show something else.
var errUnchangeable = errors.New("no footer can be put there")

// planText decides how the part gets the footer. content yields its octets, each time from the start.
func planText(e *entity, footer string, content func() (io.ReadCloser, error)) (*textChange, error) {
	in, err := content()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	decoded, err := decodeTransfer(in, e.encoding)
	if err != nil {
		return nil, err
	}
	seen := textSurvey{body: -1, html: -1}
	if _, err := io.Copy(&seen, decoded); err != nil {
		return nil, err
	}
	if seen.pgp {
		return nil, errUnchangeable // signed or encrypted (RFC 4880 section 6.2)
	}
	c := &textChange{from: e.encoding, at: seen.size}
	switch {
	case e.media == "text/html" && seen.body >= 0:
		c.at = seen.body
	case e.media == "text/html" && seen.html >= 0:
		c.at = seen.html
	case e.media == "text/plain" && e.params["format"] == "flowed":
		footer = stuffed(footer)
	}
	if c.at == seen.size && seen.size > 0 && !seen.endsLine {
		footer = "\r\n" + footer
	}
	return c, c.choose(e, footer, &seen)
}

// stuffed writes lines as RFC 3676 section 4.4 has them, none of them flowed.
func stuffed(text string) string {
	lines := strings.Split(text, "\r\n")
	for i, l := range lines {
		if l != "-- " {
			l = strings.TrimRight(l, " ")
		}
		if strings.HasPrefix(l, " ") || strings.HasPrefix(l, ">") || strings.HasPrefix(l, "From ") {
			l = " " + l
		}
		lines[i] = l
	}
	return strings.Join(lines, "\r\n")
}

// choose finds the charset and the transfer encoding that hold the footer. The part keeps its own where it can, else it
// becomes UTF-8 in quoted-printable.
func (c *textChange) choose(e *entity, footer string, seen *textSurvey) error {
	charset := strings.ToLower(e.params["charset"])
	if charset == "" {
		charset = "us-ascii"
	}
	known, superset := charsetOf(charset)
	plain := isASCIIText(footer)
	switch {
	case plain && superset, charset == "utf-8" || charset == "utf8":
		c.insert = []byte(footer)
	case e.media == "text/html" || known == nil && charset != "us-ascii":
		return errUnchangeable // UTF-16 and its like, or a charset that nobody here knows
	case charset == "us-ascii":
		// Old applications declare nothing and write what their machine has.
		if seen.eightBit && seen.utf8.broken() {
			c.charset, _ = ianaindex.MIME.Encoding("windows-1252")
		}
		return c.convert(e, footer)
	case superset:
		own, err := known.NewEncoder().Bytes([]byte(footer))
		if err != nil {
			c.charset = known
			return c.convert(e, footer)
		}
		c.insert = own
	default:
		c.charset = known
		return c.convert(e, footer)
	}
	switch {
	case c.from == "quoted-printable" || c.from == "base64":
		c.to = c.from
	case (c.from == "7bit" || !seen.eightBit) && !isASCIIText(string(c.insert)):
		// Also where 8bit is declared and not used: the application may not have said BODY=8BITMIME.
		c.to = "quoted-printable"
		c.set("Content-Transfer-Encoding", c.to)
	}
	return nil
}

func (c *textChange) convert(e *entity, footer string) error {
	c.insert, c.to = []byte(footer), "quoted-printable"
	if c.charset != nil {
		// The place was counted in the old charset, and only a text part is converted, whose footer goes to the end.
		c.at = -1
	}
	params := map[string]string{}
	for k, v := range e.params {
		params[k] = v
	}
	params["charset"] = "utf-8"
	c.set("Content-Type", formatMediaType(e.media, params))
	c.set("Content-Transfer-Encoding", c.to)
	return nil
}

func (c *textChange) set(name, value string) {
	c.fields = append(c.fields, Edit{Op: Set, Name: name, Value: value})
}

// charsetOf returns a charset by its name, nil where it is not known, and whether octets below 128 mean US-ASCII in it
// wherever they stand.
func charsetOf(name string) (enc encoding.Encoding, superset bool) {
	for _, odd := range []string{"utf-16", "utf-32", "utf-7", "ucs-2", "ucs-4", "iso-2022", "csiso2022", "hz", "ebcdic", "ibm037", "cp037", "ibm1047"} {
		if strings.HasPrefix(name, odd) {
			enc, err := htmlindex.Get(name)
			if err != nil || enc == encoding.Replacement { // what browsers refuse to decode
				return nil, false
			}
			return enc, false
		}
	}
	// IANA's meaning before the browsers': to them iso-8859-1 is windows-1252, and a euro sign in it 0x80.
	enc, err := ianaindex.MIME.Encoding(name)
	if err != nil || enc == nil {
		if enc, err = htmlindex.Get(name); err != nil {
			return nil, true
		}
	}
	return enc, true
}

func isASCIIText(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// reader writes the part's content again. in yields it as it is stored.
func (c *textChange) reader(in io.Reader) (io.Reader, error) {
	r, err := decodeTransfer(in, c.from)
	if c.to == "" {
		r, err = in, nil
	}
	if err != nil {
		return nil, err
	}
	if c.charset != nil {
		r = c.charset.NewDecoder().Reader(r)
	}
	insert := bytes.NewReader(c.insert)
	if c.at < 0 {
		r = io.MultiReader(r, insert)
	} else {
		r = io.MultiReader(io.LimitReader(r, c.at), insert, r)
	}
	if c.to == "" {
		return r, nil
	}
	r = newEncoder(r, c.to)
	if c.last && c.to == "base64" {
		r = io.MultiReader(r, strings.NewReader("\r\n"))
	}
	return r, nil
}

// decodeTransfer takes a Content-Transfer-Encoding off (RFC 2045 section 6).
func decodeTransfer(in io.Reader, name string) (io.Reader, error) {
	switch name {
	case "7bit", "8bit", "binary":
		return in, nil
	case "quoted-printable":
		return quotedprintable.NewReader(in), nil
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, in), nil
	}
	return nil, errUnchangeable
}

// encoder puts a transfer encoding on while it is read.
type encoder struct {
	in   io.Reader
	into io.WriteCloser // writes to out
	out  bytes.Buffer
	buf  [8 << 10]byte
	err  error
}

// newEncoder encodes in as quoted-printable or base64 (RFC 2045 section 6.7 and 6.8), the same octets each time.
func newEncoder(in io.Reader, name string) io.Reader {
	e := &encoder{in: in}
	if name == "base64" {
		e.into = newBase64Lines(&e.out)
	} else {
		e.into = quotedprintable.NewWriter(&e.out)
	}
	return e
}

func (e *encoder) Read(p []byte) (int, error) {
	for e.out.Len() == 0 {
		if e.err != nil {
			return 0, e.err
		}
		n, err := e.in.Read(e.buf[:])
		if _, werr := e.into.Write(e.buf[:n]); werr != nil {
			err = werr
		}
		if err == io.EOF {
			if cerr := e.into.Close(); cerr != nil {
				err = cerr
			}
		}
		e.err = err
	}
	return e.out.Read(p)
}

// base64Line is the length of a line of base64 (RFC 2045 section 6.8).
const base64Line = 76

// base64Lines writes base64 in lines; there is no CRLF after the last.
type base64Lines struct {
	io.WriteCloser // the encoder, which writes to cut
}

func newBase64Lines(out *bytes.Buffer) *base64Lines {
	return &base64Lines{base64.NewEncoder(base64.StdEncoding, &lineCutter{out: out})}
}

type lineCutter struct {
	out  *bytes.Buffer
	line int
}

func (c *lineCutter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if c.line == base64Line {
			c.out.WriteString("\r\n")
			c.line = 0
		}
		n := min(len(rest), base64Line-c.line)
		c.out.Write(rest[:n])
		rest = rest[n:]
		c.line += n
	}
	return len(p), nil
}

// textSurvey learns what must be known of a text before a footer is put into it. It is written the decoded text.
type textSurvey struct {
	size     int64
	eightBit bool
	endsLine bool
	pgp      bool
	utf8     utf8Check
	body     int64  // where the last </body stands; -1: nowhere
	html     int64  // likewise </html
	tail     []byte // the end of what was written, in which a word may have begun
}

// surveyOverlap is longer than any word that is looked for.
const surveyOverlap = 32

// Write implements io.Writer.
func (s *textSurvey) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.utf8.write(p)
	for _, c := range p {
		s.eightBit = s.eightBit || c >= utf8.RuneSelf
	}
	both := append(s.tail, p...)
	start := s.size - int64(len(s.tail))
	for i, c := range both {
		if c >= 'A' && c <= 'Z' {
			both[i] = c + 'a' - 'A'
		}
	}
	if i := bytes.LastIndex(both, []byte("</body")); i >= 0 {
		s.body = start + int64(i)
	}
	if i := bytes.LastIndex(both, []byte("</html")); i >= 0 {
		s.html = start + int64(i)
	}
	s.pgp = s.pgp || bytes.Contains(both, []byte("-----begin pgp "))
	s.size += int64(len(p))
	s.endsLine = p[len(p)-1] == '\n'
	s.tail = bytes.Clone(both[max(0, len(both)-surveyOverlap):])
	return len(p), nil
}

// utf8Check learns whether octets that come in pieces are UTF-8.
type utf8Check struct {
	bad  bool
	rest []byte // a character that is not whole yet
}

func (u *utf8Check) write(p []byte) {
	b := append(u.rest, p...)
	for len(b) > 0 && !u.bad {
		if !utf8.FullRune(b) {
			break
		}
		r, n := utf8.DecodeRune(b)
		u.bad = r == utf8.RuneError && n == 1
		b = b[n:]
	}
	u.rest = bytes.Clone(b[:min(len(b), utf8.UTFMax)])
}

func (u *utf8Check) broken() bool { return u.bad || len(u.rest) > 0 }
