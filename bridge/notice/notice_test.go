package notice

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/envelope"
)

func TestReportGoesTo(t *testing.T) {
	for _, tc := range []struct {
		name, reversePath, notify string
		change                    func(*Failure, *office)
		to, via                   string // "" where nobody gets one
	}{
		{"the reverse-path in an account's domain", "nav@contoso.test", "it@contoso.test", nil, "nav@contoso.test", "erp"},
		{"the reverse-path in another account's domain", "x@FABRIKAM.test", "", nil, "x@FABRIKAM.test", "erp"},
		{"the reverse-path in default_domain", "root@corp.test", "", nil, "root@corp.test", "erp"},
		{"[notify] where the reverse-path is a stranger's", "scanner@printer.local", "it@contoso.test", nil, "it@contoso.test", "erp"},
		{"nobody where it is a stranger's and there is no [notify]", "scanner@printer.local", "", nil, "", ""},
		{"nobody in a sub-domain of ours", "a@mail.contoso.test", "", nil, "", ""},
		{"nobody for a null reverse-path", "", "it@contoso.test", nil, "", ""},
		{"nobody for automatic mail", "nav@contoso.test", "", func(f *Failure, _ *office) {
			f.Original.Header = []byte("Auto-Submitted: auto-generated\r\n\r\n")
		}, "", ""},
		{"nobody for a report of ours", "nav@contoso.test", "it@contoso.test", func(f *Failure, _ *office) { f.Own = true }, "", ""},
		{"the sender by another account where the message's is down", "nav@contoso.test", "", func(_ *Failure, o *office) { o.up["erp"] = false }, "nav@contoso.test", "hr"},
		{"the sender by the message's own account where none is up", "nav@contoso.test", "", func(_ *Failure, o *office) { o.up = nil }, "nav@contoso.test", "erp"},
		{"the sender as the From of his message, where one account serves every mailbox", "nav@wild.test", "", func(f *Failure, o *office) {
			o.SetPeople(Options{Accounts: []Account{{Name: "all", Mailbox: address(t, "*@wild.test")}}})
			f.Account, f.From = "all", address(t, "boss@wild.test")
		}, "nav@wild.test", "all"},
		{"nobody where such an account has no mailbox to report from", "nav@wild.test", "", func(f *Failure, o *office) {
			o.SetPeople(Options{Accounts: []Account{{Name: "all", Mailbox: address(t, "*@wild.test")}}})
		}, "", ""},
		{"the sender by any account where the message's was removed", "nav@contoso.test", "", func(f *Failure, _ *office) { f.Account = "old" }, "nav@contoso.test", "erp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var notify []string
			if tc.notify != "" {
				notify = append(notify, tc.notify)
			}
			o := newOffice(t, notify...)
			f := failure(t, tc.reversePath)
			if tc.change != nil {
				tc.change(&f, o)
			}
			if err := o.Report(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			got := o.mail()
			if tc.to == "" {
				if len(got) > 0 {
					t.Fatalf("a report went to %s", got[0].To)
				}
				return
			}
			if len(got) != 1 || len(got[0].To) != 1 || got[0].To[0].String() != tc.to || got[0].Account != tc.via {
				t.Fatalf("sent %+v; want one to %s by %s", got, tc.to, tc.via)
			}
			if dsn.Wanted(got[0].From, got[0].Header) {
				t.Error("the report would be answered with a report")
			}
		})
	}
}

func TestAllOfNotifyHearOfAFailure(t *testing.T) {
	for _, tc := range []struct {
		name, reversePath string
		notify            []string
		told              []string // of [notify], by a notice beside the report
	}{
		{"the sender is somebody else", "nav@contoso.test", []string{"it@contoso.test"}, []string{"it@contoso.test"}},
		{"the sender is the only one", "it@contoso.test", []string{"it@contoso.test"}, nil},
		{"the sender is the first of two", "it@contoso.test", []string{"it@contoso.test", "ops@contoso.test"}, []string{"it@contoso.test", "ops@contoso.test"}},
		{"the sender is the second of two", "OPS@contoso.test", []string{"it@contoso.test", "ops@contoso.test"}, []string{"it@contoso.test", "ops@contoso.test"}},
		{"the report went to all of them", "scanner@printer.local", []string{"it@contoso.test", "ops@contoso.test"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, tc.notify...)
				work(t, o)
				if err := o.Report(t.Context(), failure(t, tc.reversePath)); err != nil {
					t.Fatal(err)
				}
				if got := o.mail(); len(got) != 1 {
					t.Fatalf("%d reports; want 1", len(got))
				}
				time.Sleep(time.Hour)
				var told []string
				for _, m := range o.mail() {
					for _, a := range m.To {
						told = append(told, a.String())
					}
				}
				if !slices.Equal(told, tc.told) {
					t.Errorf("the notice went to %q; want %q", told, tc.told)
				}
			})
		})
	}
}

// TestNotifyHearsOfTheFailuresInADelayNotice: nobody tells of them again when the message ends.
func TestNotifyHearsOfTheFailuresInADelayNotice(t *testing.T) {
	late := dsn.Recipient{Address: address(t, "slow@example.test"), Action: dsn.Delayed}
	failed := failure(t, "").Recipients
	for _, tc := range []struct {
		name               string
		recipients, hidden []dsn.Recipient
		want               []string
	}{
		{"that only tells of a delay", []dsn.Recipient{late}, nil, nil},
		{"that tells of a failure too", append(slices.Clone(failed), late), nil, []string{"customer@example.test"}},
		{"that keeps a failure from the sender", []dsn.Recipient{late}, failed, []string{"customer@example.test"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				work(t, o)
				f := failure(t, "nav@contoso.test")
				f.Late, f.Recipients, f.Hidden = true, tc.recipients, tc.hidden
				for range 2 {
					if err := o.Report(t.Context(), f); err != nil {
						t.Fatal(err)
					}
				}
				if got := o.mail(); len(got) != 1 {
					t.Errorf("%d delay notices; want 1", len(got))
				}
				time.Sleep(time.Hour)
				got := o.mail()
				if len(got) != len(tc.want) {
					t.Fatalf("%d notices; want %d", len(got), len(tc.want))
				}
				for i, want := range tc.want {
					if text := string(got[i].Body); !strings.Contains(text, want) || strings.Contains(text, "slow@") {
						t.Errorf("the notice lacks %s, or names who is late:\n%s", want, text)
					}
				}
			})
		})
	}
}

func TestReportIsMadeOnce(t *testing.T) {
	o := newOffice(t)
	f := failure(t, "nav@contoso.test")
	for range 3 {
		if err := o.Report(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.mail(); len(got) != 1 {
		t.Errorf("%d reports; want 1", len(got))
	}
	if _, err := envelope.ParseID(string(reportID(f.Original.ID, "failed", f.Since))); err != nil {
		t.Error(err)
	}
	late := f
	late.Late = true
	again := f
	again.Since = f.Since.Add(time.Hour) // failed again after a retry
	for _, other := range []Failure{late, again} {
		if err := o.Report(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.mail(); len(got) != 2 || got[0].ID == got[1].ID {
		t.Errorf("%d more reports; want a delay notice and one for the second failure", len(got))
	}
	o.fail = errors.New("the disk is full")
	if err := o.Report(t.Context(), failure(t, "other@contoso.test")); err == nil {
		t.Error("Report = nil although nothing was kept; the queue would never ask again")
	}
}
