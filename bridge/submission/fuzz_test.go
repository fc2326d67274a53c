package submission

import (
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"postern/bridge/message"
)

// FuzzGlob holds the matcher equal to the regular expression that says the same.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"*@c.test", "a@c.test"}, {"Invoice *", "invoice 4711"}, {"a*b*c", "abbc"}, {"?", "\u00e4"}, {"**?", ""}, {"\u212a*", "k"}, {"*a*a*a*a*b", strings.Repeat("a", 50)}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 200 || len(text) > 2000 {
			return
		}
		quoted := regexp.QuoteMeta(fold(pattern))
		re, err := regexp.Compile("(?s)^" + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(quoted) + "$")
		if err != nil {
			return
		}
		if got, want := newGlob(pattern).match(text), re.MatchString(fold(text)); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// FuzzSpoof holds that what leaves has one From, and that net/mail, where it can read it, sees the one that was planned
// and that the user may send as.
func FuzzSpoof(f *testing.F) {
	files, err := filepath.Glob("testdata/spoof/*.eml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		eml, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(eml))
	}
	f.Fuzz(func(t *testing.T, eml string) {
		for _, otherwise := range []Otherwise{Refuse, UseAccount} {
			q := &queue{}
			d := newDesk(t, q, User{MaySendAs: []string{"erp@c.test", "*@own.test"}, Sender: &Sender{Otherwise: otherwise}})
			if _, err := d.Submit(t.Context(), session, envelopeTo(t, "to@d.test"), strings.NewReader(strings.ReplaceAll(eml, "\n", "\r\n"))); err != nil {
				continue
			}
			m := q.messages[0]
			final, err := message.Apply(m.Header, m.Plan.Edits)
			if err != nil {
				t.Fatal(err)
			}
			read, err := mail.ReadMessage(strings.NewReader(string(final)))
			if err != nil {
				continue // a field name that net/mail refuses
			}
			if n := len(read.Header["From"]); n != 1 {
				t.Fatalf("%d From fields leave:\n%q", n, final)
			}
			list, err := read.Header.AddressList("From")
			if err != nil {
				continue // a charset that it lacks
			}
			if len(list) != 1 || !maySpoof(list[0].Address) || !strings.EqualFold(list[0].Address, m.Plan.HeaderFrom.Wire()) {
				t.Errorf("From %q leaves, planned is %q", read.Header.Get("From"), m.Plan.HeaderFrom.Wire())
			}
		}
	})
}
