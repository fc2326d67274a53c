package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// UpdateAll changes several items in one transaction; see queue.Store.
func (s *Store) UpdateAll(ctx context.Context, ids []envelope.ID, change func(*queue.Item) error) error {
	return s.writer.apply(ctx, 0, func(t *tx) error {
		for _, id := range ids {
			st, err := t.item(id)
			switch {
			case errors.Is(err, queue.ErrNotFound):
				continue
			case err != nil:
				return err
			}
			if err := t.change(&st, change); err != nil {
				return err
			}
		}
		return nil
	})
}

// finds are the queries of Find.
var finds = map[queue.Which]string{
	queue.Leased:   "SELECT id FROM messages WHERE lease <> '' ORDER BY seq LIMIT ?",
	queue.Ahead:    "SELECT id FROM messages INDEXED BY messages_due WHERE account = ? AND (attempts > 0) IN (0, 1) AND next_attempt > ? AND id > ? ORDER BY id LIMIT ?",
	queue.Suspects: "SELECT id FROM messages WHERE suspect = 1 ORDER BY deaths, seq LIMIT ?",
	queue.Watched:  "SELECT id FROM messages WHERE watch <= ? AND state <> '" + unfinished + "' ORDER BY watch LIMIT ?",
	queue.Owing:    "SELECT id FROM messages WHERE owed <> '' ORDER BY seq LIMIT ?",
	queue.OfSender: "SELECT id FROM messages WHERE state = 'deferred' AND account = ? AND sender = ? AND id > ? ORDER BY id LIMIT ?",
	queue.Later:    "SELECT id FROM messages INDEXED BY messages_due WHERE account = ? AND (attempts > 0) IN (0, 1) AND next_attempt > ? AND state = 'queued' AND id > ? ORDER BY id LIMIT ?",
}

// Find returns the IDs of the selected messages; see queue.Store.
func (s *Store) Find(ctx context.Context, sel queue.Selection) (ids []envelope.ID, err error) {
	args := []any{sel.Limit}
	switch sel.Which {
	case queue.Ahead:
		args = []any{sel.Account, sel.Before.UnixMicro(), string(sel.After), sel.Limit}
	case queue.Watched:
		args = []any{sel.Before.UnixMicro(), sel.Limit}
	case queue.OfSender:
		args = []any{sel.Account, sel.Sender, string(sel.After), sel.Limit}
	case queue.Later:
		args = []any{sel.Account, sel.Before.UnixMicro(), string(sel.After), sel.Limit}
	}
	_ = s.settle(ctx) // what the tables do not take is new, and none of the rules is in a hurry for it
	rows, err := s.read.QueryContext(ctx, finds[sel.Which], args...)
	if err != nil {
		return nil, s.named(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id envelope.ID
		if err := rows.Scan(&id); err != nil {
			return nil, s.named(err)
		}
		ids = append(ids, id)
	}
	return ids, s.named(rows.Err())
}

// Usage returns what each user's waiting messages hold; see queue.Store.
func (s *Store) Usage(ctx context.Context) (map[string]queue.Usage, error) {
	all := map[string]queue.Usage{}
	waiting := s.notTaken(ctx)
	err := s.each(ctx, func(r row) error {
		var user string
		var u queue.Usage
		err := r.Scan(&user, &u.Messages, &u.Bytes)
		all[user] = u
		return err
	}, "SELECT user, count(*), sum(header_size + body_size) FROM messages WHERE finished IS NULL AND state <> ? GROUP BY user", unfinished)
	for _, r := range waiting {
		u := all[r.user]
		all[r.user] = queue.Usage{Messages: u.Messages + 1, Bytes: u.Bytes + r.header + r.body}
	}
	return all, err
}

func (s *Store) each(ctx context.Context, scan func(row) error, query string, args ...any) error {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return s.named(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.named(err)
		}
	}
	return s.named(rows.Err())
}

// SetNote keeps a document; see queue.Store.
func (s *Store) SetNote(ctx context.Context, key, value string) error {
	return s.writer.apply(ctx, len(value), func(t *tx) error {
		if value == "" {
			_, err := t.exec(t.deleteNote, key)
			return err
		}
		_, err := t.exec(t.setNote, key, value)
		return err
	})
}

// Notes returns documents; see queue.Store.
func (s *Store) Notes(ctx context.Context, prefix string) (map[string]string, error) {
	all := map[string]string{}
	err := s.each(ctx, func(r row) error {
		var key, value string
		err := r.Scan(&key, &value)
		all[key] = value
		return err
	}, "SELECT key, value FROM notes WHERE substr(key, 1, length(?1)) = ?1 AND key <> ?2", prefix, intakeNote)
	return all, err
}

