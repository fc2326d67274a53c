package message

import (
	"cmp"
	"fmt"
	"io"
	"mime"
	"strings"
)

// What a rebuilt message may have.
const (
	maxRebuiltText  = 3_400_000   // octets of UTF-8 with JSON's escapes: it must fit into one request of 4 MB
	maxRebuiltFile  = 150_000_000 // octets of one file: what an upload session takes
	maxExtraHeaders = 5           // X- fields that Graph takes ("Add a custom header", November 2026)
)

// CannotRebuild says why a message cannot be taken apart and put together again without losing something.
type CannotRebuild struct {
	Field string // the header field that would be lost, "" where it is something else
	What  string // in words, for the application and its administrator
}

// Error returns What, or the field.
func (e *CannotRebuild) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("its header field %s would be lost", e.Field)
	}
	return e.What
}

func cannot(format string, args ...any) error {
	return &CannotRebuild{What: fmt.Sprintf(format, args...)}
}

// Rebuilt is a message as its properties and files, for a next server that takes no MIME of that size (Microsoft Graph's
// JSON). Its files stay where they are in the body: a FileReader reads them as they are sent.
type Rebuilt struct {
	From, Sender    []Mailbox // one, or none
	To, Cc, ReplyTo []Mailbox
	Subject         string // decoded, as all text here
	Text            string // UTF-8
	HTML            bool   // Text is HTML; a text version beside it is made again by the next server
	MessageID       string
	Importance      string // "high", "low" or ""
	ReadReceipt     bool
	Sensitivity     string  // "Personal", "Private", "Company-Confidential" or ""
	Threads         []Pair  // In-Reply-To, References, Thread-Topic, Thread-Index, as far as they are there
	Extra           []Pair  // X- fields, ours first, at most five
	Files           []*File // in the order in which they stand in the body
}

// Pair is a header field with its unfolded value.
type Pair struct{ Name, Value string }

// File is a part that becomes an attachment.
type File struct {
	Name      string // never empty
	Type      string // Content-Type with its parameters, without the name
	ContentID string // without angle brackets
	Inline    bool   // stands beside an HTML text that shows it
	Size      int64  // decoded

	start, end int64
	encoding   string
}

// Rebuild takes the message apart. open gives the body from its beginning; it is read twice. The error is a
// *CannotRebuild where the message would lose something, else what open or reading gave. No content but a text is held
// in memory.
func Rebuild(header []byte, open func() (io.ReadCloser, error)) (*Rebuilt, error) {
	plan, err := planRebuild(header, open)
	if err != nil {
		return nil, err
	}
	body, err := open()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if err := plan.fill(body); err != nil {
		return nil, err
	}
	return plan.Rebuilt, nil
}

// CheckRebuild finds out while a body is read for the first time whether the message could be rebuilt, as Rebuild does. It
// reads body to its end, unless that fails.
func CheckRebuild(header []byte, body io.Reader) error {
	_, err := planRebuild(header, func() (io.ReadCloser, error) { return io.NopCloser(body), nil })
	return err
}

// rebuildPlan is a Rebuilt whose text is not read yet.
type rebuildPlan struct {
	*Rebuilt
	text *entity // nil: the message has none
}

func planRebuild(header []byte, open func() (io.ReadCloser, error)) (*rebuildPlan, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return nil, err
	}
	body, err := open()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	top, err := walkDecoding(h, body)
	if err == errTooManyParts {
		return nil, cannot("it has more than %d parts", maxParts)
	}
	if err != nil {
		return nil, err
	}
	p := &rebuildPlan{Rebuilt: &Rebuilt{}}
	if err := p.fields(h); err != nil {
		return nil, err
	}
	if top.hasPGP() {
		return nil, errProtected
	}
	if err := p.part(top, place{}); err != nil {
		return nil, err
	}
	return p, nil
}

// errProtected: a signature would break, and what is encrypted cannot be taken apart.
var errProtected = cannot("it is signed or encrypted")

// place says where a part stands.
type place struct {
	related bool // beside the root of a multipart/related
}

