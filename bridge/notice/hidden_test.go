package notice

import (
	"strings"
	"testing"

	"postern/bridge/dsn"
	"postern/bridge/envelope"
)

// TestAScenarioBccIsNotDisclosed: the sender never wrote to the archive, and hears nothing of it.
func TestAScenarioBccIsNotDisclosed(t *testing.T) {
	archive, err := envelope.ParseAddress("archive@contoso.test")
	if err != nil {
		t.Fatal(err)
	}
	hidden := []dsn.Recipient{{Address: archive, Action: dsn.Failed}}
	for _, tc := range []struct {
		name, reversePath string
		alone             bool // nobody else's mail failed
		reports           int
		named             bool
	}{
		{"a sender of ours reads of his own recipients alone", "nav@contoso.test", false, 1, false},
		{"a sender of ours reads nothing where only the archive failed", "nav@contoso.test", true, 0, false},
		{"[notify] reads of both", "scanner@printer.local", false, 1, true},
		{"[notify] reads of the archive alone", "scanner@printer.local", true, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOffice(t, "it@elsewhere.test")
			f := failure(t, tc.reversePath)
			if f.Hidden = hidden; tc.alone {
				f.Recipients = nil
			}
			if err := o.Report(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			got := o.mail()
			if len(got) != tc.reports {
				t.Fatalf("%d reports; want %d", len(got), tc.reports)
			}
			if tc.reports > 0 && strings.Contains(string(got[0].Header)+string(got[0].Body), "archive@") != tc.named {
				t.Errorf("the archive is named: %v; want %v", !tc.named, tc.named)
			}
		})
	}
}
