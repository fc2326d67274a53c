package relay

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Recipients of one part share a Message-ID and our marker, and nothing else tells a copy to one of them from a copy to
// another: a server that knows the Message-ID, or a look that finds the copy, would speak for all. So whoever has no share
// in a copy that may be taken is put into a part of his own before: he was refused at RCPT, or is not due with the others.

// intend commits the intent of one transport for those of the part whom the copy is for; none are all of it.
func (p *part) intend(ctx context.Context, whole message.Outgoing, transport string, taken []envelope.Address) error {
	if len(taken) == 0 {
		taken = p.recipients
	}
	if err := p.leaveOut(ctx, whole, taken); err != nil {
		return fmt.Errorf("note down who gets another copy: %w", err)
	}
	if len(taken) == len(whole.Recipients) {
		taken = nil
	}
	return whole.IntentBy(ctx, transport, taken)
}

// leaveOut puts who shares the part's name and is not among those taken into another part, which no copy has had yet.
func (p *part) leaveOut(ctx context.Context, whole message.Outgoing, taken []envelope.Address) error {
	in := map[string]bool{}
	for _, a := range taken {
		in[a.Key()] = true
	}
	name := newName(whole)
	others := map[note][]envelope.Address{}
	for i, a := range whole.Envelope.Recipients {
		n := noteOf(whole, a, i)
		if n.Part == p.note.Part && !in[a.Key()] {
			others[n] = append(others[n], a)
		}
	}
	for n, recipients := range others {
		// What the transport noted stays, and leads it to what an attempt for both left.
		n.Part = name
		if err := n.remember(ctx, whole, recipients); err != nil {
			return err
		}
	}
	return nil
}

// newName is a part's name that no recipient has, also of those who have got theirs: so no copy has it.
func newName(whole message.Outgoing) string {
	last := 1
	for i, a := range whole.Envelope.Recipients {
		last = max(last, noteOf(whole, a, i).number())
	}
	return strconv.Itoa(last + 1)
}

// number is what the part's name begins with; that of the whole, or of the first 500, is 1. Halves once had the name of what
// they are halves of, with "a" or "b" behind it.
func (n note) number() int {
	i, err := strconv.Atoi(strings.TrimRight(n.Part, "ab"))
	if err != nil {
		return 1
	}
	return i
}

// known is what a resend comes to that the server refused because it knows the Message-ID. It has got the copy in doubt, or
// another message under the Message-ID that an application gives to several; then this one leaves under another one, as it
// would had there been no doubt.
func known(ctx context.Context, out message.Outgoing, o reply.Outcome) reply.Outcome {
	if out.Namesake == nil {
		return o
	}
	switch another, err := out.Namesake(ctx); {
	case err != nil:
		return reply.Outcome{Owner: reply.Process, Transport: o.Transport, Reply: reply.Reply{Text: "other messages with its Message-ID could not be looked for"}, Err: err}
	case another:
		o.Verdict, o.Owner = reply.Deferred, reply.Message
	}
	return o
}
