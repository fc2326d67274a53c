package sqlite

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// The format of the file, as far as rows can be found in it without the pages that lead to them.
// https://www.sqlite.org/fileformat.html, sections 1.5 to 4.2, read in November 2026. Everything here takes damaged input:
// what does not fit is not a row.

const (
	leafTable     = 0x0d // a page with rows
	leafIndex     = 0x0a // a page with rows of a table WITHOUT ROWID
	interiorIndex = 0x02 // likewise, each row beside the page that leads to smaller ones

	maxPayload = 16 << 20 // of a row: a message's documents, far below; a longer one is damage
)

// pages are those of a store's file, as its write-ahead log has left them.
type pages struct {
	file, log io.ReaderAt
	logged    map[uint32]int64 // where in the log the latest committed content of a page is
	count     uint32
	broken    bool // the log is damaged, and more was committed behind that
	close     func()
}

// openPages opens the store's file and its log, where it has one.
func openPages(path string) (*pages, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	closeAll := func() { f.Close() }
	var log io.ReaderAt
	var logSize int64
	if l, err := os.Open(path + "-wal"); err == nil {
		closeAll = func() { f.Close(); l.Close() }
		if st, err := l.Stat(); err == nil {
			log, logSize = l, st.Size()
		}
	}
	p := newPages(f, st.Size(), log, logSize)
	p.close = closeAll
	return p, nil
}

// newPages reads the log of that size; one that is not there has none.
func newPages(file io.ReaderAt, size int64, log io.ReaderAt, logSize int64) *pages {
	p := &pages{file: file, log: log, logged: map[uint32]int64{}, count: uint32(min(size/pageSize, 1<<31))}
	p.readLog(logSize)
	return p
}

func (p *pages) whole(from io.ReaderAt, to []byte, at int64) bool {
	if from == nil {
		return false
	}
	n, _ := from.ReadAt(to, at)
	return n == len(to)
}

// read fills page with that of the number, counted from 1; false where it cannot.
func (p *pages) read(n uint32, page *[pageSize]byte) bool {
	if n == 0 || n > p.count {
		return false
	}
	if at, ok := p.logged[n]; ok {
		return p.whole(p.log, page[:], at)
	}
	return p.whole(p.file, page[:], int64(n-1)*pageSize)
}

// What a page is for, by the map that a file with auto_vacuum has of its pages (section 1.8).
const (
	unknownUse = iota // the map is damaged there
	treeUse           // it belongs to a table or an index now
	otherUse          // it is free, or the rest of a long row: what looks like rows in it is old, or somebody's text
)

// uses is the map.
type uses struct {
	p     *pages
	at    uint32 // the map's page that is in page; 0 is none
	page  [pageSize]byte
	sound bool
}

// mapped is how many pages one page of the map tells of.
const mapped = pageSize / 5

// of returns what the page is for. Pages are asked for in order.
func (u *uses) of(n uint32) int {
	if n < 3 {
		return otherUse // the header, or the map
	}
	at := (n-2)/(mapped+1)*(mapped+1) + 2
	if at == n {
		return otherUse
	}
	if u.at != at {
		u.at = at
		u.sound = u.p.read(at, &u.page) && u.plausible()
	}
	if !u.sound {
		return unknownUse
	}
	if kind := u.page[5*(n-at-1)]; kind == 1 || kind == 5 { // the root of a tree, or another page of one
		return treeUse
	}
	return otherUse
}

// plausible reports whether each entry can be one.
func (u *uses) plausible() bool {
	for i := uint32(0); i < mapped && u.at+i+1 <= u.p.count; i++ {
		kind, parent := u.page[5*i], binary.BigEndian.Uint32(u.page[5*i+1:])
		alone := kind == 1 || kind == 2
		unused := u.at+i+1 == 1<<30/pageSize+1 // the page at the first GiB (section 1.4)
		if !unused && (kind < 1 || kind > 5 || alone != (parent == 0)) {
			return false
		}
	}
	return true
}

// cell is one row, as far as its page holds it.
type cell struct {
	rowid    int64  // of a table with rowid
	left     uint32 // the page of smaller ones, of an interior index page
	size     int64  // of the whole record
	local    []byte // what of it is in the page
	overflow uint32 // the page with the next part, 0 for none
}

