package sqlite

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/bridge/queue"
	"postern/bridge/queue/intake"
)

// Bounds of what waits in front of the tables.
const (
	maxRecord    = 64 << 10 // octets of a record: a larger message goes into the tables at once
	moveMessages = 64       // so many, or
	moveBytes    = 1 << 20  // octets of them, are moved without waiting for anything
	moveAfter    = 50 * time.Millisecond
	moveAgain    = time.Second // after a move that failed
	plenty       = 16          // times as much as the intake grows must be free on the disk
)

// front is where a small message is kept first: in the intake, by one write and one sync, and in memory. From there all
// that wait go into the tables with the writer's next transaction, whatever that is for, or when they are many, or after
// moveAfter. So nobody who asks the tables by the writer misses one; who reads beside it calls settle before.
//
// Those who come while a frame is synced share the next one. No goroutine of its own writes the frames: the first who
// waits writes for all, and hands over to the first who came meanwhile; so a lone sender waits for nobody to wake up.
type front struct {
	log   *intake.Log
	tell  func(error)   // tells a person
	nudge chan struct{} // holds one token: the writer should move what waits

	mu      sync.Mutex // guards what follows
	coming  []*arrival // waits for the next frame
	leading bool       // somebody writes a frame
	idle    sync.Cond  // leading became false
	closed  bool
	dead    bool // the log takes nothing more
	stuck   bool // the tables did not take what waits: until they do, all else goes to them directly
	why     error
	again   bool // it is time to try once more
	waiting []kept
	bytes   int
	ids     map[string]bool // of coming and waiting
	seen    seen
	timed   bool   // a timer will nudge
	void    uint64 // the frame that could not be written: the tables must say that it is not needed; 0 for none

	n atomic.Int64 // messages in waiting
}

// kept is a frame that waits to be moved.
type kept struct {
	seq     uint64
	records []*record
	bytes   int
}

// arrival is a message that waits for its frame.
type arrival struct {
	r    *record
	done chan error // holds one: how it ended, or errLead
}

var (
	// errLead tells an arrival that it writes the next frame.
	errLead = errors.New("write the next frame")

	// errDirectly is returned for what the front does not take: it goes into the tables at once, which take it or say why not.
	errDirectly = errors.New("not through the intake")
)

func newFront(log *intake.Log, above string, tell func(error)) *front {
	f := &front{log: log, tell: tell, nudge: make(chan struct{}, 1), ids: map[string]bool{}, seen: seen{above, map[string]bool{}}}
	f.idle.L = &f.mu
	return f
}

// add keeps a message; it is durable when add returns nil. known asks the tables for an ID, and settle has the writer move
// what waits.
func (f *front) add(r *record, known func(id string) (bool, error), settle func() error) error {
	r.encode()
	if len(r.text) > maxRecord {
		return errDirectly
	}
	a := &arrival{r: r, done: make(chan error, 1)}
	excluded, err := f.enter(r.id)
	if err != nil {
		return err
	}
	there := false
	if !excluded {
		there, err = known(r.id) // only now: what waited a moment ago is in the tables, or still waits
	}
	f.mu.Lock()
	switch {
	case f.closed:
		err = queue.ErrClosed
	case err != nil: // the tables say it again to who asks them
		err = errDirectly
	case there:
		err = queue.ErrExists
	}
	if err != nil {
		delete(f.ids, r.id)
		f.mu.Unlock()
		return err
	}
	f.coming = append(f.coming, a)
	lead := !f.leading
	f.leading = true
	f.mu.Unlock()
	if !lead {
		if err := <-a.done; err != errLead {
			return err
		}
	}
	return f.lead(a, settle)
}

// enter takes the ID. excluded says that the tables need not be asked for it.
func (f *front) enter(id string) (excluded bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return false, queue.ErrClosed
	case f.dead || f.stuck:
		return false, errDirectly
	case f.ids[id]:
		return false, queue.ErrExists
	}
	f.ids[id] = true
	return f.seen.excludes(id), nil
}

// saw notes that the ID may be in the tables.
func (f *front) saw(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen.add(id)
}

