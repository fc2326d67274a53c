// Package sqlite is the queue's store in one SQLite file: WAL, synchronous FULL, one goroutine that writes, others that
// read. It knows how to keep items, documents and bodies, and nothing of states' meaning, waits or accounts: the queue
// decides inside the functions that it hands over. The hall opens it; package queue calls it. It is the only importer
// of modernc.org/sqlite.
//
// A small message is kept in front of the tables first, in an intake beside the file (front.go): one write and one sync
// instead of a dozen pages, and no waiting for the log to be copied into the file. The design has no such thing; without it
// a lone sender handed in two thirds as much, and the slowest hundredth of 8 senders' messages waited twice as long
// (measured). The tables remember which frame of the intake they have last, so a process that dies between the two loses
// nothing and makes nothing double (replay.go).
//
// Failure looks like this: Open refuses a store that it cannot make durable or that a newer program wrote, and salvages a
// damaged one. A change that fails changes nothing, but that one whose sync failed lies in the write-ahead log until the next
// is written over it, and a process that dies before that leaves it for the next to find; a full disk is queue.ErrFull, and the next change may succeed. Where
// the tables do not take what waits in front of them it stays there, durable, and what comes next goes to the tables
// directly, to be taken or refused by them. What cannot be read back is queue.ErrDamaged (or Entry.Damage) for that message
// alone.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	driver "modernc.org/sqlite" // registers "sqlite"; nothing else imports it
	codes "modernc.org/sqlite/lib"

	"postern/bridge/queue"
)

// readers is how many connections read beside the writer: bodies on their way out, listings.
const readers = 4

// logPages is the length of the write-ahead log, in pages of 4 KB, at which a commit copies it into the file while every
// sender waits. SQLite's 1,000 are a hundred messages; with four times as many, 20 senders hand in half as
// much more. To copy beside the commits, on another connection, was slower than that (both measured).
const logPages = 4000

// leastLogPages is as short as it gets on a small disk.
const leastLogPages = 100

// busyTimeout is how long a connection waits for another, in milliseconds.
const busyTimeout = 10_000

// Store is a queue.Store in one file. Safe for concurrent use within the one process that may open it; the hall holds
// the lock of data_dir.
type Store struct {
	read   *sql.DB
	write  *sql.DB
	writer *writer
	front  *front
	left   *leftIntake                           // by a process that is gone; nil once it is moved
	free   atomic.Pointer[func() (int64, error)] // of MindRoom

	path      string
	died      bool // the process that had it last did not close it
	salvaged  *Salvage
	finding   *finding
	check     sync.WaitGroup // of the whole file, beside the mail
	through   *os.File       // of readThrough
	stopCheck context.CancelFunc

	// What each message on its way out asks for, prepared on the connections of read.
	selectChunk, selectSizes, selectNext, selectKnown *sql.Stmt
}

// Open opens the store at path, and makes it where there is none, readable by its owner alone. What an earlier process
// did not finish taking in is removed. A damaged store is put aside, and what can be read of it is in the new one:
// Salvaged says so. A salvage that does not come to its end, for ctx or a full disk or because the process dies, leaves
// the damaged store for the next Open. It returns an error where the file system does not give what durability needs, and
// one that wraps queue.ErrNewer where a newer program changed the schema.
func Open(ctx context.Context, path string) (*Store, error) {
	s, err := openOrSalvage(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("queue store %s: %w", filepath.Base(path), err)
	}
	return s, nil
}

func openOrSalvage(ctx context.Context, path string) (*Store, error) {
	if err := resume(path); err != nil {
		return nil, err
	}
	s, err := openWhole(ctx, path)
	if err == nil {
		return s, nil
	}
	if errors.Is(err, queue.ErrDamaged) {
		return salvage(ctx, path, err)
	}
	return nil, err
}

// openWhole opens a store and moves what was left in front of its tables, where SQLite finds no damage: into a damaged file
// nothing is written that could take with it what is still whole.
func openWhole(ctx context.Context, path string) (*Store, error) {
	return openChecked(ctx, path, checkFor)
}

