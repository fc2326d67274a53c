package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// tx is the writer's side of the store: prepared statements on its one connection. Only the writer's goroutine uses it.
type tx struct {
	conn    *sql.Conn
	front   *front
	touched bool // the present change has written, or SQLite has refused it something

	begin, commit, rollback                                           *sql.Stmt
	insertMessage, insertRecipient, insertChunk                       *sql.Stmt
	finishMessage, deleteMessage, deleteChunks                        *sql.Stmt
	selectDue, selectItem, selectRecipients, selectKnown              *sql.Stmt
	updateMessage, updateRecipient, updateHasNoBody                   *sql.Stmt
	updateIntent, updateUpkeep, setNote, deleteNote, deleteRecipients *sql.Stmt
	updatePlan, selectWhole                                           *sql.Stmt
}

// itemColumns are those of a queue.Item, in the order of scanStored; entryColumns those of a queue.Entry, in the order of
// scanLoaded.
const (
	itemColumns  = "seq, id, account, accepted, attempts, lease, intent, sender, via, parked, watch, owed, warned, suspect, deaths, finished, retried"
	entryColumns = itemColumns + ", header_size, body_size, has_body, session, envelope, plan, sum"
)

func (t *tx) prepare(ctx context.Context, conn *sql.Conn) error {
	t.conn = conn
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&t.begin, "BEGIN IMMEDIATE"},
		{&t.commit, "COMMIT"},
		{&t.rollback, "ROLLBACK"},
		{&t.insertMessage, "INSERT INTO messages (" + insertColumns + ") VALUES (" + insertValues + ")"},
		{&t.insertRecipient, "INSERT INTO recipients (seq, n, address, state, next_attempt, last) VALUES (?, ?, ?, ?, ?, ?)"},
		{&t.insertChunk, "INSERT INTO chunks (at, data) VALUES (?, ?)"},
		{&t.finishMessage, "UPDATE messages SET state = ?, next_attempt = ?, body_size = ?, sum = ? WHERE seq = ?"},
		{&t.deleteMessage, "DELETE FROM messages WHERE seq = ?"},
		{&t.deleteChunks, "DELETE FROM chunks WHERE at >= ? AND at < ?"},
		{&t.selectDue, selectDue},
		{&t.selectItem, "SELECT " + itemColumns + " FROM messages WHERE id = ? AND state <> '" + unfinished + "'"},
		{&t.selectRecipients, selectRecipients},
		{&t.selectKnown, selectKnown},
		{&t.updateMessage, `UPDATE messages SET state = ?, next_attempt = ?, attempts = ?, lease = ?, intent = ?, via = ? WHERE seq = ?`},
		{&t.updateIntent, `UPDATE messages SET intent = ?, via = ? WHERE seq = ?`},
		{&t.updateUpkeep, `UPDATE messages SET parked = ?, watch = ?, owed = ?, warned = ?, suspect = ?, deaths = ?, finished = ?, retried = ? WHERE seq = ?`},
		{&t.updateRecipient, `UPDATE recipients SET state = ?, next_attempt = ?, attempts = ?, sender_waits = ?, doubts = ?, last = ?
			WHERE seq = ? AND n = ?`},
		{&t.updateHasNoBody, "UPDATE messages SET has_body = 0 WHERE seq = ?"},
		{&t.updatePlan, "UPDATE messages SET plan = ?, account = ?, sender = ?, sum = ? WHERE seq = ?"},
		{&t.selectWhole, "SELECT " + entryColumns + " FROM messages WHERE seq = ?"},
		{&t.setNote, "INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"},
		{&t.deleteNote, "DELETE FROM notes WHERE key = ?"},
		{&t.deleteRecipients, "DELETE FROM recipients WHERE seq = ?"},
	} {
		var err error
		if *p.stmt, err = conn.PrepareContext(ctx, p.text); err != nil {
			return fmt.Errorf("prepare %.40q: %w", p.text, err)
		}
	}
	return nil
}

