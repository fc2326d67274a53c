package sqlite

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
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
	for at, n := range map[int]uint32{24: 1, 28: pages, 40: 1, 44: 4, 52: 3, 56: 1, 60: version, 64: 1, 92: 1} {
		// change counter, size, schema cookie and format, auto_vacuum, UTF-8, version, incremental, valid for
		binary.BigEndian.PutUint32(h[at:], n)
	}
	return h
}

// readable makes a copy that SQLite reads at all, where the file does not let it: its header was overwritten, or its end
// is gone. It returns "" where neither is so, or the rest is no file of ours. The caller removes the copy.
func readable(path string) (repaired string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	first := make([]byte, headerSize+1)
	if _, err := io.ReadFull(f, first); err != nil {
		return "", nil // shorter than a header: there is nothing to read
	}
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	header, size := first[:headerSize], st.Size()
	switch {
	case !bytes.HasPrefix(first, []byte("SQLite format 3\x00")):
		// After the header follows the root of the table of tables: a leaf, or an inner page of a table.
		if first[headerSize] != 0x0d && first[headerSize] != 0x05 {
			return "", nil
		}
		header = fileHeader(uint32(size / pageSize))
	case int64(binary.BigEndian.Uint32(first[28:]))*pageSize > size:
		size = int64(binary.BigEndian.Uint32(first[28:])) * pageSize
	default:
		return "", nil
	}
	to, err := os.OpenFile(path+".repaired", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer to.Close()
	if _, err := to.Write(header); err != nil {
		return "", err
	}
	if _, err := io.Copy(to, io.NewSectionReader(f, headerSize, st.Size()-headerSize)); err != nil {
		return "", err
	}
	if err := to.Truncate(size); err != nil { // what is missing is zeros
		return "", err
	}
	return to.Name(), to.Close()
}
