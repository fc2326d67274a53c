// Package notice decides who is told what: a delivery report to the sender of a message that failed or is late, and a
// notice to [notify] of what needs a person: failed and held messages, parked accounts and senders, what is about to
// expire; each once, and again when it is over. It must not know how mail is queued or relayed, nor the configuration: the hall hands
// it the queue's reports and every event, and an Outbox.
//
// A report is made at once and the queue is answered when it is kept; an error means "ask me again". Notices are
// gathered for a minute and sent together; what could not be sent yet, and what was told and is not over, is kept in
// Memory, so that a restart repeats nothing. Where nobody can be told by mail the Error lines of the log are the report:
// they come from whoever met the trouble.
package notice

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/envelope"
	"postern/bridge/event"
)

// Outbox keeps mail that Postern itself has written. Safe for concurrent use.
type Outbox interface {
	// Send keeps m durably before it returns nil; a message whose ID is kept already is kept.
	Send(ctx context.Context, m Mail) error
}

// Mail is a message of our own. Its envelope has a null reverse-path: what fails of it makes no report.
type Mail struct {
	ID        envelope.ID
	Account   string
	From      envelope.Address // that account's mailbox
	To        []envelope.Address
	MessageID string
	Header    []byte
	Body      []byte
}

// Memory keeps a small document over restarts. Safe for concurrent use.
type Memory interface {
	Load(ctx context.Context) (string, error) // "" where nothing was kept
	Save(ctx context.Context, document string) error
}

// Account is an account that reports may leave by. One with the mailbox "*@domain" serves every mailbox of that domain.
type Account struct {
	Name       string
	Mailbox    envelope.Address
	Transports []string // by which its mail leaves
}

// Options is what a Desk of notices needs.
type Options struct {
	Hostname      string
	DefaultDomain string    // "" where there is none
	Accounts      []Account // in the order of preference
	Notify        []envelope.Address
	Up            func(account string) bool // whether its mail can leave now; must not block
	Outbox        Outbox
	Memory        Memory // nil: forgets with the process
	Events        *event.Bus
	Now           func() time.Time // nil is time.Now
}

// Desk tells people. Make it with New. Safe for concurrent use.
type Desk struct {
	o     Options
	whos  atomic.Pointer[people]
	alarm chan struct{} // holds one: something is to be told

	mu      sync.Mutex // guards memory and unsaved
	memory  memory
	unsaved map[string]bool // keys of failures that are noted, though the queue was told that they are not
	loading sync.Mutex      // guards loaded
	loaded  bool            // what Memory had
	saving  sync.Mutex      // one save at a time: an older document must not replace a newer one
}

// New returns a desk that tells what Run sends.
func New(o Options) *Desk {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Desk{o: o, alarm: make(chan struct{}, 1), unsaved: make(map[string]bool)}
	d.SetPeople(o)
	return d
}

// domainKey returns the domain as addresses are compared.
func domainKey(a envelope.Address) string {
	key := a.Key()
	return key[strings.LastIndexByte(key, '@')+1:]
}

// Failure is a message that its sender is owed a report about.
type Failure struct {
	Original   dsn.Original
	Account    string
	From       envelope.Address // as which the message left, or was to leave
	Own        bool             // a report or notice of ours: nobody is told of what becomes of it
	Late       bool             // it is late; else nobody is waited for, but perhaps a person
	Since      time.Time
	Recipients []dsn.Recipient // failed, or for Late those that wait and those that failed
	Hidden     []dsn.Recipient // likewise, of those that a scenario added: the sender does not know of them, [notify] may
	Relayed    int
	Waiting    int
	RetryUntil time.Time
	KeptUntil  time.Time
}

// Report has the report made and kept, or decides that none is due; then it returns nil. It may be called again for the
// same failure, with the same Since: there is one report all the same.
func (d *Desk) Report(ctx context.Context, f Failure) error {
	if f.Own || len(f.Recipients)+len(f.Hidden) == 0 {
		return nil
	}
	to := d.reportTo(f)
	all := append(slices.Clip(f.Recipients), f.Hidden...)
	if d.allHear(to) {
		f.Recipients = all
	}
	if len(to) > 0 && len(f.Recipients) > 0 {
		if err := d.sendReport(ctx, f, to); err != nil {
			return err
		}
	}
	if d.allHear(to) {
		return nil
	}
	f.Recipients = nil
	for _, r := range all {
		if r.Action == dsn.Failed {
			f.Recipients = append(f.Recipients, r)
		}
	}
	return d.noteFailure(ctx, f)
}

// reportTo says who gets the report: the reverse-path as the application wrote it where its domain is ours, because a
// report to a stranger's address is backscatter; else [notify].
func (d *Desk) reportTo(f Failure) []envelope.Address {
	who := d.who()
	if !dsn.Wanted(f.Original.ReversePath, f.Original.Header) {
		return nil
	}
	if who.ours[domainKey(f.Original.ReversePath)] {
		return []envelope.Address{f.Original.ReversePath}
	}
	return who.notify
}

// allHear reports whether all of [notify] are among these.
func (d *Desk) allHear(to []envelope.Address) bool {
	notify := d.who().notify
	return len(notify) > 0 && !slices.ContainsFunc(notify, func(n envelope.Address) bool {
		return !slices.ContainsFunc(to, func(a envelope.Address) bool { return a.Key() == n.Key() })
	})
}

func (d *Desk) sendReport(ctx context.Context, f Failure, to []envelope.Address) error {
	a, ok := d.way(f.Account, f.From)
	if !ok {
		return nil // no account has a mailbox of its own to report from; the log has it
	}
	r := dsn.Report{ID: f.id(), Hostname: d.o.Hostname, From: a.Mailbox, To: to, Date: d.o.Now(),
		Original: f.Original, Recipients: f.Recipients, Relayed: f.Relayed, Waiting: f.Waiting, RetryUntil: f.RetryUntil, KeptUntil: f.KeptUntil}
	header, body := r.Build()
	err := d.o.Outbox.Send(ctx, Mail{ID: r.ID, Account: a.Name, From: a.Mailbox, To: to, MessageID: r.MessageID(), Header: header, Body: body})
	if err != nil {
		return fmt.Errorf("report about %s: %w", f.Original.ID, err)
	}
	d.o.Events.Emit(ctx, slog.LevelInfo, event.ReportQueued, slog.String("queue_id", string(f.Original.ID)),
		slog.String("report", string(r.ID)), slog.String("account", a.Name), slog.String("kind", f.kind()))
	return nil
}

func (f Failure) kind() string {
	if f.Late {
		return "late"
	}
	return "failed"
}

// id is that of its report.
func (f Failure) id() envelope.ID { return reportID(f.Original.ID, f.kind(), f.Since) }

// way picks the account that a report leaves by: the message's own, or any that is up; where none is, the message's own
// all the same: the report waits with the mail. left is the From that the message left as.
func (d *Desk) way(own string, left envelope.Address) (Account, bool) {
	who := d.who()
	order := append(who.sending(own, left), who.sending("", envelope.Address{})...)
	for _, a := range order {
		if d.o.Up(a.Name) {
			return a, true
		}
	}
	if len(order) == 0 {
		return Account{}, false
	}
	return order[0], true
}
