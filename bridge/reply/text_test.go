package reply

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOneLine(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"lines become one", "first\r\nsecond\tthird\u2028fourth\u0085fifth", "first second third fourth fifth"},
		{"escape sequences lose their escape", "\x1b[31mred\x1b[0m", "[31mred [0m"},
		{"what is no UTF-8 is marked", "caf\xe9 \ufffd", "caf? ?"},
		{"UTF-8 stays", "caf\u00e9", "caf\u00e9"},
		{"blanks around it go", "  refused \n", "refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := OneLine(tc.in); got != tc.want {
				t.Errorf("OneLine(%q) = %q; want %q", tc.in, got, tc.want)
			}
		})
	}
	if got := OneLine("x" + strings.Repeat("\u00e9", 999)); len(got) != MaxText-1 || !utf8.ValidString(got) {
		t.Errorf("a long text became %d octets, valid %v; want it cut between two characters", len(got), utf8.ValidString(got))
	}
}
