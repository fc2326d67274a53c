package main

import (
	"strings"
	"testing"
	"time"

	"postern/bridge/control"
)

func TestPrintAccounts(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	list := []control.Account{
		{Name: "erp", Mailbox: "erp@contoso.test", SignIn: "delegated", Trouble: "needs sign-in", Remedy: "run: postern signin erp",
			Transports: []control.Transport{{Name: "graph", State: "up", Drafts: "yes"}}, Waiting: 1},
		{Name: "sales", Mailbox: "sales@contoso.test", Login: "svc@contoso.test", SignIn: "delegated", SignedIn: true, Since: now.Add(-26 * time.Hour),
			Transports: []control.Transport{
				{Name: "graph", State: "up", TokenFetched: now.Add(-5 * time.Minute), NextRefresh: now.Add(50 * time.Minute)},
				{Name: "smtp", State: "parked", Until: now.Add(14 * time.Minute),
					Why:    "smarthost refused AUTH: 535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
					Remedy: "run in Exchange Online PowerShell: Set-CASMailbox -Identity svc@contoso.test -SmtpClientAuthenticationDisabled $false"}}},
		{Name: "info", Mailbox: "info@contoso.test", SignIn: "delegated", SignedIn: true, Login: "info@contoso.test", Since: now.Add(-time.Hour),
			Transports: []control.Transport{{Name: "graph", State: "parked", Why: "the mailbox is full", Remedy: "make room in it", Drafts: "not known"}},
			Lacks: []control.Lack{{From: "sales@contoso.test", Since: now.Add(-3 * time.Hour), Why: "554 5.2.252 SendAsDenied; info@contoso.test not allowed to send as sales@contoso.test; " +
				strings.Repeat("255.1750:7A000000, ", 40),
				Remedy: "in Exchange Online PowerShell: Add-RecipientPermission -Identity 'sales@contoso.test'"}}},
		{Name: "old", Mailbox: "old@contoso.test", SignIn: "app-only", SignedIn: true, Uncounted: true},
		{Name: "app", Mailbox: "app@contoso.test", SignIn: "app-only", SignedIn: true, Transports: []control.Transport{{Name: "graph", State: "up"}},
			Expires: []control.Expiry{
				{What: "certificate", At: now.Add(-time.Hour), Near: true, Remedy: "make a new one"},
				{What: "client secret", At: now.Add(12*24*time.Hour + 4*time.Hour), Near: true, Remedy: "create a new one"},
				{What: "client secret", At: now.Add(400 * 24 * time.Hour)},
				{What: "sign-in", At: now.Add(80 * 24 * time.Hour)}}},
	}
	want := `erp  erp@contoso.test
  sign-in  needs sign-in: run postern signin erp
  graph    waits for the sign-in
  waiting  1 message

sales  sales@contoso.test
  sign-in  as svc@contoso.test, 1d2h ago
  graph    up, token 5m old, refreshed in 50m
  smtp     parked, tried again in 14m
           smarthost refused AUTH: 535 5.7.139 Authentication unsuccessful,
           SmtpClientAuthentication is disabled for the Mailbox.
           run in Exchange Online PowerShell: Set-CASMailbox -Identity
           svc@contoso.test -SmtpClientAuthenticationDisabled $false
  waiting  0 messages

info  info@contoso.test
  sign-in  as info@contoso.test, 1h0m ago
  graph    parked
           the mailbox is full
           make room in it
  drafts   not known before the first message
  sender   may not send as sales@contoso.test, found 3h0m ago: that mail waits
           554 5.2.252 SendAsDenied; info@contoso.test not allowed to send as
           sales@contoso.test; 255.1750:7A000000, 255.1750:7A...
           in Exchange Online PowerShell: Add-RecipientPermission -Identity
           'sales@contoso.test'
  waiting  0 messages

old  old@contoso.test
  sign-in  app-only, no person signs in
  waiting  unknown: the queue is damaged; what can be read goes on at the next
           start

app  app@contoso.test
  sign-in  app-only, no person signs in
  graph    up, no token fetched yet
  expires  the certificate ended on 20 November 2026
           make a new one
  expires  client secret in 12d4h, on 2 December 2026
           create a new one
  expires  client secret in 400d0h, on 25 December 2027
  waiting  0 messages
`
	var got strings.Builder
	if err := printAccounts(&got, list, now); err != nil || got.String() != want {
		t.Errorf("printAccounts = %v\n%s\nwant\n%s", err, got.String(), want)
	}
}
