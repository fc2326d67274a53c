package sandbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrClosed is what Wait returns when the sandbox closes first.
var ErrClosed = errors.New("sandbox: closed")

// The ways a message can come.
const (
	ViaGraph = "graph"
	ViaSMTP  = "smtp"
)

// Received is one message that the service took.
type Received struct {
	ID           string // "0001", also the start of the file's name
	At           time.Time
	Via          string   // ViaGraph or ViaSMTP
	ClientID     string   // the app
	Login        string   // who signed in; "" for app-only
	Mailbox      string   // in whose Sent Items the copy lies
	From         string   // address of the header From
	Sender       string   // who sent it on behalf of From; "" when From itself did
	EnvelopeFrom string   // SMTP's reverse-path; "" for null and for Graph, which has none
	Recipients   []string // who really gets it, in order, each once
	MessageID    string   // the service's, with angle brackets: the message's own but for ReplaceMessageID and where it had none
	Raw          []byte   // as delivered
	Sent         []byte   // the copy in Sent Items
	SMTPUTF8     bool     // what MAIL said
	Body8Bit     bool     // BODY=8BITMIME or BINARYMIME
}

// Received returns what came in since Start, oldest first. The slices in it are shared: do not change them.
func (s *Sandbox) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// Wait returns Received once it has at least n messages. It returns what is there, with ctx.Err() or ErrClosed, when they
// do not come.
func (s *Sandbox) Wait(ctx context.Context, n int) ([]Received, error) {
	for {
		s.mu.Lock()
		have, arrived := s.received, s.arrived
		s.mu.Unlock()
		if len(have) >= n {
			return slices.Clone(have), nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return s.Received(), ctx.Err()
		case <-s.ctx.Done():
			return s.Received(), ErrClosed
		}
	}
}

// Forget empties Received; the files stay.
func (s *Sandbox) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = nil
}

// lastNumber continues a folder that has mail of an earlier run.
func lastNumber(dir string) (last int) {
	names, _ := filepath.Glob(filepath.Join(dir, "*-*.eml")) // a pattern of ours is never bad
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(name), "%d-", &n); err == nil {
			last = max(last, n)
		}
	}
	return last
}

// letter is one message on its way through the service.
type letter struct {
	Received
	draft    *draft // that it was; nil for what came whole
	text     mailText
	mailbox  Mailbox // whose Sent Items; also whose limits count
	own      Mailbox // whose addresses are the sender's own
	id       string  // by which rights are granted: a login, or a client id
	shared   bool    // Graph: may use another's From (Mail.Send.Shared, or app-only)
	checked  string  // a verdict that was reached before, "" for none
	identity string  // Message-ID as it came, or a hash
}

// judge decides on a whole message as Exchange does after the dot: the service's own rules, then ordered faults, then
// what the recipients script. A message that is to be taken is taken. The error is that of the disk.
func (s *Sandbox) judge(l *letter) (outcome, error) {
	l.MessageID = l.text.first("Message-ID")
	l.identity = l.MessageID
	if l.identity == "" {
		l.identity = fmt.Sprintf("%x", sha256.Sum256(l.Raw))
	}
	fault := s.takeFault(AtDot, l.own.Address)
	s.mu.Lock()
	name := s.verdict(l)
	if name == "+ok" {
		switch {
		case fault != nil && fault.Outcome != "":
			name = fault.Outcome
		default:
			if scripted := s.script(l.Recipients, l.identity); scripted != "" {
				name = scripted
			}
		}
	}
	slow := s.switches.SlowDelay.Duration
	s.mu.Unlock()
	o := outcomes[name]
	if fault != nil && fault.Drop {
		o = outcomes["drop-before"]
	}
	s.logf("%s: message from %s to %d recipients: %s", l.Via, l.From, len(l.Recipients), strings.TrimPrefix(name, "+"))
	if o.slow {
		s.pause(slow)
	}
	if l.Via == ViaSMTP {
		o = o.forSMTP()
	}
	if !o.accept {
		return o, nil
	}
	err := s.keep(l)
	s.step(Kept)
	return o, err
}

// forSMTP settles those rows of the table whose two columns differ in what becomes of the message.
func (o outcome) forSMTP() outcome {
	switch {
	case o.reply != "":
		o.accept = false
	case !o.cut && !o.silent:
		o.accept = true
	}
	return o
}

