// Package submission settles what must be settled before an application hears 250: who sends, as which account, to
// whom, and how the sender is rewritten. One strict parse of the header decides, and its outcome is a plan of edits that
// is made when the message is relayed: what is queued is what came. It must not know SMTP syntax, tokens, HTTP or how
// mail is stored. smtpd calls it; it calls message and its Enqueuer. A refusal is a *reply.Error, and then nothing has
// been queued.
package submission

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Desk takes submissions. Make it with New. Safe for concurrent use; a changed configuration is a new Desk.
type Desk struct {
	hostname string
	domain   string // DefaultDomain
	users    map[string]*user
	queue    Enqueuer
	carrier  Carrier
	events   *event.Bus
	now      func() time.Time

	scenarios []*scenario
	limits    map[string]int64 // the largest message that any of a user's scenarios takes; 0 is no limit
	readers   sync.Pool        // of *bufio.Reader: a new one for each message would be a third of all that it allocates
	pacer     *Pacer
	spoolDir  string
	room      func(ctx context.Context, octets int) error // in spoolDir
	full      func(error) bool                            // likewise
}

// Submit decides about one message and has it queued; the ID is the application's proof. Data has CRLF lines. The error
// is always a *reply.Error; Submit may return it before data has been read to its end.
func (d *Desk) Submit(ctx context.Context, s envelope.Session, env envelope.Envelope, data io.Reader) (envelope.ID, error) {
	sub := &submission{Desk: d, message: message.Message{Session: s, Envelope: env}}
	if err := sub.take(ctx, data); err != nil {
		refusal := asReply(err)
		sub.reportRefusal(ctx, refusal)
		return "", refusal
	}
	sub.reportAcceptance(ctx)
	return sub.message.ID, nil
}

// asReply gives an error the form that an application may hear. What has none is a trouble of ours, and temporary.
func asReply(err error) *reply.Error {
	var refusal *reply.Error
	if errors.As(err, &refusal) {
		return refusal
	}
	return &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be stored; try again later", Err: err}
}

// submission is one message at the desk.
type submission struct {
	*Desk
	user    *user // nil until known
	message message.Message
	header  message.Header // the one parse of message.Header
	size    *meter
	reader  *bufio.Reader // of size, for the header and then for the body; one of Desk.readers
	body    *spool
	passed  []passed // scenarios that did not hold
	leftOut bool     // what a scenario adds, from a message that is signed or encrypted
}

// take settles and queues the message.
func (s *submission) take(ctx context.Context, data io.Reader) error {
	if err := s.settle(ctx, data); err != nil {
		return err
	}
	// A file that cannot be removed is no reason to refuse what is queued; the hall clears the folder at the next start.
	defer func() { _ = s.close() }()
	at := s.now().UTC() // and not when the message was accepted: others may have come since
	user, perMinute := s.user.Name, s.user.RatePerMinute
	if leaves := s.pacer.reserve(user, perMinute, at); leaves.After(at) {
		s.message.Plan.NotBefore = leaves
		at = leaves
	}
	// The body's reader still ends when the session does. But once the body is in, the commit must run to its end: cut
	// off in its midst, nobody could tell whether the message is queued, and the application would send it again.
	body, stop := s.checkCarry(s.body)
	err := s.queue.Enqueue(context.WithoutCancel(ctx), s.message, body)
	stop()
	if s.size.err != nil && !errors.Is(s.size.err, io.EOF) {
		err = s.size.err // it decides, whatever the Enqueuer made of it
	}
	if err != nil && perMinute > 0 {
		s.pacer.cancel(user, at)
	}
	return err
}

