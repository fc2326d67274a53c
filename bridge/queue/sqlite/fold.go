package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// Sizes of the write-ahead log, in pages of 4 KB. The folder begins each time that so much more has been written; where it
// cannot keep up, SQLite itself copies what is left as part of a commit, once the log is that long.
const (
	foldPages = 1000
	mostPages = 4000

	changePages = 8 // about so many pages a change writes beside its body
)

// folder copies the write-ahead log into the file, beside the commits: as part of one it would hold up everybody who waits
// for it, once in a hundred messages, for as long as the disk takes to write a megabyte here and there. It loses nothing:
// SQLite syncs the log before it copies, and the file before the log is used again from its begin. Where it fails the log
// stays as it is, and the next time it is tried again.
type folder struct {
	conn   *sql.Conn
	due    chan struct{} // holds one token
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newFolder(conn *sql.Conn) *folder {
	f := &folder{conn: conn, due: make(chan struct{}, 1)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.wg.Go(f.run)
	return f
}

func (f *folder) run() {
	for {
		select {
		case <-f.due:
			// It waits for nobody: what a reader still needs is left for the next time.
			_, _ = f.conn.ExecContext(f.ctx, "PRAGMA wal_checkpoint(PASSIVE)")
		case <-f.ctx.Done():
			return
		}
	}
}

// wake tells that there is something to copy. It never blocks.
func (f *folder) wake() {
	select {
	case f.due <- struct{}{}:
	default:
	}
}

// close ends the copying, which may begin again at the next start. It may be called twice.
func (f *folder) close() error {
	f.cancel()
	f.wg.Wait()
	if err := f.conn.Close(); !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}