const (
	insertColumns = "id, account, state, next_attempt, accepted, header_size, body_size, session, envelope, plan, user, sender, parked, watch, sum, has_body"
	insertValues  = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1"
	selectDue     = "SELECT " + entryColumns + ` FROM messages WHERE account = ? AND (attempts > 0) = ? AND next_attempt <= ?
		ORDER BY next_attempt, seq LIMIT ?`
	selectRecipients = `SELECT n, address, state, next_attempt, attempts, sender_waits, doubts, last
		FROM recipients WHERE seq = ? ORDER BY n`
)

// exec runs a statement that writes.
func (t *tx) exec(stmt *sql.Stmt, args ...any) (sql.Result, error) {
	t.touched = true
	return stmt.Exec(args...)
}

// query runs a statement that reads and hands each row to scan.
func (t *tx) query(stmt *sql.Stmt, scan func(row) error, args ...any) error {
	err := queryRows(context.Background(), stmt, scan, args...)
	if err != nil {
		t.touched = true // SQLite may have ended the transaction
	}
	return err
}

// row is what sql.Rows and sql.Row have in common.
type row interface{ Scan(dest ...any) error }

func queryRows(ctx context.Context, stmt *sql.Stmt, scan func(row) error, args ...any) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// stored is an item with its row's number.
type stored struct {
	seq    int64
	item   queue.Item
	places []int64 // the recipients' numbers, where they are not 0, 1, 2 and so on as they were written

	addresses uint32 // of addSum, for each recipient
}

// scanStored reads the columns of itemColumns and then more.
func scanStored(r row, more ...any) (s stored, err error) {
	it := &s.item
	var accepted, parked int64
	var watch, finished, retried sql.NullInt64
	err = s.scan(r, append([]any{&s.seq, &it.ID, &it.Account, &accepted, &it.Attempts, &it.Lease, &it.Intent, &it.Sender, &it.Via, &parked,
		&watch, &it.Owed, &it.Warned, &it.Suspect, &it.Deaths, &finished, &retried}, more...))
	it.Accepted, it.Parked = fromMicro(accepted), time.Duration(parked)*time.Microsecond
	it.Watch, it.Finished, it.Retried = fromNull(watch), fromNull(finished), fromNull(retried)
	return s, err
}

// item reads one item with its recipients.
func (t *tx) item(id envelope.ID) (s stored, err error) {
	found := false
	err = t.query(t.selectItem, func(r row) error {
		found = true
		s, err = scanStored(r)
		return err
	}, string(id))
	if err == nil && !found {
		if err = queue.ErrNotFound; t.front.has(string(id)) {
			err = errBehind
		}
		return s, err
	}
	if err == nil {
		err = t.recipients(&s)
	}
	return s, err
}

func (t *tx) recipients(s *stored) error {
	err := t.query(t.selectRecipients, s.scanRecipient, s.seq)
	s.endRecipients()
	return err
}

// change alters and writes one item, a damaged one whole; change's error is the result, and then nothing was written.
func (t *tx) change(s *stored, change func(*queue.Item) error) error {
	before := s.item.Clone()
	if err := change(&s.item); err != nil {
		return err
	}
	it := &s.item
	if len(it.Recipients) != len(before.Recipients) {
		return errors.New("a change must keep the recipients")
	}
	for n, r := range it.Recipients {
		if r == before.Recipients[n] && it.Damage == nil {
			continue
		}
		if err := t.writeRecipient(s, n, r); err != nil {
			return err
		}
	}
	if err := t.writeItem(s.seq, &before, it); err != nil {
		return err
	}
	if it.NewPlan != nil {
		if err := t.replan(s); err != nil {
			return err
		}
	}
	if it.DropBody {
		return t.dropBody(s.seq)
	}
	return nil
}

