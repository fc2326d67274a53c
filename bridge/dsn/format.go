package dsn

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxHeader = 32 << 10 // octets of the original's header in a report; what is longer is cut at a line
	maxLine   = 998      // octets without CRLF (RFC 5322 section 2.1.1)
	foldAt    = 76
)

// values returns the unfolded values of the fields of that name. It reads any octets: what is no field is passed over.
func values(header []byte, name string) (found []string) {
	var value strings.Builder // of the field that is being read, which may have tens of thousands of lines
	in := false
	end := func() {
		if in {
			found = append(found, strings.Trim(value.String(), " \t"))
			value.Reset()
		}
	}
	for line := range strings.Lines(string(header)) {
		text := strings.TrimRight(line, "\r\n")
		if text == "" {
			break
		}
		if text[0] == ' ' || text[0] == '\t' {
			if in {
				value.WriteString(text)
			}
			continue
		}
		end()
		key, rest, ok := strings.Cut(text, ":")
		if in = ok && strings.EqualFold(strings.TrimRight(key, " \t"), name); in {
			value.WriteString(rest)
		}
	}
	end()
	return found
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// isMessageID is strict: what an old application wrote may be anything, and stands in the third part anyhow.
func isMessageID(s string) bool {
	if len(s) < 5 || len(s) > 250 || s[0] != '<' || s[len(s)-1] != '>' {
		return false
	}
	return !strings.ContainsFunc(s[1:len(s)-1], func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '<' || c == '>' })
}

// decode reads encoded words and makes one line of it.
func decode(s string) string {
	if d, err := new(mime.WordDecoder).DecodeHeader(s); err == nil {
		s = d
	}
	return oneLine(s)
}

// oneLine takes out what could end a line or turn it around, and cuts blanks.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || unicode.Is(unicode.Cf, c) || c == utf8.RuneError {
			return ' '
		}
		return c
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// cut shortens a text to so many octets.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "..."
}

// printable replaces what is not US-ASCII.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
}

// encodeText is unstructured text for a header field (RFC 2047).
func encodeText(s string) string { return mime.QEncoding.Encode("utf-8", s) }

// fold writes one field of printable US-ASCII, folded at blanks; a word that is too long for any line is cut hard.
func fold(name, value string) string {
	var b strings.Builder
	line := name + ":"
	empty := true
	for _, word := range strings.Fields(value) {
		if !empty && len(line)+1+len(word) > foldAt {
			b.WriteString(line + "\r\n")
			line = ""
		}
		for len(word) > maxLine-100 {
			b.WriteString(line + " " + word[:maxLine-100] + "\r\n")
			line, word = "", word[maxLine-100:]
		}
		line += " " + word
		empty = false
	}
	if line != "" {
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

// transferEncode leaves US-ASCII with short lines alone, so that it can be read as it stands; anything else becomes
// quoted-printable.
func transferEncode(text string) (encoding, encoded string) {
	plain := true
	for line := range strings.SplitSeq(text, "\r\n") {
		plain = plain && len(line) <= maxLine && printable(strings.ReplaceAll(line, "\t", " ")) == strings.ReplaceAll(line, "\t", " ")
	}
	if plain {
		return "7bit", text
	}
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	w.Write([]byte(text)) // into memory: cannot fail
	w.Close()
	return "quoted-printable", b.String()
}

// originalHeader is the third part: the fields as they came, without the blank line; a long block is cut at a line.
func (r *Report) originalHeader() string {
	h := strings.TrimSuffix(string(r.Original.Header), "\r\n\r\n") + "\r\n"
	h = strings.TrimPrefix(h, "\r\n")
	if len(h) > maxHeader {
		end := strings.LastIndex(h[:maxHeader], "\r\n")
		h = h[:max(end, 0)] + fmt.Sprintf("\r\nX-Postern-Cut: %d octets were left away\r\n", len(h)-max(end, 0))
	}
	return h
}

// formatDate is RFC 5322's date-time.
func formatDate(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }
