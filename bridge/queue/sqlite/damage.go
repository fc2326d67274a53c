package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"postern/bridge/envelope"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// A row that cannot be decoded is read as far as it can be: the message is named and set aside by it (queue.Item.Damage),
// and the others go on.

const (
	// unreadable stands for the address of a recipient whose row is gone. It is no address, so that nothing is sent to it.
	unreadable = "?"

	// noPlace is the number of a recipient that has no row.
	noPlace = -1
)

// scan reads a row; what is not of its type is zero, and damage.
func (s *stored) scan(r row, to []any) error {
	err := r.Scan(to...)
	if err == nil {
		return nil
	}
	values, at := make([]any, len(to)), make([]any, len(to))
	for i := range values {
		at[i] = &values[i]
	}
	if r.Scan(at...) != nil {
		return err // not the values' fault
	}
	for i, v := range values {
		take(to[i], v)
	}
	s.spoil(err)
	return nil
}

// take stores a value where it is of the type.
func take(to, value any) {
	n, _ := value.(int64)
	text, _ := value.(string)
	switch to := to.(type) {
	case *int64:
		*to = n
	case *int:
		*to = int(n)
	case *bool:
		*to = n != 0
	case *string:
		*to = text
	case *envelope.ID:
		*to = envelope.ID(text)
	case *queue.Owed:
		*to = queue.Owed(text)
	case *sql.NullInt64:
		*to = sql.NullInt64{}
	}
}

// spoil notes what could not be read; the first is told.
func (s *stored) spoil(err error) {
	if s.item.Damage == nil {
		s.item.Damage = fmt.Errorf("%w: %w", queue.ErrDamaged, err)
	}
}

// scanRecipient takes up the next recipient. What cannot be read as it was written is not guessed at: where that is the
// state, or what the last attempt brought, the recipient is held and may have got the message already.
func (s *stored) scanRecipient(r row) error {
	var rc queue.Recipient
	var address, state, last string
	var place int64
	var next sql.NullInt64
	if err := s.scan(r, []any{&place, &address, &state, &next, &rc.Attempts, &rc.SenderWaits, &rc.Doubts, &last}); err != nil {
		return err
	}
	rc.Next = fromNull(next)
	at := len(s.item.Recipients)
	if s.places == nil && place != int64(at) {
		s.places = make([]int64, at)
		for i := range s.places {
			s.places[i] = int64(i)
		}
		s.spoil(fmt.Errorf("a recipient is missing before number %d", place))
	}
	if s.places != nil {
		s.places = append(s.places, place)
	}
	if err := rc.Address.UnmarshalText([]byte(address)); err != nil {
		s.spoil(fmt.Errorf("recipient %d: address %.100q: %w", place, address, err))
	} else if address == "" {
		s.spoil(fmt.Errorf("recipient %d: no address", place))
	}
	var err error
	if rc.State, err = queue.ParseState(state); err == nil && last != "" {
		err = json.Unmarshal([]byte(last), &rc.Last)
	}
	if err != nil {
		s.spoil(fmt.Errorf("recipient %d: %w", place, err))
		s.doubt(&rc)
	}
	s.item.Recipients = append(s.item.Recipients, rc)
	s.addresses = addSum(s.addresses, address)
	return nil
}

// doubt makes the recipient one that only a person can tell about, unless it is final.
func (s *stored) doubt(rc *queue.Recipient) {
	if rc.State == queue.Relayed || rc.State == queue.Failed {
		return
	}
	*rc = queue.Recipient{Address: rc.Address, State: queue.Held, Attempts: rc.Attempts, Doubts: max(rc.Doubts, 1),
		Last: queue.Last{Owner: reply.Process, Err: s.item.Damage.Error()}}
}

// endRecipients sees that there are any.
func (s *stored) endRecipients() {
	if len(s.item.Recipients) > 0 {
		return
	}
	s.spoil(errors.New("its recipients are missing"))
	var rc queue.Recipient
	s.doubt(&rc)
	s.item.Recipients, s.places = append(s.item.Recipients, rc), []int64{noPlace}
}
