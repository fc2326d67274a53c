package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/event"
	"postern/bridge/queue"
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

// TestTellDamage: what is found while the daemon runs is told with what ends it, until the daemon ends.
func TestTellDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got eventLines
		found := make(chan error)
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- tellDamage(ctx, event.NewBus(&got), found) }()
		found <- fmt.Errorf("%w: malformed", queue.ErrDamaged)
		found <- fmt.Errorf("%w: 06gr2up4o0g0u5fp", sqlite.ErrRefused)
		found <- errors.New("the intake cannot be written")
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		want := eventLines{
			"ERROR queue failed err=its stored copy is damaged: malformed remedy=restart postern: until then mail is refused with 451 and none is sent; what can be read goes on afterwards, and the log names the rest; check the disk",
			"ERROR queue failed err=an accepted message is not one that the queue takes: 06gr2up4o0g0u5fp remedy=look into the file, and hand the message in again",
			"ERROR queue failed err=the intake cannot be written remedy=check the disk of data_dir; what was accepted is safe and goes on when the disk does",
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
	})
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
