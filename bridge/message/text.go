package message

import "strings"

// Text returns the value as people read it: unfolded, encoded words decoded (RFC 2047), octets that are no UTF-8 read as
// Windows-1252, without blanks at its ends. It is for comparing: unlike a display name it is never cut.
func (f Field) Text() string {
	return strings.Trim(decodeWords(strings.ReplaceAll(string(f.value()), "\r\n", "")), " \t")
}
