package diagnosis

import (
	"regexp"
	"strings"
	"testing"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// TestRows holds the table to what its readers need.
func TestRows(t *testing.T) {
	known := map[string]bool{"{provider}": true, "{account}": true, "{login}": true, "{mailbox}": true, "{from}": true, "{tenant}": true,
		"{client_id}": true, "{secret}": true, "{certificate}": true, "{credential}": true, "{'login'}": true, "{'from'}": true}
	seen := map[string]bool{}
	for _, r := range All() {
		for _, s := range r.Signs {
			if seen[s] {
				t.Errorf("%s is there twice", s)
			}
			seen[s] = true
			if got, ok := Find(s); !ok || got.Means != r.Means {
				t.Errorf("Find(%q) = %+v, %v", s, got, ok)
			}
		}
		if len(r.Signs) == 0 || r.Means == "" {
			t.Errorf("a row says nothing: %+v", r)
		}
		for _, text := range []string{r.Means, r.Remedy, r.AppOnly} {
			for _, p := range placeholder.FindAllString(text, -1) {
				if !known[p] {
					t.Errorf("%q has the placeholder %s, which nobody fills", text, p)
				}
			}
			if strings.HasSuffix(text, ".") || strings.HasPrefix(text, " ") || strings.Contains(text, "  ") {
				t.Errorf("%q does not chain", text)
			}
		}
	}
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		signs []string
		means string // a part of it; "": nothing is found
	}{
		{"the number before the error", []string{AADSTS(7000222), "invalid_client"}, "client secret has expired"},
		{"the error where nobody knows the number", []string{AADSTS(999999999), "invalid_client"}, "not accepted"},
		{"no number at all", []string{AADSTS(0), "invalid_grant"}, "sign-in is not accepted"},
		{"a Graph code in any case", []string{GraphCode("ErrorQuotaExceeded")}, "full"},
		{"one of a family", []string{GraphCode("ErrorMimeContentInvalidBase64String")}, "MIME"},
		{"a code that nobody knows", []string{GraphCode("Brandnew")}, ""},
		{"nothing", []string{""}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, ok := Find(tc.signs...)
			if ok != (tc.means != "") || !strings.Contains(r.Means, tc.means) {
				t.Errorf("Find(%q) = %q, %v; want %q", tc.signs, r.Means, ok, tc.means)
			}
		})
	}
}

func TestFill(t *testing.T) {
	r := Row{Means: "{login} may not send as {from}", Remedy: "run: X -Identity {'from'}", AppOnly: "{other}"}
	r = r.Fill("login", "a@x.test", "from", "o'b@x.test")
	if r.Means != "a@x.test may not send as o'b@x.test" || r.Remedy != "run: X -Identity 'o''b@x.test'" || r.AppOnly != "{other}" {
		t.Errorf("filled %+v", r)
	}
	if r.For(true) != r.AppOnly || r.For(false) != r.Remedy || (Row{Remedy: "x"}).For(true) != "x" {
		t.Error("For gives the other's remedy")
	}
	// A value that looks like a placeholder is not filled again.
	if got := (Row{Means: "{from}"}).Fill("from", "{login}", "login", "secret").Means; got != "{login}" {
		t.Errorf("a value was filled: %q", got)
	}
}

// The address of a remedy comes from the application.
func TestQuotePowerShell(t *testing.T) {
	for in, want := range map[string]string{
		"o'brien@contoso.test":         `'o''brien@contoso.test'`,
		"a\u2019;calc;\u2018@b.test":   "'a\u2019\u2019;calc;\u2018\u2018@b.test'",
		`"a$(calc)"@contoso.test`:      `'"a$(calc)"@contoso.test'`,
		"plain@contoso.test":           `'plain@contoso.test'`,
		"\u201a\u201b@contoso.test":    "'\u201a\u201a\u201b\u201b@contoso.test'",
		"'; Remove-Mailbox x #@b.test": `'''; Remove-Mailbox x #@b.test'`,
	} {
		if got := quotePowerShell(in); got != want {
			t.Errorf("quotePowerShell(%q) = %s; want %s", in, got, want)
		}
	}
}