// Bounds of one step of Purge, so that it holds up nobody for long.
const (
	purgeMessages = 200
	purgePages    = 1000 // 4 KiB each

	// Free pages are kept for new mail, so many or a quarter of the file, unless the disk is short.
	keepPages = 1024
)

// Purge deletes a little of what is not needed any more and shrinks the file a little; see queue.Store.
func (s *Store) Purge(ctx context.Context, p queue.Purge) (more bool, err error) {
	if err := s.intact(); err != nil {
		return false, err
	}
	err = s.writer.apply(ctx, 0, func(t *tx) error {
		more = false
		rows, err := t.purgeable(p)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := t.purge(r); err != nil {
				return err
			}
		}
		more = len(rows) > 0
		return nil
	})
	if err != nil || more {
		return more, err
	}
	if p.Short { // first, because what follows needs room in it
		if folded, err := s.foldWAL(ctx); err != nil || !folded {
			return false, err
		}
	}
	free, total, err := s.pages(ctx)
	keep := max(keepPages, total/4)
	if p.Short {
		keep = 0
	}
	switch {
	case err != nil:
		return false, err
	case free > keep:
		err = s.writer.apply(ctx, 0, func(t *tx) error {
			t.touched = true
			_, err := t.conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA incremental_vacuum(%d)", min(purgePages, free-keep/2)))
			return err
		})
		return err == nil, err
	}
	return false, nil
}

// foldWAL copies the write-ahead log into the file and empties it. Where a reader is in the way that is left for the
// next time: who is to be waited for may read for minutes, and everybody waits for the writer.
func (s *Store) foldWAL(ctx context.Context) (folded bool, err error) {
	err = s.writer.alone(ctx, func(conn *sql.Conn) (err error) {
		ctx := context.Background()
		if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
			return err
		}
		defer func() {
			_, again := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout))
			err = errors.Join(err, again)
		}()
		var busy, pages, copied int
		err = conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &copied)
		folded = busy == 0
		return err
	})
	return folded, err
}

// pages returns how many pages of the file hold nothing, and how many there are.
func (s *Store) pages(ctx context.Context) (free, total int, err error) {
	if err = s.read.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free); err == nil {
		err = s.read.QueryRowContext(ctx, "PRAGMA page_count").Scan(&total)
	}
	return free, total, s.named(err)
}

// purgeRow is a row of which the whole, or only the body, is not needed.
type purgeRow struct {
	seq   int64
	whole bool
}

func (t *tx) purgeable(p queue.Purge) (rows []purgeRow, err error) {
	for _, q := range []struct {
		text   string
		before time.Time
		whole  bool
	}{
		{"SELECT seq FROM messages WHERE finished < ? ORDER BY finished LIMIT ?", p.History, true},
		{"SELECT seq FROM messages WHERE finished < ? AND has_body = 1 AND state = 'failed' ORDER BY finished LIMIT ?", p.Failed, false},
		{"SELECT seq FROM messages WHERE finished < ? AND has_body = 1 AND state = 'relayed' ORDER BY finished LIMIT ?", p.Relayed, false},
	} {
		if q.before.IsZero() || len(rows) >= purgeMessages {
			continue
		}
		found, err := t.seqs(q.text, q.before.UnixMicro(), purgeMessages-len(rows))
		if err != nil {
			return nil, err
		}
		for _, seq := range found {
			rows = append(rows, purgeRow{seq, q.whole})
		}
	}
	return rows, nil
}

func (t *tx) seqs(query string, args ...any) (seqs []int64, err error) {
	rows, err := t.conn.QueryContext(context.Background(), query, args...)
	if err != nil {
		t.touched = true
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		seqs = append(seqs, seq)
	}
	return seqs, rows.Err()
}

func (t *tx) purge(r purgeRow) error {
	if !r.whole {
		return t.dropBody(r.seq)
	}
	for _, s := range []struct {
		stmt *sql.Stmt
		args []any
	}{
		{t.deleteChunks, []any{chunkKey(r.seq, 0), chunkKey(r.seq+1, 0)}},
		{t.deleteRecipients, []any{r.seq}},
		{t.deleteMessage, []any{r.seq}},
	} {
		if _, err := t.exec(s.stmt, s.args...); err != nil {
			return err
		}
	}
	return nil
}
