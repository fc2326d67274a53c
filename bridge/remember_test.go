package bridge

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/event"
	"postern/bridge/queue/sqlite"
)

// eventLines keeps events as text.
type eventLines []string

func (l *eventLines) Handle(_ context.Context, e event.Event) {
	text := []string{e.Level.String(), string(e.Kind)}
	for _, a := range e.Attrs {
		text = append(text, a.String())
	}
	*l = append(*l, strings.Join(text, " "))
}

// TestTellDamage: damage that is found while the daemon runs is told with what ends it.
func TestTellDamage(t *testing.T) {
	var got eventLines
	found := make(chan error, 1)
	found <- errors.New("malformed")
	if err := tellDamage(t.Context(), event.NewBus(&got), found); err != nil {
		t.Error(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := tellDamage(ended, event.NewBus(&got), found); err != nil {
		t.Error(err)
	}
	want := eventLines{"ERROR queue failed err=malformed remedy=restart postern: what can be read goes on, and the log names the rest; check the disk"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

// TestTellSalvage: a person learns of each message that is not whole, and what can be done about it.
func TestTellSalvage(t *testing.T) {
	var got eventLines
	tellSalvage(t.Context(), event.NewBus(&got), nil)
	tellSalvage(t.Context(), event.NewBus(&got), &sqlite.Salvage{Why: errors.New("malformed"), Aside: "queue.db.damaged-1", Saved: 40,
		Held: []sqlite.Loss{{Number: 7, ID: "06gr2up4o0g0u5fp", User: "nav", Account: "erp", Err: errors.New("it may have had more recipients")}},
		Lost: []sqlite.Loss{{Number: 8, Err: errors.New("its row cannot be read")}}})
	want := eventLines{
		"ERROR queue salvaged saved=40 held=1 lost=1 file=queue.db.damaged-1 err=malformed " +
			"remedy=check the disk; the damaged file is kept beside the queue, delete it when it is not needed",
		"ERROR queue failed queue_id=06gr2up4o0g0u5fp number=7 user=nav account=erp state=held err=it may have had more recipients " +
			"remedy=see what is left of it: postern queue show 06gr2up4o0g0u5fp; then release it, or drop it",
		"ERROR queue failed queue_id= number=8 user= account= state=lost err=its row cannot be read remedy=its sender has to send it again",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}
