package incident

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"postern/bridge/event"
)

func TestLog(t *testing.T) {
	var l Log
	bus := event.NewBus(&l)
	emit := func(level slog.Level, kind event.Kind, attrs ...slog.Attr) {
		bus.Emit(t.Context(), level, kind, attrs...)
	}
	emit(slog.LevelWarn, event.MessageDeferred, slog.String("err", "later"))
	emit(slog.LevelError, event.MessageFailed, slog.String("queue_id", "q1"), slog.String("err", "a panic\nits stack"), slog.String("reply", "550 no"))
	emit(slog.LevelError, event.AccountParked, slog.String("account", "erp"), slog.String("means", "SMTP AUTH is off"), slog.String("remedy", "switch it on"))
	want := []Incident{
		{Number: event.NumberOf(event.AccountParked), Event: "account parked", Account: "erp", Text: "SMTP AUTH is off", Remedy: "switch it on"},
		{Number: event.NumberOf(event.MessageFailed), Event: "message failed", QueueID: "q1", Text: "a panic"},
	}
	got := l.Latest()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Incident{}, "At")); diff != "" {
		t.Errorf("Latest (-want +got):\n%s", diff)
	}
	for _, i := range got {
		if i.At.IsZero() {
			t.Errorf("%s has no time", i.Event)
		}
	}

	for n := range 2 * atMost {
		emit(slog.LevelError, event.QueueFailed, slog.String("err", fmt.Sprint(n)))
	}
	if got := l.Latest(); len(got) != atMost || got[0].Text != fmt.Sprint(2*atMost-1) || got[atMost-1].Text != fmt.Sprint(atMost) {
		t.Errorf("Latest = %v; want the %d latest", got, atMost)
	}
}
