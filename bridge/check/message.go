package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// testMessage is a short message that says what it is.
func (o Options) testMessage(a Account, transport string, s Sender) message.Outgoing {
	now := time.Now()
	id := envelope.NewID(now)
	messageID := fmt.Sprintf("<check.%s@%s>", id, o.Hostname)
	var h strings.Builder
	fmt.Fprintf(&h, "From: <%s>\r\nTo: <%s>\r\nSubject: Postern test: account %s by %s\r\nDate: %s\r\nMessage-ID: %s\r\n",
		s.From, o.SendTo, a.Name, transport, message.FormatDate(now), messageID)
	if s.OnBehalf {
		fmt.Fprintf(&h, "Sender: <%s>\r\n", cmp.Or(a.Login, a.Mailbox))
	}
	h.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n")
	body := fmt.Sprintf("This message was sent by: postern check --live --send-to\r\n\r\nAccount: %s\r\nTransport: %s\r\n", a.Name, transport)
	return message.Outgoing{
		Message: message.Message{ID: id, Accepted: now.UTC(), Header: []byte(h.String()),
			Envelope: envelope.Envelope{ReversePath: s.From, Recipients: []envelope.Address{o.SendTo}},
			Plan:     message.Plan{Account: a.Name, HeaderFrom: s.From, ReversePath: s.From, MessageID: messageID}},
		Recipients: []envelope.Address{o.SendTo}, Final: []byte(h.String()), Attempt: 1, BodySize: int64(len(body)),
		Open:   func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
		Intent: func(context.Context) error { return nil }, // nothing is kept of it
	}
}
