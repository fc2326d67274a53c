package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"postern/bridge/queue"
)

const (
	pageSize   = 4096 // SQLite's default, and so every store's
	headerSize = 100
)

// fileHeader is what every file of this package begins with. https://www.sqlite.org/fileformat.html, section 1.3, read in
// November 2026.
func fileHeader(pages uint32) []byte {
	h := make([]byte, headerSize)
	copy(h, "SQLite format 3\x00")
	for at, b := range map[int]byte{16: pageSize >> 8, 18: 2, 19: 2, 21: 64, 22: 32, 23: 32} { // page size, WAL, payload fractions
		h[at] = b
	}
	for at, n := range map[int]uint32{24: 1, 28: pages, 40: 1, 44: 4, 52: 3, 56: 1, 60: version, 64: 1, 68: version, 92: 1} {
		// change counter, size, schema cookie and format, auto_vacuum, UTF-8, version, incremental, version, valid for
		binary.BigEndian.PutUint32(h[at:], n)
	}
	return h
}

// wrongHeader says what of a header is not as every file of this package has it.
func wrongHeader(h []byte) error {
	want := fileHeader(0)
	for _, f := range []struct {
		name     string
		from, to int
	}{{"first octets", 0, 16}, {"page size", 16, 18}, {"payload fractions", 21, 24}} {
		if !bytes.Equal(h[f.from:f.to], want[f.from:f.to]) {
			return fmt.Errorf("%w: the %s in its header are %x", queue.ErrDamaged, f.name, h[f.from:f.to])
		}
	}
	// 1 is the rollback journal, which a file has before its first commit; likewise 0 in the next two.
	wal := func(b byte) bool { return b == 1 || b == 2 }
	format, encoding := binary.BigEndian.Uint32(h[44:]), binary.BigEndian.Uint32(h[56:])
	if !wal(h[18]) || !wal(h[19]) || h[20] != 0 || format > 4 || encoding > 1 {
		return fmt.Errorf("%w: its header has versions %d and %d, format %d, encoding %d", queue.ErrDamaged, h[18], h[19], format, encoding)
	}
	return nil
}

// checkHeader finds in the header what SQLite would take at its word, or call by another name than damage.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := make([]byte, headerSize)
	if _, err := io.ReadFull(f, h); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil // a new one; or else SQLite says so
	} else if err != nil {
		return err
	}
	if err := wrongHeader(h); err != nil {
		return err
	}
	// A file says that it has a log (2) before it has one; Backup's copy, and that of before an upgrade, say that they have none.
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 && h[18] == 1 {
		return fmt.Errorf("it is a copy that was put here, and the log beside it, %[1]s-wal, is another queue's, with what that one wrote last: "+
			"move %[1]s-wal elsewhere to go on with the copy", filepath.Base(path))
	}
	return nil
}

// readable makes a copy that SQLite reads at all, with what the log has, where the file does not let it: its header was
// overwritten, or its end is gone, or its log is damaged. It returns "" where neither is so, or the rest is no file of ours. The caller removes the
// copy.
func readable(ctx context.Context, path string) (repaired string, err error) {
	p, err := openPages(path)
	if err != nil {
		return "", err
	}
	defer p.close()
	var first [pageSize]byte
	if !p.read(1, &first) {
		return "", nil
	}
	own, header := make([]byte, headerSize), first[:headerSize]
	switch {
	case wrongHeader(header) != nil:
		// After the header follows the root of the table of tables: a leaf, or an inner page of a table.
		if first[headerSize] != 0x0d && first[headerSize] != 0x05 {
			return "", nil
		}
		copy(header, fileHeader(p.count))
	case binary.BigEndian.Uint32(header[28:]) > p.count:
		binary.BigEndian.PutUint32(header[28:], p.count) // and not the other way round: the number may be the damage
	case p.broken:
	case !p.whole(p.file, own, 0) || wrongHeader(own) != nil: // of the file, and the log has a sound one
	default:
		return "", nil
	}
	if err := removeStore(path + ".repaired"); err != nil { // of a salvage that was interrupted
		return "", err
	}
	to, err := os.OpenFile(path+".repaired", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer to.Close()
	w := bufio.NewWriterSize(to, 1<<20)
	page := first
	for n := uint32(1); n <= p.count && ctx.Err() == nil; n++ {
		if n > 1 && !p.read(n, &page) {
			clear(page[:])
		}
		w.Write(page[:]) // Flush returns its error
	}
	return to.Name(), errors.Join(ctx.Err(), w.Flush(), to.Close())
}
