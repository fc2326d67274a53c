package bridge

import "testing"

func TestMayDraft(t *testing.T) {
	for _, tc := range []struct {
		name   string
		scopes []string
		want   bool
	}{
		{"with the resource before it", []string{"https://graph.microsoft.com/Mail.Send", "https://graph.microsoft.com/Mail.ReadWrite"}, true},
		{"without it, in another case", []string{"mail.readwrite"}, true},
		{"another's mailboxes are not ours", []string{"Mail.ReadWrite.Shared", "Mail.Send"}, false},
		{"nobody has said yet", nil, true},
	} {
		if got := mayDraft(tc.scopes); got != tc.want {
			t.Errorf("%s: %v; want %v", tc.name, got, tc.want)
		}
	}
}

// TestAccountsSaysWhetherDraftsAreInUse: one account for each setting.
func TestAccountsSaysWhetherDraftsAreInUse(t *testing.T) {
	w := newWorld(t, worldOptions{config: exactConfig})
	list, err := w.b.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, a := range list {
		for _, tr := range a.Transports {
			got[a.Name+" "+tr.Name] = tr.Drafts
		}
	}
	for name, want := range map[string]string{"smtp smtp": "", "mime graph": "no", "drafts graph": "yes", "auto graph": "yes", "auto smtp": ""} {
		if got[name] != want {
			t.Errorf("%s: drafts %q; want %q", name, got[name], want)
		}
	}
}
