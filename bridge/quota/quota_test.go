package quota

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"postern/bridge/event"
)

// notebook is a Store in memory.
type notebook map[string]string

func (n notebook) SetNote(_ context.Context, key, value string) error {
	n[key] = value
	return nil
}

func (n notebook) Notes(context.Context, string) (map[string]string, error) { return n, nil }

// percentages notes the percentages that were told.
type percentages []int64

func (q *percentages) Handle(_ context.Context, e event.Event) {
	if e.Kind != event.AccountNearLimit {
		return
	}
	for _, a := range e.Attrs {
		if a.Key == "percent" {
			*q = append(*q, a.Value.Int64())
		}
	}
}

func TestRecipientsPerDay(t *testing.T) {
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	mailboxes := map[string]Mailbox{
		"erp": {"contoso erp@contoso.test", 100}, "shared": {"contoso erp@contoso.test", 100}, "free": {"contoso free@contoso.test", 0},
		"people/ann@contoso.test": {"contoso ann@contoso.test", 100}, "people/bob@contoso.test": {"contoso bob@contoso.test", 100},
	}
	var told percentages
	bus := event.NewBus(&told)
	start := func() *Counter {
		return New(Options{Events: func() *event.Bus { return bus }, Now: func() time.Time { return now },
			Mailbox: func(account string) (Mailbox, bool) { m, ok := mailboxes[account]; return m, ok }})
	}
	c := start()
	relayed := func(account string, n int) {
		c.Handle(t.Context(), event.Event{Kind: event.MessageRelayed, Attrs: []slog.Attr{slog.String("account", account), slog.Any("recipients", make([]string, n))}})
	}
	want := func(what string, percent ...int64) {
		t.Helper()
		if !slices.Equal([]int64(told), percent) {
			t.Errorf("%s: told %v; want %v", what, told, percent)
		}
		told = nil
	}
	relayed("erp", 79)
	want("below 80 %")
	relayed("shared", 1)
	want("accounts of one mailbox count together", 80)
	relayed("erp", 10)
	want("it is told once")
	relayed("people/ann@contoso.test", 79)
	relayed("people/bob@contoso.test", 79)
	want("each of many mailboxes counts alone")
	relayed("free", 100_000)
	want("0 is no limit")
	relayed("gone", 100)
	want("an account that is not configured")

	notes := notebook{}
	if err := c.save(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	c = start()
	if err := c.Recall(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	relayed("erp", 10)
	want("after a restart", 100)
	now = now.Add(24 * time.Hour)
	relayed("erp", 10)
	want("a day later")
	relayed("erp", 70)
	want("and again", 80)

	c = start()
	for _, text := range []string{"{damaged", "null", `{"contoso erp@contoso.test":null}`} {
		if err := c.Recall(t.Context(), notebook{note: text}); err != nil {
			t.Errorf("Recall of the note %s = %v", text, err)
		}
		relayed("erp", 1)
		want("after the note " + text)
	}
}
