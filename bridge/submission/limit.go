package submission

import (
	"errors"
	"fmt"
	"io"

	"postern/bridge/envelope"
	"postern/bridge/reply"
)

// refuse makes a refusal. Text from outside goes in by %+q, which keeps it printable US-ASCII.
func refuse(code int, enhanced, format string, args ...any) error {
	return &reply.Error{Code: code, Enhanced: enhanced, Text: fmt.Sprintf(format, args...)}
}

// checkRecipients refuses a message for too many or for one that the user may not write to. Both are for good: the same
// message would be refused again, and an application that is told 452 tries for days.
func (u *user) checkRecipients(recipients []envelope.Address) error {
	if len(recipients) == 0 {
		return refuse(554, "5.5.1", "the message has no recipients")
	}
	if most := u.MaxRecipients; most > 0 && len(recipients) > most {
		return refuse(550, "5.5.3", "too many recipients: %d, user %+q may send to %d at once (max_recipients)", len(recipients), u.Name, most)
	}
	for _, r := range recipients {
		if !u.maySendTo.allow(r) {
			return refuse(550, "5.7.1", "user %+q may not send to %+.120q: may_send_to allows %s", u.Name, r.Wire(), u.maySendTo)
		}
	}
	return nil
}

// maxMessage returns the smaller of the user's and the account's limit; 0 is none.
func (u *user) maxMessage() int64 {
	if u.MaxMessage > 0 && (u.account.MaxMessage == 0 || u.MaxMessage < u.account.MaxMessage) {
		return u.MaxMessage
	}
	return u.account.MaxMessage
}

// meter counts the message while it streams by, and fails once it is over the limit or its session at its end.
type meter struct {
	r     io.Reader
	ended func() error // why the session is over, nil while it is not
	limit int64        // octets; 0 is none
	n     int64        // octets so far
	err   error        // how the data ended: io.EOF or a refusal; nil while it goes on
}

// lower sets the limit of the message's own account, less what a scenario adds.
func (m *meter) lower(limit, added int64) error {
	if m.limit = limit; limit == 0 {
		return nil
	}
	m.limit = max(limit-added, 1)
	if m.n > m.limit {
		m.err = m.tooLarge()
		return m.err
	}
	return nil
}

func (m *meter) tooLarge() error {
	return refuse(552, "5.3.4", "the message is larger than the %d octets that its account and user may send (max_message)", m.limit)
}

// Read reads on until the limit, the end of the session or an error, and from then on gives that error.
func (m *meter) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	if err := m.ended(); err != nil {
		m.err = cutShort(err)
		return 0, m.err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	switch {
	case m.limit > 0 && m.n > m.limit:
		n, m.err = 0, m.tooLarge()
	case err != nil && !errors.Is(err, io.EOF):
		m.err = cutShort(err)
	default:
		m.err = err
	}
	return n, m.err
}

// cutShort is the refusal of a message whose data ended by an error; a *reply.Error in it stays.
func cutShort(err error) error {
	if refusal := (*reply.Error)(nil); errors.As(err, &refusal) {
		return refusal
	}
	return &reply.Error{Code: 451, Enhanced: "4.4.2", Text: "the message did not arrive whole", Err: err}
}