func openChecked(ctx context.Context, path string, wait time.Duration) (*Store, error) {
	s, err := openSound(ctx, path)
	if err != nil {
		return nil, err
	}
	if err = s.damaged(ctx, wait); err == nil {
		err = s.writer.alone(ctx, func(conn *sql.Conn) error { return removeUnfinished(ctx, conn) })
	}
	if err == nil {
		err = s.takeLeft(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenSound is Open, but a store that is damaged is left as it is, for an error that wraps queue.ErrDamaged: for who needs
// the store less than a person needs to be told what was saved of it.
func OpenSound(ctx context.Context, path string) (*Store, error) {
	if err := marked(path); err != nil {
		return nil, err
	}
	if list, err := asides(path); err != nil || len(list) > 0 && !there(path) {
		return nil, errors.Join(err, errNoStore(path, list))
	}
	return openWhole(ctx, path)
}

// openSound opens a store that is not damaged so far as opening it shows.
func openSound(ctx context.Context, path string) (_ *Store, err error) {
	s := &Store{path: path, finding: newFinding(path), stopCheck: func() {}}
	defer func() {
		if err != nil {
			s.closeFiles()
			err = named(err)
		}
	}()
	if err := checkAlone(path); err != nil {
		return nil, err
	}
	s.died = there(path + "-wal") // who closes it removes that
	if err := create(path); err != nil {
		return nil, err
	}
	if err := checkHeader(path); err != nil {
		return nil, err
	}
	if err := checkLog(path); err != nil {
		return nil, err
	}
	if s.write, err = sql.Open("sqlite", dsn(path, false)); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(path, true)); err != nil {
		return nil, err
	}
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err = prepareFile(ctx, conn, path); err == nil {
		err = foreign(s.prepareReads(ctx))
	}
	if err == nil {
		err = s.findIntake(ctx)
	}
	if err == nil {
		s.writer, err = newWriter(ctx, conn, s)
		err = foreign(err)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err = s.readSalvage(ctx); err != nil {
		s.writer.close()
		return nil, err
	}
	return s, nil
}

const selectKnown = "SELECT EXISTS (SELECT 1 FROM messages WHERE id = ?)"

func (s *Store) prepareReads(ctx context.Context) (err error) {
	s.selectChunk, err = s.read.PrepareContext(ctx, "SELECT data FROM chunks WHERE at = ?")
	if err == nil {
		s.selectSizes, err = s.read.PrepareContext(ctx, "SELECT seq, header_size, body_size, has_body, sum FROM messages WHERE id = ? AND state <> '"+unfinished+"'")
	}
	if err == nil {
		s.selectNext, err = s.read.PrepareContext(ctx, selectNext)
	}
	if err == nil {
		s.selectKnown, err = s.read.PrepareContext(ctx, selectKnown)
	}
	return err
}

// checkAlone keeps SQLite from a write-ahead log whose file is gone, or empty: it would delete the log, with the mail in it. A
// file that is ours has its header before it has a log.
func checkAlone(path string) error {
	log, err := os.Stat(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && log.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := os.Stat(path)
	switch name := filepath.Base(path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("it is missing, and its log with the latest mail is there: %[1]s-wal; put %[1]s back; where nobody has it, make an empty file "+
			"of that name, and what can be read of the log goes on; or move the log elsewhere to begin with an empty queue", name)
	case err == nil && file.Size() == 0:
		return fmt.Errorf("%w: it is empty, and its log is not", queue.ErrDamaged)
	}
	return err
}

// create makes an empty file of mode 0600, or narrows the mode of the one that is there; SQLite gives the WAL the same.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the new name durable. Windows cannot sync a folder and does not need it: NTFS journals names.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// dsn is the URI of the file with the settings of every connection. auto_vacuum must stand before the first table is
// made, so that the file can shrink again without being copied.
func dsn(path string, readOnly bool) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	abs = filepath.ToSlash(abs)
	if !strings.HasPrefix(abs, "/") {
		abs = "/" + abs // C:/...
	}
	logLimit := fmt.Sprintf("journal_size_limit(%d)", (logPages+100)*4120) // a page in it has 24 octets more
	q := url.Values{"_busy_timeout": {strconv.Itoa(busyTimeout)}, "_auto_vacuum": {"incremental"},
		"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "cache_size(-8000)",
			fmt.Sprintf("wal_autocheckpoint(%d)", logPages), logLimit}}
	if readOnly {
		q["_pragma"] = []string{"query_only(1)", "synchronous(FULL)"}
		q.Del("_auto_vacuum")
	}
	return (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String()
}

// prepareFile asserts what durability rests on, and brings the schema up.
func prepareFile(ctx context.Context, conn *sql.Conn, path string) error {
	for _, want := range []struct{ pragma, value, why string }{
		{"journal_mode", "wal", "the file system must support shared memory; a network share does not"},
		{"synchronous", "2", "without it an accepted message is lost in a power cut"},
		{"foreign_keys", "1", "the schema relies on it"},
	} {
		var got string
		if err := conn.QueryRowContext(ctx, "PRAGMA "+want.pragma).Scan(&got); err != nil {
			return fmt.Errorf("%s: %w", want.pragma, err)
		}
		if got != want.value {
			return fmt.Errorf("%s is %s and must be %s: %s", want.pragma, got, want.value, want.why)
		}
	}
	return migrate(ctx, conn, path)
}

// Close finishes what was handed to the writer and closes the file; SQLite then folds the WAL into it.
func (s *Store) Close() error {
	s.stopCheck()
	s.check.Wait()
	s.front.close()
	s.writer.close()
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{s.selectChunk, s.selectSizes, s.selectNext, s.selectKnown} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if s.front != nil {
		errs = append(errs, s.front.log.Close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	if s.through != nil { // not before: it would end SQLite's locks, which are the process's (fcntl(2))
		errs = append(errs, s.through.Close())
	}
	return errors.Join(errs...)
}

// named puts the queue's words on errors of SQLite.
func named(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case codes.SQLITE_FULL:
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", queue.ErrDamaged, err)
	}
	switch e.Code() {
	case codes.SQLITE_CONSTRAINT_UNIQUE:
		return fmt.Errorf("%w: %w", queue.ErrExists, err)
	case codes.SQLITE_IOERR_SHMSIZE: // the index of the log has no room; SQLite does not call that full
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	}
	return err
}
