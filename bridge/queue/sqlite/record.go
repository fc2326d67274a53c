package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"postern/bridge/queue"
	"postern/bridge/queue/intake"
)

// record is a new message as its rows will be.
type record struct {
	id, account, state      string
	next                    sql.NullInt64 // microseconds
	accepted                int64
	header, body            int64 // octets
	session, envelope, plan string
	user, sender            string
	parked                  int64 // microseconds
	watch, sum              sql.NullInt64
	recipients              []recordRecipient
	data                    []byte // header block and body; nil where they are written otherwise

	text []byte // of encode
}

type recordRecipient struct {
	address, state string
	next           sql.NullInt64
	last           string
}

// record returns what is known of the message so far.
func (a *adding) record() (*record, error) {
	it := &a.item
	r := &record{id: string(it.ID), account: it.Account, state: string(it.State()), next: micro(it.Next()), accepted: it.Accepted.UnixMicro(),
		header: a.header, body: a.size - a.header, session: a.docs.session, envelope: a.docs.envelope, plan: a.docs.plan, user: a.user,
		sender: it.Sender, parked: it.Parked.Microseconds(), watch: micro(it.Watch)}
	for _, rc := range it.Recipients {
		last, err := encodeLast(rc.Last)
		if err != nil {
			return nil, err
		}
		r.recipients = append(r.recipients, recordRecipient{rc.Address.String(), string(rc.State), micro(rc.Next), last})
	}
	r.sum = r.lasting().sums(int64(a.sum))
	return r, nil
}

// values are those of insertColumns.
func (r *record) values() []any {
	return []any{r.id, r.account, r.state, r.next, r.accepted, r.header, r.body, r.session, r.envelope, r.plan, r.user, r.sender, r.parked, r.watch, r.sum}
}