// part sorts one part and what is in it.
func (p *rebuildPlan) part(e *entity, at place) error {
	switch {
	case e.media == "":
		return cannot("it has a part that cannot be understood")
	case e.media == "multipart/signed" || e.media == "multipart/encrypted" || strings.HasSuffix(e.media, "pkcs7-mime"):
		return errProtected
	case e.media == "multipart/report":
		return cannot("it is a report (multipart/report)")
	case e.media == "multipart/alternative":
		return p.alternative(e)
	case e.media == "multipart/related":
		return p.related(e)
	case e.multipart():
		for _, c := range e.children {
			if err := p.part(c, place{}); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(e.media, "multipart/"):
		return cannot("it has a %s without a boundary", e.media)
	case p.text == nil && !at.related && isText(e) && !e.isAttachment():
		return p.takeText(e)
	}
	return p.file(e, at)
}

func isText(e *entity) bool { return e.media == "text/plain" || e.media == "text/html" }

// alternative takes the HTML version, or else the plain one; the next server makes the plain one of the HTML. A calendar
// goes as a file. Another version would be lost.
func (p *rebuildPlan) alternative(e *entity) error {
	var best *entity
	for _, c := range e.children {
		switch {
		case c.media == "text/plain":
			if best == nil {
				best = c
			}
		case c.media == "text/html" || c.media == "multipart/related" || c.media == "multipart/mixed":
			best = c
		}
	}
	for _, c := range e.children {
		var err error
		switch {
		case c == best:
			err = p.part(c, place{})
		case c.media == "text/plain" || c.media == "text/html":
		case c.media == "text/calendar":
			err = p.file(c, place{})
		default:
			err = cannot("its text has a version of type %.60q", c.media)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// related takes the first part as the text and the others as the files that it shows.
func (p *rebuildPlan) related(e *entity) error {
	for i, c := range e.children {
		if err := p.part(c, place{related: i > 0}); err != nil {
			return err
		}
	}
	return nil
}

// decodable are the transfer encodings of RFC 2045 section 6.1.
var decodable = map[string]bool{"7bit": true, "8bit": true, "binary": true, "base64": true, "quoted-printable": true}

func (p *rebuildPlan) takeText(e *entity) error {
	if err := checkEncoding(e); err != nil {
		return err
	}
	if err := cmp.Or(e.decoded.damage, e.decoded.notText); err != nil {
		return err
	}
	p.text, p.HTML = e, e.media == "text/html"
	return nil
}

func checkEncoding(e *entity) error {
	if !decodable[e.transferEncoding()] {
		return cannot("it has a part in the encoding %.40q", e.encoding)
	}
	return nil
}

func (e *entity) charset() string {
	c := strings.ToLower(strings.TrimSpace(e.params["charset"]))
	switch c {
	case "", "ascii", "us-ascii":
		return "us-ascii"
	case "utf8", "utf-8":
		return "utf-8"
	}
	return c
}

// file makes an attachment of a part.
func (p *rebuildPlan) file(e *entity, at place) error {
	if err := checkEncoding(e); err != nil {
		return err
	}
	if e.decoded.damage != nil {
		return e.decoded.damage
	}
	if e.decoded.size > maxRebuiltFile {
		return cannot("it has a file larger than %d octets", maxRebuiltFile)
	}
	f := &File{Type: e.contentType(), Size: e.decoded.size, start: e.body, end: e.end, encoding: e.transferEncoding(),
		ContentID: strings.Trim(strings.TrimSpace(e.header.Get("Content-ID")), "<>"), Name: e.fileName()}
	f.Inline = at.related && f.ContentID != ""
	if at.related && f.ContentID == "" && e.header.Get("Content-Location") != "" {
		return cannot("it has a picture that its text names by Content-Location")
	}
	if f.Name == "" {
		f.Name = fmt.Sprintf("part-%d%s", len(p.Files)+1, extensions[e.media])
	}
	p.Files = append(p.Files, f)
	return nil
}

// extensions are those of nameless parts; Outlook opens by them.
var extensions = map[string]string{"message/rfc822": ".eml", "text/calendar": ".ics", "text/plain": ".txt", "text/html": ".html",
	"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "application/pdf": ".pdf", "text/csv": ".csv"}

// contentType is the field without the name, which has a place of its own.
func (e *entity) contentType() string {
	params := map[string]string{}
	for k, v := range e.params {
		if k != "name" {
			params[k] = v
		}
	}
	if s := mime.FormatMediaType(e.media, params); s != "" {
		return s
	}
	return "application/octet-stream"
}

// fill reads the text.
func (p *rebuildPlan) fill(body io.Reader) error {
	if p.text == nil {
		return nil
	}
	if _, err := io.CopyN(io.Discard, body, p.text.body); err != nil {
		return noEOF(err)
	}
	raw, err := io.ReadAll(decoder(p.text.transferEncoding(), io.LimitReader(body, p.text.end-p.text.body)))
	if err != nil {
		return damaged(err, p.text)
	}
	p.Text, err = readable(raw, p.text.charset())
	return err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// FileReader reads the files of one body in their order.
type FileReader struct {
	body io.Reader
	at   int64
}

// NewFileReader returns a reader of the files in a body that stands at its beginning.
func NewFileReader(body io.Reader) *FileReader { return &FileReader{body: body} }

// Read implements io.Reader for the files.
func (r *FileReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.at += int64(n)
	return n, err
}

// Open goes on to a file, which must not begin before what was read, and returns its decoded content.
func (r *FileReader) Open(f *File) (io.Reader, error) {
	if _, err := io.CopyN(io.Discard, r, f.start-r.at); err != nil {
		return nil, noEOF(err)
	}
	return decoder(f.encoding, io.LimitReader(r, f.end-f.start)), nil
}