// verdict is the service's own judgement: a name in outcomes. Sandbox.mu is held.
func (s *Sandbox) verdict(l *letter) string {
	switch {
	case l.checked != "":
		return l.checked
	case int64(len(l.Raw)) > l.mailbox.MaxMessage:
		return "toolarge"
	}
	if name := s.checkSender(l); name != "" {
		return name
	}
	switch {
	case len(l.Recipients) == 0:
		return "invalid"
	case len(l.Recipients) > s.switches.MaxRecipients:
		return "+recipients"
	case l.Via == ViaSMTP && s.switches.RefuseDuplicates && s.seen[l.mailbox.Address+" "+l.identity]:
		return "duplicate"
	}
	return "+ok"
}

// checkSender applies the Send As matrix (facts B5) to the header From, a Sender field, and SMTP's reverse-path, and sets
// From and Sender. "" means allowed.
func (s *Sandbox) checkSender(l *letter) string {
	from, err := l.text.addresses("From")
	if err != nil {
		return "+mime"
	}
	switch {
	case len(from) > 1:
		return "+twofrom"
	case len(from) == 1:
		l.From = from[0].Address
	case l.Via == ViaSMTP:
		return "+mime"
	default: // Graph sends as the mailbox
		l.From = l.mailbox.Address
		l.text = l.text.with("From", l.From)
	}
	right := s.world.rightTo(l.From, l.id, l.own)
	if right == noRight {
		return "denied"
	}
	if right != ownAddress && l.Via == ViaGraph && !l.shared {
		return "+shared"
	}
	if right == onBehalf {
		l.Sender = l.own.Address
	}
	// Exchange fills Sender itself; one that was given must at least be the sender's to use.
	sender, err := l.text.addresses("Sender")
	if err != nil || len(sender) > 1 {
		return "+mime"
	}
	if len(sender) == 1 && !strings.EqualFold(sender[0].Address, l.From) {
		if r := s.world.rightTo(sender[0].Address, l.id, l.own); r != ownAddress && r != sendAs {
			return "denied"
		}
		l.Sender = sender[0].Address
	}
	if l.Via == ViaSMTP && !s.mayReturnTo(l) {
		l.From = l.EnvelopeFrom // the reply names who was refused
		return "denied"
	}
	return ""
}

func (s *Sandbox) mayReturnTo(l *letter) bool {
	if l.EnvelopeFrom == "" {
		return s.switches.NullReversePath
	}
	return s.world.rightTo(l.EnvelopeFrom, l.id, l.own) != noRight
}

// keep makes the delivered and the sent copy, writes the file and tells who waits.
func (s *Sandbox) keep(l *letter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	replace := s.switches.ReplaceMessageID && l.MessageID != ""
	if replace { // facts C5
		l.text = l.text.without("Message-ID").with("X-Microsoft-Original-Message-ID", l.MessageID)
	}
	if replace || l.MessageID == "" {
		l.MessageID = "<" + strings.ToUpper(random(24)) + "@" + backendHost + ">"
		// Exchange adds a missing one at SMTP too, but there we keep what came, octet for octet.
		if l.Via == ViaGraph || replace {
			l.text = l.text.with("Message-ID", l.MessageID)
		}
	}
	if l.Via == ViaGraph && l.Sender != "" && len(l.text.all("Sender")) == 0 {
		l.text = l.text.with("Sender", l.Sender)
	}
	l.Sent = l.text.bytes()
	l.Raw = l.Sent
	if l.Via == ViaGraph && !s.switches.KeepBcc && len(l.text.all("Bcc")) > 0 {
		l.Raw = l.text.without("Bcc").bytes()
	}
	l.ID, l.At, l.Mailbox = fmt.Sprintf("%04d", s.number+1), s.now().UTC(), l.mailbox.Address
	if err := os.WriteFile(filepath.Join(s.dir, l.ID+"-"+l.Via+".eml"), l.Raw, 0o600); err != nil {
		return err
	}
	s.number++
	s.seen[l.mailbox.Address+" "+l.identity] = true
	s.received = append(s.received, l.Received)
	if d := l.draft; d != nil { // who sees the one sees the other
		d.sent, d.final, d.lag = true, l.Received, s.switches.SentLag
	}
	close(s.arrived)
	s.arrived = make(chan struct{})
	return nil
}

// enter counts a request or transaction of a mailbox in; ok is false over the limit. Each needs its leave.
func (s *Sandbox) enter(key string, limit func(Switches) int) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[key]++
	return s.busy[key] <= limit(s.switches)
}

func (s *Sandbox) leave(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[key]--; s.busy[key] == 0 {
		delete(s.busy, key)
	}
}
