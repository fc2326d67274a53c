package queue

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

// lookAgain is the longest that a lane sleeps. Timers stand still while a machine is suspended, and the wall clock that
// the waits are kept in may jump; a lane that looks every minute has noticed both.
const lookAgain = time.Minute

// lane schedules the accounts of one mailbox: they share its rate and its concurrency. Nothing in it is shared with another
// lane, so that a dead account delays no other.
type lane struct {
	q    *Queue
	key  string          // the mailbox
	wake chan struct{}   // holds one token: something changed since the lane last looked
	over chan struct{}   // closed when its last account has gone to another mailbox or is forgotten: it is never used again
	turn int             // whose turn it was last; only run touches this and the next
	last map[string]bool // by account, whether the last message that was begun had been tried before

	moved atomic.Pointer[time.Time] // when it last made a step, for Alive

	noting sync.Mutex // orders what is written down of the rate; taken before mu

	// claiming is held while places are reserved that are not yet begun or given back: who reserves all of them for a moment
	// must not make the lane look full to a suspect. Taken before mu.
	claiming sync.Mutex

	mu          sync.Mutex      // guards what follows
	trial       <-chan struct{} // closed when its suspects have been tried, nil where it has none; set before it runs
	accounts    []Account       // a new slice with each change; the retired ones come last
	retired     int             // of these
	concurrency int             // the least of the accounts'
	inFlight    int             // also those about to be claimed
	flying      map[string]int  // of these, by account
	rate        rate
	failures    int // of the store, in a row
	senders     map[pairKey]*sender
	turned      map[string]bool // accounts with mail that was turned back; true where it may be due by now
	resumes     int             // how often what it waits for may have come to an end
}

func newLane(q *Queue, key string) *lane {
	return &lane{q: q, key: key, wake: make(chan struct{}, 1), over: make(chan struct{}), last: make(map[string]bool), flying: make(map[string]int),
		senders: make(map[pairKey]*sender), turned: make(map[string]bool)}
}

// assign makes these the accounts of the mailbox. Where they differ the stricter limit is the mailbox's. Retired ones have
// no say, and are looked at so that their mail is seen to be parked. It reports whether anything has changed.
func (l *lane) assign(accounts, retired []Account) (changed bool) {
	slices.SortFunc(retired, func(a, b Account) int { return strings.Compare(a.Name, b.Name) })
	all := append(slices.Clone(accounts), retired...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(all, l.accounts) && len(retired) == l.retired {
		return false
	}
	l.accounts, l.retired, l.concurrency, l.rate.perMinute = all, len(retired), 0, 0
	for _, a := range accounts {
		l.turned[a.Name] = true // by another process, or another configuration
		if l.concurrency == 0 || a.Concurrency < l.concurrency {
			l.concurrency = a.Concurrency
		}
		if a.RatePerMinute > 0 && (l.rate.perMinute == 0 || a.RatePerMinute < l.rate.perMinute) {
			l.rate.perMinute = a.RatePerMinute
		}
	}
	return true
}

// list returns the accounts, which are not to be changed.
func (l *lane) list() []Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accounts
}

// poke makes the lane look again soon. It never blocks.
func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run begins attempts, which live by work, until ctx ends or the lane is over. Those that are begun end by themselves.
func (l *lane) run(ctx, work context.Context) {
	l.awaitTrial(ctx)
	for ctx.Err() == nil {
		l.move()
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
		case <-l.over:
			t.Stop()
			return
		}
		t.Stop()
	}
}

// fill begins as many attempts as may be, the accounts taking turns, and returns when to look again, zero where only a
// poke can change anything.
func (l *lane) fill(ctx, work context.Context) (again time.Time) {
	for ctx.Err() == nil {
		again = time.Time{}
		more := false
		accounts := l.list()
		first := l.turn + 1 // where only one place became free it is the next one's
		for i := range accounts {
			n := (first + i) % len(accounts)
			full, at, err := l.serve(ctx, work, accounts[n])
			if err != nil {
				return l.trouble(ctx, accounts[n].Name, err)
			}
			if full {
				more, l.turn = true, n
			}
			if !at.IsZero() && (again.IsZero() || at.Before(again)) {
				again = at
			}
		}
		if !more {
			l.recovered()
			return again
		}
	}
	return again
}

// scanMore is how many messages of stopped senders a claim may put off for each that it takes.
const scanMore = 50

