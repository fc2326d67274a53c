package service

import "testing"

func TestOpenToOthers(t *testing.T) {
	for _, tc := range []struct{ name, sddl, want string }{
		{"what an installation sets", "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;S-1-5-80-1-2-3-4-5)", ""},
		{"what ProgramData hands down", "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)", "(A;OICIID;0x1200a9;;;BU)"},
		{"everyone", "D:(A;OICI;FR;;;WD)", "(A;OICI;FR;;;WD)"},
		{"who is denied is no danger", "D:(D;OICI;FA;;;WD)", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := openToOthers(tc.sddl); got != tc.want {
				t.Errorf("openToOthers(%q) = %q; want %q", tc.sddl, got, tc.want)
			}
		})
	}
}
