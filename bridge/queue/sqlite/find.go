package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"postern/bridge/queue"
)

// checkFor is how long Open waits for the check of a large store that was closed; the rest of it runs beside the mail.
const checkFor = 500 * time.Millisecond

// damaged reports whether SQLite finds the file damaged. Where that takes longer than the wait, the check goes on, and tells
// Damaged when it finds something; but after a crash, when there may be something to write at once, it is waited for.
func (s *Store) damaged(ctx context.Context, wait time.Duration) error {
	if err := marked(s.path); err != nil {
		return err
	}
	found := make(chan error, 1)
	checking, stop := context.WithCancel(context.Background())
	s.stopCheck = stop
	s.check.Go(func() { found <- s.finding.see(checkAll(checking, s.read)) })
	var enough <-chan time.Time
	if s.died {
		s.check.Go(func() { s.readThrough(checking) })
	} else {
		t := time.NewTimer(wait)
		defer t.Stop()
		enough = t.C
	}
	select {
	case err := <-found:
		return err
	case <-enough:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readThrough reads the file from its beginning to its end while it is checked. The check reads one page here and one there,
// which takes a disk eight times as long (measured with 1 GB); so it finds most of them in the system's cache.
func (s *Store) readThrough(ctx context.Context) {
	var err error
	if s.through, err = os.Open(s.path); err != nil {
		return // the check finds it slowly, or says why not
	}
	piece := make([]byte, 1<<20)
	for ctx.Err() == nil && err == nil {
		_, err = s.through.Read(piece)
	}
}

// checkAll reads the structure of the whole file, and whether each index has what its table has; an error that wraps queue.ErrDamaged says what is wrong with it.
func checkAll(ctx context.Context, db querier) error {
	rows, err := db.QueryContext(ctx, "PRAGMA integrity_check(5)")
	if err != nil {
		return named(err)
	}
	defer rows.Close()
	var wrong []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return named(err)
		}
		if line != "ok" {
			wrong = append(wrong, strings.ReplaceAll(line, "\n", " "))
		}
	}
	if err := rows.Err(); err != nil {
		return named(err)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", queue.ErrDamaged, strings.Join(wrong, "; "))
	}
	return nil
}

// querier is a pool of connections, or one of them.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// finding is damage of the file that is found while the store is open, by the check or by whoever meets the page.
type finding struct {
	path string
	seen atomic.Pointer[error] // the first
	told chan error            // holds what nobody has heard yet
}

func newFinding(path string) *finding { return &finding{path: path, told: make(chan error, 8)} }

// see hands the error on. Damage leaves a mark, so that the next Open salvages; the first is told to Damaged.
func (f *finding) see(err error) error {
	if !errors.Is(err, queue.ErrDamaged) {
		return err
	}
	if !there(markFile(f.path)) {
		// Where it cannot be written, whoever meets the page next tries again.
		_ = mark(f.path, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if f.seen.CompareAndSwap(nil, &err) {
		f.tell(err)
	}
	return err
}

// tell hands on what a person should know. Where nobody listens, the first are kept.
func (f *finding) tell(err error) {
	select {
	case f.told <- err:
	default:
	}
}

// Damaged yields what a person must hear while the store is open: the first damage of the file, an error that wraps
// queue.ErrDamaged, of which what can be read goes on after the next Open; a message that the tables refused (ErrRefused);
// that the intake cannot be written, so that all mail goes into the tables at once; and that the file cannot, so that the
// write-ahead log grows.
func (s *Store) Damaged() <-chan error { return s.finding.told }

// Damage returns it, nil where nothing was found.
func (s *Store) Damage() error {
	if err := s.finding.seen.Load(); err != nil {
		return *err
	}
	return nil
}

// intact returns an error where damage is known: what is written may then lie on what is still whole, because of free pages
// that are none. So nothing is taken in, moved, claimed or purged until the next Open; what became of an attempt is noted.
func (s *Store) intact() error {
	if s.Damage() == nil {
		return nil
	}
	return fmt.Errorf("%w: until postern is restarted nothing is taken and nothing is sent", queue.ErrDamaged)
}

// named is named for the errors of an open store.
func (s *Store) named(err error) error {
	if err == nil {
		return nil
	}
	if err = named(err); fileDamage(err) {
		_ = s.finding.see(err)
	}
	return err
}

// fileDamage reports whether SQLite itself says so. A body whose sum is wrong is one message's.
func fileDamage(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && errors.Is(err, queue.ErrDamaged)
}

// foreign says of an error that comes where our schema is expected that it is not that: a statement that is none there,
// because a name in the schema is another one.
func foreign(err error) error {
	var e *driver.Error
	if errors.As(err, &e) && e.Code()&0xff == codes.SQLITE_ERROR {
		return fmt.Errorf("%w: its schema is not that of its version: %w", queue.ErrDamaged, err)
	}
	return err
}

// rowsFault reports whether the values of a row are what SQLite refused.
func rowsFault(err error) bool {
	var e *driver.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case codes.SQLITE_CONSTRAINT, codes.SQLITE_MISMATCH, codes.SQLITE_TOOBIG, codes.SQLITE_RANGE:
		return true
	}
	return false
}