// settle decides everything about the message, and leaves its body to be read. After nil s must be closed.
func (s *submission) settle(ctx context.Context, data io.Reader) error {
	s.user = s.users[s.message.Session.User]
	if s.user == nil { // the file was changed while the session was open
		return refuse(451, "4.3.5", "user %+.64q is not in the configuration", s.message.Session.User)
	}
	if err := s.user.checkRecipients(s.message.Envelope.Recipients); err != nil {
		return err
	}
	s.size = &meter{r: data, ended: func() error { return context.Cause(ctx) }, limit: s.limits[s.user.Name]}
	body, err := s.readHeader()
	if err != nil {
		return err
	}
	s.body = &spool{from: body, dir: s.spoolDir, full: s.full, room: func(octets int) error { return s.room(ctx, octets) }}
	if err := s.makePlan(); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// close ends the reading of the body.
func (s *submission) close() error {
	s.reader.Reset(nil)
	s.readers.Put(s.reader)
	return s.body.close()
}

// readHeader takes the header block off the data.
func (s *submission) readHeader() (body io.Reader, err error) {
	s.reader = s.readers.Get().(*bufio.Reader)
	s.reader.Reset(s.size)
	s.message.Header, body, err = message.SplitHeader(s.reader, 0)
	switch {
	case errors.Is(err, message.ErrHeaderTooLong):
		return nil, refuse(552, "5.3.4", "the header is larger than %d octets", message.HeaderLimit)
	case errors.Is(err, message.ErrHeaderControl):
		return nil, refuse(550, "5.6.0", "the header has a NUL or a CR without LF")
	case err != nil:
		return nil, err
	}
	s.header, err = message.ParseHeader(s.message.Header)
	return body, err
}

// makePlan decides everything about the message whose header has been read.
func (s *submission) makePlan() error {
	if err := checkLoop(s.header); err != nil {
		return err
	}
	m := &s.message
	under, scenario, before, err := s.pick()
	s.passed = before
	if err != nil {
		return err
	}
	s.user = under
	if scenario != nil {
		m.Plan.Scenario = scenario.Name // also for the line of a refusal
	}
	chosen, err := s.user.choose(s.header, m.Envelope.ReversePath, s.domain)
	if err != nil {
		return err
	}
	at := s.now()
	m.ID, m.Accepted = envelope.NewID(at), at.UTC()
	m.Plan = message.Plan{Account: s.user.account.Name, HeaderFrom: chosen.from, MessageID: s.header.MessageID()}
	if !m.Envelope.ReversePath.IsNull() {
		m.Plan.ReversePath = chosen.from
	}
	edit := func(op message.Op, name, value string) {
		m.Plan.Edits = append(m.Plan.Edits, message.Edit{Op: op, Name: name, Value: value})
	}
	// Each goes before all others, so Received, made last, is the first field, as RFC 5321 section 4.4 has it.
	edit(message.Prepend, message.MarkerField, string(m.ID))
	edit(message.Prepend, "Received", s.received(at))
	if s.header.Get("Date") == "" {
		edit(message.Set, "Date", message.FormatDate(at))
	}
	if m.Plan.MessageID == "" {
		m.Plan.MessageID = message.NewMessageID(m.ID, s.hostname)
		edit(message.Set, "Message-ID", m.Plan.MessageID)
	}
	m.Plan.Edits = append(m.Plan.Edits, chosen.edits...)
	// What cannot be written is refused now and not when it is to be relayed.
	if err := message.Check(m.Plan.Edits); err != nil {
		return &reply.Error{Code: 550, Enhanced: "5.6.0", Text: "the header cannot be rewritten", Err: err}
	}
	if scenario != nil {
		s.leftOut = scenario.add(m, s.header)
	}
	return s.size.lower(s.user.maxMessage(), m.Plan.Additions.Octets())
}

// larger reports whether the message has more than n octets, as it came.
func (s *submission) larger(n int64) (bool, error) {
	return s.body.larger(n - int64(len(s.message.Header)))
}

func (s *submission) reportAcceptance(ctx context.Context) {
	m := &s.message
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("queue_id", string(m.ID)), slog.String("message_id", m.Plan.MessageID),
		slog.String("user", m.Session.User), slog.String("account", m.Plan.Account),
		slog.String("remote", m.Session.Remote.String()), slog.String("listener", m.Session.Listener),
		slog.String("header_from", m.Plan.HeaderFrom.String()), slog.String("reverse_path", m.Envelope.ReversePath.String()),
		slog.Int("recipients", len(m.Envelope.Recipients)), slog.Int64("size", s.size.n)}
	if m.Plan.Scenario != "" {
		attrs = append(attrs, slog.String("scenario", m.Plan.Scenario))
	}
	if m.Plan.Hold {
		attrs = append(attrs, slog.Bool("hold", true))
	}
	if !m.Plan.NotBefore.IsZero() {
		attrs = append(attrs, slog.Time("next_attempt", m.Plan.NotBefore))
	}
	if s.leftOut {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("left_out", "footer and attachments of the scenario: the message is signed or encrypted"))
	}
	s.events.Emit(ctx, level, event.MessageAccepted, attrs...)
}

// reportRefusal is also the audit line of a sender or recipient that policy forbids: the reply names user, address and
// rule.
func (s *submission) reportRefusal(ctx context.Context, refusal *reply.Error) {
	m := &s.message
	account := ""
	if s.user != nil {
		account = s.user.account.Name
	}
	level := slog.LevelWarn
	if refusal.Enhanced == "4.3.0" {
		level = slog.LevelError // the store: somebody must act
	}
	said := reply.Reply{Code: refusal.Code, Enhanced: refusal.Enhanced, Text: refusal.Text}
	attrs := []slog.Attr{slog.String("user", m.Session.User), slog.String("account", account),
		slog.String("remote", m.Session.Remote.String()), slog.String("listener", m.Session.Listener),
		slog.String("reverse_path", m.Envelope.ReversePath.String()), slog.Int("recipients", len(m.Envelope.Recipients)),
		slog.String("reply", said.String())}
	if m.Plan.Scenario != "" {
		attrs = append(attrs, slog.String("scenario", m.Plan.Scenario))
	}
	if id := s.header.MessageID(); id != "" {
		attrs = append(attrs, slog.String("message_id", id))
	}
	if refusal.Err != nil {
		attrs = append(attrs, slog.Any("err", refusal.Err))
	}
	s.events.Emit(ctx, level, event.MessageRefused, attrs...)
}
