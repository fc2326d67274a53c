package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
)

// SelectDue is the query of a claim, for the test of its plan.
const SelectDue = selectDue

// Schema1 is the first version's, for the test of the upgrade.
const Schema1 = schema1

// WithSteps has at called at each step of a salvage. limit bounds the new store to so many pages, as a full disk does.
func WithSteps(ctx context.Context, at func(step string, limit func(pages int) error)) context.Context {
	return context.WithValue(ctx, stepsKey{}, func(step string, s *Store) {
		at(step, func(pages int) error {
			return s.writer.alone(ctx, func(conn *sql.Conn) error {
				_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
				return err
			})
		})
	})
}

// CheckNow is what the check beside the mail does.
func (s *Store) CheckNow(ctx context.Context) error { return s.finding.see(quickCheck(ctx, s.read)) }

// ReadRemains finds what lies in a file and its log, and reads all of it.
func ReadRemains(file, log []byte) (messages, recipients, chunks int) {
	r := scanPages(context.Background(), newPages(bytes.NewReader(file), int64(len(file)), bytes.NewReader(log), int64(len(log))))
	for seq := range r.messages {
		if values, _ := r.message(seq); values != nil {
			messages++
		}
	}
	for seq := range r.recipients {
		rows, _ := r.recipientsOf(seq)
		recipients += len(rows)
	}
	for at, p := range r.chunks {
		if _, _, err := r.record(p, shapeOfChunk); err == nil {
			chunks++
		}
		_, _ = r.body(at>>chunkBits, 1<<20, sql.NullInt64{})
	}
	return messages, recipients, chunks
}
