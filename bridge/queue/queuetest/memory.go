package queuetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
)

// Memory is a queue.Store that forgets with the process, for tests of what stands on a store. It starts no goroutine, so
// it works in a synctest bubble. Safe for concurrent use.
type Memory struct {
	mu      sync.Mutex // guards what follows
	entries map[envelope.ID]*kept
	notes   map[string]string
	closed  bool
	fail    error
}

type kept struct {
	entry queue.Entry
	body  []byte
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{entries: make(map[envelope.ID]*kept), notes: make(map[string]string)}
}

// Fail makes every change return err until it is called with nil.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Damage makes the message one that cannot be read back, for that reason.
func (m *Memory) Damage(id envelope.ID, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[id].entry.Item.Damage = why
}

// Reopen ends what Close began: the store as the next process finds it.
func (m *Memory) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = false
}

// Add implements queue.Store.
func (m *Memory) Add(_ context.Context, item queue.Item, msg message.Message, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(); err != nil {
		return err
	}
	if m.entries[item.ID] != nil {
		return queue.ErrExists
	}
	item = truncated(item)
	msg.Header = slices.Clone(msg.Header)
	msg.Accepted = item.Accepted
	m.entries[item.ID] = &kept{body: b, entry: queue.Entry{Item: item, Message: msg, BodySize: int64(len(b)), HeaderSize: int64(len(msg.Header)), HasBody: true}}
	return nil
}

// truncated is a copy of the item with times of the precision that items have, so that what is due then is due by the
// queue's clock too.
func truncated(it queue.Item) queue.Item {
	it = it.Clone()
	it.Parked = it.Parked.Truncate(time.Microsecond)
	for _, at := range []*time.Time{&it.Accepted, &it.Watch, &it.Finished, &it.Retried} {
		*at = at.Truncate(time.Microsecond)
	}
	for i := range it.Recipients {
		it.Recipients[i].Next = it.Recipients[i].Next.Truncate(time.Microsecond)
	}
	return it
}

func (m *Memory) writable() error {
	if m.closed {
		return queue.ErrClosed
	}
	return m.fail
}

// Claim implements queue.Store.
func (m *Memory) Claim(_ context.Context, c queue.Claim) ([]queue.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(); err != nil {
		return nil, err
	}
	due := queue.ByTurns(c, m.due(c, false), m.due(c, true))
	leased := 0
	var changed []queue.Item
	for _, k := range due {
		if leased == c.Limit {
			break
		}
		it := k.entry.Item.Clone()
		if err := c.Take(&it); err != nil {
			return nil, err
		}
		if it.Lease != "" {
			leased++
		}
		changed = append(changed, it)
	}
	entries := make([]queue.Entry, len(changed))
	for i, it := range changed {
		due[i].put(it)
		entries[i] = due[i].copy(it.Lease != "")
	}
	return entries, nil
}

// due returns what is due of one kind, the earliest first.
func (m *Memory) due(c queue.Claim, tried bool) []*kept {
	var due []*kept
	for _, k := range m.entries {
		next := k.entry.Item.Next()
		if k.entry.Item.Account == c.Account && k.entry.Item.Tried() == tried && !next.IsZero() && !next.After(c.Now) {
			due = append(due, k)
		}
	}
	slices.SortFunc(due, func(a, b *kept) int {
		if n := a.entry.Item.Next().Compare(b.entry.Item.Next()); n != 0 {
			return n
		}
		return strings.Compare(string(a.entry.Item.ID), string(b.entry.Item.ID))
	})
	return due
}

func (k *kept) copy(header bool) queue.Entry {
	e := k.entry
	e.Item = k.entry.Item.Clone()
	if !header {
		e.Message.Header = nil
	}
	return e
}

// NextDue implements queue.Store.
func (m *Memory) NextDue(_ context.Context, account string) (next time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.entries {
		n := k.entry.Item.Next()
		if k.entry.Item.Account == account && !n.IsZero() && (next.IsZero() || n.Before(next)) {
			next = n
		}
	}
	return next, nil
}

// Update implements queue.Store.
func (m *Memory) Update(_ context.Context, id envelope.ID, change func(*queue.Item) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(); err != nil {
		return err
	}
	k := m.entries[id]
	if k == nil {
		return fmt.Errorf("%s: %w", id, queue.ErrNotFound)
	}
	it := k.entry.Item.Clone()
	if err := change(&it); err != nil {
		return err
	}
	k.put(it)
	return nil
}

// put keeps what a change has made of the item.
func (k *kept) put(it queue.Item) {
	it = truncated(it)
	if it.DropBody {
		k.body, k.entry.HasBody, k.entry.Message.Header, it.DropBody = nil, false, nil, false
	}
	if it.NewPlan != nil {
		k.entry.Message.Plan, it.NewPlan = *it.NewPlan, nil
	}
	k.entry.Item = it
}

// Open implements queue.Store.
func (m *Memory) Open(_ context.Context, id envelope.ID) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.entries[id]
	switch {
	case k == nil:
		return nil, fmt.Errorf("%s: %w", id, queue.ErrNotFound)
	case !k.entry.HasBody:
		return nil, fmt.Errorf("%s: %w", id, queue.ErrNoBody)
	}
	return io.NopCloser(bytes.NewReader(k.body)), nil
}

// Get implements queue.Store.
func (m *Memory) Get(_ context.Context, id envelope.ID) (queue.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.entries[id]
	if k == nil {
		return queue.Entry{}, fmt.Errorf("%s: %w", id, queue.ErrNotFound)
	}
	return k.copy(true), nil
}

// List implements queue.Store.
func (m *Memory) List(_ context.Context, f queue.Filter) ([]queue.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []queue.Entry
	for id, k := range m.entries {
		it := &k.entry.Item
		if id > f.After && (f.Account == "" || it.Account == f.Account) && (f.State == "" || it.State() == f.State) {
			entries = append(entries, k.copy(false))
		}
	}
	slices.SortFunc(entries, func(a, b queue.Entry) int { return strings.Compare(string(a.Item.ID), string(b.Item.ID)) })
	if f.Limit > 0 && len(entries) > f.Limit {
		entries = entries[:f.Limit]
	}
	return entries, nil
}

// Counts implements queue.Store.
func (m *Memory) Counts(context.Context) ([]queue.Count, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[queue.Count]queue.Count)
	for _, k := range m.entries {
		key := queue.Count{Account: k.entry.Item.Account, State: k.entry.Item.State()}
		c := all[key]
		c.Account, c.State, c.N = key.Account, key.State, c.N+1
		if c.State == queue.Failed && k.entry.HasBody {
			c.Kept++
		}
		all[key] = c
	}
	counts := slices.Collect(maps.Values(all))
	slices.SortFunc(counts, func(a, b queue.Count) int {
		if n := strings.Compare(a.Account, b.Account); n != 0 {
			return n
		}
		return strings.Compare(string(a.State), string(b.State))
	})
	return counts, nil
}

// Close implements queue.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
