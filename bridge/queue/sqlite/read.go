package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
)

// loaded is an entry as it was read, its documents still text: they are decoded outside the writer.
type loaded struct {
	stored
	header, body int64
	hasBody      bool
	docs         documents
	sum          sql.NullInt64
}

func scanLoaded(r row) (l loaded, err error) {
	l.stored, err = scanStored(r, &l.header, &l.body, &l.hasBody, &l.docs.session, &l.docs.envelope, &l.docs.plan, &l.sum)
	return l, err
}

// entry decodes the documents. What cannot be decoded is Entry.Damage.
func (l loaded) entry() queue.Entry {
	e := queue.Entry{Item: l.item, BodySize: l.body, HeaderSize: l.header, HasBody: l.hasBody, Damage: l.item.Damage}
	e.Message = message.Message{ID: l.item.ID, Accepted: l.item.Accepted}
	for _, d := range []struct {
		from string
		to   any
	}{{l.docs.session, &e.Message.Session}, {l.docs.envelope, &e.Message.Envelope}, {l.docs.plan, &e.Message.Plan}} {
		if err := json.Unmarshal([]byte(d.from), d.to); err != nil {
			e.Damage = fmt.Errorf("%w: document: %w", queue.ErrDamaged, err)
		}
	}
	if e.Damage == nil {
		e.Damage = l.check()
	}
	e.Message.Envelope.Recipients = make([]envelope.Address, len(l.item.Recipients))
	for i, r := range l.item.Recipients {
		e.Message.Envelope.Recipients[i] = r.Address
	}
	return e
}

var errIndex = fmt.Errorf("%w: a message is not found by its ID", queue.ErrDamaged)

// Claim picks due messages; see queue.Store. The writer only moves their states; documents are decoded and headers read
// by the caller's goroutine.
func (s *Store) Claim(ctx context.Context, c queue.Claim) ([]queue.Entry, error) {
	if err := s.intact(); err != nil {
		return nil, err
	}
	var picked []loaded
	err := s.writer.apply(ctx, 0, func(t *tx) (err error) {
		if picked, err = t.due(c); err != nil {
			return err
		}
		leased := 0
		for i := range picked {
			if leased == c.Limit {
				picked = picked[:i]
				break
			}
			l := &picked[i]
			if err := t.recipients(&l.stored); err != nil {
				return err
			}
			if err := t.change(&l.stored, c.Take); err != nil {
				return err
			}
			if l.item.Lease == "" {
				continue
			}
			leased++
			// By its ID the queue asks for it from now on: what is not found by that would stay leased for good.
			if there, err := t.has(string(l.item.ID)); err != nil || !there {
				return cmp.Or(err, errIndex)
			}
		}
		return nil
	})
	if errors.Is(err, errIndex) {
		err = s.finding.see(err)
	}
	if err != nil {
		return nil, err
	}
	entries := make([]queue.Entry, len(picked))
	for i, l := range picked {
		entries[i] = l.entry()
		if l.item.Lease != "" {
			s.addHeader(context.WithoutCancel(ctx), &entries[i], l) // claimed: it must reach the queue
		}
	}
	return entries, nil
}

// due reads what the claim sees, and no more of a kind than it has room for.
func (t *tx) due(c queue.Claim) ([]loaded, error) {
	scan := max(c.Scan, c.Limit)
	half := (scan + 1) / 2
	tried, err := t.dueOf(c, true, half)
	if err != nil {
		return nil, err
	}
	fresh, err := t.dueOf(c, false, max(half, scan-len(tried)))
	if err == nil && len(tried) == half && len(fresh) < half {
		tried, err = t.dueOf(c, true, scan-len(fresh))
	}
	return queue.ByTurns(c, fresh, tried), err
}

func (t *tx) dueOf(c queue.Claim, tried bool, most int) (all []loaded, err error) {
	err = t.query(t.selectDue, func(r row) error {
		l, err := scanLoaded(r)
		all = append(all, l)
		return err
	}, c.Account, tried, c.Now.UnixMicro(), most)
	return all, err
}

