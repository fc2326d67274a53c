package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// HeaderLimit is the largest header block, in octets, that SplitHeader takes when the caller names no limit.
const HeaderLimit = 256 << 10

// What SplitHeader refuses. Both are for good: the same message fails again.
var (
	ErrHeaderTooLong = errors.New("header block too long")
	ErrHeaderControl = errors.New("NUL, or CR without LF, in the header")
)

// peekSize is how much of a line must show that it is a header field; a longer field name does not exist.
const peekSize = 4096

// NewReader returns a reader that SplitHeader reads as it is; it puts one around any other. It can be used for one message
// after the other (Reset).
func NewReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, peekSize) }

// SplitHeader reads the header block of the message r and returns it with body, which yields the rest untouched. The
// block has CRLF lines and ends in the blank line, so ParseHeader always takes it. A limit of 0 is HeaderLimit.
//
// What old applications send is taken as Postfix takes it (cleanup_message.c, postfix 3.9): the first line that is
// neither a field nor a continuation begins the body, and the blank line that was missing is made. So a message
// without header has an empty block, and a line without colon amid the fields ends them: were it kept, the next
// server might end the header there and read another From than we did. The line "From ..." that an mbox file begins
// with is dropped. A line of blanks only continues its field (RFC 5322 section 4.2).
//
// err is ErrHeaderTooLong, ErrHeaderControl, or what r returned.
func SplitHeader(r io.Reader, limit int) (header []byte, body io.Reader, err error) {
	if limit <= 0 {
		limit = HeaderLimit
	}
	br := NewReader(r)
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		switch kind := lineKind(line); {
		case len(line) == 0 || kind == blankLine:
			header, err = endHeader(header)
			return header, br, err
		case kind == fieldLine, kind == continuationLine && len(header) > 0:
			if header, err = readLine(header, line, br, limit); err != nil {
				return nil, nil, err
			}
		case first && isMboxLine(line):
			if err := skipLine(line, br); err != nil {
				return nil, nil, err
			}
		default:
			start := bytes.Clone(line) // the next read overwrites it
			header, err = endHeader(header)
			return header, io.MultiReader(bytes.NewReader(start), br), err
		}
	}
}

// endHeader makes the blank line and refuses what could mean two things further on: some servers take a lone CR for a
// line end, and then "X: a\rBcc: b" has a field that nobody here has seen.
func endHeader(header []byte) ([]byte, error) {
	if hasLoneControl(header) {
		return nil, ErrHeaderControl
	}
	return append(header, "\r\n"...), nil
}

func hasLoneControl(b []byte) bool {
	return bytes.IndexByte(b, 0) >= 0 || bytes.Count(b, []byte("\r")) != bytes.Count(b, []byte("\r\n"))
}

// readLine appends the line that begins with start, to its end, with CRLF.
func readLine(header, start []byte, br *bufio.Reader, limit int) ([]byte, error) {
	var err error
	for {
		header = append(header, start...)
		if len(header) > limit {
			return nil, ErrHeaderTooLong
		}
		if start = nil; header[len(header)-1] == '\n' {
			break
		}
		if errors.Is(err, io.EOF) {
			header = append(header, '\n')
			break
		}
		start, err = br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if text := header[:len(header)-1]; !bytes.HasSuffix(text, []byte("\r")) {
		header = append(text, "\r\n"...)
	}
	return header, nil
}

// skipLine reads to the end of the line that begins with start.
func skipLine(start []byte, br *bufio.Reader) error {
	for !bytes.HasSuffix(start, []byte("\n")) {
		var err error
		start, err = br.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
	return nil
}

// isMboxLine reports whether a line is the separator of an mbox file, possibly quoted by one.
func isMboxLine(line []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From "))
}

// What a line of the header block can be.
type kind int

const (
	textLine kind = iota
	fieldLine
	continuationLine
	blankLine
)

func lineKind(line []byte) kind {
	switch {
	case len(line) > 0 && line[0] == '\n' || bytes.HasPrefix(line, []byte("\r\n")):
		return blankLine
	case len(line) > 0 && isBlank(line[0]):
		return continuationLine
	case fieldColon(line) > 0:
		return fieldLine
	}
	return textLine
}

// fieldColon returns the position of the colon after a field name (RFC 5322 section 2.2), or 0 where line does not
// begin a field. Blanks before the colon are the obsolete form (section 4.5), which every server reads differently.
func fieldColon(line []byte) int {
	name := fieldNameLen(line)
	i := name
	for i < len(line) && isBlank(line[i]) {
		i++
	}
	if name == 0 || i == len(line) || line[i] != ':' {
		return 0
	}
	return i
}

// fieldNameLen returns how many octets at the start of line are ftext (RFC 5322 section 3.6.8).
func fieldNameLen(line []byte) int {
	for i, c := range line {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return i
		}
	}
	return len(line)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
