package message

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Header is the index of a header block: its fields in order. It is the one parse that decides what a header says.
// Reading it is safe for concurrent use; it shares the block's memory.
type Header struct {
	Fields []Field
}

// Field is one header field with the exact bytes it came in.
type Field struct {
	Name  string // as written, without the blanks that obsolete syntax allows before the colon
	Raw   []byte // everything from the name to the CRLF after the last continuation
	colon int    // in Raw
}

// ParseHeader indexes a header block as SplitHeader returns it: fields and continuations in CRLF lines, a blank line at
// the end, nothing after it. Anything else is an error, as is NUL or a lone CR or LF.
func ParseHeader(block []byte) (Header, error) {
	text, ok := bytes.CutSuffix(block, []byte("\r\n"))
	if !ok || len(text) > 0 && !bytes.HasSuffix(text, []byte("\r\n")) {
		return Header{}, errors.New("header block without a blank line at its end")
	}
	if hasLoneControl(text) {
		return Header{}, ErrHeaderControl
	}
	h := Header{Fields: make([]Field, 0, min(bytes.Count(text, []byte("\n")), 32))} // few headers have more
	for line, start := 1, 0; start < len(text); line++ {
		end := start + bytes.IndexByte(text[start:], '\n') + 1
		switch kind := lineKind(text[start:end]); {
		case end-start < 2 || text[end-2] != '\r':
			return Header{}, fmt.Errorf("header line %d ends in a lone LF", line)
		case kind == fieldLine:
			raw := text[start:end:end]
			h.Fields = append(h.Fields, Field{Name: string(raw[:fieldNameLen(raw)]), Raw: raw, colon: fieldColon(raw)})
		case kind == continuationLine && len(h.Fields) > 0:
			last := &h.Fields[len(h.Fields)-1]
			last.Raw = text[start-len(last.Raw) : end : end]
		default:
			return Header{}, fmt.Errorf("header line %d is no field", line)
		}
		start = end
	}
	return h, nil
}

// Bytes returns the block: the fields as they are, and the blank line.
func (h Header) Bytes() []byte {
	size := 2
	for _, f := range h.Fields {
		size += len(f.Raw)
	}
	b := make([]byte, 0, size)
	for _, f := range h.Fields {
		b = append(b, f.Raw...)
	}
	return append(b, "\r\n"...)
}

// All returns the fields of that name, in order. Names are compared without regard to case.
func (h Header) All(name string) []Field {
	var all []Field
	for _, f := range h.Fields {
		if f.Is(name) {
			all = append(all, f)
		}
	}
	return all
}

// Get returns the unfolded value of the first field of that name, or "" where there is none.
func (h Header) Get(name string) string {
	for _, f := range h.Fields {
		if f.Is(name) {
			return f.Value()
		}
	}
	return ""
}

// Is reports whether the field has that name, without regard to case.
func (f Field) Is(name string) bool { return strings.EqualFold(f.Name, name) }

// Value returns the value unfolded (RFC 5322 section 2.2.3), without blanks at its ends. It may hold octets that are
// not UTF-8.
func (f Field) Value() string {
	return strings.Trim(strings.ReplaceAll(string(f.value()), "\r\n", ""), " \t")
}

// Plain reports whether the colon follows the name directly. A field written "From :" is one to us and none to some
// servers.
func (f Field) Plain() bool { return f.colon == len(f.Name) }

// value returns the bytes between the colon and the last CRLF.
func (f Field) value() []byte { return f.Raw[f.colon+1 : len(f.Raw)-2] }
