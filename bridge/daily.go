package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/config"
	"postern/bridge/event"
)

// dayNote is where the counts are kept in the store.
const dayNote = "recipients-per-day"

// dayCounts counts the recipients of each mailbox in the last 24 hours, because Exchange Online stops one that has more
// than its 10,000 (facts C4), and says so only then. It hears events and warns once at 80 and once at 100 %, by an event.
// Nothing is held back. After a crash it has lost a minute at most. Safe for concurrent use.
type dayCounts struct {
	live   func() *config.Config
	events func() *event.Bus
	now    func() time.Time

	mu     sync.Mutex // guards what follows
	hours  map[string]map[int64]int
	warned map[string]int // the percentage that was told, by mailbox
	dirty  bool
}

// Handle implements event.Sink.
func (d *dayCounts) Handle(ctx context.Context, e event.Event) {
	if e.Kind != event.MessageRelayed {
		return
	}
	account, n := "", 0
	for _, a := range e.Attrs {
		switch a.Key {
		case "account":
			account = a.Value.String()
		case "recipients":
			if list, ok := a.Value.Any().([]string); ok {
				n = len(list)
			}
		}
	}
	cfg := d.live()
	if cfg == nil || n == 0 {
		return
	}
	for _, a := range cfg.Accounts {
		if a.Name == accountOf(account) {
			d.add(ctx, account, a, n)
		}
	}
}

func (d *dayCounts) add(ctx context.Context, account string, a config.Account, n int) {
	key := mailboxKey(a)
	if account != a.Name {
		key = a.Provider + " " + account[len(a.Name)+1:]
	}
	hour := d.now().Unix() / 3600
	d.mu.Lock()
	if d.hours == nil {
		d.hours, d.warned = map[string]map[int64]int{}, map[string]int{}
	}
	if d.hours[key] == nil {
		d.hours[key] = map[int64]int{}
	}
	d.hours[key][hour] += n
	d.dirty = true
	sum := d.sum(key, hour)
	tell := 0
	if a.RecipientsPerDay > 0 {
		percent := sum * 100 / a.RecipientsPerDay
		switch {
		case percent >= 100 && d.warned[key] < 100:
			tell = 100
		case percent >= 80 && d.warned[key] < 80:
			tell = 80
		case percent < 70: // it may be told again
			d.warned[key] = 0
		}
	}
	if tell > 0 {
		d.warned[key] = tell
	}
	d.mu.Unlock()
	if tell > 0 {
		d.events().Emit(ctx, slog.LevelWarn, event.AccountNearLimit, slog.String("account", account),
			slog.Int("recipients", sum), slog.Int("limit", a.RecipientsPerDay), slog.Int("percent", tell),
			slog.String("remedy", fmt.Sprintf("Exchange stops a mailbox that has sent to %d recipients in 24 hours: send less, or let another account take a part "+
				"(recipients_per_day)", a.RecipientsPerDay)))
	}
}

// sum adds the last 24 hours up and forgets what is older. d.mu is held.
func (d *dayCounts) sum(key string, hour int64) (n int) {
	for h, count := range d.hours[key] {
		if h <= hour-24 {
			delete(d.hours[key], h)
			continue
		}
		n += count
	}
	return n
}

// noteStore keeps documents; the queue's store is one.
type noteStore interface {
	SetNote(ctx context.Context, key, value string) error
	Notes(ctx context.Context, prefix string) (map[string]string, error)
}

// recall reads what the process before has counted. A note that cannot be read is none.
func (d *dayCounts) recall(ctx context.Context, s noteStore) error {
	notes, err := s.Notes(ctx, dayNote)
	if err != nil {
		return fmt.Errorf("recipients per day: %w", err)
	}
	hours := map[string]map[int64]int{}
	if json.Unmarshal([]byte(notes[dayNote]), &hours) != nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hours, d.warned = hours, map[string]int{}
	return nil
}

// saveEvery is how often the counts are written.
const saveEvery = time.Minute

// run writes the counts until ctx ends, and once more then.
func (d *dayCounts) run(ctx context.Context, s noteStore) error {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			// Where the store cannot be written the queue says so.
			_ = d.save(ctx, s)
		case <-ctx.Done():
			return d.save(context.WithoutCancel(ctx), s)
		}
	}
}

func (d *dayCounts) save(ctx context.Context, s noteStore) error {
	d.mu.Lock()
	if !d.dirty {
		d.mu.Unlock()
		return nil
	}
	hour := d.now().Unix() / 3600
	for key := range d.hours {
		if d.sum(key, hour) == 0 {
			delete(d.hours, key)
			delete(d.warned, key)
		}
	}
	text, err := json.Marshal(d.hours)
	d.dirty = false
	d.mu.Unlock()
	if err == nil {
		err = s.SetNote(ctx, dayNote, string(text))
	}
	if err != nil {
		d.mu.Lock()
		d.dirty = true
		d.mu.Unlock()
	}
	return err
}
