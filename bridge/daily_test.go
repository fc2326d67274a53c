package bridge

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/event"
)

// notebook is a noteStore in memory.
type notebook map[string]string

func (n notebook) SetNote(_ context.Context, key, value string) error {
	n[key] = value
	return nil
}

func (n notebook) Notes(context.Context, string) (map[string]string, error) { return n, nil }

// quotaLog notes the percentages that were told.
type quotaLog []int64

func (q *quotaLog) Handle(_ context.Context, e event.Event) {
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
	cfg := &config.Config{Accounts: []config.Account{
		{Name: "erp", Provider: "contoso", Login: "erp@contoso.test", RecipientsPerDay: 100},
		{Name: "shared", Provider: "contoso", Login: "ERP@contoso.test", RecipientsPerDay: 100},
		{Name: "people", Provider: "contoso", SignIn: "app-only", Mailbox: "*@contoso.test", RecipientsPerDay: 100},
		{Name: "free", Provider: "contoso", Login: "free@contoso.test"},
	}}
	var told quotaLog
	bus := event.NewBus(&told)
	start := func() *dayCounts {
		return &dayCounts{live: func() *config.Config { return cfg }, events: func() *event.Bus { return bus }, now: func() time.Time { return now }}
	}
	d := start()
	relayed := func(account string, n int) {
		d.Handle(t.Context(), event.Event{Kind: event.MessageRelayed, Attrs: []slog.Attr{slog.String("account", account), slog.Any("recipients", make([]string, n))}})
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
	if err := d.save(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	d = start()
	if err := d.recall(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	relayed("erp", 10)
	want("after a restart", 100)
	now = now.Add(24 * time.Hour)
	relayed("erp", 10)
	want("a day later")
	relayed("erp", 70)
	want("and again", 80)

	d = start()
	if err := d.recall(t.Context(), notebook{dayNote: "{damaged"}); err != nil {
		t.Errorf("recall of a damaged note = %v", err)
	}
}
