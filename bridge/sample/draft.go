package sample

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// AddressError says that what should be an address alone has angle brackets or an end of line in it.
type AddressError struct{ Text string }

// Error quotes it, cut to 60 characters.
func (e *AddressError) Error() string { return fmt.Sprintf("%.60q is no address", e.Text) }

// Draft is a message to try the way with: a text, and files with it.
type Draft struct {
	From    string   // the header From, an address alone
	To      []string // the header To, likewise
	Subject string   // an end of line in it becomes a blank
	Text    string
	Attach  []string // paths of files, attached under their last element
}

// Make returns the message with CRLF, dated now. Text and files go encoded, so that their lines are US-ASCII and short
// (RFC 2045 section 6); an address beyond US-ASCII stands as it is (RFC 6532). The boundary between parts is random. The
// error is an *AddressError, or that of a file which cannot be read.
func (d Draft) Make(now time.Time) ([]byte, error) {
	for _, s := range append([]string{d.From}, d.To...) {
		if strings.ContainsAny(s, "\r\n<>") {
			return nil, &AddressError{s}
		}
	}
	text, err := quoted(d.Text)
	if err != nil {
		return nil, err
	}
	const kind, encoding = "text/plain; charset=utf-8", "quoted-printable"
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("From", d.From)
	field("To", strings.Join(d.To, ",\r\n "))
	field("Subject", mime.QEncoding.Encode("utf-8", strings.NewReplacer("\r", " ", "\n", " ").Replace(d.Subject)))
	field("Date", now.Format(time.RFC1123Z))
	field("MIME-Version", "1.0")
	if len(d.Attach) == 0 {
		field("Content-Type", kind)
		field("Content-Transfer-Encoding", encoding)
		fmt.Fprintf(&b, "\r\n%s", text)
		return b.Bytes(), nil
	}
	m := multipart.NewWriter(&b)
	field("Content-Type", "multipart/mixed; boundary="+m.Boundary())
	b.WriteString("\r\n")
	part, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}, "Content-Transfer-Encoding": {encoding}})
	if err != nil {
		return nil, err
	}
	if _, err := part.Write(text); err != nil {
		return nil, err
	}
	for _, path := range d.Attach {
		if err := attach(m, path); err != nil {
			return nil, err
		}
	}
	err = m.Close() // which writes the last boundary
	return b.Bytes(), err
}

// quoted is the text in quoted-printable, with an end of line behind it.
func quoted(text string) ([]byte, error) {
	var b bytes.Buffer
	q := quotedprintable.NewWriter(&b)
	_, _ = io.WriteString(q, text) // a buffer takes everything
	err := q.Close()
	b.WriteString("\r\n")
	return b.Bytes(), err
}

func attach(m *multipart.Writer, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	kind := mime.TypeByExtension(filepath.Ext(path))
	if kind == "" {
		kind = http.DetectContentType(data)
	}
	part, err := m.CreatePart(textproto.MIMEHeader{
		"Content-Type":              {kind},
		"Content-Transfer-Encoding": {"base64"},
		"Content-Disposition":       {mime.FormatMediaType("attachment", map[string]string{"filename": filepath.Base(path)})},
	})
	if err != nil {
		return err
	}
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 0 {
		n := min(76, len(text))
		if _, err := io.WriteString(part, text[:n]+"\r\n"); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}
