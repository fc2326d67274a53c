package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// tx is the writer's side of the store: prepared statements on its one connection. Only the writer's goroutine uses it.
type tx struct {
	touched bool // the present change has written, or SQLite has refused it something

	begin, commit, rollback                         *sql.Stmt
	insertMessage, insertRecipient, insertChunk     *sql.Stmt
	finishMessage, deleteMessage, deleteChunks      *sql.Stmt
	selectDue, selectItem, selectRecipients         *sql.Stmt
	updateMessage, updateRecipient, updateHasNoBody *sql.Stmt
	updatePlan                                      *sql.Stmt
}

// itemColumns are those of a queue.Item; entryColumns those of a queue.Entry, in the order of scanEntry.
const (
	itemColumns  = "seq, id, account, accepted, attempts, lease, intent"
	entryColumns = itemColumns + ", header_size, body_size, has_body, session, envelope, plan"
)

func (t *tx) prepare(ctx context.Context, conn *sql.Conn) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&t.begin, "BEGIN IMMEDIATE"},
		{&t.commit, "COMMIT"},
		{&t.rollback, "ROLLBACK"},
		{&t.insertMessage, `INSERT INTO messages (id, account, state, next_attempt, accepted, header_size, body_size, has_body,
			session, envelope, plan) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)`},
		{&t.insertRecipient, "INSERT INTO recipients (seq, n, address, state, next_attempt) VALUES (?, ?, ?, ?, ?)"},
		{&t.insertChunk, "INSERT INTO chunks (at, data) VALUES (?, ?)"},
		{&t.finishMessage, "UPDATE messages SET state = ?, next_attempt = ?, body_size = ? WHERE seq = ?"},
		{&t.deleteMessage, "DELETE FROM messages WHERE seq = ?"},
		{&t.deleteChunks, "DELETE FROM chunks WHERE at >= ? AND at < ?"},
		{&t.selectDue, selectDue},
		{&t.selectItem, "SELECT " + itemColumns + " FROM messages WHERE id = ? AND state <> '" + unfinished + "'"},
		{&t.selectRecipients, selectRecipients},
		{&t.updateMessage, `UPDATE messages SET state = ?, next_attempt = ?, attempts = ?, lease = ?, intent = ? WHERE seq = ?`},
		{&t.updateRecipient, `UPDATE recipients SET state = ?, next_attempt = ?, attempts = ?, sender_waits = ?, doubts = ?, last = ?
			WHERE seq = ? AND n = ?`},
		{&t.updateHasNoBody, "UPDATE messages SET has_body = 0 WHERE seq = ?"},
		{&t.updatePlan, "UPDATE messages SET plan = ?, account = ? WHERE seq = ?"},
	} {
		var err error
		if *p.stmt, err = conn.PrepareContext(ctx, p.text); err != nil {
			return fmt.Errorf("prepare %.40q: %w", p.text, err)
		}
	}
	return nil
}

const (
	selectDue = "SELECT " + entryColumns + ` FROM messages WHERE account = ? AND next_attempt <= ?
		ORDER BY next_attempt, seq LIMIT ?`
	selectRecipients = `SELECT address, state, next_attempt, attempts, sender_waits, doubts, last
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
	seq  int64
	item queue.Item
}

func (s *stored) dest(accepted *int64) []any {
	return []any{&s.seq, &s.item.ID, &s.item.Account, accepted, &s.item.Attempts, &s.item.Lease, &s.item.Intent}
}

// item reads one item with its recipients.
func (t *tx) item(id envelope.ID) (s stored, err error) {
	found := false
	err = t.query(t.selectItem, func(r row) error {
		found = true
		var accepted int64
		err := r.Scan(s.dest(&accepted)...)
		s.item.Accepted = fromMicro(accepted)
		return err
	}, string(id))
	if err == nil && !found {
		return s, queue.ErrNotFound
	}
	if err == nil {
		s.item.Recipients, err = t.recipients(s.seq)
	}
	return s, err
}

func (t *tx) recipients(seq int64) (rs []queue.Recipient, err error) {
	err = t.query(t.selectRecipients, func(r row) error { return scanRecipient(r, &rs) }, seq)
	return rs, err
}

// scanRecipient appends the row. What cannot be read as it was written is damage, and the item is not guessed at.
func scanRecipient(r row, to *[]queue.Recipient) error {
	var rc queue.Recipient
	var address, state, last string
	var next sql.NullInt64
	if err := r.Scan(&address, &state, &next, &rc.Attempts, &rc.SenderWaits, &rc.Doubts, &last); err != nil {
		return err
	}
	if next.Valid {
		rc.Next = fromMicro(next.Int64)
	}
	var err error
	if rc.State, err = queue.ParseState(state); err != nil {
		return fmt.Errorf("%w: recipient: %w", queue.ErrDamaged, err)
	}
	if err := rc.Address.UnmarshalText([]byte(address)); err != nil {
		return fmt.Errorf("%w: recipient: %w", queue.ErrDamaged, err)
	}
	if last != "" {
		if err := json.Unmarshal([]byte(last), &rc.Last); err != nil {
			return fmt.Errorf("%w: recipient: %w", queue.ErrDamaged, err)
		}
	}
	*to = append(*to, rc)
	return nil
}

// change reads, alters and writes one item; change's error is the result, and then nothing was written.
func (t *tx) change(s *stored, change func(*queue.Item) error) error {
	before := slices.Clone(s.item.Recipients)
	if err := change(&s.item); err != nil {
		return err
	}
	if len(s.item.Recipients) != len(before) {
		return errors.New("a change must keep the recipients")
	}
	for n, r := range s.item.Recipients {
		if r == before[n] {
			continue
		}
		last, err := encodeLast(r.Last)
		if err != nil {
			return err
		}
		if _, err := t.exec(t.updateRecipient, string(r.State), micro(r.Next), r.Attempts, r.SenderWaits, r.Doubts, last, s.seq, n); err != nil {
			return err
		}
	}
	it := &s.item
	if _, err := t.exec(t.updateMessage, string(it.State()), micro(it.Next()), it.Attempts, it.Lease, it.Intent, s.seq); err != nil {
		return err
	}
	if it.NewPlan != nil {
		if err := t.replan(s.seq, it); err != nil {
			return err
		}
	}
	if it.DropBody {
		return t.dropBody(s.seq)
	}
	return nil
}

// replan writes a new plan, and the account that it names.
func (t *tx) replan(seq int64, it *queue.Item) error {
	plan, err := json.Marshal(it.NewPlan)
	if err != nil {
		return err
	}
	_, err = t.exec(t.updatePlan, string(plan), it.Account, seq)
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

// micro is a time as it is stored: null for zero.
func micro(t time.Time) sql.NullInt64 { return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()} }

func fromMicro(us int64) time.Time { return time.UnixMicro(us).UTC() }

func (t *tx) close() {
	for _, s := range []*sql.Stmt{t.begin, t.commit, t.rollback, t.insertMessage, t.insertRecipient, t.insertChunk, t.finishMessage,
		t.deleteMessage, t.deleteChunks, t.selectDue, t.selectItem, t.selectRecipients, t.updateMessage, t.updateRecipient, t.updateHasNoBody, t.updatePlan} {
		s.Close()
	}
}
