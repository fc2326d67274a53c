package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/bridge/queue"
)

// Salvage says what became of a store that was damaged.
type Salvage struct {
	Why   error  // what was found
	Aside string // where the damaged file lies now; a person may look into it, and deletes it
	Saved int    // messages that are in the new store whole, finished ones included
	Held  []Loss // messages that are in the new store without their body, held
	Lost  []Loss // messages of which nothing, or next to nothing, could be read
}

// Loss names a message. What could not be read is empty.
type Loss struct {
	Number  int64 // of its row
	ID      string
	User    string
	Account string
	Err     error
}

// Salvaged returns what Open had to save, nil where the store was in order.
func (s *Store) Salvaged() *Salvage { return s.salvaged }

// checkFor is how long Open waits for the check of a large store; the rest of it runs beside the mail.
const checkFor = 500 * time.Millisecond

// damaged reports whether SQLite finds the file damaged, as far as that can be said within checkFor. Where it takes
// longer, the check goes on, and later leaves a mark for the next Open when it finds something: see markFile.
func (s *Store) damaged(ctx context.Context, path string) error {
	if _, err := os.Stat(markFile(path)); err == nil {
		return fmt.Errorf("%w: found by the check of the former run", queue.ErrDamaged)
	}
	found := make(chan error, 1)
	checking, stop := context.WithCancel(context.Background())
	s.stopCheck = stop
	s.check.Go(func() {
		err := quickCheck(checking, s.read)
		if errors.Is(err, queue.ErrDamaged) {
			// Only a mark: there is nobody here to tell. Where it cannot be written the next check finds it again.
			_ = os.WriteFile(markFile(path), []byte(err.Error()+"\n"), 0o600)
		}
		found <- err
	})
	t := time.NewTimer(checkFor)
	defer t.Stop()
	select {
	case err := <-found:
		return err
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// markFile is there while a store is known to be damaged and was not salvaged yet.
func markFile(path string) string { return path + ".damaged" }

// quickCheck reads the structure of the whole file; an error that wraps queue.ErrDamaged says what is wrong with it.
func quickCheck(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "PRAGMA quick_check(5)")
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

// salvage puts the damaged store aside, makes a new one at path, and copies into it what can be read.
func salvage(ctx context.Context, path string, why error) (*Store, error) {
	report := &Salvage{Why: why, Aside: fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000"))}
	if err := putAside(path, report.Aside); err != nil {
		return nil, fmt.Errorf("put the damaged store aside: %w", err)
	}
	s, err := openSound(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := s.copyFrom(ctx, report); err != nil {
		return nil, errors.Join(fmt.Errorf("salvage: %w", err), s.Close())
	}
	s.salvaged = report
	return s, nil
}

// putAside renames the file with its log, which belongs to it, and lets SQLite make the index of the log anew.
func putAside(path, to string) error {
	if err := os.Rename(path+"-wal", to+"-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, gone := range []string{path + "-shm", markFile(path)} {
		if err := os.Remove(gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(path, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// copyFrom copies message by message, each by its number, because a damaged page ends a walk over the table but not a
// look at another row. Where nothing of the table can be read, the file is only named.
func (s *Store) copyFrom(ctx context.Context, report *Salvage) error {
	from := report.Aside
	repaired, err := readable(from)
	if err != nil {
		return err
	}
	if repaired != "" {
		from = repaired
		defer removeStore(repaired)
	}
	old, err := sql.Open("sqlite", dsn(from, true))
	if err != nil {
		return err
	}
	defer old.Close()
	old.SetMaxOpenConns(1)
	columns, err := columnsOf(ctx, old, "messages")
	if err != nil {
		report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("nothing in the file can be read: %w", err)})
		return nil
	}
	last := lastNumber(ctx, old)
	for seq := int64(1); seq <= last; seq++ {
		if err := s.copyMessage(ctx, old, columns, seq, report); err != nil {
			return err
		}
	}
	s.copyNotes(ctx, old)
	return nil
}

// removeStore removes a copy that served its purpose; what is left of it does no harm.
func removeStore(path string) {
	for _, end := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + end)
	}
}

// columnsOf lists the columns that both the old table and ours have: an older store is salvaged too.
func columnsOf(ctx context.Context, db *sql.DB, table string) (columns []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT name FROM pragma_table_info(?)", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		columns = append(columns, name)
	}
	if len(columns) == 0 && rows.Err() == nil {
		return nil, errors.New("there is no such table")
	}
	return columns, rows.Err()
}

// lastNumber is the highest number that is heard of anywhere.
func lastNumber(ctx context.Context, old *sql.DB) (last int64) {
	for _, query := range []string{"SELECT max(seq) FROM messages", "SELECT max(seq) FROM recipients", "SELECT max(at) >> 20 FROM chunks",
		"SELECT max(seq) FROM messages INDEXED BY messages_due WHERE next_attempt IS NOT NULL"} {
		var n sql.NullInt64
		if old.QueryRowContext(ctx, query).Scan(&n) == nil {
			last = max(last, n.Int64)
		}
	}
	return last
}

// saved is one message as it was read from the damaged file.
type saved struct {
	columns    []string
	values     []any
	recipients [][]any
	chunks     [][]any
	loss       Loss
	body       error // why the body is not whole
}

const recipientColumns = "seq, n, address, state, next_attempt, attempts, sender_waits, doubts, last"

func (s *Store) copyMessage(ctx context.Context, old *sql.DB, columns []string, seq int64, report *Salvage) error {
	m, there := readSaved(ctx, old, columns, seq)
	switch {
	case !there:
		return nil
	case m.loss.Err != nil:
		report.Lost = append(report.Lost, m.loss)
		return nil
	}
	err := s.writer.apply(ctx, 0, func(t *tx) error { return m.write(t) })
	switch {
	case errors.Is(err, queue.ErrFull), errors.Is(err, queue.ErrClosed), ctx.Err() != nil:
		return err // that is not the message's fault; the damaged file is still whole where it lies
	case err != nil:
		m.loss.Err = err
		report.Lost = append(report.Lost, m.loss)
	case m.body != nil:
		m.loss.Err = m.body
		report.Held = append(report.Held, m.loss)
	default:
		report.Saved++
	}
	return nil
}

// readSaved reads what there is of the number; there is false where nothing hints at a message.
func readSaved(ctx context.Context, old *sql.DB, columns []string, seq int64) (m saved, there bool) {
	m = saved{columns: columns, loss: Loss{Number: seq}}
	rows, err := readRows(ctx, old, len(columns), "SELECT "+strings.Join(columns, ", ")+" FROM messages WHERE seq = ?", seq)
	if err != nil {
		m.loss.Err = fmt.Errorf("its row cannot be read: %w", err)
		return m, true
	}
	if len(rows) == 0 {
		return m, false
	}
	m.values = rows[0]
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
	m.recipients, err = readRows(ctx, old, 9, "SELECT "+recipientColumns+" FROM recipients WHERE seq = ? ORDER BY n", seq)
	if err == nil && len(m.recipients) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		m.loss.Err = fmt.Errorf("its recipients cannot be read: %w", err)
		return m, true
	}
	if m.number("has_body") != 0 {
		m.chunks, m.body = readBodyOf(ctx, old, seq, m.number("header_size")+m.number("body_size"), m.sum())
	}
	return m, true
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

// readRows reads whole rows of n values.
func readRows(ctx context.Context, db *sql.DB, n int, query string, args ...any) (all [][]any, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		values, to := make([]any, n), make([]any, n)
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		all = append(all, values)
	}
	return all, rows.Err()
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

// sum is that of the message's octets, where the version that wrote it kept one.
func (m *saved) sum() (sum sql.NullInt64) {
	if i := m.at("sum"); i >= 0 {
		sum.Int64, sum.Valid = m.values[i].(int64)
	}
	return sum
}

// write puts the message into the new store under its old number. Without its body it is held: what of it was in flight
// or waits cannot be sent.
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
	if err != nil || m.body == nil {
		return err
	}
	return m.hold(t)
}

func (m *saved) hold(t *tx) error {
	ctx := context.Background()
	last, err := encodeLast(queue.Last{Err: "the store was damaged: " + m.body.Error()})
	if err == nil {
		_, err = t.conn.ExecContext(ctx, "UPDATE recipients SET state = 'held', next_attempt = NULL, last = ? WHERE seq = ? AND state NOT IN ('relayed', 'failed')",
			last, m.loss.Number)
	}
	if err == nil {
		_, err = t.conn.ExecContext(ctx, `UPDATE messages SET has_body = 0, next_attempt = NULL, lease = '', intent = 0, suspect = 0,
			state = CASE WHEN state IN ('relayed', 'failed') THEN state ELSE 'held' END WHERE seq = ?`, m.loss.Number)
	}
	return err
}

// copyNotes copies what can be read; the rest is learnt anew.
func (s *Store) copyNotes(ctx context.Context, old *sql.DB) {
	rows, err := readRows(ctx, old, 2, "SELECT key, value FROM notes")
	if err != nil {
		return
	}
	for _, r := range rows {
		key, _ := r[0].(string)
		value, _ := r[1].(string)
		_ = s.SetNote(ctx, key, value)
	}
}
