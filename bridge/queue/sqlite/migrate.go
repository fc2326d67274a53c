package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
)

// ProgramNote is the key of the note with the version of the program that wrote the store last; it is missing from an upgrade
// on until that program has noted its own.
const ProgramNote = "program"

// migrate brings an empty file or an older schema to version in one transaction, and refuses a newer one. An older store
// is copied beside itself first, so that the program that wrote it can be taken back with it.
func migrate(ctx context.Context, conn *sql.Conn, path string) error {
	var have, again int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if err := conn.QueryRowContext(ctx, "PRAGMA application_id").Scan(&again); err != nil {
		return err
	}
	tables := 0
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	switch {
	case have == version:
		return nil
	// A wrong bit is neither a newer program's nor an older one's. More than one may be a number that somebody has set.
	case have < 0, have > version+1000, have == 0 && tables > 0, again == version && bits.OnesCount(uint(have^again)) == 1:
		return fmt.Errorf("%w: the version of its schema is %d", queue.ErrDamaged, have)
	case have > version:
		return newer(ctx, conn, have)
	case have > 0:
		if err := checkAll(ctx, conn); err != nil {
			return err // into a damaged one nothing is written
		}
		if err := copyStore(ctx, conn, fmt.Sprintf("%s.v%d", path, have)); err != nil {
			return fmt.Errorf("copy the store before its upgrade: %w", err)
		}
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	for v := have; v < version; v++ {
		if err := steps[v](ctx, tx); err != nil {
			return fmt.Errorf("upgrade to version %d: %w", v+1, foreign(err))
		}
	}
	// The older program must not name itself as the one to run. This one notes its version once it runs as the daemon.
	if _, err := tx.ExecContext(ctx, "DELETE FROM notes WHERE key = ?", ProgramNote); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %[1]d; PRAGMA application_id = %[1]d", version)); err != nil {
		return err
	}
	return tx.Commit()
}

// steps lead from the version that is their index to the next.
var steps = [version]func(context.Context, *sql.Tx) error{
	func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, schema1); return err },
	upgrade2,
	func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, schema3); return err },
}

func newer(ctx context.Context, conn *sql.Conn, have int) error {
	by := "the version that wrote it"
	var program string
	if conn.QueryRowContext(ctx, "SELECT value FROM notes WHERE key = ?", ProgramNote).Scan(&program) == nil && program != "" {
		by = "version " + program
	}
	return fmt.Errorf("%w: its schema is %d, this program knows up to %d; run %s or a later one", queue.ErrNewer, have, version, by)
}

// copyStore writes a consistent copy, durable before anything is changed. A copy that a former try left is written anew.
func copyStore(ctx context.Context, conn *sql.Conn, to string) error {
	part := to + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) // VACUUM INTO takes an empty file
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := conn.ExecContext(ctx, "VACUUM INTO ?", part); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

// upgrade2 adds the columns of schema2 and fills those that messages are found by from their documents.
func upgrade2(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, schema2); err != nil {
		return err
	}
	// What waits is looked at once and then by its age; when the others ended is not known.
	if _, err := tx.ExecContext(ctx, `UPDATE messages SET watch = accepted WHERE state NOT IN ('relayed', 'failed', ?)`, unfinished); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE messages SET finished = accepted WHERE state IN ('relayed', 'failed')`); err != nil {
		return err
	}
	fill, err := tx.PrepareContext(ctx, "UPDATE messages SET user = ?, sender = ? WHERE seq = ?")
	if err != nil {
		return err
	}
	defer fill.Close()
	for after := int64(-1); ; {
		n, last, err := fillPage(ctx, tx, fill, after)
		if err != nil || n == 0 {
			return err
		}
		after = last
	}
}

// fillPage fills a page of rows after that one. A document that cannot be read leaves its columns empty: the message is
// named when it is claimed.
func fillPage(ctx context.Context, tx *sql.Tx, fill *sql.Stmt, after int64) (n int, last int64, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT seq, session, plan FROM messages WHERE seq > ? ORDER BY seq LIMIT 1000", after)
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	type found struct {
		seq          int64
		user, sender string
	}
	var page []found
	for rows.Next() {
		var f found
		var session, plan string
		if err := rows.Scan(&f.seq, &session, &plan); err != nil {
			return 0, 0, err
		}
		var s envelope.Session
		var p message.Plan
		if json.Unmarshal([]byte(session), &s) == nil {
			f.user = s.User
		}
		if json.Unmarshal([]byte(plan), &p) == nil {
			f.sender = p.HeaderFrom.Key()
		}
		page = append(page, f)
	}
	if err := rows.Err(); err != nil {
		return 0, 0, err
	}
	for _, f := range page {
		if _, err := fill.ExecContext(ctx, f.user, f.sender, f.seq); err != nil {
			return 0, 0, err
		}
		last = f.seq
	}
	return len(page), last, nil
}
