package signin

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Answer is what one turn of Poll came to.
type Answer int

const (
	Done    Answer = iota // it is over, well
	Pending               // nobody has acted yet
	Slower                // likewise, and it was asked too early
	Trouble               // no answer, or one that may be another next time
)

// Pace says how often Poll asks and when it gives up.
type Pace struct {
	Interval time.Duration // between two turns
	Expires  time.Duration // from now
	AtOnce   bool          // the first turn is not waited for
}

// slower is what slow_down adds to the interval, for good (RFC 8628 section 3.5).
const slower = 5 * time.Second

// maxPause is the longest wait between two turns in trouble.
const maxPause = time.Minute

// ErrExpired says that nobody acted in time.
var ErrExpired = errors.New("nobody signed in in time; start again")

// Poll takes turns until one is Done or an error ends it. Trouble doubles the wait, up to a minute, and a turn's own wish
// (Retry-After) is heeded; the next good answer brings the old pace back. A code outlives an outage of the endpoint, so
// trouble alone gives nothing up before the code has expired. Its error is the turn's, ErrExpired, or that of ctx.
func Poll(ctx context.Context, p Pace, turn func(context.Context) (Answer, time.Duration, error)) error {
	within, cancel := context.WithTimeoutCause(ctx, p.Expires, ErrExpired)
	defer cancel()
	interval, wait := p.Interval, p.Interval
	if p.AtOnce {
		wait = 0
	}
	troubled := false
	for {
		if err := pause(within, wait); err != nil {
			return ended(ctx, troubled)
		}
		answer, after, err := turn(within)
		switch {
		case err != nil && within.Err() != nil:
			return ended(ctx, troubled)
		case err != nil:
			return err
		case answer == Done:
			return nil
		case answer == Trouble:
			wait = max(min(2*max(wait, interval), maxPause), after)
		default:
			if answer == Slower {
				interval += slower
			}
			wait = max(interval, after)
		}
		troubled = answer == Trouble
	}
}

// ended says why there are no more turns.
func ended(ctx context.Context, troubled bool) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case troubled:
		return fmt.Errorf("the sign-in could not be completed before its code expired: %w", ErrExpired)
	}
	return ErrExpired
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
