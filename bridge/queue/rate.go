package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"postern/bridge/event"
)

// rate lets any 60 seconds hold at most so many beginnings; inside that a burst is allowed.
type rate struct {
	perMinute int         // 0 is no limit
	begun     []time.Time // within the last 60 seconds, the oldest first
	reserved  int         // about to begin
}

// room returns how many of the wanted may begin now; for 0 also when the next one may, zero where that depends on those
// about to begin.
func (r *rate) room(now time.Time, wanted int) (n int, again time.Time) {
	if r.perMinute == 0 {
		return wanted, again
	}
	r.forget(now)
	n = min(wanted, r.perMinute-len(r.begun)-r.reserved)
	if n <= 0 && len(r.begun) > 0 {
		again = r.begun[0].Add(time.Minute)
	}
	return max(n, 0), again
}

// reserve is room, and takes what it returns; each is given back when it begins, or does not.
func (r *rate) reserve(now time.Time, wanted int) (n int, again time.Time) {
	n, again = r.room(now, wanted)
	r.reserved += n
	return n, again
}

func (r *rate) begin(now time.Time) {
	if r.perMinute > 0 {
		r.forget(now)
		r.begun = append(r.begun, now)
	}
}

func (r *rate) forget(now time.Time) {
	for i, at := range r.begun {
		if at.After(now) { // seeded, and the wall clock was set back before or since
			r.begun[i] = now
		}
	}
	for len(r.begun) > 0 && now.Sub(r.begun[0]) >= time.Minute {
		r.begun = r.begun[1:]
	}
}

// rateNote is the beginning of the keys under which the store keeps what each mailbox has begun lately.
const rateNote = "rate/"

// begun is how many beginnings the last minute had when it was written down.
type begun struct {
	At time.Time `json:"at"`
	N  int       `json:"n"`
}

// noteRate writes down what was begun, before anybody is asked to take the message: the next process must not begin as
// many again within the minute. A store that does not take the note only makes that possible.
func (l *lane) noteRate(ctx context.Context) {
	l.noting.Lock()
	defer l.noting.Unlock()
	l.mu.Lock()
	text, err := json.Marshal(begun{l.q.now(), len(l.rate.begun)})
	limited := l.rate.perMinute > 0
	l.mu.Unlock()
	if !limited {
		return
	}
	if err == nil {
		err = l.q.store.SetNote(context.WithoutCancel(ctx), rateNote+l.key, string(text))
	}
	if err != nil {
		l.q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.Any("err", fmt.Errorf("note down the rate of %s: %w", l.key, err)))
	}
}

// seedRates counts what former processes began within their last minute, as if all of it was begun at its end.
func (q *Queue) seedRates(ctx context.Context) error {
	notes, err := q.store.Notes(ctx, rateNote)
	if err != nil {
		return fmt.Errorf("what was begun within the last minute: %w", err)
	}
	for _, l := range q.set.Load().lanes {
		var b begun
		if json.Unmarshal([]byte(notes[rateNote+l.key]), &b) != nil {
			continue // nothing was, or nobody can tell
		}
		l.mu.Lock()
		l.rate.seed(b)
		l.mu.Unlock()
	}
	return nil
}

// maxSeeded keeps a note that is damaged from filling the memory.
const maxSeeded = 1000

// seed makes it so for one mailbox, also where none of its accounts is configured now: one may be within the minute. It is
// called once for each of them.
func (r *rate) seed(b begun) {
	r.begun = nil
	for range min(b.N, max(r.perMinute, maxSeeded)) {
		r.begun = append(r.begun, b.At)
	}
}
