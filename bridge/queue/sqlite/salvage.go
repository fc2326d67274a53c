package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	Held  []Loss // messages that are in the new store, held: without their body, or not known to be whole
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
// look at another row; and what SQLite does not find, page by page. Where nothing can be read, the file is only named.
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
	rest, err := findRemains(report.Aside)
	if err != nil {
		return err
	}
	defer rest.close()
	old, err := sql.Open("sqlite", dsn(from, true))
	if err != nil {
		return err
	}
	defer old.Close()
	old.SetMaxOpenConns(1)
	d := damagedStore{db: old, rest: rest}
	if d.whole, err = columnsOfMessage(ctx, s.read); err != nil {
		return err
	}
	if d.columns, err = columnsOf(ctx, old, "messages"); err != nil && rest.last == 0 {
		report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("nothing in the file can be read: %w", err)})
		return nil
	}
	last := max(lastNumber(ctx, old), rest.last)
	for seq := int64(1); seq <= last; seq++ {
		if err := s.copyMessage(ctx, d, seq, report); err != nil {
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

func (s *Store) copyMessage(ctx context.Context, d damagedStore, seq int64, report *Salvage) error {
	m, there := d.read(ctx, seq)
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
	case m.held() != nil:
		m.loss.Err = m.held()
		report.Held = append(report.Held, m.loss)
	default:
		report.Saved++
	}
	return nil
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
