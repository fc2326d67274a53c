package queuetest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// UpdateAll implements queue.Store.
func (m *Memory) UpdateAll(_ context.Context, ids []envelope.ID, change func(*queue.Item) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(); err != nil {
		return err
	}
	var changed []queue.Item
	for _, id := range ids {
		if k := m.entries[id]; k != nil {
			it := k.entry.Item.Clone()
			if err := change(&it); err != nil {
				return err
			}
			changed = append(changed, it)
		}
	}
	for _, it := range changed {
		m.entries[it.ID].put(it)
	}
	return nil
}

// Find implements queue.Store.
func (m *Memory) Find(_ context.Context, s queue.Selection) ([]envelope.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []queue.Item
	for _, k := range m.entries {
		if it := k.entry.Item; selected(s, &it) {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b queue.Item) int {
		if s.Which == queue.Watched {
			if n := a.Watch.Compare(b.Watch); n != 0 {
				return n
			}
		}
		if s.Which == queue.Suspects && a.Deaths != b.Deaths {
			return cmp.Compare(a.Deaths, b.Deaths)
		}
		return cmp.Compare(a.ID, b.ID)
	})
	var ids []envelope.ID
	for _, it := range found[:min(s.Limit, len(found))] {
		ids = append(ids, it.ID)
	}
	return ids, nil
}

func selected(s queue.Selection, it *queue.Item) bool {
	switch s.Which {
	case queue.Leased:
		return it.Lease != ""
	case queue.Ahead:
		return it.Account == s.Account && it.Next().After(s.Before) && it.ID > s.After
	case queue.Suspects:
		return it.Suspect
	case queue.Watched:
		return !it.Watch.IsZero() && !it.Watch.After(s.Before)
	case queue.Owing:
		return it.Owed != queue.OwedNothing
	case queue.OfSender:
		return it.State() == queue.Deferred && it.Account == s.Account && it.Sender == s.Sender && it.ID > s.After
	case queue.Later:
		return it.State() == queue.Queued && it.Account == s.Account && it.Next().After(s.Before) && it.ID > s.After
	}
	return false
}

// Usage implements queue.Store.
func (m *Memory) Usage(context.Context) (map[string]queue.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]queue.Usage{}
	for _, k := range m.entries {
		if !k.entry.Item.State().Final() {
			u := all[k.entry.Message.Session.User]
			u.Messages++
			u.Bytes += k.entry.HeaderSize + k.entry.BodySize
			all[k.entry.Message.Session.User] = u
		}
	}
	return all, nil
}

// Purge implements queue.Store.
func (m *Memory) Purge(_ context.Context, p queue.Purge) (more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(); err != nil {
		return false, err
	}
	for id, k := range m.entries {
		it := &k.entry.Item
		if it.Finished.IsZero() {
			continue
		}
		before := p.Relayed
		if it.State() == queue.Failed {
			before = p.Failed
		}
		switch {
		case it.Finished.Before(p.History):
			delete(m.entries, id)
		case it.Finished.Before(before):
			gone := it.Clone()
			gone.DropBody = true
			k.put(gone)
		}
	}
	return false, nil
}

// SetNote implements queue.Store.
func (m *Memory) SetNote(_ context.Context, key, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(); err != nil {
		return err
	}
	if value == "" {
		delete(m.notes, key)
		return nil
	}
	m.notes[key] = value
	return nil
}

// Notes implements queue.Store.
func (m *Memory) Notes(_ context.Context, prefix string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := maps.Clone(m.notes)
	maps.DeleteFunc(found, func(key, _ string) bool { return !strings.HasPrefix(key, prefix) })
	return found, nil
}
