package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"postern/bridge/envelope"
)

// remains is where rows lie in a damaged file, found page by page: the last resort where the pages that lead to them are
// gone. It keeps only places, so that it is small beside the file.
type remains struct {
	p          *pages
	messages   map[int64]place
	recipients map[int64][]recipientPlace
	chunks     map[int64]place // by chunks.at
	next       map[uint32]bool // pages of recipients that a row in another page follows
}

// place is a cell.
type place struct {
	page  uint32
	at    int
	sure  bool // the page belongs to a table now; else it may be an old one
	twice bool // there is another, and nobody knows which of them is right
}

type recipientPlace struct {
	place
	n       int64
	endOf   uint32 // the page whose last row it is, 0 for none
	between bool   // it lies in an interior page
}

// The records that are looked for, a letter for each column: n null, i an integer, I an integer or null, t text, b a blob.
var (
	shapeOfMessage1  = "ntttIitiiiiittt"
	shapeOfMessage   = shapeOfMessage1 + "tttiItiiiIII"
	shapeOfRecipient = "iittIiiit"
	shapeOfChunk     = "nb"
)

// maxColumns is that of the widest table.
const maxColumns = 27

func fits(types []int64, shape string) bool {
	if len(types) != len(shape) {
		return false
	}
	for i, t := range types {
		whole := t >= 1 && t <= 6 || t == 8 || t == 9
		switch shape[i] {
		case 'n':
			whole = t == 0
		case 'I':
			whole = whole || t == 0
		case 't':
			whole = t >= 13 && t%2 == 1
		case 'b':
			whole = t >= 12 && t%2 == 0
		}
		if !whole {
			return false
		}
	}
	return true
}

// findRemains looks at every page of the file and its log.
func findRemains(ctx context.Context, path string) (*remains, error) {
	p, err := openPages(path)
	if err != nil {
		return nil, err
	}
	r := scanPages(ctx, p)
	if ctx.Err() != nil {
		p.close()
		return nil, ctx.Err()
	}
	return r, nil
}

// scanPages ends early with ctx.
func scanPages(ctx context.Context, p *pages) *remains {
	r := &remains{p: p, messages: map[int64]place{}, recipients: map[int64][]recipientPlace{}, chunks: map[int64]place{}, next: map[uint32]bool{}}
	u := &uses{p: p}
	var page [pageSize]byte
	for n := uint32(3); n <= p.count && ctx.Err() == nil; n++ {
		if use := u.of(n); use != otherUse && p.read(n, &page) {
			r.scan(&page, n, use == treeUse)
		}
	}
	return r
}

// scan takes up the rows of one page.
func (r *remains) scan(page *[pageSize]byte, n uint32, sure bool) {
	kind, cells := cellsOf(page)
	for i, at := range cells {
		c, ok := cellAt(page, kind, at)
		if !ok {
			continue
		}
		all, values, ok := types(c.local)
		if !ok {
			continue
		}
		here := place{page: n, at: at, sure: sure}
		switch {
		case kind == leafTable && c.rowid > 0 && c.rowid < 1<<43 && (fits(all, shapeOfMessage) || fits(all, shapeOfMessage1)):
			r.messages[c.rowid] = here.or(r.messages, c.rowid)
		case kind == leafTable && c.rowid >= 1<<chunkBits && fits(all, shapeOfChunk):
			r.chunks[c.rowid] = here.or(r.chunks, c.rowid)
		case kind != leafTable && fits(all, shapeOfRecipient):
			seq, rest, ok := value(all[0], values)
			number, _, ok2 := value(all[1], rest)
			if !ok || !ok2 || seq.(int64) <= 0 {
				continue
			}
			rp := recipientPlace{place: here, n: number.(int64), between: kind == interiorIndex}
			if kind == leafIndex && i == len(cells)-1 {
				rp.endOf = n
			}
			if rp.between && sure {
				r.next[c.left] = true
			}
			r.recipients[seq.(int64)] = append(r.recipients[seq.(int64)], rp)
		}
	}
}

// or returns the better of this place and that which is known of the number.
func (p place) or(known map[int64]place, number int64) place {
	other, ok := known[number]
	switch {
	case !ok || p.sure && !other.sure:
		return p
	case p.sure == other.sure:
		other.twice = true
	}
	return other
}

