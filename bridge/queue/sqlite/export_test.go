package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"runtime"

	"postern/bridge/queue"
)

// SelectDue and SelectNext are what a lane asks again and again, for the test of their plans.
const (
	SelectDue  = selectDue
	SelectNext = selectNext
)

// CountAll is what health asks, for the same test.
const CountAll = countAll

// SelectLater is what it asks when a trouble is over.
var SelectLater = finds[queue.Later]

// Schema1 is the first version's, for the test of the upgrade.
const Schema1 = schema1

// ErrBehind is what is wrapped where the tables do not take what waits in front of them.
var ErrBehind = errBehind

// WithSteps has at called at each step of a salvage. limit bounds the new store to so many pages, as a full disk does.
func WithSteps(ctx context.Context, at func(step string, limit func(pages int) error)) context.Context {
	return context.WithValue(ctx, stepsKey{}, func(step string, s *Store) {
		at(step, func(pages int) error {
			return s.writer.alone(ctx, func(conn *sql.Conn) error {
				_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
				return err
			})
		})
	})
}

// CheckNow is what the check beside the mail does.
func (s *Store) CheckNow(ctx context.Context) error { return s.finding.see(checkAll(ctx, s.read)) }

// HasReadThrough is how much of the file was read beside the check when that ends.
func (s *Store) HasReadThrough() (octets int64, err error) {
	if s.check.Wait(); s.through == nil {
		return 0, nil
	}
	return s.through.Seek(0, io.SeekCurrent)
}

// ReadRemains finds what lies in a file and its log, and reads all of it.
func ReadRemains(file, log []byte) (messages, recipients, chunks int) {
	r := scanPages(context.Background(), newPages(bytes.NewReader(file), int64(len(file)), bytes.NewReader(log), int64(len(log))))
	for seq := range r.messages {
		if values, _ := r.message(seq); values != nil {
			messages++
		}
	}
	for seq := range r.recipients {
		rows, _ := r.recipientsOf(seq)
		recipients += len(rows)
	}
	for at, p := range r.chunks {
		if _, _, err := r.record(p, shapeOfChunk); err == nil {
			chunks++
		}
		_, _ = r.body(at>>chunkBits, 1<<20, sql.NullInt64{})
	}
	return messages, recipients, chunks
}

// KeepWaiting lets no timer move what waits in front of the tables. One that an earlier message began has its time first,
// and the writer its nudge: otherwise they would come in the middle of the test.
func (s *Store) KeepWaiting() {
	f := s.front
	for f.mu.Lock(); f.timed; f.mu.Lock() {
		f.mu.Unlock()
		runtime.Gosched()
	}
	f.timed = true
	f.mu.Unlock()
	select {
	case <-f.nudge:
	default:
	}
	_ = s.writer.alone(context.Background(), func(*sql.Conn) error { return nil })
}

// TryAgain is what the timer does after a move that failed.
func (s *Store) TryAgain() {
	s.front.mu.Lock()
	s.front.again = true
	s.front.mu.Unlock()
}

// Waiting is how many messages wait in front of the tables.
func (s *Store) Waiting() int { return int(s.front.n.Load()) }

// LimitPages bounds the file to so many pages, as a full disk does; 0 is no bound.
func (s *Store) LimitPages(ctx context.Context, pages int) error {
	if pages == 0 {
		pages = 1 << 30
	}
	return s.writer.alone(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		return err
	})
}

// Occupy keeps the writer from all else until the returned function is called.
func (s *Store) Occupy(ctx context.Context) (leave func()) {
	began, left := make(chan struct{}), make(chan struct{})
	go s.writer.alone(ctx, func(*sql.Conn) error { close(began); <-left; return nil })
	<-began
	return func() { close(left) }
}

// BusyTimeout is how long the writer waits for others, in milliseconds; it is that from now on where it is not 0.
func (s *Store) BusyTimeout(ctx context.Context, to int) (was int, err error) {
	err = s.writer.alone(ctx, func(conn *sql.Conn) error {
		err := conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&was)
		if err == nil && to != 0 {
			_, err = conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", to))
		}
		return err
	})
	return was, err
}

// Seen is what knows which IDs the tables cannot have.
type Seen struct{ seen }

// NewSeen returns one for tables in which no ID is above that.
func NewSeen(above string) *Seen { return &Seen{seen{above, map[string]bool{}}} }

// Add notes an ID.
func (s *Seen) Add(id string) { s.add(id) }

// Excludes reports whether the tables cannot have it.
func (s *Seen) Excludes(id string) bool { return s.excludes(id) }

// MaxSeen is how many IDs it remembers.
const MaxSeen = maxSeen

// DecodeEncode decodes a record and encodes it again.
func DecodeEncode(text []byte) ([]byte, error) {
	r, err := decodeRecord(text)
	if err != nil {
		return nil, err
	}
	r.encode()
	return r.text, nil
}

// CloseWithinAdd closes the store while a message asks the tables for its ID.
func (s *Store) CloseWithinAdd() error {
	s.front.mu.Lock()
	s.front.seen.above = "z"
	s.front.mu.Unlock()
	r := &record{id: "a", state: "queued", data: []byte("late"), body: 4}
	return s.front.add(r, func(string) (bool, error) { return false, s.Close() }, func() error { return nil })
}

// OpenSlowCheck is Open where the check takes longer than Open waits for it, without a salvage.
func OpenSlowCheck(ctx context.Context, path string) (*Store, error) {
	return openChecked(ctx, path, 0)
}
