// Package message is the tool for mail as bytes: an editor that changes the named top-level header fields and leaves
// every other byte alone, address lists of header fields, and the types that carry one message through the rooms. It
// knows no SMTP dialogue, no account and no policy: submission makes the Plan, queue keeps it, relay applies it. Its
// parsers refuse by error and never panic; they are fuzzed.
package message

import (
	"context"
	"io"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/reply"
)

// Message is one accepted message without its body: what the queue keeps, as it came, and what was decided.
type Message struct {
	ID       envelope.ID
	Accepted time.Time // UTC
	Session  envelope.Session
	Envelope envelope.Envelope
	Header   []byte // the header block as it came, CRLF lines, with the blank line that ends it
	Plan     Plan
}

// Plan is everything decided before 250. The same plan on the same header gives the same bytes each time. It is stored
// as JSON.
type Plan struct {
	Account     string           `json:"account"`
	Scenario    string           `json:"scenario,omitempty"`
	HeaderFrom  envelope.Address `json:"header_from"`  // the one that leaves
	ReversePath envelope.Address `json:"reverse_path"` // the one that leaves; null stays null where the transport takes it
	MessageID   string           `json:"message_id"`   // with angle brackets, fixed at acceptance
	Edits       []Edit           `json:"edits"`        // in order

	// Bcc are those of the envelope's recipients that a scenario added. They stand in no header.
	Bcc []envelope.Address `json:"bcc,omitempty"`

	Hold      bool      `json:"hold,omitempty"`      // it waits for a person from the start
	NotBefore time.Time `json:"not_before,omitzero"` // the first attempt is not made earlier: the user's rate; zero is at once
	Additions Additions `json:"additions,omitzero"`  // to the body
}

// Additions are what is put into the body when the message is relayed. Their content is kept beside the queue, named by
// its hash, so that the same plan gives the same bytes whatever has become of the files that the configuration names.
type Additions struct {
	FooterText *Part  `json:"footer_text,omitempty"` // UTF-8
	FooterHTML *Part  `json:"footer_html,omitempty"` // US-ASCII with character references
	Attach     []Part `json:"attach,omitempty"`
}

// Part is a piece of content.
type Part struct {
	Hash string `json:"hash"` // SHA-256 of the content in lower-case hexadecimal
	Size int64  `json:"size"` // octets
	Name string `json:"name,omitempty"`
	Type string `json:"type,omitempty"` // media type, of an attachment
}

// IsZero reports whether nothing is added.
func (a Additions) IsZero() bool {
	return a.FooterText == nil && a.FooterHTML == nil && len(a.Attach) == 0
}

// Edit changes one top-level header field.
type Edit struct {
	Op    Op     `json:"op"`
	Name  string `json:"name"`
	Value string `json:"value,omitempty"` // unfolded, without the line end; US-ASCII or UTF-8; the editor folds it
}

// Op is what an Edit does.
type Op string

const (
	Prepend Op = "prepend" // a new field before all others (trace fields)
	Set     Op = "set"     // replaces the first field of that name in its place and removes the others; added at the end where none is
	Add     Op = "add"     // a new field at the end of the header block
	Remove  Op = "remove"  // all fields of that name
)

// Outgoing is one attempt: a message, those of its recipients that are still due, and the final header block.
type Outgoing struct {
	Message
	Recipients []envelope.Address
	Final      []byte // Header with Plan.Edits applied
	Attempt    int    // counted from 1
	BodySize   int64  // octets after the blank line

	// Resend is set where an earlier attempt ended in doubt: an answer that it is a duplicate means relayed, and the
	// message must leave by Transport, the one of that attempt ("" where it is not known).
	Resend    bool
	Transport string

	// Look is set where the attempt may only find out what became of a message in doubt, and send nothing. The outcome is
	// Relayed, or InDoubt while nobody can tell.
	Look bool

	// Namesake reports whether another message that was tried has the Message-ID of this one's plan: then a server may know it
	// from that one. nil: none has.
	Namesake func(ctx context.Context) (bool, error)

	// Notes are what relay remembered of earlier attempts, by envelope.Address.Key, also of recipients that are not due;
	// absent where there is nothing. Remember commits another one for those recipients, but for whom it is relayed to, before
	// it returns; nil: nothing is kept.
	Notes    map[string]string
	Remember func(ctx context.Context, recipients []envelope.Address, note string) error

	// Others are for a transport the notes of the message's other recipients, and for a Tidier those of recipients who got it.
	// What they name may be on its way, and is not to be removed.
	Others []string

	// Open returns the body as it was accepted, CRLF lines; the caller closes it.
	Open func(ctx context.Context) (io.ReadCloser, error)

	// BeforeSend is told each time that a transport is about to be used, for the whole or for a part: the rate counts that.
	// nil: nobody counts.
	BeforeSend func(ctx context.Context)

	// Intent commits the in-doubt record. A transport calls it once, directly before the octets that may make the next
	// server accept (the final dot, the request with the whole message), and gives up with Deferred when it fails.
	Intent func(ctx context.Context) error

	// IntentBy is Intent with the transport's word, "graph" or "smtp", which a message in doubt keeps, and with those whom the
	// copy is for where others are left out: the other parts', and whom the server has refused already. Only they are in
	// doubt if the process dies now. nil is all of the attempt. The queue gives it; relay makes the Intent of each transport
	// of it, and parts from them who must not be taken for one that got this copy.
	IntentBy func(ctx context.Context, transport string, recipients []envelope.Address) error

	// PartDone commits what became of a part while others are still to come: who got it has it for good, and who did not is
	// not in doubt. What it cannot commit stays as the intent has it. nil: nothing is kept before the end.
	PartDone func(ctx context.Context, recipients []envelope.Address, o reply.Outcome)
}