// record reads the values of the row at a place, which has that shape.
func (r *remains) record(at place, kinds ...string) (rowid int64, values []any, err error) {
	var page [pageSize]byte
	if at.twice || !r.p.read(at.page, &page) {
		return 0, nil, errors.New("there are two, or its page cannot be read")
	}
	c, ok := cellAt(&page, page[0], at.at)
	if !ok {
		return 0, nil, errors.New("it is damaged")
	}
	all, ok := r.p.payload(c)
	if !ok {
		return 0, nil, errors.New("a part of it is gone")
	}
	shape, b, ok := types(all)
	if !ok || !slices.ContainsFunc(kinds, func(k string) bool { return fits(shape, k) }) {
		return 0, nil, errors.New("it is damaged")
	}
	for _, t := range shape {
		var v any
		if v, b, ok = value(t, b); !ok {
			return 0, nil, errors.New("it is damaged")
		}
		values = append(values, v)
	}
	return c.rowid, values, nil
}

// errOld is why a row is not trusted that was found in a page of unknown use.
var errOld = errors.New("what is known of it may be old")

// message returns the row of that number, nil where there is none to be had; doubt says that it may be an old one.
func (r *remains) message(seq int64) (values []any, doubt error) {
	at, ok := r.messages[seq]
	if !ok {
		return nil, nil
	}
	rowid, values, err := r.record(at, shapeOfMessage, shapeOfMessage1)
	if err != nil || rowid != seq {
		return nil, nil
	}
	if id, _ := values[1].(string); !isID(id) {
		return nil, nil
	}
	values[0] = seq
	if !at.sure {
		doubt = errOld
	}
	return values, doubt
}

func isID(text string) bool { _, err := envelope.ParseID(text); return err == nil }

// recipientsOf returns the rows of the recipients; doubt says that there may be more, or that they may be old.
func (r *remains) recipientsOf(seq int64) (rows [][]any, doubt error) {
	all := slices.Clone(r.recipients[seq])
	if slices.ContainsFunc(all, func(p recipientPlace) bool { return p.sure }) {
		all = slices.DeleteFunc(all, func(p recipientPlace) bool { return !p.sure })
	}
	slices.SortFunc(all, func(a, b recipientPlace) int { return cmp.Compare(a.n, b.n) })
	for i, at := range all {
		_, values, err := r.record(at.place, shapeOfRecipient)
		if err != nil || at.n != int64(i) || values[0] != seq {
			return nil, nil
		}
		if !at.sure {
			doubt = errOld
		}
		rows = append(rows, values)
	}
	if len(all) == 0 {
		return nil, nil
	}
	// The rows lie in the order of their numbers: where another message's follows, nothing is missing.
	if end := all[len(all)-1]; doubt == nil && (end.between || end.endOf != 0 && !r.next[end.endOf]) {
		doubt = errors.New("it may have had more recipients")
	}
	return rows, doubt
}

// body returns the chunks of a message, as far as they are whole.
func (r *remains) body(seq, size int64, sum sql.NullInt64) (chunks [][]any, err error) {
	found := uint32(0)
	for n := int64(0); size > 0; n++ {
		at, ok := r.chunks[chunkKey(seq, n)]
		if !ok {
			return nil, fmt.Errorf("%d octets of its body are missing", size)
		}
		rowid, values, err := r.record(at, shapeOfChunk)
		if err != nil || rowid != chunkKey(seq, n) {
			return nil, fmt.Errorf("its body cannot be read: %w", errors.Join(err))
		}
		if !at.sure && !sum.Valid {
			return nil, errOld
		}
		data, _ := values[1].([]byte)
		if len(data) == 0 || int64(len(data)) > size {
			return nil, errors.New("its body cannot be read")
		}
		size -= int64(len(data))
		found = crc32.Update(found, castagnoli, data)
		chunks = append(chunks, []any{rowid, data})
	}
	if sum.Valid && sum.Int64 != int64(found) {
		return nil, errors.New("its octets are not those that were written")
	}
	return chunks, nil
}

// hints reports whether anything says that there was a message of that number.
func (r *remains) hints(seq int64) bool {
	_, message := r.messages[seq]
	_, chunk := r.chunks[chunkKey(seq, 0)]
	return message || chunk || len(r.recipients[seq]) > 0
}

// numbers adds the numbers of all messages that anything hints at.
func (r *remains) numbers(to map[int64]bool) {
	for seq := range r.messages {
		to[seq] = true
	}
	for seq := range r.recipients {
		to[seq] = true
	}
	for at := range r.chunks {
		to[at>>chunkBits] = true
	}
}

// empty reports whether there is nothing.
func (r *remains) empty() bool { return len(r.messages)+len(r.recipients)+len(r.chunks) == 0 }

// columnsOfMessage are those of the new store's table, in the order in which a record has them.
func columnsOfMessage(ctx context.Context, db *sql.DB) ([]string, error) {
	columns, err := columnsOf(ctx, db, "messages")
	if err == nil && len(columns) != len(shapeOfMessage) {
		err = fmt.Errorf("the table has %d columns: %s", len(columns), strings.Join(columns, ", "))
	}
	return columns, err
}
