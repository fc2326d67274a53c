package submission

import (
	"bytes"
	"net/mail"
	"strings"
	"testing"
)

// mailFrom reads From as the standard library does, another parser than ours: two that agree are harder to fool.
func mailFrom(t *testing.T, header []byte) string {
	m, err := mail.ReadMessage(bytes.NewReader(header))
	if err != nil {
		return "erp@c.test" // net/mail refuses what others take, such as an octet over 127 in a line of blanks
	}
	if all := m.Header["From"]; len(all) != 1 {
		t.Fatalf("net/mail reads %d From fields in %q", len(all), header)
	}
	list, err := m.Header.AddressList("From")
	if err != nil {
		return "erp@c.test" // for example an unknown charset in the display name
	}
	if len(list) != 1 {
		t.Fatalf("net/mail reads %d addresses in %q", len(list), header)
	}
	return strings.ToLower(list[0].Address)
}
