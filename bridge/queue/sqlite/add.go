package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
)

const (
	chunkSize = 64 << 10 // of a chunk row: larger rows gain nothing and cost memory (measured)
	maxChunks = 16       // kept in memory at once; a message of up to so many is written in one transaction
)

// castagnoli is the polynomial of the sums: processors compute it in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Add keeps a message; see queue.Store. A small one is read to its end and goes through the intake. A large one is written
// piece by piece under an unfinished row, which the last change finishes, so that its slow sender holds back nobody.
func (s *Store) Add(ctx context.Context, item queue.Item, m message.Message, body io.Reader) error {
	docs, err := encodeDocuments(m)
	if err != nil {
		return err
	}
	a := adding{w: s.writer, item: item, docs: docs, user: m.Session.User, header: int64(len(m.Header)), from: io.MultiReader(bytes.NewReader(m.Header), body)}
	defer a.release()
	for {
		end, err := a.fill()
		if err == nil {
			err = s.intact()
		}
		if err == nil && !end {
			err = a.writePart(ctx)
		}
		if err == nil && end {
			err = s.finish(ctx, &a)
		}
		if err != nil {
			return errors.Join(err, a.abort(ctx))
		}
		if end {
			return nil
		}
	}
}

// documents are the parts of a message that never change.
type documents struct{ session, envelope, plan string }

func encodeDocuments(m message.Message) (d documents, err error) {
	m.Envelope.Recipients = nil // they have rows of their own
	for _, e := range []struct {
		to   *string
		from any
	}{{&d.session, m.Session}, {&d.envelope, m.Envelope}, {&d.plan, m.Plan}} {
		b, err := json.Marshal(e.from)
		if err != nil {
			return d, fmt.Errorf("document: %w", err)
		}
		*e.to = string(b)
	}
	return d, nil
}

// adding is one message on its way in.
type adding struct {
	w      *writer
	item   queue.Item
	docs   documents
	user   string
	header int64 // octets of the header block
	from   io.Reader
	seq    int64 // of the unfinished row; 0 while there is none
	n      int64 // the next chunk's number
	size   int64 // octets read so far, header and body
	sum    uint32

	chunks []*[chunkSize]byte // read and not written; all but the last are full
	last   int                // octets in the last of them
}

