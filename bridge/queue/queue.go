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
// Beside it: what is queued goes to deferred with its sender pair (sender.go). Age leads from queued and deferred to
// failed, from in-doubt to held, and past the park limit to held (watch.go). A death of the process leads from sending
// to queued, where the message is a suspect and tried alone, or in the end to held (trial.go). A person also moves what
// is not being sent to held, to failed (drop), and from held or in-doubt to relayed (sent).
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
	"sync/atomic"
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

	// Relay makes one attempt for out.Recipients, and calls out.BeforeSend for all that the rate counts of it. What the
	// outcome means for the account is in force (Gate knows it) before it returns. ctx ends only when the program stops
	// and its grace is over.
	Relay(ctx context.Context, out message.Outgoing) reply.Outcome
}

// Gate is an account's leave to send.
type Gate struct {
	Limit   int       // how many of its messages may be in flight now; 0 closed; 1 for a probe, if none is under way
	Again   time.Time // when to ask again; zero: when Wake is called, or the probe that is under way has ended
	Waiting string    // why it is not open: "", "pause" or "parked"; with a Limit of 1 while that is probed
	Since   time.Time // when it is not open: since when
}

// waitingParked is Gate.Waiting where a person must act: the age of the account's mail stands still.
const waitingParked = "parked"

// waitingTrial is Row.WaitingFor of what was in flight when a process died, and of other mail of its account until that
// has been tried: trial.go.
const waitingTrial = "trial"

// OnDoubt is what follows when nobody can tell whether a message went out.
type OnDoubt int

const (
	Resend OnDoubt = iota // send once more
	Hold                  // leave it to a person
)

// Account is what the queue knows of an account.
type Account struct {
	Name          string
	Mailbox       string        // the key of whose limits count: accounts that share it share them. "": the account alone
	Concurrency   int           // messages in flight at most; less than 1 is 1
	RatePerMinute int           // attempts begun in any 60 seconds at most; 0 is no limit
	OnDoubt       OnDoubt       //
	DoubtWait     time.Duration // before OnDoubt is obeyed; 0 is 10 minutes
}

// Options are the queue's settings and the rooms that it uses.
type Options struct {
	Store       Store // the queue does not close it
	Relayer     Relayer
	Reporter    Reporter                           // nil: nobody gets reports
	Ended       func(ctx context.Context, e Ended) // hears what was ended or held, once that is durable; nil: nobody. It must not block for long
	Accounts    []Account
	GiveUpAfter time.Duration // age at which a message fails; 0 is 5 days
	WarnAfter   time.Duration // age at which Reporter hears that it is late; 0 is never
	ParkLimit   time.Duration // time parked after which a message is held; 0 is 30 days
	KeepHistory time.Duration // of finished messages; 0 is 30 days
	KeepFailed  time.Duration // bodies of failed messages; 0 is 14 days
	KeepBodies  bool          // of relayed messages, as long as KeepHistory
	StopGrace   time.Duration // for what is on the wire when Run is told to end
	MinFree     int64         // bytes free on the store's disk below which nothing is taken; 0 is no limit
	Free        func() (int64, error)
	MaxQueued   map[string]Usage // what a user may have waiting; 0, and without an entry, no limit
	Events      *event.Bus
	Now         func() time.Time                               // nil is time.Now
	Jitter      func(wait time.Duration) (extra time.Duration) // added to waits; nil is up to a tenth of the wait
}

// Queue keeps and schedules mail. Safe for concurrent use.
type Queue struct {
	store       Store
	relayer     Relayer
	reporter    Reporter
	ended       func(context.Context, Ended)
	schedule    Schedule
	rules       rules
	warnAfter   time.Duration
	parkLimit   time.Duration
	keepHistory time.Duration
	keepFailed  time.Duration
	stopGrace   time.Duration
	events      *event.Bus
	clock       func() time.Time
	jitter      func(time.Duration) time.Duration
	lease       string // names this process in the leases that it takes
	set         atomic.Pointer[accountSet]
	changing    sync.Mutex  // one SetAccounts at a time; guards what begins lanes
	begin       func(*lane) // nil while Run does not run
	parks       parks
	lacks       lacks
	space       space
	usage       usage
	owes        chan struct{}        // holds one token: a report is owed, or room is short
	looked      time.Time            // by watch, which alone touches it
	spared      time.Time            // until when nothing is ended by its age alone, likewise
	forgets     time.Time            // when forgetGone has work next, likewise
	unreported  map[envelope.ID]bool // whose reports could not be made at the last look, likewise
	attempts    sync.WaitGroup       // those in flight
}