// writeItem writes the row. Each statement renews the indexes of all columns that it names, changed or not, so there is
// one for each kind of change: an intent, an attempt's beginning and end, and what happens seldom.
func (t *tx) writeItem(seq int64, before, it *queue.Item) error {
	var err error
	whole := it.Damage != nil
	switch {
	case whole || it.State() != before.State() || !it.Next().Equal(before.Next()) || it.Attempts != before.Attempts || it.Lease != before.Lease:
		_, err = t.exec(t.updateMessage, string(it.State()), micro(it.Next()), it.Attempts, it.Lease, it.Intent, it.Via, seq)
	case it.Intent != before.Intent || it.Via != before.Via:
		_, err = t.exec(t.updateIntent, it.Intent, it.Via, seq)
	}
	if err == nil && (whole || it.Parked != before.Parked || !it.Watch.Equal(before.Watch) || it.Owed != before.Owed || it.Warned != before.Warned ||
		it.Suspect != before.Suspect || it.Deaths != before.Deaths || !it.Finished.Equal(before.Finished) || !it.Retried.Equal(before.Retried)) {
		_, err = t.exec(t.updateUpkeep, it.Parked.Microseconds(), micro(it.Watch), string(it.Owed), it.Warned, it.Suspect, it.Deaths,
			micro(it.Finished), micro(it.Retried), seq)
	}
	return err
}

// replan writes a new plan, and the account that it names.
func (t *tx) replan(s *stored) error {
	plan, err := json.Marshal(s.item.NewPlan)
	if err != nil {
		return err
	}
	var l loaded
	err = t.query(t.selectWhole, func(r row) error {
		l, err = scanLoaded(r)
		return err
	}, s.seq)
	l.addresses = s.addresses
	if err == nil {
		err = l.check()
	}
	if err != nil {
		return err
	}
	l.item.Account, l.item.Sender, l.docs.plan = s.item.Account, s.item.NewPlan.HeaderFrom.Key(), string(plan)
	if l.sum.Valid {
		l.sum = l.lasting().sums(sumOfBody(l.sum).Int64)
	}
	_, err = t.exec(t.updatePlan, l.docs.plan, l.item.Account, l.item.Sender, l.sum, s.seq)
	return err
}

func (t *tx) dropBody(seq int64) error {
	if _, err := t.exec(t.deleteChunks, chunkKey(seq, 0), chunkKey(seq+1, 0)); err != nil {
		return err
	}
	_, err := t.exec(t.updateHasNoBody, seq)
	return err
}

func encodeLast(l queue.Last) (string, error) {
	if l == (queue.Last{}) {
		return "", nil
	}
	b, err := json.Marshal(l)
	return string(b), err
}

func (t *tx) writeRecipient(s *stored, n int, r queue.Recipient) error {
	last, err := encodeLast(r.Last)
	if err != nil {
		return err
	}
	at := int64(n)
	if s.places != nil {
		at = s.places[n]
	}
	if at == noPlace {
		_, err = t.exec(t.insertRecipient, s.seq, 0, unreadable, string(r.State), micro(r.Next), last)
		return err
	}
	_, err = t.exec(t.updateRecipient, string(r.State), micro(r.Next), r.Attempts, r.SenderWaits, r.Doubts, last, s.seq, at)
	return err
}

// micro is a time as it is stored: null for zero.
func micro(t time.Time) sql.NullInt64 { return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()} }

func fromNull(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return fromMicro(us.Int64)
}

func fromMicro(us int64) time.Time { return time.UnixMicro(us).UTC() }

func (t *tx) close() {
	for _, s := range []*sql.Stmt{t.begin, t.commit, t.rollback, t.insertMessage, t.insertRecipient, t.insertChunk, t.finishMessage,
		t.deleteMessage, t.deleteChunks, t.selectDue, t.selectItem, t.selectRecipients, t.selectKnown, t.updateMessage, t.updateRecipient, t.updateHasNoBody,
		t.updatePlan, t.selectWhole, t.updateIntent, t.updateUpkeep, t.setNote, t.deleteNote, t.deleteRecipients} {
		s.Close()
	}
}
