package submission

import (
	"context"
	"errors"
	"io"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Explanation is what would become of a message.
type Explanation struct {
	Scenario   string // "" where none holds
	Passed     []Passed
	Account    string
	HeaderFrom envelope.Address

	// The values of the fields as they leave; "" where there is none.
	From, Sender, ReplyTo string
	Final                 []byte // the header block as it leaves

	ReversePath envelope.Address
	Recipients  []envelope.Address // with those that the scenario adds
	Bcc         []envelope.Address
	Additions   message.Additions
	LeftOut     bool // they are not made, because the message is signed or encrypted
	Hold        bool
	Size        int64 // octets as they came
	Grows       int64 // octets more, at most
}

// Passed is a scenario that does not hold, and why.
type Passed struct{ Scenario, Why string }

// Explain decides about a message as Submit does, and changes nothing: nothing is queued, told or counted. The error is
// the *reply.Error that the application would read; what was decided until then is in the Explanation. SpoolDir must be
// one that may be written.
func (d *Desk) Explain(ctx context.Context, s envelope.Session, env envelope.Envelope, data io.Reader) (Explanation, error) {
	sub := &submission{Desk: d, message: message.Message{Session: s, Envelope: env}}
	err := sub.settle(ctx, data)
	if err == nil {
		_, err = io.Copy(io.Discard, sub.body)
		err = errors.Join(err, sub.close())
	}
	e := sub.explanation()
	if err != nil {
		return e, asReply(err)
	}
	final, err := message.Apply(sub.message.Header, sub.message.Plan.Edits)
	if err != nil {
		return e, asReply(err)
	}
	e.Final = final
	h, err := message.ParseHeader(final)
	if err != nil {
		return e, asReply(err)
	}
	e.From, e.Sender, e.ReplyTo = h.Get("From"), h.Get("Sender"), h.Get("Reply-To")
	return e, nil
}

func (s *submission) explanation() Explanation {
	p := s.message.Plan
	e := Explanation{Scenario: p.Scenario, HeaderFrom: p.HeaderFrom, ReversePath: p.ReversePath, Recipients: s.message.Envelope.Recipients,
		Bcc: p.Bcc, Additions: p.Additions, LeftOut: s.leftOut, Hold: p.Hold, Grows: p.Additions.Octets()}
	if s.user != nil {
		e.Account = s.user.account.Name
	}
	if s.size != nil {
		e.Size = s.size.n
	}
	for _, b := range s.passed {
		e.Passed = append(e.Passed, Passed{b.name, b.why})
	}
	return e
}
