package message

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/envelope"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot:\n%s\nwant:\n%s", name, got, want)
	}
}

// block makes a header block of lines, so that tests read as mail does.
func block(lines ...string) []byte {
	return []byte(strings.Join(append(lines, "", ""), "\r\n"))
}

// oddHeader has what an editor must leave alone.
var oddHeader = block(
	"Received: from a by b;", "\tMon, 02 Nov 2026 10:00:00 +0100",
	"fROM:   =?iso-8859-1?Q?M=FCller?=", "  <mueller@example.test>",
	"Subject: =?utf-8?q?Bestellung_?=", " =?utf-8?q?Nr._5?=   ",
	"X-Raw: \xe4\xf6\xfc", "Sender : old@example.test", "To:a@example.test", "X-Empty:", "Sender: other@example.test",
	"DKIM-Signature: v=1; a=rsa-sha256;", "  b=abc", "   def",
)

func TestApplyGolden(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edits []Edit
	}{
		{"no_edits", nil},
		{"prepend", []Edit{{Prepend, "X-Postern-Id", "0123456789abcdef"}, {Prepend, "Received",
			"from host.example.test ([192.0.2.1]) by bridge.example.test with ESMTPA id 0123456789abcdef for <someone@example.test>; Mon, 02 Nov 2026 10:00:00 +0100"}}},
		{"set_in_place", []Edit{{Set, "From", "Contoso <noreply@example.test>"}, {Set, "SENDER", "erp@example.test"}}},
		{"set_where_none_is", []Edit{{Set, "Message-ID", "<0123456789abcdef@bridge.example.test>"}}},
		{"add_and_remove", []Edit{{Remove, "sender", ""}, {Add, "X-New", ""}, {Remove, "Not-There", ""}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Apply(oddHeader, tc.edits)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "apply_"+tc.name+".eml", got)
		})
	}
}

