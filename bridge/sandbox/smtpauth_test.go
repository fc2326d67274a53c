package sandbox

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
)

var auth535 = regexp.MustCompile(`^535 5\.7\.3 Authentication unsuccessful \[SB0P282CA0001\.outlook\.sandbox\.test 2026-11-20T09:30:00\.000Z [0-9A-F]{16}\]$`)

func TestSMTPAuth(t *testing.T) {
	s := start(t, Options{Now: newClock().now})
	smtp := accessFor(t, s, "erp@contoso.test", askSMTP)
	web := appAccess(t, s, outlook365)
	raw := func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) }
	for _, tc := range []struct {
		name, blob string
		want       string // "" is Exchange's plain 535
	}{
		{"the user's own token", blob("erp@contoso.test", smtp), "235 2.7.0 Authentication successful"},
		{"the user in another case", blob("ERP@contoso.test", smtp), "235 "},
		{"an app-only token and a mailbox it has access to", blob("noreply@contoso.test", web), "235 "},
		{"an app-only token and a mailbox it has no access to", blob("sales@contoso.test", web), ""},
		{"a Graph token", blob("erp@contoso.test", accessFor(t, s, "erp@contoso.test", sendScopes)), ""},
		{"another user's name", blob("svc@contoso.test", smtp), ""},
		{"a shared mailbox's name", blob("noreply@contoso.test", accessFor(t, s, "svc@contoso.test", askSMTP)), ""},
		{"an unknown token", blob("erp@contoso.test", "a.b.c"), ""},
		{"an unknown user", blob("nobody@contoso.test", smtp), ""},
		{"one control-A at the end", raw("user=erp@contoso.test\x01auth=Bearer " + smtp + "\x01"), ""},
		{"lower-case bearer", raw("user=erp@contoso.test\x01auth=bearer " + smtp + "\x01\x01"), ""},
		{"a field too many", raw("user=erp@contoso.test\x01auth=Bearer " + smtp + "\x01x=y\x01\x01"), ""},
		{"OAUTHBEARER's form", raw("n,a=erp@contoso.test,\x01auth=Bearer " + smtp + "\x01\x01"), ""},
		{"not base64", "user=erp", "501 5.5.2 "},
		{"base64 without its padding", strings.TrimRight(raw("user=a\x01auth=Bearer b\x01\x01"), "="), "501 5.5.2 "},
		{"a cancelled exchange", "*", "501 5.7.0 "},
	} {
		for _, steps := range []string{"one step", "two steps"} {
			t.Run(tc.name+" in "+steps, func(t *testing.T) {
				c := dialSMTP(t, s)
				c.read()
				c.startTLS()
				var got string
				if steps == "one step" {
					got = c.cmd("AUTH XOAUTH2 " + tc.blob)
				} else {
					if got := c.cmd("auth xoauth2"); got != "334 " {
						t.Fatalf("challenge %q", got)
					}
					got = c.cmd(tc.blob)
				}
				if tc.want == "" && !auth535.MatchString(got) || !strings.HasPrefix(got, tc.want) {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				if strings.HasPrefix(got, "235") {
					c.want("AUTH XOAUTH2", "503 ")
				}
			})
		}
	}
}

func TestSMTPAuthSwitches(t *testing.T) {
	s := start(t, Options{Switches: Switches{SharedUser: true, BareChallenge: true, ErrorChallenge: true}})
	svc := accessFor(t, s, "svc@contoso.test", askSMTP)
	c := dialSMTP(t, s)
	c.read()
	c.startTLS()
	c.want("AUTH LOGIN", "334 VXNlcm5hbWU6")
	c.want("ZXJw", "334 UGFzc3dvcmQ6")
	c.want("ZXJw", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.")
	c.want("AUTH PLAIN", "504 5.7.4 ")
	if got := c.cmd("AUTH XOAUTH2"); got != "334" {
		t.Errorf("challenge %q", got)
	}
	c.want(blob("svc@contoso.test", "a.b.c"), "334 eyJzdGF0dXMiOiI0MDEi")
	c.want("", "535 5.7.3 ")
	for _, off := range []string{"Mailbox", "Tenant"} {
		s.SetMailbox(Mailbox{Address: "svc@contoso.test", SMTPDisabled: off == "Mailbox"})
		s.Switch(func(w *Switches) { w.TenantSMTPOff = off == "Tenant" })
		c.want("AUTH XOAUTH2 "+blob("svc@contoso.test", svc), "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the "+off+".")
	}
	s.Switch(func(w *Switches) { w.TenantSMTPOff = false })
	c.want("AUTH XOAUTH2 "+blob("noreply@contoso.test", svc), "235 ")
	// RBAC for Applications: no role, no mailbox permission, but a grant; and without a grant no role suffices.
	s.SetApp(App{ClientID: ConfidentialClientID, Secret: ConfidentialSecret, RBAC: []string{"sales@contoso.test"}})
	web := appAccess(t, s, outlook365)
	c = dialSMTP(t, s)
	c.read()
	c.startTLS()
	c.want("AUTH XOAUTH2 "+blob("erp@contoso.test", web), "334 ")
	c.want("", "535 5.7.3 ")
	c.want("AUTH XOAUTH2 "+blob("sales@contoso.test", web), "235 ")
}
