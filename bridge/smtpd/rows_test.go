package smtpd

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// rows are those of the tables that say what go-smtp v0.25.0 does wrong: reliability.md section 2 (G) and libraries.md
// table 1.1 (S). A row that is added there is added here.
func rows() []string {
	list := []string{"ok"}
	for i := range 17 {
		list = append(list, fmt.Sprint("G", i+1))
	}
	for i := range 20 {
		list = append(list, fmt.Sprint("S", i+1))
	}
	return list
}

// right are the rows that say what the library does well, or what is only noted: ours must not do worse.
var right = []string{"ok", "S19", "S20"}

// elsewhere are the tests of the rows that no dialogue with a listener shows: bare is the run that finds the library
// guilty, and guarded the one of ours.
var elsewhere = map[string]struct{ bare, guarded [2]string }{
	"G11": {[2]string{"../transport/smarthost/bare_test.go", `t.Run("G11: `}, [2]string{"../transport/smarthost/send_test.go", "func TestAddressesThatCannotGo("}},
	"G12": {[2]string{"../transport/smarthost/bare_test.go", `t.Run("G12: `}, [2]string{"../ends_test.go", "func TestNoEndOfDataSplitsAMessage("}},
	"G13": {[2]string{"../transport/smarthost/bare_test.go", `t.Run("G13: `}, [2]string{"../transport/smarthost/fault_test.go", "func TestRefusedTokens("}},
	"G17": {[2]string{"../transport/smarthost/bare_test.go", `t.Run("G17: `}, [2]string{"../transport/smarthost/fault_test.go", "func TestEveryStepsFaults("}},
	"S15": {[2]string{"bare_test.go", "func TestAPanicInLogoutEndsTheProcessOfTheBareLibrary("}, [2]string{"rows_test.go", "func TestLogoutTouchesNothing("}},
	"S17": {[2]string{"bare_test.go", "func TestDebugOfTheBareLibraryPrintsPasswords("}, [2]string{"guard_test.go", "func TestTheLibraryHasNoLimitOfItsOwn("}},
}

// TestEveryRowHasItsTest: each row has a dialogue that runs twice, at the bare library, which must fail it, and at ours
// (probes), or two tests elsewhere.
func TestEveryRowHasItsTest(t *testing.T) {
	guilty, both := map[string]bool{}, map[string]bool{}
	for _, p := range probes {
		for _, row := range strings.Fields(p.row) {
			if !strings.HasPrefix(p.row, "N") && !slices.Contains(rows(), row) {
				t.Errorf("the probe %q is of a row that no table has: %s", p.name, row)
			}
			both[row] = true
			guilty[row] = guilty[row] || !p.harmless
		}
	}
	for _, row := range rows() {
		at, other := elsewhere[row]
		switch {
		case other:
			for _, place := range [][2]string{at.bare, at.guarded} {
				if b, err := os.ReadFile(place[0]); err != nil || !strings.Contains(string(b), place[1]) {
					t.Errorf("row %s: %s has no %s (%v)", row, place[0], place[1], err)
				}
			}
		case slices.Contains(right, row) && !both[row], !slices.Contains(right, row) && !guilty[row]:
			t.Errorf("row %s has no test that the bare library fails", row)
		}
	}
}

// S15: the library calls it outside of any recover, also for a session that has come to nothing.
func TestLogoutTouchesNothing(t *testing.T) {
	if err := (*session)(nil).Logout(); err != nil {
		t.Errorf("Logout = %v", err)
	}
}
