// Package quota counts the recipients of each mailbox in the last 24 hours, because Exchange Online stops one that has more
// than its 10,000 (facts C4), and says so only then. It hears what was relayed and warns once at 80 and once at 100 %, by an
// event; nothing is held back. It must not know mail or the configuration: the hall says which mailbox an account sends for
// and how many it allows. The store keeps the counts; after a crash a minute of them is lost at most, and a note that
// cannot be read is none.
package quota

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/event"
)

// note is where the counts are kept in the store.
const note = "recipients-per-day"

// saveEvery is how often the counts are written.
const saveEvery = time.Minute

// window is how many hours count, the one that runs among them.
const window = 24

// Store keeps notes; the queue's store is one.
type Store interface {
	SetNote(ctx context.Context, key, value string) error
	// Notes returns those whose keys begin with prefix.
	Notes(ctx context.Context, prefix string) (map[string]string, error)
}

// Mailbox is whose recipients are counted.
type Mailbox struct {
	Key    string // the same for accounts that share the mailbox
	PerDay int    // recipients in 24 hours; 0: no limit is known
}

// Options are what a Counter needs.
type Options struct {
	Mailbox func(account string) (m Mailbox, ok bool) // by the configuration in force; false where it has no such account
	Events  func() *event.Bus                         // hears the warnings; it may be made after the Counter, which is one of its sinks
	Now     func() time.Time                          // nil: time.Now
}

// Counter counts. Safe for concurrent use.
type Counter struct {
	o Options

	mu     sync.Mutex // guards what follows
	hours  map[string]map[int64]int
	warned map[string]int // the percentage that was told, by mailbox
	dirty  bool
}

// New returns a Counter that has counted nothing.
func New(o Options) *Counter {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Counter{o: o, hours: map[string]map[int64]int{}, warned: map[string]int{}}
}

// Handle implements event.Sink.
func (c *Counter) Handle(ctx context.Context, e event.Event) {
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
	if n == 0 {
		return
	}
	if m, ok := c.o.Mailbox(account); ok {
		c.add(ctx, account, m, n)
	}
}

func (c *Counter) add(ctx context.Context, account string, m Mailbox, n int) {
	sum, percent := c.count(m, n)
	if percent == 0 {
		return
	}
	c.o.Events().Emit(ctx, slog.LevelWarn, event.AccountNearLimit, slog.String("account", account),
		slog.Int("recipients", sum), slog.Int("limit", m.PerDay), slog.Int("percent", percent),
		slog.String("remedy", fmt.Sprintf("Exchange stops a mailbox that has sent to %d recipients in 24 hours: send less, or let another account take a part "+
			"(recipients_per_day)", m.PerDay)))
}

// count returns the last 24 hours' recipients and which percentage is to be told now, 0 for none.
func (c *Counter) count(m Mailbox, n int) (sum, tell int) {
	hour := c.hour()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hours[m.Key] == nil {
		c.hours[m.Key] = map[int64]int{}
	}
	c.hours[m.Key][hour] += n
	c.dirty = true
	sum = c.sum(m.Key, hour)
	if m.PerDay == 0 {
		return sum, 0
	}
	percent := sum * 100 / m.PerDay
	switch {
	case percent >= 100 && c.warned[m.Key] < 100:
		tell = 100
	case percent >= 80 && c.warned[m.Key] < 80:
		tell = 80
	case percent < 70: // it may be told again
		c.warned[m.Key] = 0
	}
	if tell > 0 {
		c.warned[m.Key] = tell
	}
	return sum, tell
}

func (c *Counter) hour() int64 { return c.o.Now().Unix() / 3600 }

// sum adds the last 24 hours up and forgets what is older. c.mu is held.
func (c *Counter) sum(key string, hour int64) (n int) {
	for h, count := range c.hours[key] {
		if h <= hour-window {
			delete(c.hours[key], h)
			continue
		}
		n += count
	}
	return n
}

// Recall reads what the process before has counted.
func (c *Counter) Recall(ctx context.Context, s Store) error {
	notes, err := s.Notes(ctx, note)
	if err != nil {
		return fmt.Errorf("recipients per day: %w", err)
	}
	hours := map[string]map[int64]int{}
	if json.Unmarshal([]byte(notes[note]), &hours) != nil || hours == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hours, c.warned = hours, map[string]int{}
	return nil
}

// Run writes the counts until ctx ends, and once more then.
func (c *Counter) Run(ctx context.Context, s Store) error {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			// Where the store cannot be written the queue says so.
			_ = c.save(ctx, s)
		case <-ctx.Done():
			return c.save(context.WithoutCancel(ctx), s)
		}
	}
}

func (c *Counter) save(ctx context.Context, s Store) error {
	text, dirty, err := c.document()
	if err == nil && dirty {
		err = s.SetNote(ctx, note, string(text))
	}
	if err != nil {
		c.mu.Lock()
		c.dirty = true
		c.mu.Unlock()
	}
	return err
}

// document is what is to be kept, and whether it has changed since the last time.
func (c *Counter) document() (text []byte, dirty bool, err error) {
	hour := c.hour()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil, false, nil
	}
	for key := range c.hours {
		if c.sum(key, hour) == 0 {
			delete(c.hours, key)
			delete(c.warned, key)
		}
	}
	c.dirty = false
	text, err = json.Marshal(c.hours)
	return text, true, err
}