// addHeader reads the header block; where that fails the entry is damaged.
func (s *Store) addHeader(ctx context.Context, e *queue.Entry, l loaded) {
	if !l.hasBody {
		return
	}
	e.Message.Header = make([]byte, l.header)
	r := &chunkReader{ctx: ctx, chunk: s.selectChunk, named: s.named, seq: l.seq, left: l.header + l.body}
	if _, err := io.ReadFull(r, e.Message.Header); err != nil {
		e.Message.Header, e.Damage = nil, fmt.Errorf("header: %w", err)
	}
}

// Update changes one item; see queue.Store.
func (s *Store) Update(ctx context.Context, id envelope.ID, change func(*queue.Item) error) error {
	return s.writer.apply(ctx, 0, func(t *tx) error {
		st, err := t.item(id)
		if err != nil {
			return err
		}
		return t.change(&st, change)
	})
}

// selectNext asks for the earliest of each kind, because the index has them apart.
const selectNext = `SELECT min(next) FROM (
	SELECT min(next_attempt) AS next FROM messages WHERE account = ?1 AND (attempts > 0) = 0 AND next_attempt IS NOT NULL UNION ALL
	SELECT min(next_attempt) FROM messages WHERE account = ?1 AND (attempts > 0) = 1 AND next_attempt IS NOT NULL)`

// NextDue returns when the account's next message is due; see queue.Store.
func (s *Store) NextDue(ctx context.Context, account string) (time.Time, error) {
	var next sql.NullInt64
	_ = s.settle(ctx) // what the tables do not take nobody can claim
	err := s.selectNext.QueryRowContext(ctx, account).Scan(&next)
	if err != nil || !next.Valid {
		return time.Time{}, s.named(err)
	}
	return fromMicro(next.Int64), nil
}

// Open returns the body; see queue.Store. No transaction is open between two reads, so a slow reader holds back nothing.
func (s *Store) Open(ctx context.Context, id envelope.ID) (io.ReadCloser, error) {
	var l loaded
	var sum sql.NullInt64
	if err := s.settleOne(ctx, id); err != nil {
		return nil, err
	}
	err := s.selectSizes.QueryRowContext(ctx, string(id)).Scan(&l.seq, &l.header, &l.body, &l.hasBody, &sum)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("%s: %w", id, queue.ErrNotFound)
	case err != nil:
		return nil, s.named(err)
	case !l.hasBody:
		return nil, fmt.Errorf("%s: %w", id, queue.ErrNoBody)
	}
	r := &chunkReader{ctx: ctx, chunk: s.selectChunk, named: s.named, seq: l.seq, left: l.header + l.body, want: sumOfBody(sum)}
	if _, err := io.CopyN(io.Discard, r, l.header); err != nil {
		return nil, fmt.Errorf("%s: header: %w", id, err)
	}
	return r, nil
}

// chunkReader reads the chunks of one message, one query each. It has ctx as a field because io.Reader takes none.
type chunkReader struct {
	ctx   context.Context
	chunk *sql.Stmt
	seq   int64
	n     int64
	left  int64 // octets that must still come, those of rest included
	rest  bytes.Reader
	sum   uint32        // of the chunks so far
	want  sql.NullInt64 // of all of them; null where nobody knows or not all are read
	named func(error) error
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.rest.Len() == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n, err := r.rest.Read(p)
	r.left -= int64(n)
	return n, err
}

// next reads the next chunk; io.EOF only after all that was written.
func (r *chunkReader) next() error {
	var data []byte
	err := r.chunk.QueryRowContext(r.ctx, chunkKey(r.seq, r.n)).Scan(&data)
	switch {
	case errors.Is(err, sql.ErrNoRows) && r.left == 0 && (!r.want.Valid || r.want.Int64 == int64(r.sum)):
		return io.EOF
	case errors.Is(err, sql.ErrNoRows) && r.left == 0:
		return queue.ErrBody
	case errors.Is(err, sql.ErrNoRows), err == nil && int64(len(data)) > r.left:
		return fmt.Errorf("%w: %d are missing or too many", queue.ErrBody, r.left)
	case err != nil:
		return r.named(err)
	}
	r.n++
	r.sum = crc32.Update(r.sum, castagnoli, data)
	r.rest.Reset(data)
	return nil
}