// cellsOf returns where the cells of a page lie, nil where it is none of the three kinds.
func cellsOf(page *[pageSize]byte) (kind byte, at []int) {
	kind = page[0]
	header := 8
	switch kind {
	case leafTable, leafIndex:
	case interiorIndex:
		header = 12
	default:
		return 0, nil
	}
	n := int(binary.BigEndian.Uint16(page[3:]))
	if header+2*n > pageSize {
		return 0, nil
	}
	for i := range n {
		at = append(at, int(binary.BigEndian.Uint16(page[header+2*i:])))
	}
	return kind, at
}

// cellAt reads the cell; false where there cannot be one.
func cellAt(page *[pageSize]byte, kind byte, at int) (c cell, ok bool) {
	if at < 8 || at >= pageSize {
		return c, false
	}
	b := page[at:]
	most := int64((pageSize-12)*64/255 - 23)
	if kind == interiorIndex {
		if len(b) < 4 {
			return c, false
		}
		c.left, b = binary.BigEndian.Uint32(b), b[4:]
	}
	if c.size, b, ok = varint(b); !ok || c.size <= 0 || c.size > maxPayload {
		return c, false
	}
	if kind == leafTable {
		most = pageSize - 35
		if c.rowid, b, ok = varint(b); !ok {
			return c, false
		}
	}
	local := c.size
	if c.size > most { // section 1.6
		const least = (pageSize-12)*32/255 - 23
		if local = least + (c.size-least)%(pageSize-4); local > most {
			local = least
		}
	}
	if local > int64(len(b)) || local < c.size && local+4 > int64(len(b)) {
		return c, false
	}
	c.local = b[:local]
	if local < c.size {
		c.overflow = binary.BigEndian.Uint32(b[local:])
	}
	return c, true
}

// payload reads the whole record; false where a part of it is gone.
func (p *pages) payload(c cell) ([]byte, bool) {
	all := append([]byte(nil), c.local...)
	var page [pageSize]byte
	for next := c.overflow; int64(len(all)) < c.size; {
		if !p.read(next, &page) {
			return nil, false
		}
		all = append(all, page[4:min(pageSize, 4+c.size-int64(len(all)))]...)
		next = binary.BigEndian.Uint32(page[:])
	}
	return all, true
}

// varint reads the format's integers of up to nine octets (section 1.6).
func varint(b []byte) (n int64, rest []byte, ok bool) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return n<<8 | int64(b[i]), b[9:], true
		}
		n = n<<7 | int64(b[i]&0x7f)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// types reads what a record says of its values (section 2.1), and returns the rest, where they lie.
func types(record []byte) (all []int64, values []byte, ok bool) {
	size, b, ok := varint(record)
	used := int64(len(record) - len(b))
	if !ok || size < used || size > int64(len(record)) {
		return nil, nil, false
	}
	for b = record[used:size]; len(b) > 0; {
		var t int64
		if t, b, ok = varint(b); !ok || t < 0 || len(all) == maxColumns {
			return nil, nil, false
		}
		all = append(all, t)
	}
	return all, record[size:], true
}

// value reads a value of that type.
func value(t int64, b []byte) (v any, rest []byte, ok bool) {
	widths := [...]int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}
	size := int64(0)
	switch {
	case t >= 12:
		size = (t - 12) / 2
	case t >= int64(len(widths)):
		return nil, nil, false
	default:
		size = widths[t]
	}
	if size > int64(len(b)) {
		return nil, nil, false
	}
	text, rest := b[:size], b[size:]
	switch {
	case t == 0:
		return nil, rest, true
	case t == 8, t == 9:
		return t - 8, rest, true
	case t == 7: // a real number, which no column has
		return nil, nil, false
	case t >= 12 && t%2 == 0:
		return text, rest, true
	case t >= 12:
		return string(text), rest, true
	}
	n := int64(int8(text[0]))
	for _, o := range text[1:] {
		n = n<<8 | int64(o)
	}
	return n, rest, true
}
