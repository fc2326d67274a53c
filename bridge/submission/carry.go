package submission

import (
	"errors"
	"io"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Capacity is what the routes of an account can carry.
type Capacity struct {
	Max   int64                                     // octets that its mailbox was found to send at most; 0: not known
	Whole int64                                     // octets that go as they are, with the header that leaves; 0: all
	Parts func(header []byte, body io.Reader) error // of a larger one: an error names what would be lost; nil: none goes

	// Header is how many octets the header has when it leaves for these recipients, at most; nil: as many as it has.
	Header func(header []byte, recipients []envelope.Address) int64
}

// Carrier knows what the routes of each account can carry. The relay is one. Safe for concurrent use.
type Carrier interface {
	Capacity(account string) Capacity
}

// checkCarry lets the message be looked at while its body is stored, and refuses it at the end of DATA where its route
// cannot carry it: what is known then is not to be found out two hours later.
func (s *submission) checkCarry(body io.Reader) (io.Reader, func()) {
	nothing := func() {}
	if s.carrier == nil {
		return body, nothing
	}
	m := &s.message
	c := &carried{s: s, r: body, capacity: s.carrier.Capacity(m.Plan.Account)}
	if c.capacity.Max == 0 && c.capacity.Whole == 0 {
		return body, nothing
	}
	header, err := message.Apply(m.Header, m.Plan.Edits)
	if err != nil { // it shows when it is relayed
		header = m.Header
	}
	if c.header = int64(len(header)); c.capacity.Header != nil {
		c.header = c.capacity.Header(header, m.Envelope.Recipients)
	}
	if c.capacity.Whole == 0 || c.capacity.Parts == nil || err != nil {
		return c, nothing
	}
	var from *io.PipeReader
	from, c.copy = io.Pipe()
	c.verdict = make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := c.capacity.Parts(header, from)
		_, _ = io.Copy(io.Discard, from) // an early verdict must not hold the body up
		c.verdict <- err
	}()
	return c, func() {
		c.copy.CloseWithError(errNotWhole)
		<-ended
	}
}

var errNotWhole = errors.New("the message did not arrive whole")

// carried is a body that ends in a refusal where its route cannot carry it.
type carried struct {
	s        *submission
	r        io.Reader
	n        int64
	header   int64 // octets of the header that leaves
	capacity Capacity
	copy     *io.PipeWriter // to who looks for what would be lost; nil: nobody
	verdict  chan error     // one, when the copy was read to its end
}

func (c *carried) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.copy != nil && n > 0 {
		if _, e := c.copy.Write(p[:n]); e != nil {
			return n, e
		}
	}
	if err == io.EOF {
		if refusal := c.end(); refusal != nil {
			c.s.size.err = refusal
			return n, refusal
		}
	}
	return n, err
}

// end judges the whole message.
func (c *carried) end() error {
	size := c.header + c.n + c.s.message.Plan.Additions.Octets()
	var lost error
	if c.copy != nil && c.verdict != nil {
		c.copy.Close()
		lost = <-c.verdict
		c.verdict = nil
	}
	var cannot *message.CannotRebuild
	switch {
	case c.capacity.Max > 0 && size > c.capacity.Max:
		return refuse(552, "5.3.4", "the message is larger than the %d octets that the mailbox of its account was found to send", c.capacity.Max)
	case c.capacity.Whole == 0 || size <= c.capacity.Whole:
		return nil
	case c.capacity.Parts == nil:
		return refuse(552, "5.3.4", "the message is larger than the %d octets that its account can send: it has neither SMTP nor drafts", c.capacity.Whole)
	case errors.As(lost, &cannot):
		return refuse(554, "5.6.1", "the message is larger than %d octets and cannot be sent in parts: %+.200s", c.capacity.Whole, printable(cannot.Error()))
	}
	return nil // what else is wrong with it shows when it is relayed
}

// printable keeps a reply on its line.
func printable(s string) string {
	out := []rune{}
	for _, r := range s {
		if r < ' ' || r > '~' {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
