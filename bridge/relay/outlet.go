package relay

import (
	"context"
	"io"
	"sync"
	"time"

	"postern/bridge/message"
	"postern/bridge/reply"
)

// RetireAfter is how long transports that were replaced stay open: an attempt that has just begun may still be on its way
// to them.
const RetireAfter = 10 * time.Second

// Outlet is the transports of an account, counted: once others have replaced them they may be closed only when nobody uses
// them. They can do through it what they could without. All methods are safe for concurrent use; none waits for a message
// that is on its way.
type Outlet struct {
	Graph, SMTP Transport // for an Account; nil where there is none. Only read
	close       func() error

	mu      sync.Mutex // guards what follows
	busy    int        // calls under way that talk to the next server
	retired time.Time  // zero while in use
	closed  bool
}

// NewOutlet counts the uses of the transports, of which one may be nil. closeBoth closes both; it is called once at most.
func NewOutlet(graph, smtp Transport, closeBoth func() error) *Outlet {
	o := &Outlet{close: closeBoth}
	if graph != nil {
		o.Graph = counted{graph, o}
	}
	if smtp != nil {
		o.SMTP = counted{smtp, o}
	}
	return o
}

// Retire says that from now on no attempt begins with these transports, but for those that have them in hand already.
func (o *Outlet) Retire(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = now
}

// Idle reports whether the transports were retired RetireAfter ago and nobody uses them: they may be closed.
func (o *Outlet) Idle(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.retired.IsZero() && o.busy == 0 && now.Sub(o.retired) >= RetireAfter
}

// Close closes the transports, whoever uses them: the caller has seen to it that nobody does. A second call does nothing.
func (o *Outlet) Close() error {
	o.mu.Lock()
	was := o.closed
	o.closed = true
	o.mu.Unlock()
	if was {
		return nil
	}
	return o.close()
}

// counted is one transport of an outlet. What wraps a transport must not hide what else it can do, so that it implements
// all that this package asks a transport for.
type counted struct {
	Transport
	o *Outlet
}

var (
	_ Looker   = counted{}
	_ Splitter = counted{}
	_ Tidier   = counted{}
	_ Drafter  = counted{}
)

// use counts one call until the returned function ends it.
func (c counted) use() (end func()) {
	c.o.mu.Lock()
	c.o.busy++
	c.o.mu.Unlock()
	return func() {
		c.o.mu.Lock()
		c.o.busy--
		c.o.mu.Unlock()
	}
}

// Send implements Transport.
func (c counted) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	defer c.use()()
	return c.Transport.Send(ctx, out)
}

// CanLook implements Looker for a transport that is one.
func (c counted) CanLook() bool {
	l, ok := c.Transport.(Looker)
	return ok && l.CanLook()
}

// Look implements Looker. It is called where CanLook holds.
func (c counted) Look(ctx context.Context, out message.Outgoing) reply.Outcome {
	defer c.use()()
	return c.Transport.(Looker).Look(ctx, out)
}

// Splits implements Splitter for a transport that is one.
func (c counted) Splits() bool {
	s, ok := c.Transport.(Splitter)
	return ok && s.Splits()
}

// CheckCarry implements Splitter. It is called where Splits holds, and talks to nobody.
func (c counted) CheckCarry(header []byte, body io.Reader) error {
	return c.Transport.(Splitter).CheckCarry(header, body)
}

// CanTidy implements Tidier for a transport that is one.
func (c counted) CanTidy() bool {
	t, ok := c.Transport.(Tidier)
	return ok && t.CanTidy()
}

// Tidy implements Tidier. It is called where CanTidy holds.
func (c counted) Tidy(ctx context.Context, out message.Outgoing) error {
	defer c.use()()
	return c.Transport.(Tidier).Tidy(ctx, out)
}

// DraftsInUse implements Drafter for a transport that is one.
func (c counted) DraftsInUse() string {
	if d, ok := c.Transport.(Drafter); ok {
		return d.DraftsInUse()
	}
	return ""
}
