package message

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"postern/bridge/envelope"
)

// maxName is the longest display name, in octets, that we write.
const maxName = 256

// Mailbox is an address with a display name.
type Mailbox struct {
	Name    string // UTF-8, decoded; may be empty
	Address envelope.Address
}

// String returns the mailbox as a field value in US-ASCII, but for a local part that is not: the name quoted where it
// must be and as encoded words (RFC 2047) where it is not ASCII, the domain in IDNA form. Control characters leave the
// name, and what passes 256 octets of it.
func (m Mailbox) String() string {
	name := cleanName(m.Name)
	if name == "" {
		return m.Address.Wire()
	}
	return encodePhrase(name) + " <" + m.Address.Wire() + ">"
}

// cleanName keeps a name on one line.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		// U+202E and its like turn the text after them around.
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > maxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return strings.TrimRight(s, " ")
}

// encodePhrase writes a clean name as a phrase.
func encodePhrase(name string) string {
	if !isPrintable(name) {
		// The Q encoding leaves quotes, commas and brackets bare, which a phrase may not have (RFC 2047 section 5, 3).
		if strings.ContainsAny(name, "\"#$%&'(),.:;<>@[]^`{|}~\\") {
			return mime.BEncoding.Encode("utf-8", name)
		}
		return mime.QEncoding.Encode("utf-8", name)
	}
	if !strings.ContainsAny(name, specials) && !strings.Contains(name, "=?") {
		return name
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// isPrintable reports whether s is printable US-ASCII.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// decodeName turns the written form of a name into UTF-8: encoded words decoded, and octets that are no UTF-8 read as
// Windows-1252, which is what devices that write them mean.
func decodeName(s string) string { return cleanName(decodeWords(s)) }

// decodeWords is decodeName without the limits of a name.
func decodeWords(s string) string {
	if !utf8.ValidString(s) {
		s, _ = charmap.Windows1252.NewDecoder().String(s) // a charmap decodes every octet
	}
	d := mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
		enc, err := browserCharset(charset)
		if err != nil {
			return nil, err
		}
		return enc.NewDecoder().Reader(in), nil
	}}
	if decoded, err := d.DecodeHeader(s); err == nil {
		s = decoded
	}
	return s
}

// FormatDate returns t as a Date field has it (RFC 5322 section 3.3).
func FormatDate(t time.Time) string { return t.Format(time.RFC1123Z) }

// NewMessageID returns the Message-ID of a message that came without one: <id@hostname>. The ID makes it unique.
func NewMessageID(id envelope.ID, hostname string) string {
	return fmt.Sprintf("<%s@%s>", id, hostname)
}

// MessageID returns the message's Message-ID as written, with its angle brackets, or "" where there is none, or
// none that could be found again.
func (h Header) MessageID() string {
	id := h.Get("Message-ID")
	if start := strings.IndexByte(id, '<'); start >= 0 {
		if n := strings.IndexByte(id[start:], '>'); n > 0 {
			id = id[start : start+n+1]
		}
	}
	if id == "<>" || !isPrintable(id) || len(id) > maxLine-len("Message-ID: ") {
		return ""
	}
	return id
}