// Close ends the reading.
func (r *chunkReader) Close() error { return nil }

// Get returns one message; see queue.Store.
func (s *Store) Get(ctx context.Context, id envelope.ID) (queue.Entry, error) {
	if err := s.settleOne(ctx, id); err != nil {
		return queue.Entry{}, err
	}
	ls, err := s.load(ctx, "id = ?", []any{string(id)}, 1)
	if err != nil {
		return queue.Entry{}, err
	}
	if len(ls) == 0 {
		return queue.Entry{}, fmt.Errorf("%s: %w", id, queue.ErrNotFound)
	}
	e := ls[0].entry()
	s.addHeader(ctx, &e, ls[0])
	return e, nil
}

// List returns messages; see queue.Store.
func (s *Store) List(ctx context.Context, f queue.Filter) ([]queue.Entry, error) {
	where, args := "id > ?", []any{string(f.After)}
	if f.Account != "" {
		where, args = where+" AND account = ?", append(args, f.Account)
	}
	if f.State != "" {
		where, args = where+" AND state = ?", append(args, string(f.State))
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	limit := f.Limit
	if limit == 0 {
		limit = -1
	}
	ls, err := s.load(ctx, where, args, limit)
	entries := make([]queue.Entry, len(ls))
	for i, l := range ls {
		entries[i] = l.entry()
	}
	return entries, err
}

// load reads entries and their recipients as they are at one moment.
func (s *Store) load(ctx context.Context, where string, args []any, limit int) (ls []loaded, err error) {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return nil, s.named(err)
	}
	defer tx.Rollback() // it only reads
	rows, err := tx.QueryContext(ctx, "SELECT "+entryColumns+" FROM messages WHERE "+where+" AND state <> '"+unfinished+"' ORDER BY id LIMIT ?",
		append(args, limit)...)
	if err != nil {
		return nil, s.named(err)
	}
	defer rows.Close()
	for rows.Next() {
		l, err := scanLoaded(rows)
		if err != nil {
			return nil, s.named(err)
		}
		ls = append(ls, l)
	}
	if err := rows.Err(); err != nil {
		return nil, s.named(err)
	}
	recipients, err := tx.PrepareContext(ctx, selectRecipients)
	if err != nil {
		return nil, s.named(err)
	}
	defer recipients.Close()
	for i := range ls {
		l := &ls[i]
		if err := queryRows(ctx, recipients, l.scanRecipient, l.seq); err != nil {
			return nil, s.named(err)
		}
		l.endRecipients()
	}
	return ls, nil
}

// countAll reads two indexes and no row: has_body itself would have it read every message's.
const countAll = `SELECT account, state, count(*),
	sum(CASE WHEN state = 'failed' THEN seq IN (SELECT seq FROM messages WHERE finished IS NOT NULL AND has_body = 1) ELSE 0 END)
	FROM messages WHERE state <> ? GROUP BY account, state ORDER BY account, state`

// Counts returns how many messages there are; see queue.Store.
func (s *Store) Counts(ctx context.Context) (counts []queue.Count, err error) {
	waiting := s.notTaken(ctx)
	rows, err := s.read.QueryContext(ctx, countAll, unfinished)
	if err != nil {
		return nil, s.named(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c queue.Count
		if err := rows.Scan(&c.Account, &c.State, &c.N, &c.Kept); err != nil {
			return nil, s.named(err)
		}
		counts = append(counts, c)
	}
	for _, r := range waiting {
		c := queue.Count{Account: r.account, State: queue.State(r.state)}
		i, there := slices.BinarySearchFunc(counts, c, func(a, b queue.Count) int {
			return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.State, b.State))
		})
		if !there {
			counts = slices.Insert(counts, i, c)
		}
		counts[i].N++
	}
	return counts, s.named(rows.Err())
}

// notTaken returns what the tables do not take, for who counts. He asks before he reads them: what is moved meanwhile he has
// twice, and nothing escapes him.
func (s *Store) notTaken(ctx context.Context) []*record {
	if s.settle(ctx) == nil {
		return nil
	}
	return s.front.records()
}
