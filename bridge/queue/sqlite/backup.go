package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Backup writes a copy of the store, as it is at one moment, into a new file: whole, smaller where the store has free
// pages, and without a WAL. Mail comes and goes meanwhile. marks are notes that the copy has and the store has not.
func (s *Store) Backup(ctx context.Context, path string, marks map[string]string) (err error) {
	var own string
	if err := s.read.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&own); err != nil {
		return err
	}
	if err := create(path); err != nil { // 0600; SQLite takes a file that is empty
		return err
	}
	// A connection of its own: those that read may write nothing, and the writer must go on.
	from, err := sql.Open("sqlite", dsn(own, false))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if _, err := from.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return named(err)
	}
	to, err := sql.Open("sqlite", "file:"+path)
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
	var verdict string
	if err := to.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return named(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the copy is damaged, and perhaps the store: %s", verdict)
	}
	return nil
}