// New returns a queue that takes messages, and relays them while Run runs.
func New(o Options) *Queue {
	if o.Now == nil {
		o.Now = time.Now
	}
	q := &Queue{
		store: o.Store, relayer: o.Relayer, reporter: o.Reporter, ended: o.Ended, stopGrace: o.StopGrace, events: o.Events, clock: o.Now,
		jitter:      o.Jitter,
		schedule:    Schedule{GiveUpAfter: orDefault(o.GiveUpAfter, 5*24*time.Hour)},
		rules:       rules{reports: o.Reporter != nil, keepBodies: o.KeepBodies},
		warnAfter:   o.WarnAfter,
		parkLimit:   orDefault(o.ParkLimit, 30*24*time.Hour),
		keepHistory: orDefault(o.KeepHistory, 30*24*time.Hour),
		keepFailed:  orDefault(o.KeepFailed, 14*24*time.Hour),
		lease:       rand.Text(),
		space:       space{least: o.MinFree, free: o.Free, events: o.Events, clock: o.Now},
		owes:        make(chan struct{}, 1),
	}
	q.parks = parks{q: q, of: make(map[string]*park)}
	q.lacks = lacks{q: q, of: make(map[pairKey]Lack)}
	q.usage = usage{q: q, most: o.MaxQueued, coming: make(map[string]Usage)}
	if q.jitter == nil {
		q.jitter = func(wait time.Duration) time.Duration { return mathrand.N(wait/10 + 1) }
	}
	q.set.Store(&accountSet{})
	q.SetAccounts(o.Accounts)
	return q
}

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

// owe tells that a report is owed, or room is short. It never blocks.
func (q *Queue) owe() {
	select {
	case q.owes <- struct{}{}:
	default:
	}
}

// now is the time as the store keeps it.
func (q *Queue) now() time.Time { return q.clock().UTC().Truncate(time.Microsecond) }

// Enqueue keeps m and its body. It is durable (committed and synced) when Enqueue returns nil, and then the message is
// the queue's: whatever becomes of the session. An error of the body's reader comes back wrapped; any other is a
// *reply.Error. After an error nothing is kept, with one exception: what the disk took and could not sync may be found
// again by the next process, where this one dies before it writes anything else. Then it is relayed, although it was refused.
func (q *Queue) Enqueue(ctx context.Context, m message.Message, body io.Reader) error {
	if q.set.Load().lanes[m.Plan.Account] == nil {
		return &reply.Error{Code: 451, Enhanced: "4.3.5", Text: "the message cannot be relayed as configured; try again later",
			Err: fmt.Errorf("queue %s: no account %q", m.ID, m.Plan.Account)}
	}
	place, err := q.room(ctx, m)
	if err != nil {
		return err
	}
	defer place.end(false)
	more := func(octets int) error {
		q.space.took(octets)
		return place.more(octets)
	}
	read := &watchedReader{r: body, more: more, full: func(came int64) error { return q.space.look(ctx, 2*min(came, unwritten)) }}
	err = q.store.Add(ctx, q.item(m), m, read)
	switch {
	case err == nil:
		place.end(true)
		q.laneOf(m.Plan.Account).poke() // perhaps another one by now
		return nil
	case errors.Is(err, errShare):
		return q.noShare(m, err)
	case read.err != nil:
		return fmt.Errorf("queue %s: read the body: %w", m.ID, read.err)
	case errors.Is(err, ErrFull):
		return q.noRoom(fmt.Errorf("queue %s: %w", m.ID, err))
	}
	return &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be stored; try again later", Err: fmt.Errorf("queue %s: %w", m.ID, err)}
}

