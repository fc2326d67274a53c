package main

import (
	"testing"
	"time"

	"postern/bridge/control"
)

// TestJudge: what health says is worst of a running Postern, and what it tells a person to do.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	up := []control.Transport{{Name: "graph", State: "up"}}
	const grant = "in Exchange Online PowerShell: Add-RecipientPermission -Identity 'sales@contoso.test'"
	for _, tc := range []struct {
		name         string
		h            control.Health
		status       int
		text, remedy string
		line         string // of the first account, in service status
	}{
		{"all is well", control.Health{}, healthOK, "1 account in order, nothing waits", "", "in order, 0 waiting"},
		{"a sender without the right", control.Health{Accounts: []control.Account{{Name: "erp", Transports: up, Waiting: 2,
			Lacks: []control.Lack{{From: "sales@contoso.test", Since: now, Why: "403 ErrorSendAsDenied", Remedy: grant}}}}},
			healthWarning, "account erp may not send as sales@contoso.test: that mail waits, and fails when it is too old", grant, "may not send as sales@contoso.test, 2 waiting"},
		{"failed mail that can be sent again", control.Health{Queue: map[string]int{"failed": 13}, Kept: 2},
			healthWarning, "2 messages failed", "see: postern queue list --state failed; then run: postern queue retry, or queue drop", "in order, 0 waiting"},
		{"failed mail that was dropped, or whose text is gone", control.Health{Queue: map[string]int{"failed": 13}},
			healthOK, "1 account in order, 13 failed", "", "in order, 0 waiting"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.h.Running = true
			if tc.h.Accounts == nil {
				tc.h.Accounts = []control.Account{{Name: "erp", Transports: up}}
			}
			got := judge(tc.h, nil, now)[0]
			if got.Status != tc.status || got.Text != tc.text || got.Remedy != tc.remedy {
				t.Errorf("%+v; want %d %s; %s", got, tc.status, tc.text, tc.remedy)
			}
			if line := accountLine(tc.h.Accounts[0], now); line != tc.line {
				t.Errorf("service status: %q; want %q", line, tc.line)
			}
		})
	}
}
