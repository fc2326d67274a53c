package sqlite

import (
	"context"
	"database/sql"
)

// version is the schema's, kept in PRAGMA user_version. Since version 3 it stands in application_id too, so that a wrong bit
// in it does not pass for another program's number.
const version = 3

// schema1 is version 1. Times are microseconds since 1970 UTC.
//
// messages.state is the least final of the recipients' states, or unfinished while a large body comes in.
// messages.next_attempt is null while a message is leased or waits for nothing that time brings; so the index messages_due
// holds exactly what may be claimed, by account and time, however long the queue and its history are.
//
// chunks holds the message as it came, header block and body in one stream. Its key is messages.seq * 2^20 + n: in one
// B-tree without a second index, chunks lie in the order in which they are read.
const schema1 = `
CREATE TABLE messages (
	seq          INTEGER PRIMARY KEY,
	id           TEXT    NOT NULL UNIQUE,
	account      TEXT    NOT NULL,
	state        TEXT    NOT NULL,
	next_attempt INTEGER,
	attempts     INTEGER NOT NULL DEFAULT 0,
	lease        TEXT    NOT NULL DEFAULT '',
	intent       INTEGER NOT NULL DEFAULT 0,
	accepted     INTEGER NOT NULL,
	header_size  INTEGER NOT NULL,
	body_size    INTEGER NOT NULL,
	has_body     INTEGER NOT NULL,
	session      TEXT    NOT NULL,
	envelope     TEXT    NOT NULL,
	plan         TEXT    NOT NULL
) STRICT;
CREATE INDEX messages_due ON messages (account, next_attempt, seq) WHERE next_attempt IS NOT NULL;
CREATE INDEX messages_state ON messages (account, state);
CREATE TABLE recipients (
	seq          INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
	n            INTEGER NOT NULL,
	address      TEXT    NOT NULL,
	state        TEXT    NOT NULL,
	next_attempt INTEGER,
	attempts     INTEGER NOT NULL DEFAULT 0,
	sender_waits INTEGER NOT NULL DEFAULT 0,
	doubts       INTEGER NOT NULL DEFAULT 0,
	last         TEXT    NOT NULL DEFAULT '',
	PRIMARY KEY (seq, n)
) WITHOUT ROWID, STRICT;
CREATE TABLE chunks (
	at   INTEGER PRIMARY KEY,
	data BLOB NOT NULL
) STRICT;
`

// schema2 adds what scheduling by sender, age and process needs, and notes: documents that are no messages. Each index
// holds only what its rule selects, so that most messages are in few of them. A message's times of being looked at and
// of its end are null where there is none. sum is the CRC-32C of the octets in chunks; null where version 1 wrote them. Since version 3 it
// has another one above that (sum.go).
const schema2 = `
ALTER TABLE messages ADD COLUMN user     TEXT    NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN sender   TEXT    NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN via      TEXT    NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN parked   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN watch    INTEGER;
ALTER TABLE messages ADD COLUMN owed     TEXT    NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN warned   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN suspect  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN deaths   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN finished INTEGER;
ALTER TABLE messages ADD COLUMN sum      INTEGER;
ALTER TABLE messages ADD COLUMN retried  INTEGER;
CREATE INDEX messages_lease      ON messages (seq) WHERE lease <> '';
CREATE INDEX messages_suspect    ON messages (seq) WHERE suspect = 1;
CREATE INDEX messages_unfinished ON messages (seq) WHERE state = 'unfinished';
CREATE INDEX messages_owed       ON messages (seq) WHERE owed <> '';
CREATE INDEX messages_watch      ON messages (watch) WHERE watch IS NOT NULL;
CREATE INDEX messages_sender     ON messages (account, sender, id) WHERE state = 'deferred';
CREATE INDEX messages_finished   ON messages (finished) WHERE finished IS NOT NULL;
CREATE INDEX messages_kept       ON messages (finished) WHERE finished IS NOT NULL AND has_body = 1;
CREATE TABLE notes (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) WITHOUT ROWID, STRICT;
`

// schema3 parts what is due into what was tried before and what was not, so that a claim finds the earliest of each however
// much there is of the other. It changes no table; but an older program knows nothing of the intake, and must not open a
// store that may have one.
const schema3 = `
DROP INDEX messages_due;
CREATE INDEX messages_due ON messages (account, attempts > 0, next_attempt, seq) WHERE next_attempt IS NOT NULL;
`

// unfinished is the state of a message whose body is not complete. It is no queue.State: nobody but this package sees it.
const unfinished = "unfinished"

// chunkBits are the bits of a chunk's key that number it within its message.
const chunkBits = 20

// chunkKey returns the key of a message's n-th chunk; that of the next message's first ends a message's range.
func chunkKey(seq, n int64) int64 { return seq<<chunkBits + n }

// removeUnfinished deletes what a process that is gone was still taking in. Nobody was told that it is kept.
func removeUnfinished(ctx context.Context, conn *sql.Conn) error {
	rows, err := conn.QueryContext(ctx, "SELECT seq FROM messages WHERE state = '"+unfinished+"'")
	if err != nil {
		return err
	}
	defer rows.Close()
	var seqs []int64
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return err
		}
		seqs = append(seqs, seq)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, seq := range seqs {
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after Commit
		if _, err := tx.ExecContext(ctx, "DELETE FROM chunks WHERE at >= ? AND at < ?", chunkKey(seq, 0), chunkKey(seq+1, 0)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM messages WHERE seq = ?", seq); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}
