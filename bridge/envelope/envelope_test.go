package envelope

import (
	"testing"
	"time"
)

func TestIDsSortByTimeAndParse(t *testing.T) {
	at := time.UnixMilli(1793610000000)
	seen := map[ID]bool{}
	last := ID("")
	for i := range 1000 {
		id := NewID(at.Add(time.Duration(i) * time.Millisecond))
		if got, err := ParseID(string(id)); err != nil || got != id {
			t.Fatalf("ParseID(%q) = %q, %v", id, got, err)
		}
		if seen[id] || id <= last {
			t.Fatalf("%q after %q", id, last)
		}
		seen[id], last = true, id
	}
	if a, b := NewID(at), NewID(at); a == b || a[:9] != b[:9] {
		t.Errorf("two IDs of one millisecond: %q, %q", a, b)
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, in := range []string{"", "0123456789abcde", "0123456789abcdefg", "0123456789ABCDEF", "0123456789abcdew", "0123456789abcd/.", "0123456789abcde\n"} {
		if got, err := ParseID(in); err == nil || got != "" {
			t.Errorf("ParseID(%q) = %q, want an error", in, got)
		}
	}
}
