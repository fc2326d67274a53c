package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/bridge/control"
)

// TestAUsersRateOutlivesARestart: what is over the rate is taken and waits its turn, and what comes after a restart waits
// behind it.
func TestAUsersRateOutlivesARestart(t *testing.T) {
	text := strings.Replace(worldConfig, "account = \"by-smtp\"\n", "account = \"by-smtp\"\nrate_per_minute = 1\n", 1)
	w := newWorld(t, worldOptions{config: text})
	send := func(n int) {
		t.Helper()
		if err := w.submit("smtp", []string{fmt.Sprintf("c%d@example.test", n)}, invoice); err != nil {
			t.Fatal(err)
		}
	}
	waits := func() (all []time.Duration) {
		t.Helper()
		rows, err := w.b.admin.Load().QueueRows(t.Context(), control.QueueQuery{State: "queued"})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			all = append(all, r.NextAttempt.Sub(r.AcceptedAt).Round(10*time.Second))
		}
		return all
	}
	send(1)
	send(2)
	if got := w.wait(1); len(got) != 1 || got[0].Recipients[0] != "c1@example.test" {
		t.Errorf("arrived: %+v; want the first alone", got)
	}
	if got := fmt.Sprint(waits()); got != "[1m0s]" {
		t.Errorf("the second waits %s; want a minute", got)
	}
	w.stop()
	w.start()
	send(3)
	if got := fmt.Sprint(waits()); got != "[1m0s 2m0s]" {
		t.Errorf("they wait %s; want a minute and two", got)
	}
}
