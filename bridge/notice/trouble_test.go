package notice

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/event"
)

func TestParkedAccountIsToldOnceAndWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.up["erp"] = false
		const what = "account erp is parked on graph: its mail waits, and nothing of it is lost"
		for range 5 {
			o.happen(event.AccountParked, slog.LevelError, parkedERP...)
			time.Sleep(20 * time.Minute)
		}
		got := wantSubjects(t, o, what)
		if len(got) == 1 && (got[0].Account != "hr" || !strings.Contains(string(got[0].Body), "postern signin erp")) {
			t.Errorf("the notice went by %s:\n%s", got[0].Account, got[0].Body)
		}
		o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: "+what)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, what)
	})
}

// TestParkedSenderIsToldOnceAndWhenItIsOver: also over a restart, and an account that goes on ends nothing of it.
func TestParkedSenderIsToldOnceAndWhenItIsOver(t *testing.T) {
	pair := func(from string) []slog.Attr {
		return []slog.Attr{slog.String("account", "erp"), slog.String("header_from", from), slog.String("transport", "graph"),
			slog.String("reply", "403 ErrorSendAsDenied"), slog.String("remedy", "Add-RecipientPermission -Identity '"+from+"'")}
	}
	const what = "account erp may not send as sales@contoso.test: that mail waits, and fails when it is too old"
	for _, tc := range []struct {
		name string
		kind event.Kind
		over []slog.Attr
	}{
		{"the queue says that it is over", event.SenderResumed, pair("sales@contoso.test")[:2]},
		{"a message goes through, and nobody lived to say more", event.MessageRelayed, pair("sales@contoso.test")[:3]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "it@contoso.test")
				stop := work(t, o)
				o.happen(event.SenderParked, slog.LevelError, pair("sales@contoso.test")...)
				time.Sleep(time.Hour)
				got := wantSubjects(t, o, what)
				if len(got) == 1 && !strings.Contains(string(got[0].Body), "Add-RecipientPermission -Identity 'sales@contoso.test'") {
					t.Errorf("the notice has no remedy:\n%s", got[0].Body)
				}
				stop()
				o.start(t, []string{"it@contoso.test"})
				work(t, o)
				o.happen(event.SenderParked, slog.LevelError, pair("sales@contoso.test")...)
				o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
				o.happen(event.MessageRelayed, slog.LevelInfo, pair("erp@contoso.test")[:3]...)
				o.happen(event.SenderResumed, slog.LevelInfo, pair("hr@contoso.test")[:2]...)
				o.SetPeople(o.o)
				time.Sleep(time.Hour)
				wantSubjects(t, o)
				o.happen(tc.kind, slog.LevelInfo, tc.over...)
				time.Sleep(time.Hour)
				wantSubjects(t, o, "over: "+what)
			})
		})
	}
}

func TestDeadSignInIsOneTroubleForRefreshAndMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.happen(event.TokenFailed, slog.LevelError, slog.String("account", "erp,nav"), slog.String("resource", "graph"), slog.String("err", "invalid_grant"))
		o.happen(event.TokenFailed, slog.LevelWarn, slog.String("account", "hr"), slog.String("resource", "graph"))
		time.Sleep(time.Hour)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "account erp, nav is parked on graph: its mail waits, and nothing of it is lost")
		o.happen(event.AccountSignedIn, slog.LevelInfo, slog.String("account", "erp,nav"))
		o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
		time.Sleep(time.Hour)
		wantSubjects(t, o, "over: account erp, nav is parked on graph: its mail waits, and nothing of it is lost")
	})
}

func TestTroubleThatNobodyCouldBeToldOfIsForgottenWhenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "it@contoso.test")
		work(t, o)
		o.setUp(nil)
		o.happen(event.AccountParked, slog.LevelError, parkedERP...)
		time.Sleep(3 * time.Hour)
		o.happen(event.AccountResumed, slog.LevelInfo, onERP...)
		o.setUp(map[string]bool{"erp": true})
		time.Sleep(time.Hour)
		wantSubjects(t, o)
	})
}

// TestConfigurationEndsATrouble: no message and no sign-in tells of it, because nothing is tried any more.
func TestConfigurationEndsATrouble(t *testing.T) {
	missing := func(name string) []slog.Attr {
		return []slog.Attr{slog.String("account", name), slog.String("err", "the configuration has no such account")}
	}
	on := func(name, transport string) []slog.Attr {
		return []slog.Attr{slog.String("account", name), slog.String("transport", transport)}
	}
	account := func(name string, transports ...string) Account {
		return Account{Name: name, Mailbox: address(t, "x@contoso.test"), Transports: transports}
	}
	for _, tc := range []struct {
		name    string
		kind    event.Kind
		trouble []slog.Attr
		then    []Account
		over    bool
	}{
		{"the account that was missing is back", event.AccountParked, missing("old"), []Account{account("erp", "graph"), account("old", "smtp")}, true},
		{"the account is missing still", event.AccountParked, missing("old"), []Account{account("erp", "graph")}, false},
		{"that of the domain is back", event.AccountParked, missing("people/ann@contoso.test"), []Account{account("people", "graph")}, true},
		{"the account goes without the transport", event.AccountParked, on("erp", "smtp"), []Account{account("erp", "graph")}, true},
		{"the account goes by the transport still", event.AccountParked, on("erp", "smtp"), []Account{account("erp", "graph", "smtp")}, false},
		{"a mailbox of the domain goes by it still", event.AccountParked, on("people/ann@contoso.test", "smtp"), []Account{account("people", "smtp")}, false},
		{"the account is gone, and its trouble may come back with it", event.AccountParked, on("erp", "smtp"), []Account{account("hr", "graph")}, false},
		{"one of those who share the token goes by it still", event.TokenFailed, []slog.Attr{slog.String("account", "erp,nav"), slog.String("resource", "smtp")},
			[]Account{account("erp", "graph"), account("nav", "smtp")}, false},
		{"a token for any transport is no missing account", event.TokenFailed, []slog.Attr{slog.String("account", "erp")}, []Account{account("erp", "graph")}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, how := range []string{"reload", "restart"} {
				t.Run("by a "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := newOffice(t, "it@contoso.test")
						stop := work(t, o)
						o.happen(tc.kind, slog.LevelError, tc.trouble...)
						time.Sleep(time.Hour)
						if got := o.mail(); len(got) != 1 {
							t.Fatalf("%d notices of the trouble; want 1", len(got))
						}
						people := Options{Notify: o.o.Notify, Accounts: append(tc.then, account("up"))}
						o.setUp(map[string]bool{"up": true})
						if how == "restart" {
							stop()
							o.start(t, []string{"it@contoso.test"})
						}
						o.SetPeople(people)
						if how == "restart" {
							work(t, o)
						}
						time.Sleep(time.Hour)
						if over := strings.HasPrefix(strings.Join(subjects(o.mail()), "\n"), "over: "); over != tc.over {
							t.Errorf("told that it is over: %v; want %v", over, tc.over)
						}
						o.happen(tc.kind, slog.LevelError, tc.trouble...)
						time.Sleep(time.Hour)
						if again := len(o.mail()) == 1; again != tc.over {
							t.Errorf("told again: %v; want %v", again, tc.over)
						}
					})
				})
			}
		})
	}
}
