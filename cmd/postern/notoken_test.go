package main

import (
	"testing"
	"time"

	"postern/bridge/control"
)

// TestNoToken: a transport that nothing stops but that gets no token is not in order.
func TestNoToken(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	refused := control.Transport{Name: "graph", State: "up", TokenTrouble: "nobody has consented", Remedy: "grant consent"}
	parked := control.Transport{Name: "smtp", State: "parked", Why: "SMTP AUTH is off", Remedy: "switch it on"}
	const noToken, off = "account erp: graph has no token: nobody has consented", "account erp: smtp is parked: SMTP AUTH is off"
	for _, tc := range []struct {
		name       string
		transports []control.Transport
		want       finding
		line       string // of service status
	}{
		{"with a token the account is in order", []control.Transport{{Name: "graph", State: "up"}},
			finding{healthOK, "1 account in order, nothing waiting", ""}, "in order, 0 waiting"},
		{"the only transport has none", []control.Transport{refused},
			finding{healthCritical, noToken, "grant consent"}, "graph has no token: nobody has consented, 0 waiting"},
		{"the other one has", []control.Transport{refused, {Name: "smtp", State: "up"}},
			finding{healthWarning, noToken, "grant consent"}, "graph has no token: nobody has consented, mail goes by the other way, 0 waiting"},
		{"the other one is parked", []control.Transport{refused, parked},
			finding{healthCritical, off, "switch it on"}, "graph has no token: nobody has consented, 0 waiting"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := control.Account{Name: "erp", SignedIn: true, Transports: tc.transports}
			got := judge(control.Health{Running: true, Accounts: []control.Account{a}}, nil, now)
			if len(got) != 1 || got[0].Status != tc.want.Status || got[0].Remedy != tc.want.Remedy ||
				tc.want.Status != healthOK && got[0].Text != tc.want.Text {
				t.Errorf("judge = %+v; want %+v", got, tc.want)
			}
			if line := accountLine(a, now); line != tc.line {
				t.Errorf("service status: %q; want %q", line, tc.line)
			}
		})
	}
}