// lead writes a frame of what came so far, a the first of it.
func (f *front) lead(a *arrival, settle func() error) error {
	runtime.Gosched() // whoever is about to come shares the frame; with 8 senders and 20 that is a twentieth more (measured)
	f.mu.Lock()
	batch, texts := f.batch()
	f.mu.Unlock()
	seq, err := f.log.Append(texts)
	if errors.Is(err, intake.ErrNoRoom) && settle() == nil {
		seq, err = f.log.Append(texts)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.keep(seq, batch)
	} else {
		if errors.Is(err, intake.ErrDead) {
			f.dead, f.void = true, seq
			f.tell(err)
		}
		for _, b := range batch {
			delete(f.ids, b.r.id)
		}
		err = errDirectly
	}
	for _, b := range batch[1:] {
		b.done <- err
	}
	if len(f.coming) > 0 {
		f.coming[0].done <- errLead
	} else {
		f.leading = false
		f.idle.Broadcast()
	}
	return err
}

// batch takes what fits into a frame.
func (f *front) batch() (batch []*arrival, texts [][]byte) {
	n, bytes := 0, 0
	for n < len(f.coming) && bytes+len(f.coming[n].r.text)+intake.RecordHead <= intake.MaxText {
		bytes += len(f.coming[n].r.text) + intake.RecordHead
		texts = append(texts, f.coming[n].r.text)
		n++
	}
	batch = slices.Clone(f.coming[:n])
	f.coming = append(f.coming[:0], f.coming[n:]...)
	clear(f.coming[len(f.coming):cap(f.coming)])
	return batch, texts
}

// keep notes what is durable and not yet in the tables.
func (f *front) keep(seq uint64, batch []*arrival) {
	k := kept{seq: seq}
	for _, a := range batch {
		k.records = append(k.records, a.r)
		k.bytes += len(a.r.text)
	}
	f.waiting = append(f.waiting, k)
	f.bytes += k.bytes
	switch n := f.n.Add(int64(len(batch))); {
	case n >= moveMessages || f.bytes >= moveBytes:
		f.wake()
	case !f.timed:
		f.wakeAfter(moveAfter)
	}
}

// wake nudges the writer. It never blocks.
func (f *front) wake() {
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}

func (f *front) wakeAfter(d time.Duration) {
	f.timed = true
	time.AfterFunc(d, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.timed, f.again = false, true
		f.wake()
	})
}

// owed is about how many octets the tables will need for what waits: the pages of a message have up to half as much again as
// it has itself, and they are written into the log and then into the file.
func (f *front) owed() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 3*int64(f.bytes) + 3*f.n.Load()*pageSize
}

// has reports whether the message is not in the tables yet.
func (f *front) has(id string) bool {
	if f.n.Load() == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[id]
}

// take returns what the writer's next transaction moves, and the number of the last frame that is not needed after it; 0
// where there is nothing to do, or where it was tried in vain a moment ago.
func (f *front) take() (frames []kept, done uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stuck && !f.again {
		if len(f.waiting) == 0 {
			return nil, f.void
		}
		return nil, 0
	}
	if n := len(f.waiting); n > 0 {
		done = f.waiting[n-1].seq
	}
	return slices.Clone(f.waiting), max(done, f.void)
}

// moved says that the transaction of take's is committed.
func (f *front) moved(frames []kept, done uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log.Release(done)
	for _, k := range frames {
		for _, r := range k.records {
			delete(f.ids, r.id)
			r.free()
		}
		f.n.Add(-int64(len(k.records)))
		f.bytes -= k.bytes
	}
	f.waiting = slices.Delete(f.waiting, 0, len(frames))
	f.stuck = false
	if done >= f.void {
		f.void = 0
	}
}

// failed says that the transaction of take's came to nothing. What waits is safe where it is, and a person is told once.
func (f *front) failed(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stuck && len(f.waiting) > 0 && !errors.Is(why, queue.ErrDamaged) { // of damage they are told anyway
		f.tell(fmt.Errorf("%w: %w", errBehind, why))
	}
	f.stuck, f.why, f.again = true, why, false
	f.wakeAfter(moveAgain)
}

// behind returns errBehind where the tables did not take what waits. It wraps no more than that: a store that is full or
// damaged there can still be read.
func (f *front) behind() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stuck || len(f.waiting) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %v", errBehind, f.why)
}

// records are those of the messages that wait.
func (f *front) records() (all []*record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.waiting {
		all = append(all, k.records...)
	}
	return all
}

// close takes nothing more, and returns when what was begun is kept.
func (f *front) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for f.leading {
		f.idle.Wait()
	}
}
