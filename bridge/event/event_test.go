package event

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// recorder keeps what it was handed.
type recorder struct {
	name string
	log  *[]string
	last Event
}

func (r *recorder) Handle(_ context.Context, e Event) {
	*r.log = append(*r.log, r.name+" "+string(e.Kind))
	r.last = e
}

func TestBusHandsEachEventToEverySinkInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		a, b := &recorder{name: "a", log: &log}, &recorder{name: "b", log: &log}
		bus := NewBus(a, b)
		time.Sleep(time.Hour) // of the bubble's clock
		bus.Emit(t.Context(), slog.LevelWarn, MessageRefused, slog.String("user", "nav"))
		bus.Emit(t.Context(), slog.LevelInfo, MessageAccepted)
		want := []string{"a message refused", "b message refused", "a message accepted", "b message accepted"}
		for i := range want {
			if len(log) != len(want) || log[i] != want[i] {
				t.Fatalf("order %q, want %q", log, want)
			}
		}
		if !a.last.At.Equal(time.Now()) || a.last.Level != slog.LevelInfo || len(a.last.Attrs) != 0 {
			t.Errorf("event %+v", a.last)
		}
	})
}

func TestNobodyListens(t *testing.T) {
	var none *Bus
	none.Emit(t.Context(), slog.LevelInfo, MessageAccepted)
	(&Bus{}).Emit(t.Context(), slog.LevelInfo, MessageAccepted)
	NewBus().Emit(t.Context(), slog.LevelInfo, MessageAccepted)
}
