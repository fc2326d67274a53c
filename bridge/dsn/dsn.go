// Package dsn is the tool that writes delivery status notifications (RFC 3464) in the form of RFC 6522: a part for
// people, which says what happened and what to do, a part for programs, and the original's header fields. It must not
// know the queue, accounts or who is to be told: notice decides that and calls it. Nothing in it fails: whatever a server
// has answered or an application has written into a header becomes lines that can be sent.
package dsn

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/reply"
)

// Action says what a report tells of one recipient (RFC 3464 section 2.3.3).
type Action string

// The actions that we report.
const (
	Failed  Action = "failed"  // given up, or refused for good
	Delayed Action = "delayed" // not relayed yet, and tried on
)

// Report is one delivery status notification.
type Report struct {
	ID       envelope.ID        // the report's own; its Message-ID is made of it
	Hostname string             // who reports
	From     envelope.Address   // the mailbox that it leaves from
	To       []envelope.Address // at least one
	Date     time.Time

	Original   Original
	Recipients []Recipient // at least one; all the report is about
	Relayed    int         // how many more recipients got the message
	Waiting    int         // for how many more it waits, perhaps for a person

	RetryUntil time.Time // of those delayed: when they are given up; zero where that is not known
	KeptUntil  time.Time // until when the message can be sent again; zero where it cannot
}

// Original is the message that the report is about.
type Original struct {
	ID          envelope.ID
	User        string // the local application
	Accepted    time.Time
	ReversePath envelope.Address // as the application wrote it
	Header      []byte           // the header block as it came; may be empty where it cannot be read any more
}

// Recipient is the fate of one recipient.
type Recipient struct {
	Address     envelope.Address
	Action      Action
	Reply       reply.Reply // what the next server said last; empty where it said nothing
	Means       string      // what Reply means in plain words, "" where nobody knows
	RemoteMTA   string      // the server that said it, "" where none did
	Why         string      // in words, where no server said anything
	Remedy      string      // what a person can do, "" where nothing
	LastAttempt time.Time   // zero where there was none, or nobody knows when
}

// Wanted reports whether a message may be answered with a report at all: never one with a null reverse-path, an
// automatic one (RFC 3834 section 5; an Auto-Submitted of "no" is not), or a report.
func Wanted(reversePath envelope.Address, header []byte) bool {
	if reversePath.IsNull() {
		return false
	}
	return !Automatic(header)
}

// Automatic reports whether the header says that the message was made by a program as an answer or by itself: nobody
// wants an answer to it.
func Automatic(header []byte) bool {
	for _, v := range values(header, "Auto-Submitted") {
		word, _, _ := strings.Cut(v, ";")
		if !strings.EqualFold(strings.TrimSpace(word), "no") {
			return true
		}
	}
	for _, v := range values(header, "Content-Type") {
		kind, _, _ := strings.Cut(v, ";")
		if strings.EqualFold(strings.TrimSpace(kind), "multipart/report") {
			return true
		}
	}
	return false
}

// MessageID returns the report's Message-ID, with angle brackets.
func (r *Report) MessageID() string { return fmt.Sprintf("<report.%s@%s>", r.ID, r.Hostname) }

// Build returns the report as the header block, with the blank line that ends it, and the body: CRLF lines of US-ASCII
// (but for a local part in To that is not), none longer than 998 octets.
func (r *Report) Build() (header, body []byte) {
	boundary := "=_" + string(r.ID)
	var to []string
	for _, a := range r.To {
		to = append(to, a.Wire())
	}
	var h bytes.Buffer
	field := func(name, value string) { h.WriteString(fold(name, value)) }
	field("From", "Postern <"+r.From.Wire()+">")
	field("To", strings.Join(to, ", "))
	field("Subject", encodeText(r.subject()))
	field("Date", formatDate(r.Date))
	field("Message-ID", r.MessageID())
	if id := first(values(r.Original.Header, "Message-ID")); isMessageID(id) {
		field("In-Reply-To", id)
		field("References", id)
	}
	field("Auto-Submitted", "auto-replied")
	field("MIME-Version", "1.0")
	fmt.Fprintf(&h, "Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"%s\"\r\n\r\n", boundary)

	var b bytes.Buffer
	b.WriteString("This is a report in the form of RFC 3464.\r\n")
	part := func(kind, text string) {
		encoding, encoded := transferEncode(text)
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s", boundary, kind, encoding, encoded)
	}
	part("text/plain; charset=utf-8", r.forPeople())
	part("message/delivery-status", r.forPrograms())
	if len(r.Original.Header) > 0 {
		part("text/rfc822-headers", r.originalHeader())
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return h.Bytes(), b.Bytes()
}

// failed reports whether the report tells of a failure, and not only of a delay.
func (r *Report) failed() bool {
	for _, rc := range r.Recipients {
		if rc.Action == Failed {
			return true
		}
	}
	return false
}

func (r *Report) subject() string {
	word := "Delayed"
	if r.failed() {
		word = "Not sent"
	}
	if s := r.originalSubject(); s != "" {
		return word + ": " + s
	}
	return word + ": message to " + r.Recipients[0].Address.String()
}
