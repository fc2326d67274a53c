// Package queue keeps accepted mail until it is relayed, has failed, or waits visibly for a person. It owns the states
// of a message for each of its recipients (state.go), the waits (schedule.go), and the workers of each account. It must
// not know SMTP, HTTP, tokens, the configuration or why an account is stopped: it asks its Relayer, an interface of its
// own, whether mail of an account may go, and hands it one attempt at a time for a message. submission calls Enqueue,
// the hall calls Run, control calls the listing, and whoever ends an account's trouble calls Wake.
//
// A refused Enqueue is a *reply.Error (or the error of the body's reader) and then nothing was kept. Afterwards nothing
// fails towards the application: an outcome moves the state once, and an event tells. Where the store itself cannot be
// written, the worker keeps what it knows and tries again, and sends nothing twice meanwhile.
//
// The states, and what moves a message between them:
//
//	            .------- trouble of its account or route, void lease ------.
//	            v                                                          |
//	Enqueue --> queued ---------- claim: attempt and lease written --> sending --> relayed
//	            ^   ^                                                  ^ ^ |
//	            |   |        .-- wait is over -------------------------' | +-----> failed
//	            |   |        |                                           | |
//	            |   |     deferred <-- failure of its own, or sender ----|-+
//	            |   |                                                    | |
//	            |   |        .-- OnDoubt: resend ------------------------' |
//	            |   |        |                                             |
//	            |   |     in-doubt <-- first doubt, death after intent ----+
//	            |   |        |                                             |
//	            |   |        '-- OnDoubt: hold --.                         |
//	            |   |                            v                         |
//	            |   '--- queue release ------- held <-- second doubt ------'
//	            '------- queue retry --------- failed, deferred, in-doubt
//
// A person also moves what is not being sent to held, to failed (drop), and from held or in-doubt to relayed (sent).
package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Relayer relays mail. It is safe for concurrent use.
type Relayer interface {
	// Gate says whether messages of that account may be claimed now. It is called often and must not block.
	Gate(account string, now time.Time) Gate

	// Relay makes one attempt for out.Recipients. What the outcome means for the account is in force (Gate knows it)
	// before it returns. ctx ends only when the program stops and its grace is over.
	Relay(ctx context.Context, out message.Outgoing) reply.Outcome
}

// Gate is an account's leave to send.
type Gate struct {
	Limit   int       // how many of its messages may be in flight now; 0 closed; 1 while a pause is probed
	Again   time.Time // when to ask again; zero: when Wake is called
	Waiting string    // why it is not open: "", "pause" or "parked"
}

// OnDoubt is what follows when nobody can tell whether a message went out.
type OnDoubt int

const (
	Resend OnDoubt = iota // send once more
	Hold                  // leave it to a person
)

// Account is what the queue knows of an account.
type Account struct {
	Name          string
	Concurrency   int           // messages in flight at most; less than 1 is 1
	RatePerMinute int           // attempts begun in any 60 seconds at most; 0 is no limit
	OnDoubt       OnDoubt       //
	DoubtWait     time.Duration // before OnDoubt is obeyed; 0 is 10 minutes
}

// Options are the queue's settings and the rooms that it uses.
type Options struct {
	Store       Store // the queue does not close it
	Relayer     Relayer
	Accounts    []Account
	GiveUpAfter time.Duration // age at which a message fails; 0 is 5 days
	StopGrace   time.Duration // for what is on the wire when Run is told to end
	Events      *event.Bus
	Now         func() time.Time                               // nil is time.Now
	Jitter      func(wait time.Duration) (extra time.Duration) // added to waits; nil is up to a tenth of the wait
}

// Queue keeps and schedules mail. Safe for concurrent use.
type Queue struct {
	store     Store
	relayer   Relayer
	schedule  Schedule
	stopGrace time.Duration
	events    *event.Bus
	clock     func() time.Time
	jitter    func(time.Duration) time.Duration
	lease     string           // names this process in the leases that it takes
	lanes     map[string]*lane // by account; not changed after New
	attempts  sync.WaitGroup   // those in flight
}

// New returns a queue that takes messages, and relays them while Run runs.
func New(o Options) *Queue {
	q := &Queue{
		store: o.Store, relayer: o.Relayer, stopGrace: o.StopGrace, events: o.Events, clock: o.Now, jitter: o.Jitter,
		schedule: Schedule{GiveUpAfter: o.GiveUpAfter},
		lease:    rand.Text(),
		lanes:    make(map[string]*lane, len(o.Accounts)),
	}
	if q.schedule.GiveUpAfter == 0 {
		q.schedule.GiveUpAfter = 5 * 24 * time.Hour
	}
	if q.clock == nil {
		q.clock = time.Now
	}
	if q.jitter == nil {
		q.jitter = func(wait time.Duration) time.Duration { return mathrand.N(wait/10 + 1) }
	}
	for _, a := range o.Accounts {
		a.Concurrency = max(a.Concurrency, 1)
		if a.DoubtWait == 0 {
			a.DoubtWait = 10 * time.Minute
		}
		q.lanes[a.Name] = newLane(q, a)
	}
	return q
}

// now is the time as the store keeps it.
func (q *Queue) now() time.Time { return q.clock().UTC().Truncate(time.Microsecond) }

