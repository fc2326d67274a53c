package message

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Line lengths of RFC 5322 section 2.1.1, without the CRLF: what we fold at, and what no line may pass.
const (
	foldAt  = 78
	maxLine = 998
)

// Apply returns the header block with the edits made, in order. Fields that no edit names keep every byte, their order
// and their folding. A value is folded at 78 octets where it has blanks. An error means that an edit cannot be written:
// a name that is none, CR, LF or NUL in a value, or a word that no line can hold.
func Apply(header []byte, edits []Edit) ([]byte, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return nil, err
	}
	for i, e := range edits {
		if err := h.apply(e); err != nil {
			return nil, e.cannot(i, err)
		}
	}
	return h.Bytes(), nil
}

// Check returns the error that Apply would return of the edits; what the header is makes no difference.
func Check(edits []Edit) error {
	for i, e := range edits {
		if _, err := e.field(); err != nil {
			return e.cannot(i, err)
		}
	}
	return nil
}

func (e Edit) cannot(i int, err error) error {
	return fmt.Errorf("edit %d (%s %s): %w", i+1, e.Op, e.Name, err)
}

// field returns the field that the edit writes; Remove writes none.
func (e Edit) field() (Field, error) {
	if e.Name == "" || fieldNameLen([]byte(e.Name)) != len(e.Name) {
		return Field{}, errors.New("not a field name")
	}
	switch e.Op {
	case Remove:
		return Field{}, nil
	case Prepend, Add, Set:
		return newField(e.Name, e.Value)
	}
	return Field{}, errors.New("unknown operation")
}

func (h *Header) apply(e Edit) error {
	f, err := e.field()
	if err != nil {
		return err
	}
	switch e.Op {
	case Remove:
		h.remove(e.Name)
	case Prepend:
		h.Fields = slices.Insert(h.Fields, 0, f)
	case Add:
		h.Fields = append(h.Fields, f)
	case Set:
		at := slices.IndexFunc(h.Fields, func(f Field) bool { return f.Is(e.Name) })
		if at < 0 {
			at = len(h.Fields)
		}
		h.remove(e.Name)
		h.Fields = slices.Insert(h.Fields, at, f)
	}
	return nil
}

func (h *Header) remove(name string) {
	h.Fields = slices.DeleteFunc(h.Fields, func(f Field) bool { return f.Is(name) })
}

// newField writes a field, folded.
func newField(name, value string) (Field, error) {
	if strings.ContainsAny(value, "\r\n\x00") {
		return Field{}, errors.New("CR, LF or NUL in the value")
	}
	raw, err := fold(name+":", strings.Trim(value, " \t"))
	if err != nil {
		return Field{}, err
	}
	return Field{Name: name, Raw: raw, colon: len(name)}, nil
}

// fold writes start and value with a line break before the blanks that would else stand past foldAt. Unfolding gives
// the value again. The first word stays on the first line, because some servers lose a Message-ID that begins on the
// second.
func fold(start, value string) ([]byte, error) {
	out := append(make([]byte, 0, len(start)+len(value)+16), start...) // few need more line breaks
	line := len(start)
	value = " " + value
	for first := true; value != ""; first = false {
		n := wordLen(value)
		word := value[:n]
		value = value[n:]
		if !first && line+n > foldAt {
			out = append(out, "\r\n"...)
			line = 0
		}
		out = append(out, word...)
		if line += n; line > maxLine {
			return nil, fmt.Errorf("a word too long for a line of %d octets", maxLine)
		}
	}
	return append(out, "\r\n"...), nil
}

// wordLen returns the length of the blanks and the word at the start of s.
func wordLen(s string) int {
	word := strings.IndexFunc(s, func(r rune) bool { return r != ' ' && r != '\t' })
	if word < 0 {
		return len(s)
	}
	end := strings.IndexAny(s[word:], " \t")
	if end < 0 {
		return len(s)
	}
	return word + end
}
