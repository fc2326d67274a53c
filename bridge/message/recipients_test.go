package message

import (
	"bytes"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/bridge/envelope"
)

func addresses(t testing.TB, all ...string) []envelope.Address {
	t.Helper()
	var out []envelope.Address
	for _, s := range all {
		a, err := envelope.ParseAddress(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		out = append(out, a)
	}
	return out
}

func TestReconcileRecipients(t *testing.T) {
	for _, tc := range []struct {
		name         string
		header, want []byte
		to, hidden   string
		lost         int
	}{
		{"equal already: every byte stays", block("to:a@x.test,\r\n\tB\r\n <b@x.test>", "CC : \"C\" <c@x.test>", "Subject: s"),
			block("to:a@x.test,\r\n\tB\r\n <b@x.test>", "CC: \"C\" <c@x.test>", "Subject: s"), "a@x.test b@x.test c@x.test", "", 0},
		{"case and IDNA form do not matter", block("To: A@B\u00dcCHER.test"), block("To: A@B\u00dcCHER.test"), "a@xn--bcher-kva.test", "", 0},
		{"hidden recipients go to one Bcc at the end", block("To: a@x.test", "Subject: s"), block("To: a@x.test", "Subject: s", "Bcc: b@x.test, c@x.test"),
			"a@x.test b@x.test c@x.test", "b@x.test c@x.test", 0},
		{"a Bcc that is there is written again in its place", block("To: a@x.test", "bcc: B <b@x.test>, z@x.test", "Subject: s", "Bcc: y@x.test"),
			block("To: a@x.test", "Bcc: b@x.test", "Subject: s"), "a@x.test b@x.test", "b@x.test", 0},
		{"a Bcc of someone in To leaves", block("To: a@x.test", "Bcc: a@x.test"), block("To: a@x.test"), "a@x.test", "", 0},
		{"a Bcc without a recipient leaves", block("To: a@x.test", "Bcc: z@x.test"), block("To: a@x.test"), "a@x.test", "", 0},
		{"the first of a list leaves", block("To: z@x.test, a@x.test,\r\n b@x.test"), block("To: a@x.test,\r\n b@x.test"), "a@x.test b@x.test", "", 1},
		{"the middle of a list leaves", block("To: a@x.test, \"Z, z\" <z@x.test>,\r\n b@x.test"), block("To: a@x.test,\r\n b@x.test"), "a@x.test b@x.test", "", 1},
		{"the last of a list leaves with its folding", block("To: a@x.test\r\n ,\r\n z@x.test"), block("To: a@x.test"), "a@x.test", "", 1},
		{"a field that is empty leaves", block("To: z@x.test", "Cc: a@x.test"), block("Cc: a@x.test"), "a@x.test", "", 1},
		{"nobody named is left: Bcc alone", block("To: z@x.test", "Subject: s"), block("Subject: s", "Bcc: a@x.test"), "a@x.test", "a@x.test", 1},
		{"a member of a group leaves", block("To: Team: a@x.test, z@x.test;, b@x.test"), block("To: Team: a@x.test;, b@x.test"), "a@x.test b@x.test", "", 1},
		{"a group leaves with its last member", block("To: a@x.test, Team: z@x.test;"), block("To: a@x.test"), "a@x.test", "", 1},
		{"an empty group stays", block("To: undisclosed-recipients:;"), block("To: undisclosed-recipients:;", "Bcc: a@x.test"), "a@x.test", "a@x.test", 0},
		{"a group without an end takes in no recipient of the next field", block("Cc: Team:", "Cc: a@x.test"), block("Cc: a@x.test"), "a@x.test", "", 1},
		{"what is no address leaves", block("To: root, a@x.test, \"open <b@x.test>"), block("To: a@x.test", "Bcc: b@x.test"), "a@x.test b@x.test", "b@x.test", 2},
		{"semicolons become commas", block("To: a@x.test; b@x.test"), block("To: a@x.test, b@x.test"), "a@x.test b@x.test", "", 0},
		{"two To fields become one", block("To: a@x.test", "Subject: s", "TO: b@x.test"), block("To: a@x.test,\r\n b@x.test", "Subject: s"), "a@x.test b@x.test", "", 0},
		{"quoted local parts are understood", block(`To: "a,b"@x.test, z@x.test`), block(`To: "a,b"@x.test`), `"a,b"@x.test`, "", 1},
		{"names stay as they were written", block("To: =?iso-8859-1?Q?M=FCller?= <a@x.test>, J\xfcrgen <b@x.test>, z@x.test"),
			block("To: =?iso-8859-1?Q?M=FCller?= <a@x.test>, J\xfcrgen <b@x.test>"), "a@x.test b@x.test", "", 1},
		{"Resent fields stay, Resent-Bcc leaves", block("Resent-To: r@x.test", "Resent-Bcc: s@x.test", "To: a@x.test"), block("Resent-To: r@x.test", "To: a@x.test"), "a@x.test", "", 0},
		{"a recipient twice in the envelope is hidden once", block("Subject: s"), block("Subject: s", "Bcc: a@x.test"), "a@x.test A@X.test", "a@x.test", 0},
		{"Reply-To and From are nobody's recipients", block("From: a@x.test", "Reply-To: a@x.test"), block("From: a@x.test", "Reply-To: a@x.test", "Bcc: a@x.test"), "a@x.test", "a@x.test", 0},
		{"no header at all", block(), block("Bcc: a@x.test"), "a@x.test", "a@x.test", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, hidden, lost, err := ReconcileRecipients(tc.header, addresses(t, strings.Fields(tc.to)...))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, h := range hidden {
				names = append(names, h.String())
			}
			if !bytes.Equal(out, tc.want) || strings.Join(names, " ") != tc.hidden || lost != tc.lost {
				t.Errorf("ReconcileRecipients:\n%q, hidden %q, lost %d; want\n%q, %q, %d", out, names, lost, tc.want, tc.hidden, tc.lost)
			}
			if again, _, _, err := ReconcileRecipients(out, addresses(t, strings.Fields(tc.to)...)); err != nil || !bytes.Equal(again, out) {
				t.Errorf("a second time: %q, %v", again, err)
			}
		})
	}
}

