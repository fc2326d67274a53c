package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// Bounds of what a salvage writes in one transaction.
const (
	salvageBatch      = 256
	salvageBatchBytes = 8 << 20
)

// maxNumber is above every number of a message: the keys of its chunks must be numbers too, and those of the messages
// that come after it.
const maxNumber = 1 << 42

// copyFrom copies message by message, each by its number, because a damaged page ends a walk over the table but not a
// look at another row; and what SQLite does not find, page by page. Where nothing can be read, the file is only named.
func (s *Store) copyFrom(ctx context.Context, damaged string, report *Salvage) error {
	from := damaged
	repaired, err := readable(ctx, damaged)
	if repaired != "" {
		from = repaired
		defer removeStore(repaired)
	}
	if err != nil {
		return err
	}
	rest, err := findRemains(ctx, damaged)
	if err != nil {
		return err
	}
	defer rest.p.close()
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
	had, err := columnsOf(ctx, old, "messages")
	if err != nil && rest.empty() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("nothing in the file can be read: %w", err)})
		return nil
	}
	// By their places: a wrong bit makes another name of one.
	if err == nil && (len(had) == len(shapeOfMessage) || len(had) == len(shapeOfMessage1)) {
		d.columns = d.whole[:len(had)]
	}
	d.findNumbers(ctx)
	c := copying{store: s, from: d, report: report, copied: map[string]bool{}}
	if err := c.messages(ctx); err != nil {
		return err
	}
	return s.copyNotes(ctx, old)
}

// columnsOf lists the columns of a table.
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

// hints are the queries that meet numbers of messages, and their IDs where they meet those too. What a table cannot tell
// any more an index may.
var hints = []string{
	"SELECT rowid, '' FROM messages NOT INDEXED ORDER BY rowid %[1]s",
	"SELECT seq, id FROM messages ORDER BY id %[1]s",
	"SELECT seq, '' FROM messages INDEXED BY messages_due WHERE next_attempt IS NOT NULL ORDER BY account %[1]s",
	"SELECT seq, '' FROM recipients ORDER BY seq %[1]s, n %[1]s",
	"SELECT at >> 20, '' FROM chunks ORDER BY at %[1]s",
}

// findNumbers finds the numbers that anything hints at. There may be any between the least and the greatest of them: a
// single wrong bit makes a number of any size.
func (d *damagedStore) findNumbers(ctx context.Context) {
	all := map[int64]bool{}
	d.ids = map[int64]string{}
	for _, query := range hints {
		walk(ctx, d.db, query, func(number, id any) {
			seq, ok := number.(int64)
			if !ok {
				return
			}
			all[seq] = true
			if text, _ := id.(string); isID(text) {
				d.ids[seq] = text
			}
		})
	}
	d.rest.numbers(all)
	for seq := range all {
		d.numbers = append(d.numbers, seq)
	}
	slices.Sort(d.numbers)
}

// walk hands over the two columns of the rows, from the first on, and where it meets damage also those from the last on.
func walk(ctx context.Context, db *sql.DB, query string, take func(a, b any)) {
	if walkOnce(ctx, db, fmt.Sprintf(query, "ASC"), take) != nil {
		_ = walkOnce(ctx, db, fmt.Sprintf(query, "DESC"), take) // what lies between is found otherwise, or not at all
	}
}

func walkOnce(ctx context.Context, db *sql.DB, query string, take func(a, b any)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a, b any
		if err := rows.Scan(&a, &b); err != nil {
			return err
		}
		take(a, b)
	}
	return rows.Err()
}

// copying is the way of the messages into the new store.
type copying struct {
	store  *Store
	from   damagedStore
	report *Salvage
	copied map[string]bool // the IDs that are in the new store

	batch []*saved
	bytes int
}

func (c *copying) messages(ctx context.Context) error {
	var gone []Loss // of which only an index knows
	for _, seq := range c.from.numbers {
		m, there := c.from.read(ctx, seq)
		if ctx.Err() != nil {
			return ctx.Err() // nothing that was read meanwhile says anything about the file
		}
		switch {
		case !there && m.loss.Err != nil:
			gone = append(gone, m.loss)
		case !there:
		case m.loss.Err != nil:
			c.report.Lost = append(c.report.Lost, m.loss)
		default:
			c.batch = append(c.batch, &m)
			c.bytes += m.size()
		}
		if len(c.batch) >= salvageBatch || c.bytes >= salvageBatchBytes {
			if err := c.write(ctx); err != nil {
				return err
			}
		}
	}
	if err := c.write(ctx); err != nil {
		return err
	}
	for _, l := range gone {
		if !c.copied[l.ID] {
			c.report.Lost = append(c.report.Lost, l)
		}
	}
	return nil
}

// write writes the batch in one transaction; where that fails for a message's sake each has one of its own.
func (c *copying) write(ctx context.Context) error {
	err := c.store.writer.apply(ctx, c.bytes, func(t *tx) error {
		for _, m := range c.batch {
			if err := m.write(t); err != nil {
				return err
			}
		}
		return nil
	})
	for _, m := range c.batch {
		own := err
		if err != nil && !fatal(ctx, err) {
			own = c.store.writer.apply(ctx, 0, m.write)
		}
		if fatal(ctx, own) {
			return own
		}
		c.report.add(m, own)
		c.copied[m.loss.ID] = c.copied[m.loss.ID] || own == nil
	}
	c.batch, c.bytes = c.batch[:0], 0
	reached(ctx, "batch", c.store)
	return nil
}

// fatal reports whether that is no message's fault. The damaged file is still whole where it lies.
func fatal(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || !rowsFault(err))
}

// add counts a message that was written, or was not.
func (r *Salvage) add(m *saved, err error) {
	switch {
	case err != nil:
		m.loss.Err = err
		r.Lost = append(r.Lost, m.loss)
	case m.held() != nil:
		m.loss.Err = m.held()
		r.Held = append(r.Held, m.loss)
	default:
		r.Saved++
	}
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
func (s *Store) copyNotes(ctx context.Context, old *sql.DB) error {
	notes := map[string]string{}
	walk(ctx, old, "SELECT key, value FROM notes ORDER BY key %[1]s", func(k, v any) {
		key, _ := k.(string)
		notes[key], _ = v.(string)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.writer.apply(ctx, 0, func(t *tx) error {
		for key, value := range notes {
			if _, err := t.exec(t.setNote, key, value); err != nil {
				return err
			}
		}
		return nil
	})
}
