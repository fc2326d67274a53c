package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"postern/bridge/queue"
)

// damagedStore is what is read from.
type damagedStore struct {
	db      *sql.DB
	columns []string // of its messages, as ours are called; nil where its schema cannot be read, or is no version's
	rest    *remains
	whole   []string // the columns of a row that is found in rest, or the first of them

	numbers []int64          // of all messages that anything hints at, in order
	ids     map[int64]string // by number, as the index has them
}

// saved is one message as it was read from the damaged file.
type saved struct {
	columns    []string
	values     []any
	recipients [][]any
	chunks     [][]any
	loss       Loss
	body       error // why the body is not whole
	doubt      error // why it is held although nothing is known to be missing
}

const recipientColumns = "seq, n, address, state, next_attempt, attempts, sender_waits, doubts, last"

// held is why the message is held in the new store, nil where it goes on.
func (m *saved) held() error {
	if m.body != nil {
		return m.body
	}
	return m.doubt
}

// read reads what there is of the number; there is false where it has no message. With an error it may have had one.
func (d damagedStore) read(ctx context.Context, seq int64) (m saved, there bool) {
	m = saved{loss: Loss{Number: seq, ID: d.ids[seq]}}
	if there, err := d.readMessage(ctx, &m); !there || err != nil {
		if m.loss.Err = err; !there && m.loss.ID != "" {
			m.loss.Err = errors.New("its row is gone")
		}
		return m, there
	}
	m.loss.ID, m.loss.Account = m.text("id"), m.text("account")
	var session struct {
		User string `json:"user"`
	}
	if json.Unmarshal([]byte(m.text("session")), &session) == nil {
		m.loss.User = session.User
	}
	if m.text("state") == unfinished {
		return m, false // nobody was told that it is kept
	}
	if seq <= 0 || seq >= maxNumber {
		m.loss.Err = errors.New("its number is not one that a message has, and what belongs to it cannot be found")
		return m, true
	}
	d.readRecipients(ctx, &m)
	m.doubt = cmp.Or(m.doubt, m.check(d.ids[seq]))
	if m.number("has_body") != 0 {
		d.readBody(ctx, &m)
	}
	if d.rest.p.broken && !queue.State(m.text("state")).Final() {
		m.doubt = cmp.Or(m.doubt, errBroken)
	}
	return m, true
}

var errSchema = errors.New("the schema is damaged")

func (d damagedStore) readMessage(ctx context.Context, m *saved) (there bool, err error) {
	seq := m.loss.Number
	var rows [][]any
	err = errSchema
	if d.columns != nil {
		rows, err = readRows(ctx, d.db, len(d.columns), "SELECT * FROM messages WHERE rowid = ?", seq)
	}
	if err == nil && len(rows) > 0 {
		m.columns, m.values = d.columns, rows[0]
		m.values[0] = seq // which lies in the row only where the schema does not say what it is
		return true, nil
	}
	values, doubt := d.rest.message(seq)
	switch {
	case values != nil && (err != nil || doubt == nil): // where the table can be read, an old page is old
		m.columns, m.values, m.doubt = d.whole[:len(values)], values, doubt
		return true, nil
	case err == nil, d.columns == nil && !d.rest.hints(seq):
		return false, nil
	}
	return true, fmt.Errorf("its row cannot be read: %w", err)
}

// readRecipients reads whom the message is for. Without them it is still worth keeping: its header may name them, and a
// person can export it.
func (d damagedStore) readRecipients(ctx context.Context, m *saved) {
	rows, err := readRows(ctx, d.db, 9, "SELECT "+recipientColumns+" FROM recipients WHERE seq = ? ORDER BY n", m.loss.Number)
	if err == nil && len(rows) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		var doubt error
		if rows, doubt = d.rest.recipientsOf(m.loss.Number); rows == nil {
			doubt = fmt.Errorf("its recipients cannot be read: %w", err)
		}
		m.doubt = cmp.Or(m.doubt, doubt)
	}
	m.recipients = rows
}

