package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"

	"postern/bridge/queue"
)

// Bounds of one transaction: one fsync for so many changes, and so much of the WAL at once.
const (
	maxBatch      = 256
	maxBatchBytes = 8 << 20
)

// change is one caller's part of a transaction. do may run twice, when the transaction it was in first had to be undone.
type change struct {
	do    func(*tx) error
	bytes int        // about how much it writes
	done  chan error // holds one: how it ended, after the commit
}

// writer is the one goroutine that writes. While it commits, changes queue up; it then takes all of them into its next
// transaction (group commit), so that the fsync is shared and nobody waits for a timer.
type writer struct {
	conn    *sql.Conn
	front   *front
	tx      tx
	changes chan *change
	chores  chan chore
	closing chan struct{} // closed by close: no new change is taken
	closed  chan struct{} // closed when the goroutine has ended
	once    sync.Once
	named   func(error) error
	intact  func() error
	path    string // of the store
	lookAt  int64  // the length of the write-ahead log, in octets, at which mindLog asks why; only run touches it
}

// longLog is a length of the write-ahead log, in octets, that it reaches only where it is not copied into the file.
const longLog = 4 * logPages * 4120

var errLog = errors.New("what was accepted cannot be copied into the queue's file and fills the disk as " +
	"its write-ahead log")

