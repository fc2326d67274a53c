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

// errShare is why a message, or the rest of its body, is not taken.
var errShare = errors.New("more than the user may have waiting")

// room refuses a message that the disk or its user's share has no room for; it may come again later. Otherwise the message
// has its place in the share until its end is called.
func (q *Queue) room(ctx context.Context, m message.Message) (*coming, error) {
	if err := q.space.enough(ctx); err != nil {
		return nil, q.noRoom(fmt.Errorf("queue %s: %w", m.ID, err))
	}
	q.space.took(len(m.Header))
	c, err := q.usage.enter(ctx, m.Session.User, int64(len(m.Header)))
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, errShare):
		return nil, q.noShare(m, err)
	}
	return nil, &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be stored; try again later", Err: fmt.Errorf("queue %s: %w", m.ID, err)}
}

// Room refuses, as Enqueue does, so many octets of a message that somebody is about to keep beside the queue, on the same
// disk, where that has too little room.
func (q *Queue) Room(ctx context.Context, octets int) error {
	q.space.took(octets)
	if err := q.space.enough(ctx); err != nil {
		return q.noRoom(err)
	}
	return nil
}

// noRoom is the refusal of a message that the disk has no room for.
func (q *Queue) noRoom(why error) error {
	if q.space.wanted() {
		q.owe() // who looks after the queue gives back room that nobody needs
	}
	return &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "insufficient system storage; try again later", Err: why}
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
	clock  func() time.Time

	mu     sync.Mutex // guards what follows
	short  bool
	looked time.Time
	came   int       // octets since then
	asked  time.Time // when somebody was last asked to give back room
}

// A look at the disk serves the messages that begin after it too, for so long and for so many octets: unseen they take no
// more room than one body takes between two looks, and other programs no more than they can write within a moment. least
// must have room for that anyway. While it is short each message looks, so that mail is taken again once there is room.
const (
	lookAge   = 100 * time.Millisecond
	lookEvery = 256 << 10
)

// enough returns an error that wraps ErrFull where the disk has too little room, as far as the last look tells.
func (s *space) enough(ctx context.Context) error {
	s.mu.Lock()
	age := s.clock().Sub(s.looked)
	serves := !s.short && s.came < lookEvery && age >= 0 && age < lookAge
	s.mu.Unlock()
	if serves {
		return nil
	}
	return s.look(ctx, 0)
}

// took counts octets that came in.
func (s *space) took(octets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.came += octets
}

// look looks at the disk, and is otherwise as enough; so much must be free beyond that. The change is told once.
func (s *space) look(ctx context.Context, beyond int64) error {
	if s.least == 0 || s.free == nil {
		return nil
	}
	now := s.clock()
	free, err := s.free()
	if err != nil {
		return nil // the store itself will say what it cannot write
	}
	short := free < s.least
	s.mu.Lock()
	changed := short != s.short
	s.short, s.looked, s.came = short, now, 0
	s.mu.Unlock()
	if changed && short {
		s.events.Emit(ctx, slog.LevelError, event.DiskShort, slog.Int64("free", free), slog.Int64("least", s.least),
			slog.String("remedy", "make room on the disk of data_dir; mail is refused for the time being (min_free_disk)"))
	} else if changed {
		s.events.Emit(ctx, slog.LevelInfo, event.DiskEnough, slog.Int64("free", free), slog.Int64("least", s.least))
	}
	if free-beyond < s.least {
		return fmt.Errorf("%w: %d bytes are free, and %d must be (min_free_disk) and %d for what has come", ErrFull, free, s.least, beyond)
	}
	return nil
}

// wanted reports whether somebody is to give back room now. Each refused message asks, so that mail is taken again soon after
// what fills the disk has left; but a thousand at once ask once.
func (s *space) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if age := now.Sub(s.asked); age >= 0 && age < lookAge {
		return false
	}
	s.asked = now
	return true
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

	mu      sync.Mutex // guards what follows, and what coming points to
	most    map[string]Usage
	counted time.Time
	n       map[string]Usage
	coming  map[string]Usage // what is on its way in: no count of the store has it, and none takes it away
}

// coming is a message on its way in. Its place in its user's share is taken at the beginning, and that of its octets as they
// come: or several at once would each find the same room.
type coming struct {
	u     *usage
	user  string
	takes Usage // zero once it has no place any more
}

// enter takes the place of one message with so many octets of header. An error that wraps errShare says that there is none.
func (u *usage) enter(ctx context.Context, user string, header int64) (*coming, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := &coming{u: u, user: user, takes: Usage{1, header}}
	if most := u.most[user]; most != (Usage{}) {
		if err := u.count(ctx); err != nil {
			return nil, err
		}
		held := u.n[user].plus(u.coming[user])
		switch {
		case most.Messages > 0 && held.Messages >= most.Messages:
			return nil, fmt.Errorf("%w: %d messages of %d (max_queued)", errShare, held.Messages, most.Messages)
		case most.Bytes > 0 && held.Messages > 0 && held.Bytes+header >= most.Bytes:
			return nil, fmt.Errorf("%w: %d octets of %d (max_queued_size)", errShare, held.Bytes, most.Bytes)
		}
	}
	u.take(user, c.takes)
	return c, nil
}

// count asks the store where nobody knows, or it was asked too long ago. u.mu is held.
func (u *usage) count(ctx context.Context) error {
	now := u.q.clock()
	if u.n != nil && now.Sub(u.counted) < usageAge && !now.Before(u.counted) {
		return nil
	}
	all, err := u.q.store.Usage(ctx)
	if err == nil {
		u.n, u.counted = all, now
	}
	return err
}

// take changes what is on its way in. u.mu is held.
func (u *usage) take(user string, d Usage) {
	now := u.coming[user].plus(d)
	if now == (Usage{}) {
		delete(u.coming, user)
		return
	}
	u.coming[user] = now
}

// more takes room for octets of the body. An error that wraps errShare says that there is none, and the message has lost its
// place: the others shall find the room. A message alone goes in whatever its size, or it could never leave.
func (c *coming) more(octets int) error {
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	d := Usage{0, int64(octets)}
	c.takes = c.takes.plus(d)
	c.u.take(c.user, d)
	most := c.u.most[c.user].Bytes
	if held := c.u.n[c.user].plus(c.u.coming[c.user]); most > 0 && held.Messages > 1 && held.Bytes > most {
		c.leave()
		return fmt.Errorf("%w: %d octets of %d (max_queued_size)", errShare, held.Bytes, most)
	}
	return nil
}

// end gives the places back, once, and where the message was kept counts it among those that wait.
func (c *coming) end(kept bool) {
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	if kept {
		c.u.add(c.user, c.takes)
	}
	c.leave()
}

// leave gives the places back. u.mu is held.
func (c *coming) leave() {
	c.u.take(c.user, Usage{-c.takes.Messages, -c.takes.Bytes})
	c.takes = Usage{}
}

func (a Usage) plus(b Usage) Usage { return Usage{a.Messages + b.Messages, a.Bytes + b.Bytes} }

// moved takes up that a message became final, or is not any more.
func (u *usage) moved(e Entry, before, after State) {
	if before.Final() == after.Final() {
		return
	}
	d := Usage{1, e.HeaderSize + e.BodySize}
	if after.Final() {
		d = Usage{-d.Messages, -d.Bytes}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.add(e.Message.Session.User, d)
}

// add keeps up what waits of a user with a limit. u.mu is held.
func (u *usage) add(user string, d Usage) {
	if u.n != nil && u.most[user] != (Usage{}) {
		u.n[user] = u.n[user].plus(d)
	}
}