func (d damagedStore) readBody(ctx context.Context, m *saved) {
	size, sum := m.number("header_size")+m.number("body_size"), sumOfBody(m.sum())
	if m.chunks, m.body = readBodyOf(ctx, d.db, m.loss.Number, size, sum); m.body != nil {
		if chunks, err := d.rest.body(m.loss.Number, size, sum); err == nil {
			m.chunks, m.body = chunks, nil
		}
	}
}

func readBodyOf(ctx context.Context, old *sql.DB, seq, size int64, sum sql.NullInt64) (chunks [][]any, err error) {
	chunks, err = readRows(ctx, old, 2, "SELECT at, data FROM chunks WHERE at >= ? AND at < ? ORDER BY at", chunkKey(seq, 0), chunkKey(seq+1, 0))
	if err != nil {
		return nil, fmt.Errorf("its body cannot be read: %w", err)
	}
	found := uint32(0)
	for _, c := range chunks {
		data, _ := c[1].([]byte)
		size -= int64(len(data))
		found = crc32.Update(found, castagnoli, data)
	}
	switch {
	case size != 0:
		return nil, fmt.Errorf("%d octets of its body are missing or too many", size)
	case sum.Valid && sum.Int64 != int64(found):
		return nil, errors.New("its octets are not those that were written")
	}
	return chunks, nil
}

// size is about how many octets the message has.
func (m *saved) size() (n int) {
	for _, c := range m.chunks {
		data, _ := c[1].([]byte)
		n += len(data)
	}
	return n
}

func (m *saved) at(column string) int {
	for i, c := range m.columns {
		if c == column {
			return i
		}
	}
	return -1
}

func (m *saved) text(column string) string {
	if i := m.at(column); i >= 0 {
		if s, ok := m.values[i].(string); ok {
			return s
		}
	}
	return ""
}

func (m *saved) number(column string) int64 {
	if i := m.at(column); i >= 0 {
		if n, ok := m.values[i].(int64); ok {
			return n
		}
	}
	return 0
}

// sum is the column, where the version that wrote it had one.
func (m *saved) sum() (sum sql.NullInt64) {
	if i := m.at("sum"); i >= 0 {
		sum.Int64, sum.Valid = m.values[i].(int64)
	}
	return sum
}

// write puts the message into the new store under its old number. Without its body it is held: what of it was in flight
// or waits cannot be sent; and where nobody knows whether this is all of it.
func (m *saved) write(t *tx) error {
	ctx := context.Background()
	t.touched = true
	_, err := t.conn.ExecContext(ctx, "INSERT INTO messages ("+strings.Join(m.columns, ", ")+") VALUES (?"+strings.Repeat(", ?", len(m.columns)-1)+")", m.values...)
	for _, r := range m.recipients {
		if err == nil {
			_, err = t.conn.ExecContext(ctx, "INSERT INTO recipients ("+recipientColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", r...)
		}
	}
	for _, c := range m.chunks {
		if err == nil {
			_, err = t.exec(t.insertChunk, c...)
		}
	}
	if err != nil || m.held() == nil {
		return err
	}
	return m.hold(t)
}

func (m *saved) hold(t *tx) error {
	ctx := context.Background()
	last, err := encodeLast(queue.Last{Err: "the store was damaged: " + m.held().Error()})
	if err == nil {
		_, err = t.conn.ExecContext(ctx, "UPDATE recipients SET state = 'held', next_attempt = NULL, last = ? WHERE seq = ? AND state NOT IN ('relayed', 'failed')",
			last, m.loss.Number)
	}
	if err == nil {
		_, err = t.conn.ExecContext(ctx, `UPDATE messages SET has_body = has_body AND ?, next_attempt = NULL, lease = '', intent = 0, suspect = 0,
			state = CASE WHEN state IN ('relayed', 'failed') THEN state ELSE 'held' END WHERE seq = ?`, m.body == nil, m.loss.Number)
	}
	return err
}
