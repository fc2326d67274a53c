package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// errShare is why a body is not read on.
var errShare = errors.New("more than the user may have waiting (max_queued_size)")

// room refuses a message that the disk or its user's share has no room for; it may come again later. It returns for how
// many octets of body the share has room, 0 for no limit: a message alone goes in whatever its size, or it could never
// leave. Several at once may each find the same room.
func (q *Queue) room(ctx context.Context, m message.Message) (octets int64, err error) {
	if err := q.space.enough(ctx); err != nil {
		q.owe() // who looks after the queue gives back room that nobody needs
		return 0, &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "insufficient system storage; try again later",
			Err: fmt.Errorf("queue %s: %w", m.ID, err)}
	}
	held, most, err := q.usage.of(ctx, m.Session.User)
	octets = most.Bytes - held.Bytes - int64(len(m.Header))
	switch {
	case err != nil:
		return 0, &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be stored; try again later", Err: fmt.Errorf("queue %s: %w", m.ID, err)}
	case most.Messages > 0 && held.Messages >= most.Messages:
		return 0, q.noShare(m, fmt.Errorf("%d messages are waiting of %d that may (max_queued)", held.Messages, most.Messages))
	case most.Bytes == 0 || held.Messages == 0:
		return 0, nil
	case octets <= 0:
		return 0, q.noShare(m, fmt.Errorf("%d octets are waiting of %d that may (max_queued_size)", held.Bytes, most.Bytes))
	}
	return octets, nil
}

// noShare is the refusal of a message that its user's share has no room for.
func (q *Queue) noShare(m message.Message, why error) error {
	return &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "too much mail of this user is waiting; try again later",
		Err: fmt.Errorf("queue %s: user %q: %w", m.ID, m.Session.User, why)}
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

// usageAge is how old the count of the store may be: a long queue takes a while to count. Between two it is kept up as
// messages come and go, and a message that comes in during a count may be in it twice.
const usageAge = 5 * time.Minute

// usage knows what each user has waiting, where that is limited.
type usage struct {
	q *Queue

	mu      sync.Mutex // guards what follows
	most    map[string]Usage
	counted time.Time
	n       map[string]Usage
}

// of returns what of the user waits, and what may; 0 is no limit.
func (u *usage) of(ctx context.Context, user string) (held, most Usage, err error) {
	if most = u.limit(user); most == (Usage{}) {
		return held, most, nil
	}
	now := u.q.clock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n == nil || now.Sub(u.counted) >= usageAge || now.Before(u.counted) {
		all, err := u.q.store.Usage(ctx)
		if err != nil {
			return held, most, err
		}
		u.n, u.counted = all, now
	}
	return u.n[user], most, nil
}

func (u *usage) entered(user string, octets int64) { u.add(user, Usage{1, octets}) }

// moved takes up that a message became final, or is not any more.
func (u *usage) moved(e Entry, before, after State) {
	switch size := e.HeaderSize + e.BodySize; {
	case before.Final() == after.Final():
	case after.Final():
		u.add(e.Message.Session.User, Usage{-1, -size})
	default:
		u.entered(e.Message.Session.User, size)
	}
}

func (u *usage) add(user string, d Usage) {
	if u.limit(user) == (Usage{}) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n != nil {
		n := u.n[user]
		u.n[user] = Usage{n.Messages + d.Messages, n.Bytes + d.Bytes}
	}
}