func TestReconcileManyRecipients(t *testing.T) {
	var to, want []string
	for i := range 300 {
		to = append(to, fmt.Sprintf("person%03d@x.test", i))
	}
	want = append(append(want, to[100:]...), "hidden@x.test")
	header := block("From: a@x.test", "To: "+strings.Join(to, ", "), "Cc: z@x.test,\r\n "+strings.Join(to[:50], ",\r\n "))
	out, hidden, lost, err := ReconcileRecipients(header, addresses(t, want...))
	if err != nil || len(hidden) != 1 || lost != 151 {
		t.Fatalf("hidden %v, lost %d, %v", hidden, lost, err)
	}
	golden(t, "reconcile_many.eml", out)
	for line := range strings.SplitSeq(string(out), "\r\n") {
		if len(line) > maxLine {
			t.Errorf("a line of %d octets", len(line))
		}
	}
}

func TestRemoveBcc(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"Bcc leaves with its continuations", "To: a@x\r\nBCC: b@x,\r\n c@x\r\nSubject: s\r\n\r\n", "To: a@x\r\nSubject: s\r\n\r\n"},
		{"Bcc with a blank before the colon leaves", "Bcc : b@x\r\n\r\n", "\r\n"},
		{"Resent-Bcc leaves", "Resent-Bcc: b@x\r\nA: b\r\n\r\n", "A: b\r\n\r\n"},
		{"a line of blanks belongs to the Bcc", "Bcc: b@x,\r\n \r\n c@x\r\n\r\n", "\r\n"},
		{"other fields stay as they are", "X-Bcc: b@x\r\nBccc: c\r\nTo:a,\r\n\tb\r\n\r\n", "X-Bcc: b@x\r\nBccc: c\r\nTo:a,\r\n\tb\r\n\r\n"},
		{"a block that ParseHeader refuses is served too", "junk\nBcc: b@x\nA: b\n", "junk\nA: b\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(RemoveBcc([]byte(tc.in))); got != tc.want {
				t.Errorf("RemoveBcc = %q, want %q", got, tc.want)
			}
		})
	}
}

