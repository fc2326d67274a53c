package submission

import (
	"fmt"
	"strings"
	"time"

	"postern/bridge/message"
)

// maxReceived is how many Received fields a message may have come with. RFC 5321 section 6.3 asks for 100 at least to
// be taken by a relay between strangers; a message of a local application has none, and each turn of a loop through
// Exchange Online adds about ten.
const maxReceived = 50

// checkLoop refuses what has been here before.
func checkLoop(h message.Header) error {
	if len(h.All(message.MarkerField)) > 0 {
		return refuse(554, "5.4.6", "mail loop: the message has been here before (it has an %s field)", message.MarkerField)
	}
	if n := len(h.All("Received")); n > maxReceived {
		return refuse(554, "5.4.6", "mail loop: the message has %d Received fields", n)
	}
	return nil
}

// received makes the value of our trace field (RFC 5321 section 4.4). It names no user. The for clause would disclose
// hidden recipients to each other, so it stands only where there is one.
func (s *submission) received(at time.Time) string {
	session, recipients := s.message.Session, s.message.Envelope.Recipients
	from := heloName(session.Helo)
	switch {
	case session.Remote.Is4():
		from += fmt.Sprintf(" ([%s])", session.Remote)
	case session.Remote.Is6():
		from += fmt.Sprintf(" ([IPv6:%s])", session.Remote.WithZone(""))
	}
	with := session.Protocol
	if with == "" {
		with = "SMTP"
	}
	to := ""
	if len(recipients) == 1 && recipients[0].ASCII() {
		to = fmt.Sprintf(" for <%s>", recipients[0].Wire())
	}
	return fmt.Sprintf("from %s by %s with %s id %s%s; %s", from, s.hostname, with, s.message.ID, to, message.FormatDate(at))
}

// heloName returns what the client said of itself if that can stand in a field, else "unknown".
func heloName(helo string) string {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]"
	if helo == "" || len(helo) > 255 || strings.Trim(helo, allowed) != "" {
		return "unknown"
	}
	return helo
}