// fill reads until memory is full or the body ends. The sender may be slow: no transaction is open meanwhile.
func (a *adding) fill() (end bool, err error) {
	a.release()
	for len(a.chunks) < maxChunks {
		c := chunkPool.Get().(*[chunkSize]byte)
		a.chunks = append(a.chunks, c)
		a.last = 0
		for a.last < chunkSize {
			// Not io.ReadFull: it cannot tell the end from a session's io.ErrUnexpectedEOF, which is a cut message.
			n, err := a.from.Read(c[a.last:])
			a.sum = crc32.Update(a.sum, castagnoli, c[a.last:a.last+n])
			a.last += n
			a.size += int64(n)
			if err == io.EOF {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func (a *adding) release() {
	for _, c := range a.chunks {
		chunkPool.Put(c)
	}
	a.chunks = a.chunks[:0]
}

// writePart writes what was read under the unfinished row.
func (a *adding) writePart(ctx context.Context) error {
	r, err := a.record()
	if err != nil {
		return err
	}
	r.state, r.next = unfinished, sql.NullInt64{}
	seq := a.seq
	err = a.w.apply(ctx, len(a.chunks)*chunkSize, func(t *tx) (err error) {
		if seq = a.seq; seq == 0 {
			if seq, err = r.insert(t); err != nil {
				return err
			}
		}
		return t.insertChunks(a, seq)
	})
	if err != nil {
		return err
	}
	a.seq = seq
	a.n += int64(len(a.chunks))
	return nil
}

// finish makes the message the queue's. A small one goes through the intake.
func (s *Store) finish(ctx context.Context, a *adding) error {
	if a.seq == 0 && a.size <= maxRecord {
		r, err := a.record()
		if err != nil {
			return err
		}
		r.data = a.chunks[0][:a.size]
		ctx := context.WithoutCancel(ctx)
		err = s.front.add(r, func(id string) (bool, error) { return s.known(ctx, id) }, func() error { return s.settle(ctx) })
		if !errors.Is(err, errDirectly) {
			return err
		}
	}
	return a.writeLast(ctx)
}

// Owed is about how many octets of the disk the tables still need for what was accepted.
func (s *Store) Owed() int64 { return s.front.owed() }

// MindRoom tells how much room the disk has. The intake then grows only where there is plenty; and on a small disk the
// write-ahead log is copied into the file early: it must not take the room that the copy needs.
func (s *Store) MindRoom(ctx context.Context, free func() (int64, error)) error {
	s.free.Store(&free)
	n, err := free()
	pages := n / plenty / pageSize
	if err != nil || pages >= logPages {
		return nil
	}
	return s.writer.alone(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA wal_autocheckpoint(%d)", max(pages, leastLogPages)))
		return err
	})
}

// roomy reports whether the intake may grow by so many octets: it must not take what the tables need.
func (s *Store) roomy(octets int64) bool {
	free := s.free.Load()
	if free == nil {
		return true
	}
	n, err := (*free)()
	return err != nil || n >= plenty*octets
}

// known reports whether the tables have the message.
func (s *Store) known(ctx context.Context, id string) (there bool, err error) {
	err = s.selectKnown.QueryRowContext(ctx, id).Scan(&there)
	return there, err
}

var errBehind = errors.New("some of the mail that was accepted cannot be written into the tables at present")

// settle returns when all that was kept so far is in the tables, for who reads them beside the writer. Where the tables do
// not take it (errBehind), nobody may be told that there is no such message, or given a list that lacks it.
func (s *Store) settle(ctx context.Context) error {
	if s.front.n.Load() == 0 {
		return nil
	}
	err := s.writer.apply(ctx, 0, func(*tx) error { return nil })
	if err == nil {
		err = s.front.behind()
	}
	return err
}

// settleOne is settle for who asks for one message.
func (s *Store) settleOne(ctx context.Context, id envelope.ID) error {
	if s.front.has(string(id)) {
		if err := s.settle(ctx); err != nil && s.front.has(string(id)) {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

// writeLast writes all that is not written yet.
func (a *adding) writeLast(ctx context.Context) error {
	r, err := a.record()
	if err != nil {
		return err
	}
	return a.w.apply(ctx, len(a.chunks)*chunkSize, func(t *tx) (err error) {
		seq := a.seq
		if seq == 0 {
			seq, err = r.insert(t)
		} else {
			_, err = t.exec(t.finishMessage, r.state, r.next, r.body, r.sum, seq)
		}
		if err == nil {
			err = r.insertRecipients(t, seq)
		}
		if err != nil {
			return err
		}
		return t.insertChunks(a, seq)
	})
}

func (t *tx) insertChunks(a *adding, seq int64) error {
	for i, c := range a.chunks {
		size := chunkSize
		if i == len(a.chunks)-1 {
			size = a.last
		}
		n := a.n + int64(i)
		if n >= 1<<chunkBits {
			return errors.New("the message is too large for the store")
		}
		if size == 0 {
			continue // the body ended with the chunk before
		}
		if _, err := t.exec(t.insertChunk, chunkKey(seq, n), c[:size]); err != nil {
			return err
		}
	}
	return nil
}

// abort removes what was written of a message that will not be finished. If that fails too, or the file is damaged, the next
// Open does it.
func (a *adding) abort(ctx context.Context) error {
	if a.seq == 0 || a.w.intact() != nil {
		return nil
	}
	// The session's context may be over, which is why we are here.
	return a.w.apply(context.WithoutCancel(ctx), 0, func(t *tx) error {
		if _, err := t.exec(t.deleteChunks, chunkKey(a.seq, 0), chunkKey(a.seq+1, 0)); err != nil {
			return err
		}
		_, err := t.exec(t.deleteMessage, a.seq)
		return err
	})
}