func TestApplyFolds(t *testing.T) {
	word := strings.Repeat("w", 990)
	for _, tc := range []struct{ name, value, want string }{
		{"a short value stays on its line", "a b", "X: a b\r\n"},
		{"a value breaks before the blank that would pass 78", strings.Repeat("a", 40) + "  " + strings.Repeat("b", 40), "X: " + strings.Repeat("a", 40) + "\r\n  " + strings.Repeat("b", 40) + "\r\n"},
		{"the first word never begins a line of its own", strings.Repeat("a", 100) + " b", "X: " + strings.Repeat("a", 100) + "\r\n b\r\n"},
		{"a long word may pass 78", "a " + word, "X: a\r\n " + word + "\r\n"},
		{"blanks at the end make no line of blanks", "a" + strings.Repeat(" ", 200), "X: a\r\n"},
		{"a run of blanks stays whole", "a" + strings.Repeat(" ", 100) + "b", "X: a\r\n" + strings.Repeat(" ", 100) + "b\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Apply(block(), []Edit{{Add, "X", tc.value}})
			if err != nil || string(got) != tc.want+"\r\n" {
				t.Errorf("Apply = %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	good := block("A: b")
	for _, tc := range []struct {
		name   string
		header []byte
		edit   Edit
	}{
		{"a CR in a value", good, Edit{Set, "A", "b\rBcc: c"}},
		{"a line feed in a value", good, Edit{Set, "A", "b\nBcc: c"}},
		{"a NUL in a value", good, Edit{Prepend, "A", "b\x00"}},
		{"a word that no line holds", good, Edit{Add, "A", strings.Repeat("w", 999)}},
		{"a name with a blank", good, Edit{Set, "A B", "c"}},
		{"a name with a colon", good, Edit{Remove, "A:", ""}},
		{"a name with a line feed", good, Edit{Add, "A\nB", "c"}},
		{"no name", good, Edit{Add, "", "c"}},
		{"no operation", good, Edit{"", "A", "c"}},
		{"a block without its blank line", []byte("A: b\r\n"), Edit{Set, "A", "c"}},
		{"a block with text after its blank line", []byte("A: b\r\n\r\nC: d\r\n\r\n"), Edit{Set, "A", "c"}},
		{"a block that begins with a continuation", []byte(" A: b\r\n\r\n"), Edit{Set, "A", "c"}},
		{"a block with a lone LF", []byte("A: b\nC: d\r\n\r\n"), Edit{Set, "A", "c"}},
		{"a block with a lone CR", []byte("A: b\rC: d\r\n\r\n"), Edit{Set, "A", "c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Apply(tc.header, []Edit{tc.edit})
			if err == nil {
				t.Errorf("Apply = %q, want an error", got)
			}
			if check := Check([]Edit{tc.edit}); check == nil && bytes.Equal(tc.header, good) || check != nil && check.Error() != err.Error() {
				t.Errorf("Check says %v, and Apply %v", check, err)
			}
		})
	}
}

func TestPlanSurvivesJSON(t *testing.T) {
	plan := Plan{Account: "erp", HeaderFrom: envelope.Address{Local: "a b", Domain: "example.test"}, MessageID: "<a@b>",
		Edits: []Edit{{Set, "From", "\"J\u00fcrgen\" <a@b>"}, {Remove, "Sender", ""}}}
	data, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var got Plan
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.HeaderFrom != plan.HeaderFrom || !got.ReversePath.IsNull() || !slices.Equal(got.Edits, plan.Edits) {
		t.Errorf("after JSON %+v, before %+v", got, plan)
	}
}

func FuzzApply(f *testing.F) {
	for i, s := range hostile {
		f.Add([]byte(s), byte(i), "From", "a@b "+strings.Repeat("c ", i*20))
	}
	f.Fuzz(func(t *testing.T, in []byte, op byte, name, value string) {
		header, _, err := SplitHeader(bytes.NewReader(in), 0)
		if err != nil {
			return
		}
		edit := Edit{[]Op{Set, Remove, Add, Prepend}[op%4], name, value}
		once, err := Apply(header, []Edit{edit})
		if check := Check([]Edit{edit}); fmt.Sprint(check) != fmt.Sprint(err) {
			t.Fatalf("Check says %v, and Apply %v", check, err)
		}
		if err != nil {
			return
		}
		if again, err := Apply(header, []Edit{edit}); err != nil || !bytes.Equal(once, again) {
			t.Fatalf("the same edit gave %q and %q, %v", once, again, err)
		}
		before, _ := ParseHeader(header)
		after, err := ParseHeader(once)
		if err != nil {
			t.Fatalf("Apply made a block that ParseHeader refuses: %v: %q", err, once)
		}
		others := func(h Header) string {
			h.Fields = slices.DeleteFunc(slices.Clone(h.Fields), func(f Field) bool { return f.Is(name) })
			return string(h.Bytes())
		}
		if others(before) != others(after) {
			t.Fatalf("other fields changed: %q, %q", header, once)
		}
		n := len(before.All(name))
		want := map[Op]int{Set: 1, Remove: 0, Add: n + 1, Prepend: n + 1}[edit.Op]
		if got := len(after.All(name)); got != want {
			t.Fatalf("%d fields %q, want %d", got, name, want)
		}
		if edit.Op == Set {
			if got, want := after.Get(name), strings.Trim(value, " \t"); got != want {
				t.Fatalf("the value reads %q, want %q", got, want)
			}
		}
		if edit.Op == Set || edit.Op == Remove {
			if twice, err := Apply(once, []Edit{edit}); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("applied twice %q, once %q, %v", twice, once, err)
			}
		}
		for _, f := range after.All(name) {
			for line := range strings.SplitSeq(string(f.Raw), "\r\n") {
				if len(line) > maxLine && !bytes.Contains(header, []byte(line)) {
					t.Fatalf("a line of %d octets", len(line))
				}
			}
		}
	})
}