// insert writes the row of the message, and returns its number.
func (r *record) insert(t *tx) (seq int64, err error) {
	t.front.saw(r.id)
	res, err := t.exec(t.insertMessage, r.values()...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

func (r *record) insertRecipients(t *tx, seq int64) error {
	for n, rc := range r.recipients {
		if _, err := t.exec(t.insertRecipient, seq, n, rc.address, rc.state, rc.next, rc.last); err != nil {
			return err
		}
	}
	return nil
}

// write writes all of a record that has its data.
func (r *record) write(t *tx) error {
	seq, err := r.insert(t)
	if err == nil {
		err = r.writeRest(t, seq)
	}
	return err
}

func (r *record) writeRest(t *tx, seq int64) error {
	err := r.insertRecipients(t, seq)
	if err == nil && len(r.data) > 0 {
		_, err = t.exec(t.insertChunk, chunkKey(seq, 0), r.data)
	}
	return err
}

// writeApart is write under a number that nothing in any table has: a damaged one may have rows left over for the next.
func (r *record) writeApart(t *tx) error {
	ctx := context.Background()
	var seq int64
	if err := t.conn.QueryRowContext(ctx, `SELECT 1 + max((SELECT coalesce(max(seq), 0) FROM messages), (SELECT coalesce(max(seq), 0) FROM recipients),
		(SELECT coalesce(max(at), 0) >> 20 FROM chunks))`).Scan(&seq); err != nil {
		return err
	}
	if seq >= maxNumber {
		return fmt.Errorf("%w: there is no number left after %d", queue.ErrDamaged, seq-1)
	}
	t.front.saw(r.id)
	t.touched = true
	if _, err := t.conn.ExecContext(ctx, "INSERT INTO messages (seq, "+insertColumns+") VALUES (?, "+insertValues+")", append([]any{seq}, r.values()...)...); err != nil {
		return err
	}
	return r.writeRest(t, seq)
}

// insertMissing is write, of a record that the tables may have already; refused says why they do not take it, and then
// nothing of it is written.
func (t *tx) insertMissing(r *record) (there bool, refused, err error) {
	ctx := context.Background()
	if there, err := t.has(r.id); err != nil || there {
		return there, nil, err
	}
	t.touched = true
	if _, err := t.conn.ExecContext(ctx, "SAVEPOINT one"); err != nil {
		return false, nil, err
	}
	if err := r.writeApart(t); rowsFault(err) {
		_, err2 := t.conn.ExecContext(ctx, "ROLLBACK TO one; RELEASE one")
		return false, err, err2
	} else if err != nil {
		return false, nil, err
	}
	_, err = t.conn.ExecContext(ctx, "RELEASE one")
	return false, nil, err
}

// move writes what waited in front of the tables.
func (t *tx) move(frames []kept, id intake.ID, done uint64) error {
	for _, k := range frames {
		for _, r := range k.records {
			if err := r.write(t); err != nil {
				return err
			}
		}
	}
	return t.mark(id, done)
}

// moveSingly is move where the tables refuse some of them, which it returns: the others go on.
func (t *tx) moveSingly(frames []kept, id intake.ID, done uint64) (all []*refusal, err error) {
	for _, k := range frames {
		for _, r := range k.records {
			_, why, err := t.insertMissing(r)
			if err != nil {
				return nil, err
			}
			if why != nil {
				all = append(all, &refusal{record: r, why: why})
			}
		}
	}
	return all, t.mark(id, done)
}

// has reports whether the tables have the message.
func (t *tx) has(id string) (there bool, err error) {
	err = t.selectKnown.QueryRow(id).Scan(&there)
	return there, err
}

func (t *tx) mark(id intake.ID, done uint64) error {
	_, err := t.exec(t.setNote, intakeNote, intakeMark(id, done))
	return err
}

// hold makes it a message that waits for a person.
func (r *record) hold(why string) error {
	last, err := encodeLast(queue.Last{Err: why})
	if err != nil {
		return err
	}
	r.state, r.next = string(queue.Held), sql.NullInt64{}
	for i := range r.recipients {
		rc := &r.recipients[i]
		rc.state, rc.next, rc.last = string(queue.Held), sql.NullInt64{}, last
	}
	return nil
}

// recordVersion begins a record in the intake. Who changes what a record has raises it and the schema's version, and still
// reads the former: a process of the former program may have left some.
const recordVersion = 1

// fields walks over what a record has, in the order in which the intake has it.
func (r *record) fields(f fielder) {
	for _, s := range []*string{&r.id, &r.account, &r.state, &r.session, &r.envelope, &r.plan, &r.user, &r.sender} {
		f.text(s)
	}
	for _, n := range []*int64{&r.accepted, &r.header, &r.body, &r.parked} {
		f.number(n)
	}
	for _, n := range []*sql.NullInt64{&r.next, &r.watch, &r.sum} {
		f.optional(n)
	}
	f.list(&r.recipients)
	for i := range r.recipients {
		rc := &r.recipients[i]
		f.text(&rc.address)
		f.text(&rc.state)
		f.optional(&rc.next)
		f.text(&rc.last)
	}
	f.rest(&r.data)
}

// fielder writes fields, or reads them.
type fielder interface {
	text(*string)
	number(*int64)
	optional(*sql.NullInt64)
	list(*[]recordRecipient)
	rest(*[]byte)
}

// texts are of records that were moved into the tables.
var texts = sync.Pool{New: func() any { return new([]byte) }}

// encode makes the record's text, as the intake has it. From then on its data are a part of that, and nobody else's.
func (r *record) encode() {
	size := 256 + len(r.session) + len(r.envelope) + len(r.plan) + len(r.data)
	for _, rc := range r.recipients {
		size += 40 + len(rc.address) + len(rc.last)
	}
	free := texts.Get().(*[]byte)
	e := recordEncoder(append(slices.Grow((*free)[:0], size), recordVersion))
	r.fields(&e)
	r.text = e
	r.data = r.text[len(r.text)-len(r.data):]
}

// free gives the text back.
func (r *record) free() {
	text := r.text
	r.text, r.data = nil, nil
	texts.Put(&text)
}

type recordEncoder []byte

func (e *recordEncoder) text(s *string) {
	*e = append(binary.AppendUvarint(*e, uint64(len(*s))), *s...)
}
func (e *recordEncoder) number(n *int64) { *e = binary.AppendVarint(*e, *n) }
func (e *recordEncoder) optional(n *sql.NullInt64) {
	if !n.Valid {
		*e = append(*e, 0)
		return
	}
	*e = binary.AppendVarint(append(*e, 1), n.Int64)
}
func (e *recordEncoder) list(all *[]recordRecipient) {
	*e = binary.AppendUvarint(*e, uint64(len(*all)))
}
func (e *recordEncoder) rest(b *[]byte) { *e = append(*e, *b...) }

// decodeRecord reads what encode made. The record's data are part of b.
func decodeRecord(b []byte) (*record, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return nil, errors.New("a record of a version that is not known")
	}
	r, d := &record{}, recordDecoder{left: b[1:]}
	r.fields(&d)
	if d.err == nil && int64(len(r.data)) != r.header+r.body {
		d.err = fmt.Errorf("%d octets instead of %d", len(r.data), r.header+r.body)
	}
	return r, d.err
}

// recordDecoder reads fields; after an error all are empty.
type recordDecoder struct {
	left []byte
	err  error
}

var errShortRecord = errors.New("a record that ends too early")

func (d *recordDecoder) count() uint64 {
	n, size := binary.Uvarint(d.left)
	if size <= 0 || n > uint64(len(d.left)-size) { // every item of a list has an octet at least
		d.left, d.err = nil, errShortRecord
		return 0
	}
	d.left = d.left[size:]
	return n
}

func (d *recordDecoder) text(s *string) {
	n := d.count()
	*s, d.left = string(d.left[:n]), d.left[n:]
}

func (d *recordDecoder) number(n *int64) {
	v, size := binary.Varint(d.left)
	if size <= 0 {
		d.left, d.err = nil, errShortRecord
		return
	}
	*n, d.left = v, d.left[size:]
}

func (d *recordDecoder) optional(n *sql.NullInt64) {
	if len(d.left) == 0 {
		d.err = errShortRecord
		return
	}
	n.Valid, d.left = d.left[0] == 1, d.left[1:]
	if n.Valid {
		d.number(&n.Int64)
	}
}

func (d *recordDecoder) list(all *[]recordRecipient) { *all = make([]recordRecipient, d.count()) }

func (d *recordDecoder) rest(b *[]byte) { *b, d.left = d.left, nil }
