package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Tidier is a Transport whose attempts can leave something at the next server.
type Tidier interface {
	// CanTidy reports whether it is one that does.
	CanTidy() bool
	// Tidy removes what attempts for out.Recipients have left of a message that is not sent any more, but nothing that
	// out.Others name. It goes by out.Notes, and looks for more where out.Attempt is over 1. The error says why something
	// may be left.
	Tidy(ctx context.Context, out message.Outgoing) error
}

// tidyTime bounds one Tidy with all its parts: the message's next attempt may be waiting for its end.
const tidyTime = time.Minute

// errStopped: what is stopped is not asked for this.
var errStopped = errors.New("its account cannot be reached now")

// Tidy removes what attempts have left at the next server of a message, or of a part, that is not sent any more. over is
// asked once no attempt is under way, which none is until Tidy returns: it gives the recipients for whom nothing is sent
// any more with their notes, and Attempt as Tidier has it; false where there are none. An error says that something may
// be left, and Tidy is to be called again.
func (r *Relay) Tidy(ctx context.Context, id envelope.ID, over func(context.Context) (out message.Outgoing, ok bool, err error)) error {
	defer r.alone(id)()
	ctx, cancel := context.WithTimeout(ctx, tidyTime)
	defer cancel()
	out, ok, err := over(ctx)
	if err != nil || !ok {
		return err
	}
	a, ok := r.account(out.Plan.Account)
	if !ok {
		return fmt.Errorf("account %q is not configured", out.Plan.Account)
	}
	// Of the header only the marker is asked for, and the header may be deleted.
	out.Final = []byte(message.MarkerField + ": " + string(id) + "\r\n\r\n")
	for _, w := range a.ways() {
		t, ok := w.Transport.(Tidier)
		if !ok || !t.CanTidy() {
			continue
		}
		if r.stoppedFor(a, w.name) > 0 {
			return errStopped
		}
		for _, p := range parts(out) {
			one, err := p.outgoing(out)
			if err == nil {
				one.Others = p.others(nil, out.Others)
				err = t.Tidy(ctx, one)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Leaves reports whether a transport has noted something about a message: what it left at the next server, mostly.
func Leaves(text string) bool {
	var n note
	return text != "" && json.Unmarshal([]byte(text), &n) == nil && n.Memo != ""
}

// door is one message's: attempts go in beside each other, Tidy alone.
type door struct {
	sync.RWMutex
	users int // who is in or waits; Relay.mu guards it
}

// attemptOf waits until no Tidy has the message, and returns what ends the attempt.
func (r *Relay) attemptOf(id envelope.ID) (end func()) {
	d := r.enter(id)
	d.RLock()
	return func() { d.RUnlock(); r.leave(id, d) }
}

// alone waits until nobody has the message, and returns what gives it back.
func (r *Relay) alone(id envelope.ID) (giveBack func()) {
	d := r.enter(id)
	d.Lock()
	return func() { d.Unlock(); r.leave(id, d) }
}

func (r *Relay) enter(id envelope.ID) *door {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.doors[id]
	if d == nil {
		d = &door{}
		r.doors[id] = d
	}
	d.users++
	return d
}

func (r *Relay) leave(id envelope.ID, d *door) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(r.doors, id)
	}
}

// stoppedFor is how long that transport of the account is not to be asked for anything, 0 where it may be.
func (r *Relay) stoppedFor(a Account, transport string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if t, s := r.state(a, transport, now); s == stopped {
		return t.until.Sub(now)
	}
	return 0
}