// Enqueue keeps m and its body. It is durable (committed and synced) when Enqueue returns nil, and then the message is
// the queue's: whatever becomes of the session. An error of the body's reader comes back wrapped; any other is a
// *reply.Error. After an error nothing is kept.
func (q *Queue) Enqueue(ctx context.Context, m message.Message, body io.Reader) error {
	l := q.lanes[m.Plan.Account]
	if l == nil {
		return &reply.Error{Code: 451, Enhanced: "4.3.5", Text: "the message cannot be relayed as configured; try again later",
			Err: fmt.Errorf("queue %s: no account %q", m.ID, m.Plan.Account)}
	}
	now := q.now()
	it := Item{ID: m.ID, Account: m.Plan.Account, Accepted: m.Accepted.UTC().Truncate(time.Microsecond)}
	for _, a := range m.Envelope.Recipients {
		it.Recipients = append(it.Recipients, Recipient{Address: a, State: Queued, Next: now})
	}
	read := &watchedReader{r: body}
	err := q.store.Add(ctx, it, m, read)
	switch {
	case err == nil:
		l.poke()
		return nil
	case read.err != nil:
		return fmt.Errorf("queue %s: read the body: %w", m.ID, read.err)
	case errors.Is(err, ErrFull):
		return &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "insufficient system storage; try again later", Err: fmt.Errorf("queue %s: %w", m.ID, err)}
	}
	return &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be stored; try again later", Err: fmt.Errorf("queue %s: %w", m.ID, err)}
}

// watchedReader remembers an error of its reader, to tell the session's trouble from the store's.
type watchedReader struct {
	r   io.Reader
	err error // but io.EOF
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// Run relays until ctx ends. Then it claims nothing more and waits for what is on the wire, at most StopGrace; what is
// left is cut off, and is as after a crash where its attempt does not end within lastGrace. It returns an error when
// the store cannot be read at the start, and when attempts were left behind. It is called once.
func (q *Queue) Run(ctx context.Context) error {
	if err := q.recover(ctx); err != nil {
		return err
	}
	// After 250 a message does not belong to anybody's context; an attempt ends by itself, or when the grace is over.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var lanes sync.WaitGroup
	for _, l := range q.lanes {
		lanes.Go(func() { l.run(ctx, work) })
	}
	lanes.Wait()
	ended := make(chan struct{})
	go func() { q.attempts.Wait(); close(ended) }()
	if endsWithin(ended, q.stopGrace) {
		return nil
	}
	cut()
	if endsWithin(ended, lastGrace) {
		return nil
	}
	return errors.New("attempts to relay were left behind; their messages are as after a crash")
}

// lastGrace is for attempts that were cut off to return and for their outcomes to be written.
const lastGrace = 5 * time.Second

func endsWithin(ended <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

// recover voids the leases of the process before: its messages are due at once, or in doubt.
func (q *Queue) recover(ctx context.Context) error {
	leased, err := q.store.List(ctx, Filter{State: Sending})
	if err != nil {
		return fmt.Errorf("leases of the former process: %w", err)
	}
	for _, e := range leased {
		doubtWait := 10 * time.Minute // of an account that was removed
		if l := q.lanes[e.Item.Account]; l != nil {
			doubtWait = l.account.DoubtWait
		}
		var after Item
		err := q.store.Update(ctx, e.Item.ID, func(it *Item) error {
			err := it.abandon(q.now(), doubtWait)
			after = it.Clone()
			return err
		})
		if err != nil {
			return fmt.Errorf("lease of the former process on %s: %w", e.Item.ID, err)
		}
		q.tell(ctx, e, after)
	}
	return nil
}

// Wake tells that the account may go on, "" that all may.
func (q *Queue) Wake(account string) {
	for name, l := range q.lanes {
		if account == "" || account == name {
			l.poke()
		}
	}
}

// Row is one message as an administrator sees it.
type Row struct {
	Entry
	State       State
	NextAttempt time.Time // zero where nothing is due by time
	WaitingFor  string    // "rate", "pause", "parked", "sender", "doubt"; "" where it only waits for its time or its turn
}

// List returns the messages that f selects, without headers.
func (q *Queue) List(ctx context.Context, f Filter) ([]Row, error) {
	entries, err := q.store.List(ctx, f)
	rows := make([]Row, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, q.row(e))
	}
	return rows, err
}

// Show returns one message with its header; an error that wraps ErrNotFound where there is none.
func (q *Queue) Show(ctx context.Context, id envelope.ID) (Row, error) {
	e, err := q.store.Get(ctx, id)
	if err != nil {
		return Row{}, err
	}
	return q.row(e), nil
}

func (q *Queue) row(e Entry) Row {
	r := Row{Entry: e, State: e.Item.State(), NextAttempt: e.Item.Next()}
	switch {
	case r.State == InDoubt:
		r.WaitingFor = "doubt"
	case r.State == Deferred && slices.ContainsFunc(e.Item.Recipients, func(r Recipient) bool { return r.State == Deferred && r.SenderWaits > 0 }):
		r.WaitingFor = "sender"
	case r.State == Queued || r.State == Deferred:
		if l := q.lanes[e.Item.Account]; l != nil && !r.NextAttempt.After(q.now()) {
			r.WaitingFor = l.waitingFor()
		}
	}
	return r
}

// Counts returns how many messages there are by account and state.
func (q *Queue) Counts(ctx context.Context) ([]Count, error) { return q.store.Counts(ctx) }