// item is what the queue knows of a new message: due at once, or when its plan says.
func (q *Queue) item(m message.Message) Item {
	now := q.now()
	it := Item{ID: m.ID, Account: m.Plan.Account, Sender: m.Plan.HeaderFrom.Key(), Accepted: m.Accepted.UTC().Truncate(time.Microsecond),
		Parked: q.parks.total(m.Plan.Account, now)}
	first := Recipient{State: Queued, Next: now}
	if at := m.Plan.NotBefore.UTC().Truncate(time.Microsecond); at.After(now) {
		first.Next = at
	}
	if m.Plan.Hold {
		first = Recipient{State: Held, Last: Last{Err: "its scenario holds it until it is released"}}
	}
	for _, a := range m.Envelope.Recipients {
		first.Address = a
		it.Recipients = append(it.Recipients, first)
	}
	it.Watch = q.firstWatch(now)
	return it
}

// firstWatch is when the age of a message that begins now is looked at first.
func (q *Queue) firstWatch(now time.Time) time.Time {
	first := min(q.schedule.GiveUpAfter, q.parkLimit) + time.Second
	if q.warnAfter > 0 {
		first = min(first, q.warnAfter)
	}
	return now.Add(first)
}

// watchedReader remembers an error of its reader, to tell the session's trouble from the store's, and ends where the disk
// or the user's share becomes full meanwhile.
type watchedReader struct {
	r       io.Reader
	full    func(came int64) error
	more    func(octets int) error
	err     error // but io.EOF
	checked int   // octets since the disk was looked at
	came    int64 // octets in all
}

// unwritten is how many octets of a body a store has in memory at most. It writes them twice: into its log, and from there
// into its file.
const unwritten = 1 << 20

func (w *watchedReader) Read(p []byte) (int, error) {
	if w.checked >= lookEvery {
		w.checked = 0
		if err := w.full(w.came); err != nil {
			return 0, err
		}
	}
	n, err := w.r.Read(p)
	w.checked += n
	w.came += int64(n)
	if n > 0 {
		if err := w.more(n); err != nil {
			return 0, err
		}
	}
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
	var others sync.WaitGroup
	others.Go(func() { q.watch(ctx) })
	suspects, begun := q.seeSuspects(ctx)
	q.beginLanes(func(l *lane) { others.Go(func() { l.run(ctx, work) }) })
	others.Go(func() { q.tryAlone(ctx, work, suspects, begun) })
	<-ctx.Done()
	q.beginLanes(nil) // or one might begin while the last is waited for
	others.Wait()
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

// Wake tells that the account may go on, "" that all may: a trouble is over. It does not block.
func (q *Queue) Wake(account string) {
	for name, l := range q.set.Load().lanes {
		if account == "" || account == name {
			l.mayResume()
		}
	}
}

// Row is one message as an administrator sees it.
type Row struct {
	Entry
	State       State
	NextAttempt time.Time // also when what it waits for is over; zero where nothing is due by time
	WaitingFor  string    // "rate", "pause", "parked", "sender", "doubt", "trial"; "" where it only waits for its time or its turn
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
	l := q.set.Load().lanes[e.Item.Account]
	switch {
	case l == nil && r.State.waiting() && q.parks.parked(e.Item.Account): // as Run sees what is of no account; before it nobody knows all
		r.WaitingFor, r.NextAttempt = waitingParked, time.Time{}
	case r.State == InDoubt:
		r.WaitingFor = "doubt"
	case r.State == Deferred && slices.ContainsFunc(e.Item.Recipients, func(r Recipient) bool { return r.State == Deferred && r.SenderWaits > 0 }):
		r.WaitingFor = "sender"
	case r.State == Queued || r.State == Deferred:
		if _, stands := e.Item.stands(); stands {
			r.WaitingFor = waitingParked
		} else if l != nil && !r.NextAttempt.After(q.now()) {
			var until time.Time
			if r.WaitingFor, until = l.waitingFor(e.Item.Account); r.WaitingFor != "" {
				r.NextAttempt = until
			} else if e.Item.Suspect {
				r.WaitingFor = waitingTrial
			}
		}
	}
	return r
}

// Counts returns how many messages there are by account and state.
func (q *Queue) Counts(ctx context.Context) ([]Count, error) { return q.store.Counts(ctx) }
