package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Backup writes a copy of the store, as it is at one moment, into a new file: whole, smaller where the store has free
// pages, and without a WAL. Mail comes and goes meanwhile. marks are notes that the copy has and the store has not.
func (s *Store) Backup(ctx context.Context, path string, marks map[string]string) (err error) {
	if err := s.settle(ctx); err != nil {
		return err
	}
	var own string
	if err := s.read.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&own); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite takes a file that is empty
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// A connection of its own: those that read may write nothing, and the writer must go on.
	from, err := sql.Open("sqlite", dsn(own, false))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if _, err := from.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return s.named(err) // who copies the store reads all of it
	}
	// The name as a URI, without the settings of a store: the copy has no WAL.
	uri, _, _ := strings.Cut(dsn(path, false), "?")
	to, err := sql.Open("sqlite", uri)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for key, value := range marks {
		_, err := to.ExecContext(ctx, "INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
		if err != nil {
			return fmt.Errorf("mark the copy: %w", named(err))
		}
	}
	// The copy has no intake, and must not take one for its own that it meets later.
	if _, err := to.ExecContext(ctx, "DELETE FROM notes WHERE key = ?", intakeNote); err != nil {
		return fmt.Errorf("mark the copy: %w", named(err))
	}
	var verdict string
	if err := to.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return named(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the copy is damaged, and perhaps the store: %s", verdict)
	}
	return nil
}
