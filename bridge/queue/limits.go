package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// room refuses a message that the disk or its user's share has no room for; it may come again later.
func (q *Queue) room(ctx context.Context, m message.Message) error {
	if err := q.space.enough(ctx); err != nil {
		q.owe() // who looks after the queue gives back room that nobody needs
		return &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "insufficient system storage; try again later",
			Err: fmt.Errorf("queue %s: %w", m.ID, err)}
	}
	user := m.Session.User
	n, most, err := q.usage.of(ctx, user)
	switch {
	case err != nil:
		return &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be stored; try again later", Err: fmt.Errorf("queue %s: %w", m.ID, err)}
	case most > 0 && n >= most:
		return &reply.Error{Code: 450, Enhanced: "4.7.1", Text: "too many messages of this user are waiting; try again later",
			Err: fmt.Errorf("queue %s: user %q has %d messages waiting of %d (max_queued)", m.ID, user, n, most)}
	}
	return nil
}

// space watches the disk.
type space struct {
	least  int64
	free   func() (int64, error) // nil: nobody knows
	events *event.Bus

	mu    sync.Mutex // guards short
	short bool
}

// enough returns an error that wraps ErrFull where the disk has too little room. The change is told once.
func (s *space) enough(ctx context.Context) error {
	if s.least == 0 || s.free == nil {
		return nil
	}
	free, err := s.free()
	if err != nil {
		return nil // the store itself will say what it cannot write
	}
	short := free < s.least
	s.mu.Lock()
	changed := short != s.short
	s.short = short
	s.mu.Unlock()
	if changed && short {
		s.events.Emit(ctx, slog.LevelError, event.DiskShort, slog.Int64("free", free), slog.Int64("least", s.least),
			slog.String("remedy", "make room on the disk of data_dir; mail is refused for the time being (min_free_disk)"))
	} else if changed {
		s.events.Emit(ctx, slog.LevelInfo, event.DiskEnough, slog.Int64("free", free), slog.Int64("least", s.least))
	}
	if short {
		return fmt.Errorf("%w: %d bytes are free, and %d must be (min_free_disk)", ErrFull, free, s.least)
	}
	return nil
}

func (s *space) isShort() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.short
}

// usageAge is how old the count of the store may be. Between two it is kept up as messages come and go; a person's
// changes are seen with the next.
const usageAge = 30 * time.Second

// usage knows how many messages each user has waiting, where that is limited.
type usage struct {
	q *Queue

	mu      sync.Mutex // guards what follows
	most    map[string]int
	counted time.Time
	n       map[string]int
}

// of returns how many messages of the user wait, and how many may; 0 is no limit.
func (u *usage) of(ctx context.Context, user string) (n, most int, err error) {
	if most = u.limit(user); most == 0 {
		return 0, 0, nil
	}
	now := u.q.clock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == nil || now.Sub(u.counted) >= usageAge || now.Before(u.counted) {
		all, err := u.q.store.Usage(ctx)
		if err != nil {
			return 0, most, err
		}
		u.n, u.counted = make(map[string]int, len(all)), now
		for user, held := range all {
			u.n[user] = held.Messages
		}
	}
	return u.n[user], most, nil
}

func (u *usage) entered(user string) { u.add(user, 1) }

func (u *usage) left(e Entry) { u.add(e.Message.Session.User, -1) }

func (u *usage) add(user string, n int) {
	if u.limit(user) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n != nil {
		u.n[user] += n
	}
}