func newWriter(ctx context.Context, conn *sql.Conn, s *Store) (*writer, error) {
	w := &writer{conn: conn, front: s.front, named: s.named, intact: s.intact, path: s.path, changes: make(chan *change, maxBatch), chores: make(chan chore),
		lookAt: longLog, closing: make(chan struct{}), closed: make(chan struct{})}
	w.tx.front = s.front
	if err := w.tx.prepare(ctx, conn); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

// apply hands a change over and returns how it ended, whatever becomes of ctx meanwhile. Before that ctx may end it.
func (w *writer) apply(ctx context.Context, bytes int, do func(*tx) error) error {
	c := &change{do: do, bytes: bytes, done: make(chan error, 1)}
	select {
	case <-w.closing:
		return queue.ErrClosed
	default:
	}
	select {
	case w.changes <- c:
	case <-w.closing:
		return queue.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return w.named(err)
	case <-w.closed:
	}
	select {
	case err := <-c.done:
		return w.named(err)
	default:
		return queue.ErrClosed // handed over while the writer ended: it never ran
	}
}

// chore is something that cannot be done within a transaction.
type chore struct {
	do   func(*sql.Conn) error
	done chan error // holds one
}

// alone has do run between two transactions.
func (w *writer) alone(ctx context.Context, do func(*sql.Conn) error) error {
	c := chore{do: do, done: make(chan error, 1)}
	select {
	case w.chores <- c:
		return w.named(<-c.done)
	case <-w.closing:
		return queue.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) close() {
	w.once.Do(func() { close(w.closing) })
	<-w.closed
}

func (w *writer) run() {
	defer close(w.closed)
	var batch []*change
	for {
		select {
		case c := <-w.changes:
			batch = w.gather(append(batch[:0], c))
			w.commit(batch)
			clear(batch)
		case <-w.front.nudge:
			w.commit(nil)
		case c := <-w.chores:
			c.done <- c.do(w.conn)
		case <-w.closing:
			// What was handed over before is still done.
			select {
			case c := <-w.changes:
				w.commit([]*change{c})
				continue
			default:
			}
			w.commit(nil) // what waits in front; if this fails the next Open does it
			w.tx.close()
			w.conn.Close()
			return
		}
	}
}

// gather adds what has queued up.
func (w *writer) gather(batch []*change) []*change {
	bytes := batch[0].bytes
	for len(batch) < maxBatch && bytes < maxBatchBytes {
		select {
		case c := <-w.changes:
			batch = append(batch, c)
			bytes += c.bytes
		default:
			return batch
		}
	}
	return batch
}

// commit applies the batch in one transaction. Where one of several changes fails with something written, the
// transaction is undone and each gets one of its own, so that one cannot take its neighbours with it.
func (w *writer) commit(batch []*change) {
	results := make([]error, len(batch))
	spoilt, err := w.transact(batch, results)
	if spoilt && len(batch) > 1 {
		for _, c := range batch {
			w.commit([]*change{c})
		}
		return
	}
	for i, c := range batch {
		if err != nil && results[i] == nil {
			results[i] = err
		}
		c.done <- results[i]
	}
}

// transact runs the batch in a transaction, after what waits in front of the tables; where that keeps it from being
// committed, without it. It is undone where err is not nil; spoilt says that a change did it.
func (w *writer) transact(batch []*change, results []error) (spoilt bool, err error) {
	frames, done := w.front.take()
	if err := w.intact(); done > 0 && err != nil { // where they are they are safe
		w.front.failed(err)
		frames, done = nil, 0
	}
	if done == 0 && len(batch) == 0 {
		return false, nil
	}
	move := func() error { return w.tx.move(frames, w.front.log.ID(), done) }
	if done == 0 {
		move = nil
	}
	spoilt, err = w.try(batch, results, move)
	if err != nil && errors.Is(named(err), queue.ErrFull) {
		w.makeRoom()
		spoilt, err = w.try(batch, results, move)
	}
	if !spoilt && done > 0 && rowsFault(err) {
		spoilt, err = w.trySingly(batch, results, frames, done)
	}
	w.mindLog()
	switch {
	case err == nil && done > 0:
		w.front.moved(frames, done)
	case err == nil || done == 0:
	case spoilt:
		w.front.wake() // they are tried again without that change
	default:
		w.front.failed(w.named(err)) // damage is noted
		if len(batch) > 0 {
			clear(results)
			return w.try(batch, results, nil)
		}
	}
	return spoilt, err
}

// trySingly is a try that puts aside what the tables refuse of what waits.
func (w *writer) trySingly(batch []*change, results []error, frames []kept, done uint64) (spoilt bool, err error) {
	var refused []*refusal
	spoilt, err = w.try(batch, results, func() (err error) {
		if refused, err = w.tx.moveSingly(frames, w.front.log.ID(), done); err == nil && len(refused) > 0 {
			err = w.tx.putAside(w.path, refused)
		}
		return err
	})
	if err != nil {
		takeBack(refused)
		return spoilt, err
	}
	for _, f := range refused {
		w.front.tell(f.told())
	}
	return false, nil
}

// makeRoom gives back what can be had at once on a full disk: the intake's empty blocks, and the write-ahead log, which
// begins anew once all of it is in the file.
func (w *writer) makeRoom() {
	_ = w.front.log.Shrink() // without its room it may still go
	var busy, pages, copied int
	_ = w.conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied)
}

// mindLog tells where the write-ahead log grows because the file cannot be written. A commit that is to copy it succeeds all
// the same (sqlite3_wal_autocheckpoint says nothing of an error), and a reader may be in the way for a while.
func (w *writer) mindLog() {
	fi, err := os.Stat(w.path + "-wal")
	switch {
	case err != nil:
	case fi.Size() < longLog:
		w.lookAt = longLog
	case fi.Size() >= w.lookAt:
		w.lookAt = 2 * fi.Size()
		var busy, pages, copied int
		if err := w.conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &copied); err != nil {
			w.front.tell(fmt.Errorf("%w: %w", errLog, w.named(err)))
		}
	}
}

// try is one transaction between BEGIN and COMMIT, with move, which may be nil, at its beginning. A change that fails
// without having written anything only has its result.
func (w *writer) try(batch []*change, results []error, move func() error) (spoilt bool, err error) {
	if err := w.begin(); err != nil {
		return false, fmt.Errorf("begin: %w", err)
	}
	if move != nil {
		if err := move(); err != nil {
			w.undo()
			return false, err
		}
	}
	for i, c := range batch {
		w.tx.touched = false
		if results[i] = c.do(&w.tx); results[i] != nil && w.tx.touched {
			w.undo()
			return true, results[i]
		}
	}
	if _, err := w.tx.commit.Exec(); err != nil {
		w.undo()
		return false, fmt.Errorf("commit: %w", err)
	}
	return false, nil
}

// begin starts a transaction; one that an undo could not end is ended first.
func (w *writer) begin() error {
	_, err := w.tx.begin.Exec()
	if err != nil {
		w.undo()
		_, err = w.tx.begin.Exec()
	}
	return err
}

// undo ends the transaction without its changes. SQLite ends it by itself after some errors (a full disk, an I/O error)
// and then calls the ROLLBACK an error; where it really failed, begin meets it again.
func (w *writer) undo() { _, _ = w.tx.rollback.Exec() }
