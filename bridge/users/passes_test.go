package users

import (
	"testing"
	"time"
)

func TestPasses(t *testing.T) {
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var p Passes
	erp, scanner := p.Make("erp", noon), p.Make("scanner", noon)
	if erp == scanner || len(erp) < 20 {
		t.Errorf("%q and %q: want two that nobody guesses", erp, scanner)
	}
	for _, tc := range []struct {
		name, user, password string
		after                time.Duration
		ok                   bool
	}{
		{"at once", "erp", erp, 0, true},
		{"again, within the minute, in other case", "ERP", erp, time.Minute - time.Nanosecond, true},
		{"after a minute", "erp", erp, time.Minute, false},
		{"another user's", "erp", scanner, 0, false},
		{"a wrong one", "erp", erp[1:], 0, false},
		{"none", "erp", "", 0, false},
		{"a user who has none", "nobody", erp, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			user, ok := p.User(tc.user, tc.password, noon.Add(tc.after))
			if ok != tc.ok || ok && user != "erp" {
				t.Errorf("User(%q) = %q, %v; want %v", tc.user, user, ok, tc.ok)
			}
		})
	}
	p.Make("erp", noon.Add(time.Minute))
	if len(p.list) != 1 {
		t.Errorf("%d passwords are kept; want the one that is good", len(p.list))
	}
}
