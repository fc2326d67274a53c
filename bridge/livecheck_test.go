package bridge

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/event"
	"postern/bridge/sandbox"
)

// liveConfig has every kind of account: a public app, a confidential one, an app-only account and an auto one.
const liveConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"

[[listener]]
address = "127.0.0.1:0"

{PROVIDER}
{CONFIDENTIAL}
[[account]]
name = "person"
provider = "contoso"
mailbox = "erp@contoso.test"
transport = "auto"
default = true

[[account]]
name = "app"
provider = "service"
mailbox = "svc@contoso.test"
signin = "app-only"
transport = "graph"

[[user]]
name = "nav"
password = '{HASH}'
account = "person"
sender = { mode = "send-as", address = "noreply@contoso.test" }

[[user]]
name = "behalf"
password = '{HASH}'
account = "person"
sender = { mode = "on-behalf", address = "buyer@contoso.test" }

[[user]]
name = "denied"
password = '{HASH}'
account = "app"
sender = { mode = "send-as", address = "sales@contoso.test" }
`

// lines gives a check's result as "state subject: text; remedy".
func lines(list []control.Check) []string {
	var all []string
	for _, l := range list {
		s := l.State + " " + l.Subject + ": " + l.Text
		if l.Remedy != "" {
			s += "; " + l.Remedy
		}
		all = append(all, s)
	}
	return all
}

// wantLines compares each line with one that holds parts separated by "...".
func wantLines(t *testing.T, got []control.Check, want ...string) {
	t.Helper()
	text := lines(got)
	if len(text) != len(want) {
		t.Fatalf("%d lines; want %d:\n%s", len(text), len(want), strings.Join(text, "\n"))
	}
	for i := range want {
		rest, ok := text[i], true
		for _, part := range strings.Split(want[i], "...") {
			var found bool
			_, rest, found = strings.Cut(rest, part)
			ok = ok && found
		}
		if !ok {
			t.Errorf("line %d: %s\nwant: %s", i+1, text[i], want[i])
		}
	}
}

func liveWorld(t *testing.T, prepare func(*world)) *world {
	return newWorld(t, worldOptions{config: liveConfig, unsigned: true, prepare: func(w *world) {
		b, err := os.ReadFile(w.file)
		if err != nil {
			t.Fatal(err)
		}
		// Both provider tables were made with one name.
		text := string(b)
		at := strings.LastIndex(text, `name = "contoso"`)
		text = text[:at] + `name = "service"` + text[at+len(`name = "contoso"`):]
		if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if prepare != nil {
			prepare(w)
		}
	}})
}

func (w *world) check(sendTo string) []control.Check {
	w.t.Helper()
	list, err := w.b.admin.Load().CheckLive(w.t.Context(), sendTo)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

const (
	reachWarning = "yellow provider service, reach: the app has Mail.Send, and may send as EVERY mailbox...Test-ApplicationAccessPolicy -AppId 66666666-..."
	clockRight   = "clock: this machine's clock is right"
)

func TestLiveCheck(t *testing.T) {
	w := liveWorld(t, nil)
	wantLines(t, w.check(""),
		"green provider contoso: tenant and client_id are right", "green provider contoso, "+clockRight,
		"green provider service: tenant, client_id and client secret are right", reachWarning, "green provider service, "+clockRight,
		"red account person, graph: needs sign-in; run: postern signin person",
		"red account person, smtp: needs sign-in; run: postern signin person",
		"green account app, graph: Microsoft Graph takes mail for svc@contoso.test")

	if _, err := w.b.SignIn(t.Context(), "person", w.box.RefreshToken("erp@contoso.test")); err != nil {
		t.Fatal(err)
	}
	wantLines(t, w.check("")[5:],
		"green account person, graph: Microsoft Graph takes mail for erp@contoso.test",
		"green account person, smtp: the smarthost lets erp@contoso.test in",
		"green account app, graph: Microsoft Graph takes mail for svc@contoso.test")
	if n := len(w.box.Received()); n != 0 {
		t.Errorf("%d messages were sent; want none", n)
	}

	wantLines(t, w.check("it@example.test")[5:],
		"green account person, graph: Microsoft Graph takes mail",
		"green account person, graph, as erp@contoso.test: sent to it@example.test: 202",
		"green account person, graph, as noreply@contoso.test: sent",
		"green account person, graph, as buyer@contoso.test: sent",
		"green account person, smtp: the smarthost lets",
		"green account person, smtp, as erp@contoso.test: sent to it@example.test: 250",
		"green account person, smtp, as noreply@contoso.test: sent",
		"green account person, smtp, as buyer@contoso.test: sent",
		"green account app, graph: Microsoft Graph takes mail",
		"green account app, graph, as svc@contoso.test: sent",
		"red account app, graph, as sales@contoso.test: svc@contoso.test may not send as sales@contoso.test (403...Add-RecipientPermission -Identity 'sales@contoso.test' -Trustee 'svc@contoso.test'")
	for _, r := range w.wait(7) {
		if !slices.Equal(r.Recipients, []string{"it@example.test"}) || !strings.Contains(string(r.Raw), "postern check --live --send-to") {
			t.Errorf("it sent to %v:\n%s", r.Recipients, r.Raw)
		}
		if r.From == "buyer@contoso.test" && r.Sender != "erp@contoso.test" {
			t.Errorf("on behalf of %s by %q", r.From, r.Sender)
		}
	}
	if _, err := w.b.admin.Load().CheckLive(t.Context(), "nobody"); err == nil {
		t.Error("an address without a domain was taken")
	}
}

// TestLiveCheckFindsTrouble: each thing that can be wrong is one line that says what to do.
func TestLiveCheckFindsTrouble(t *testing.T) {
	signIn := func(w *world) {
		if _, err := w.b.SignIn(t.Context(), "person", w.box.RefreshToken("erp@contoso.test")); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(w *world, old, new string) {
		b, err := os.ReadFile(w.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.file, []byte(strings.Replace(string(b), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name    string
		prepare func(*world)
		trouble func(*world)
		want    []string // lines that must be there
	}{
		{"the client secret has expired", nil, func(w *world) {
			app := sandbox.DefaultApps()[1]
			app.SecretExpired = true
			w.box.SetApp(app)
		}, []string{"red provider service: the client secret has expired (AADSTS7000222); create a new one under Certificates & secrets"}},
		{"the tenant is mistyped", func(w *world) { edit(w, `tenant = "contoso.onmicrosoft.com"`, `tenant = "contosso.onmicrosoft.com"`) }, nil,
			[]string{"red provider contoso: the tenant contosso.onmicrosoft.com does not exist in this cloud (AADSTS90002); check tenant and cloud"}},
		{"the client id is another's", func(w *world) {
			edit(w, `client_id = "11111111-2222-3333-4444-555555555555"`, `client_id = "99999999-2222-3333-4444-555555555555"`)
		}, nil, []string{"red provider contoso: the tenant contoso.onmicrosoft.com does not know the app 99999999-2222-3333-4444-555555555555 (AADSTS700016)"}},
		{"SMTP AUTH is off for the mailbox, and Graph works", nil, func(w *world) {
			signIn(w)
			m := sandbox.DefaultMailboxes()[0]
			m.SMTPDisabled = true
			w.box.SetMailbox(m)
		}, []string{"green account person, graph: Microsoft Graph takes mail",
			"yellow account person, smtp: SMTP AUTH is switched off for the mailbox erp@contoso.test (535...mail goes by graph; run in Exchange Online PowerShell: Set-CASMailbox -Identity 'erp@contoso.test'"}},
		{"the person's sessions were ended", nil, func(w *world) {
			signIn(w)
			w.box.Revoke("erp@contoso.test")
			w.box.ExpireAccessTokens()
		}, []string{"red account person, graph: ...revoked...AADSTS50173...run: postern signin person",
			"red account person, smtp: ...revoked...run: postern signin person"}},
		{"the app may not use the mailbox", nil, func(w *world) {
			app := sandbox.DefaultApps()[1]
			app.RestrictTo = []string{"noreply@contoso.test"}
			w.box.SetApp(app)
		}, []string{"red account app, graph: the app may not use this mailbox (403 ErrorAccessDenied...; grant the application permission Mail.Send...include svc@contoso.test"}},
		{"the app has no permission for the whole tenant", nil, func(w *world) {
			app := sandbox.DefaultApps()[1]
			app.Roles = nil
			w.box.SetApp(app)
		}, []string{"green provider service, reach: the app has no Mail.Send for the whole tenant"}},
		{"nothing answers", nil, func(w *world) { w.box.Close() },
			[]string{"red provider contoso: the token endpoint cannot be reached", "red account app, graph: "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := liveWorld(t, tc.prepare)
			if tc.trouble != nil {
				tc.trouble(w)
			}
			got := lines(w.check(""))
			for _, want := range tc.want {
				if !slices.ContainsFunc(got, func(line string) bool {
					for _, part := range strings.Split(want, "...") {
						var ok bool
						if _, line, ok = strings.Cut(line, part); !ok {
							return false
						}
					}
					return true
				}) {
					t.Errorf("no line %q in\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	}
}

// TestGreenCheckUnparks: mail that waited for a person goes on after a green check, without another sign-in.
func TestGreenCheckUnparks(t *testing.T) {
	w := newWorld(t, worldOptions{})
	off := sandbox.DefaultMailboxes()[1]
	off.SMTPDisabled = true
	w.box.SetMailbox(off)
	if err := w.submit("smtp", []string{"customer@example.test"}, invoice); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.AccountParked, 1); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	list, err := w.b.Accounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s := list[1].Transports[0]; s.State != "parked" || !strings.HasPrefix(s.Why, "SMTP AUTH is switched off for the mailbox svc@contoso.test (535 ") {
		t.Errorf("accounts say %+v; want parked, with what it means", s)
	}
	w.check("")
	if n := len(w.box.Received()); n != 0 {
		t.Fatalf("a red check sent the mail")
	}
	off.SMTPDisabled = false
	w.box.SetMailbox(off)
	w.check("")
	w.wait(1)
}

// TestLiveCheckOnAStoppedDaemon opens data_dir itself.
func TestLiveCheckOnAStoppedDaemon(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	svc, done, err := Admin(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	list, err := svc.CheckLive(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, list, "green provider contoso: tenant and client_id are right", "green provider contoso, "+clockRight,
		"green account by-graph, graph: ", "green account by-smtp, smtp: ")
}