var bccLine = regexp.MustCompile(`(?im)^(resent-)?bcc[ \t]*:`)

func FuzzReconcile(f *testing.F) {
	for _, s := range hostile {
		f.Add([]byte(s), 3)
	}
	f.Add([]byte("To: x\r\nBcCc:"), 3) // which is no Bcc
	f.Add([]byte("Cc::\r\nCc: =<a@x>\r\n"), 3)
	pool := addresses(f, "a@x", "b@x", "d@x", "e@x", "h@x", "k@x.test", `"a b"@x`)
	f.Fuzz(func(t *testing.T, in []byte, pick int) {
		header, _, err := SplitHeader(bytes.NewReader(in), 0)
		if err != nil {
			return
		}
		var wanted []envelope.Address
		for i, a := range pool {
			if pick>>i&1 == 1 {
				wanted = append(wanted, a)
			}
		}
		out, hidden, _, err := ReconcileRecipients(header, wanted)
		if err != nil {
			t.Fatalf("%v: %q", err, header)
		}
		h, err := ParseHeader(out)
		if err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		if n := len(h.All("Bcc")); n > 1 || (n == 1) != (len(hidden) > 0) || len(h.All("To")) > 1 || len(h.All("Cc")) > 1 {
			t.Fatalf("fields of %q", out)
		}
		if again, _, lost, err := ReconcileRecipients(out, wanted); err != nil || lost != 0 || !bytes.Equal(again, out) {
			t.Fatalf("a second time %q, then %q, lost %d, %v", out, again, lost, err)
		}
		if bccLine.Match(RemoveBcc(out)) {
			t.Fatalf("RemoveBcc left one in %q", out)
		}
		checkRecipients(t, h, wanted)
	})
}

// checkRecipients compares who is named with who was wanted: as we read it, and as net/mail does where it can.
func checkRecipients(t *testing.T, h Header, wanted []envelope.Address) {
	var want, ours, theirs []string
	for _, a := range wanted {
		want = append(want, a.Key())
	}
	readable := true
	for _, name := range []string{"To", "Cc", "Bcc"} {
		for _, f := range h.All(name) {
			for _, e := range f.Addresses().Entries() {
				ours = append(ours, e.Address.Key())
			}
			list, err := mail.ParseAddressList(f.Value())
			readable = readable && err == nil
			for _, a := range list {
				parsed, err := envelope.ParseAddress(quoted(a.Address))
				if err != nil {
					t.Fatalf("net/mail reads %q in %q", a.Address, f.Raw)
				}
				theirs = append(theirs, parsed.Key())
			}
		}
	}
	set := func(s []string) string { slices.Sort(s); return strings.Join(slices.Compact(s), " ") }
	if set(ours) != set(want) || readable && set(theirs) != set(want) {
		t.Fatalf("%q names %q, for net/mail %q; want %q", h.Bytes(), ours, theirs, want)
	}
}

// quoted quotes a local part again: net/mail takes the quotes off.
func quoted(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	return envelope.Address{Local: s[:at], Domain: s[at+1:]}.String()
}

func TestMessageID(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"as written", "Message-ID: <a@b>", "<a@b>"},
		{"folded", "message-id:\r\n <a@b>", "<a@b>"},
		{"a comment after it is no part", "Message-ID: <a@b> (x)", "<a@b>"},
		{"without brackets it is what stands there", "Message-Id: abc", "abc"},
		{"none", "Subject: s", ""},
		{"empty", "Message-ID: ", ""},
		{"brackets alone", "Message-ID: <>", ""},
		{"8-bit", "Message-ID: <\xe4@b>", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, err := ParseHeader(block(tc.in))
			if got := h.MessageID(); got != tc.want || err != nil {
				t.Errorf("MessageID = %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}