// serve begins attempts of one account. full says that there may be more to begin, again when it may go on.
func (l *lane) serve(ctx, work context.Context, a Account) (full bool, again time.Time, err error) {
	l.move()
	if err := l.resume(ctx, a.Name); err != nil {
		return false, again, err
	}
	l.claiming.Lock()
	defer l.claiming.Unlock()
	free, again := l.reserve(ctx, a)
	if free == 0 {
		return false, again, nil
	}
	now := l.q.now()
	before := make(map[envelope.ID]Item, 1)
	entries, err := l.q.store.Claim(ctx, Claim{Account: a.Name, Now: now, Limit: free, Scan: free + scanMore, Tried: !l.last[a.Name], Take: func(it *Item) error {
		before[it.ID] = it.Clone()
		if it.Damage != nil {
			return it.setAside()
		}
		l.q.goOn(it, now)
		l.mu.Lock()
		defer l.mu.Unlock()
		if off, err := l.stopped(it, now); off || err != nil {
			return err
		}
		err := it.claim(now, l.q.lease, a.OnDoubt)
		it.conclude(now, l.q.rules)
		return err
	}})
	if err != nil {
		l.unclaim(before)
		l.unreserve(a.Name, free)
		return false, again, err
	}
	gone := maps.Clone(before) // Take may have seen some that the claim did not come to in the end
	for _, e := range entries {
		delete(gone, e.Item.ID)
	}
	l.unclaim(gone)
	for _, e := range entries {
		if e.Item.Lease != "" {
			free--
			last := before[e.Item.ID]
			l.last[a.Name] = last.Tried()
			l.begin(work, a, e)
			continue
		}
		after := e.Item // put off with its sender; or now held: in doubt, or damaged
		e.Item = before[after.ID]
		l.q.tell(ctx, e, after)
	}
	l.unreserve(a.Name, free)
	if free == 0 || len(entries) > 0 {
		return true, again, nil
	}
	again, err = l.q.store.NextDue(ctx, a.Name)
	return false, again, err
}

// reserve returns how many attempts of the account may begin now, and takes their places; for 0 also when that may
// change, zero where a poke says so. Each is either begun or given back.
func (l *lane) reserve(ctx context.Context, a Account) (free int, again time.Time) {
	now := l.q.clock()
	gate := l.q.relayer.Gate(a.Name, now)
	l.q.parks.see(ctx, a.Name, gate.Waiting == waitingParked, l.q.now())
	l.mu.Lock()
	defer l.mu.Unlock()
	free = min(gate.Limit-l.flying[a.Name], l.concurrency-l.inFlight)
	if free <= 0 {
		return 0, gate.Again
	}
	if len(l.accounts) > 1 {
		free = max(1, free/len(l.accounts))
	}
	free, again = l.rate.reserve(now, free)
	l.fly(a.Name, free)
	return free, again
}

func (l *lane) unreserve(account string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fly(account, -n)
	l.rate.reserved -= n
}

// fly notes that so many more of the account are in flight, or fewer. l.mu is held.
func (l *lane) fly(account string, n int) {
	l.inFlight += n
	l.flying[account] += n
	if l.flying[account] == 0 {
		delete(l.flying, account)
	}
}

// begin makes the attempt for a claimed message in a goroutine of its own; Run waits for it. It takes a reserved place, of
// the rate only when it sends: what is turned back costs nothing. What it sends more than once (parts, or by another
// transport) counts, and does not wait. The channel is closed when the attempt has ended.
func (l *lane) begin(work context.Context, a Account, e Entry) <-chan struct{} {
	sends := 0
	beforeSend := func(ctx context.Context) {
		l.mu.Lock()
		if sends++; sends == 1 {
			l.rate.reserved--
		}
		l.rate.begin(l.q.clock())
		l.mu.Unlock()
		l.noteRate(ctx)
	}
	ended := make(chan struct{})
	l.q.attempts.Go(func() {
		freed := false
		defer close(ended)
		defer func() {
			l.mu.Lock()
			l.fly(a.Name, -1)
			if sends == 0 {
				l.rate.reserved--
			}
			l.mu.Unlock()
			l.poke()
			if freed {
				l.free(work, e.Item.Account, e.Item.Sender)
			}
		}()
		freed = l.attempt(work, a, e, beforeSend)
	})
	return ended
}

// trouble tells that the store failed and returns when to try it again.
func (l *lane) trouble(ctx context.Context, account string, err error) time.Time {
	if ctx.Err() != nil {
		return time.Time{}
	}
	l.mu.Lock()
	pause := storePause(l.failures)
	l.failures++
	l.mu.Unlock()
	l.q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("account", account), slog.Any("err", err))
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

// waitingFor says what the due mail of one of its accounts waits for, and until when, zero where that is not known.
func (l *lane) waitingFor(account string) (what string, until time.Time) {
	now := l.q.clock()
	if gate := l.q.relayer.Gate(account, now); gate.Waiting != "" {
		return gate.Waiting, gate.Again
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, again := l.rate.room(now, 1); n == 0 {
		return "rate", again
	}
	if l.trial != nil {
		select {
		case <-l.trial:
		default:
			return waitingTrial, until
		}
	}
	return "", until
}
