package queue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

// lookAgain is the longest that a lane sleeps. Timers stand still while a machine is suspended, and the wall clock that
// the waits are kept in may jump; a lane that looks every minute has noticed both.
const lookAgain = time.Minute

// lane schedules one account. Nothing in it is shared with another lane, so that a dead account delays no other.
type lane struct {
	q       *Queue
	account Account
	wake    chan struct{} // holds one token: something changed since the lane last looked

	mu       sync.Mutex // guards what follows
	inFlight int
	rate     rate
	failures int // of the store, in a row
}

func newLane(q *Queue, a Account) *lane {
	return &lane{q: q, account: a, wake: make(chan struct{}, 1), rate: rate{perMinute: a.RatePerMinute}}
}

// poke makes the lane look again soon. It never blocks.
func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run begins attempts, which live by work, until ctx ends.
func (l *lane) run(ctx, work context.Context) {
	for ctx.Err() == nil {
		again := l.fill(ctx, work)
		sleep := lookAgain
		if !again.IsZero() {
			sleep = min(sleep, max(0, again.Sub(l.q.clock())))
		}
		t := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// fill begins as many attempts as may be, and returns when to look again, zero where only a poke can change anything.
func (l *lane) fill(ctx, work context.Context) time.Time {
	for ctx.Err() == nil {
		free, again := l.room()
		if free == 0 {
			return again
		}
		now := l.q.now()
		before := make(map[envelope.ID]Item, 1)
		entries, err := l.q.store.Claim(ctx, Claim{Account: l.account.Name, Now: now, Limit: free, Take: func(it *Item) error {
			before[it.ID] = it.Clone()
			return it.claim(now, l.q.lease, l.account.OnDoubt)
		}})
		if err != nil {
			return l.trouble(ctx, err)
		}
		for _, e := range entries {
			if e.Item.Lease != "" {
				l.begin(work, e)
				continue
			}
			after := e.Item // in doubt, and now held
			e.Item = before[after.ID]
			l.q.tell(ctx, e, after)
		}
		if len(entries) < free {
			next, err := l.q.store.NextDue(ctx, l.account.Name)
			if err != nil {
				return l.trouble(ctx, err)
			}
			l.recovered()
			return next
		}
	}
	return time.Time{}
}

// room returns how many attempts may begin now; for 0 also when that may change, zero where a poke says so.
func (l *lane) room() (free int, again time.Time) {
	now := l.q.clock()
	gate := l.q.relayer.Gate(l.account.Name, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	free = min(gate.Limit, l.account.Concurrency) - l.inFlight
	if free <= 0 {
		return 0, gate.Again
	}
	return l.rate.room(now, free)
}

// begin makes the attempt for a claimed message in a goroutine of its own; Run waits for it.
func (l *lane) begin(work context.Context, e Entry) {
	l.mu.Lock()
	l.inFlight++
	l.rate.begin(l.q.clock())
	l.mu.Unlock()
	l.q.attempts.Go(func() {
		defer func() {
			l.mu.Lock()
			l.inFlight--
			l.mu.Unlock()
			l.poke()
		}()
		l.attempt(work, e)
	})
}

// trouble tells that the store failed and returns when to try it again.
func (l *lane) trouble(ctx context.Context, err error) time.Time {
	if ctx.Err() != nil {
		return time.Time{}
	}
	l.mu.Lock()
	pause := storePause(l.failures)
	l.failures++
	l.mu.Unlock()
	l.q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("account", l.account.Name), slog.Any("err", err))
	return l.q.clock().Add(pause)
}

func (l *lane) recovered() {
	l.mu.Lock()
	l.failures = 0
	l.mu.Unlock()
}

// storePause grows from a second to a minute with the failures that came before in a row.
func storePause(failures int) time.Duration {
	return min(time.Second<<min(failures, 6), time.Minute)
}

// waitingFor says what the account's due mail waits for.
func (l *lane) waitingFor() string {
	now := l.q.clock()
	if gate := l.q.relayer.Gate(l.account.Name, now); gate.Waiting != "" {
		return gate.Waiting
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, _ := l.rate.room(now, 1); n == 0 {
		return "rate"
	}
	return ""
}

// rate lets any 60 seconds hold at most so many beginnings; inside that a burst is allowed.
type rate struct {
	perMinute int         // 0 is no limit
	begun     []time.Time // within the last 60 seconds, the oldest first
}

// room returns how many of the wanted may begin now; for 0 also when the next one may.
func (r *rate) room(now time.Time, wanted int) (n int, again time.Time) {
	if r.perMinute == 0 {
		return wanted, again
	}
	for len(r.begun) > 0 && now.Sub(r.begun[0]) >= time.Minute {
		r.begun = r.begun[1:]
	}
	n = min(wanted, r.perMinute-len(r.begun))
	if n == 0 {
		again = r.begun[0].Add(time.Minute)
	}
	return n, again
}

func (r *rate) begin(now time.Time) {
	if r.perMinute > 0 {
		r.begun = append(r.begun, now)
	}
}
