package sqlite

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"postern/bridge/queue"
)

// The column sum has two: below the CRC-32C of the octets in chunks, and above it, in 31 bits, that of what stays the same of
// the message otherwise, so that a wrong bit sends it to nobody else. That is 0 where an earlier version wrote the row.

// sumBits are the bits of the lower one.
const sumBits = 32

// sumOfBody is the lower one.
func sumOfBody(both sql.NullInt64) sql.NullInt64 {
	both.Int64 &= 1<<sumBits - 1
	return both
}

// lasting is what stays the same of a message until somebody makes a new plan for it.
type lasting struct {
	id, account, sender    string
	accepted, header, body int64
	docs                   documents
	recipients             uint32 // of addSum, for each
}

// addSum goes on with another text. Each has its length, so that none of it can pass for the next one.
func addSum(sum uint32, text string) uint32 {
	sum = crc32.Update(sum, castagnoli, binary.AppendUvarint(nil, uint64(len(text))))
	return crc32.Update(sum, castagnoli, []byte(text))
}

// sums is what the column has, of this and the lower one.
func (l lasting) sums(ofBody int64) sql.NullInt64 {
	sum := l.recipients
	for _, text := range []string{l.id, l.account, l.sender, l.docs.session, l.docs.envelope, l.docs.plan, fmt.Sprint(l.accepted, l.header, l.body)} {
		sum = addSum(sum, text)
	}
	return sql.NullInt64{Int64: int64(max(sum>>1, 1))<<sumBits | ofBody, Valid: true}
}

func (r *record) lasting() lasting {
	l := lasting{r.id, r.account, r.sender, r.accepted, r.header, r.body, documents{r.session, r.envelope, r.plan}, 0}
	for _, rc := range r.recipients {
		l.recipients = addSum(l.recipients, rc.address)
	}
	return l
}

func (l *loaded) lasting() lasting {
	return lasting{string(l.item.ID), l.item.Account, l.item.Sender, l.item.Accepted.UnixMicro(), l.header, l.body, l.docs, l.addresses}
}

// fits reports whether this is what was written, as far as the column tells.
func (l lasting) fits(both sql.NullInt64) bool {
	return both.Int64>>sumBits == 0 || l.sums(sumOfBody(both).Int64) == both
}

var errAnother = errors.New("what is known of it is not what was written")

// check returns what is wrong where the row or those of the recipients are not what was written.
func (l *loaded) check() error {
	if l.lasting().fits(l.sum) {
		return nil
	}
	return fmt.Errorf("%w: %w", queue.ErrDamaged, errAnother)
}

// check is the same of what was read from a damaged file. An ID that is not what was written is taken from the index.
func (m *saved) check(indexed string) error {
	l := lasting{m.text("id"), m.text("account"), m.text("sender"), m.number("accepted"), m.number("header_size"), m.number("body_size"),
		documents{m.text("session"), m.text("envelope"), m.text("plan")}, 0}
	for _, r := range m.recipients {
		address, _ := r[2].(string)
		l.recipients = addSum(l.recipients, address)
	}
	if l.fits(m.sum()) {
		return nil
	}
	if l.id = indexed; indexed != "" && l.fits(m.sum()) {
		m.values[m.at("id")], m.loss.ID = indexed, indexed
		return nil
	}
	return errAnother
}
