package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"postern/bridge/config"
	"postern/bridge/dsn"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/expiry"
	"postern/bridge/message"
	"postern/bridge/notice"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// openNotices makes the desk that tells people. It hears events from now on; Run sends what it gathers.
func (b *Bridge) openNotices() error {
	o, err := noticeOptions(b.cfg)
	if err != nil {
		return err
	}
	o.Hostname, o.Up, o.Outbox, o.Memory, o.Events = b.cfg.Bridge.Hostname, b.up, outbox{b}, noticeMemory{b.store}, b.events
	b.notices = notice.New(o)
	b.heard.desk.Store(b.notices)
	return nil
}

// noticeOptions are whom a configuration tells, and by which accounts.
func noticeOptions(cfg *config.Config) (notice.Options, error) {
	o := notice.Options{DefaultDomain: cfg.Bridge.DefaultDomain}
	for _, a := range cfg.Accounts {
		mailbox, err := envelope.ParseAddress(a.Mailbox)
		if err != nil {
			return o, fmt.Errorf("account %q: mailbox: %w", a.Name, err)
		}
		to := notice.Account{Name: a.Name, Mailbox: mailbox}
		for _, r := range resources(cfg, a) {
			to.Transports = append(to.Transports, string(r))
		}
		o.Accounts = append(o.Accounts, to)
	}
	for _, s := range cfg.Notify.To {
		to, err := envelope.ParseAddress(s)
		if err != nil {
			return o, fmt.Errorf("notify.to %q: %w", s, err)
		}
		o.Notify = append(o.Notify, to)
	}
	return o, nil
}

// noticeSink hands events to the desk once it is there: the bus is older.
type noticeSink struct{ desk atomic.Pointer[notice.Desk] }

// Handle implements event.Sink.
func (s *noticeSink) Handle(ctx context.Context, e event.Event) {
	if d := s.desk.Load(); d != nil {
		d.Handle(ctx, e)
	}
}

// up reports whether mail of our own can leave by that account now: somebody is signed in, nothing stops it, and it may
// send as its mailbox.
func (b *Bridge) up(account string) bool {
	for _, s := range b.accounts.States(context.Background()) {
		if s.Account == account && (!s.SignedIn || s.Trouble != nil && s.Trouble.Person) {
			return false
		}
	}
	for _, a := range b.live.Load().Accounts {
		mailbox, err := envelope.ParseAddress(a.Mailbox)
		if a.Name == account && (err != nil || !b.queue.MaySend(account, mailbox)) {
			return false
		}
	}
	g := b.relay.Gate(account, time.Now())
	return g.Limit > 0 && g.Waiting == ""
}

// outbox queues mail of our own.
type outbox struct{ b *Bridge }

// Send implements notice.Outbox. The message leaves as From, because Graph knows no null reverse-path and nobody has said
// whether Exchange takes one at SMTP AUTH; its envelope has the null one, so that nothing of it is reported.
func (o outbox) Send(ctx context.Context, m notice.Mail) error {
	now := time.Now().UTC()
	msg := message.Message{ID: m.ID, Accepted: now, Header: m.Header,
		Session:  envelope.Session{User: notice.User, Helo: o.b.cfg.Bridge.Hostname, Protocol: "LOCAL"},
		Envelope: envelope.Envelope{Recipients: m.To},
		Plan: message.Plan{Account: m.Account, HeaderFrom: m.From, ReversePath: m.From, MessageID: m.MessageID,
			Edits: []message.Edit{{Op: message.Prepend, Name: message.MarkerField, Value: string(m.ID)}}}}
	for _, a := range m.To {
		msg.Envelope.SMTPUTF8 = msg.Envelope.SMTPUTF8 || !a.ASCII()
	}
	err := enqueuer{o.b.queue, o.b.mailboxes}.Enqueue(ctx, msg, bytes.NewReader(m.Body))
	if errors.Is(err, queue.ErrExists) {
		return nil
	}
	return err
}

// noticeKey is where the store keeps what was told.
const noticeKey = "notice"

// noticeMemory keeps it.
type noticeMemory struct{ store queue.Store }

// Load implements notice.Memory.
func (m noticeMemory) Load(ctx context.Context) (string, error) {
	notes, err := m.store.Notes(ctx, noticeKey)
	return notes[noticeKey], err
}

// Save implements notice.Memory.
func (m noticeMemory) Save(ctx context.Context, document string) error {
	return m.store.SetNote(ctx, noticeKey, document)
}

// reporter shows notice to the queue.
type reporter struct {
	cfg  func() *config.Config // the one in force
	desk *notice.Desk
}

// Report implements queue.Reporter.
func (r reporter) Report(ctx context.Context, q queue.Report) error {
	e := q.Entry
	it := e.Item
	f := notice.Failure{
		Original: dsn.Original{ID: it.ID, User: e.Message.Session.User, Accepted: it.Accepted, ReversePath: e.Message.Envelope.ReversePath,
			Header: e.Message.Header},
		Account: accountOf(it.Account), From: e.Message.Plan.HeaderFrom, Own: e.Message.Session.User == notice.User, Late: q.Late, Since: it.Finished,
	}
	switch {
	case it.Finished.IsZero(): // it has one report of each kind until a person has it tried again
		f.Since = it.Begun()
		f.RetryUntil = q.Until
	case e.HasBody:
		f.KeptUntil = it.Finished.Add(r.cfg().Queue.KeepFailed)
	}
	add := func(rc queue.Recipient, action dsn.Action) {
		d := r.recipient(accountOf(it.Account), rc, action)
		if slices.ContainsFunc(e.Message.Plan.Bcc, func(a envelope.Address) bool { return a.Key() == rc.Address.Key() }) {
			f.Hidden = append(f.Hidden, d)
			return
		}
		f.Recipients = append(f.Recipients, d)
	}
	for _, rc := range it.Recipients {
		switch {
		case rc.State == queue.Relayed:
			f.Relayed++
		case rc.State == queue.Failed && rc.Last.Told:
		case rc.State == queue.Failed:
			add(rc, dsn.Failed)
		case q.Late && rc.State != queue.Held:
			add(rc, dsn.Delayed)
		default:
			f.Waiting++
		}
	}
	return r.desk.Report(ctx, f)
}

func (r reporter) recipient(account string, rc queue.Recipient, action dsn.Action) dsn.Recipient {
	d := dsn.Recipient{Address: rc.Address, Action: action, Reply: rc.Last.Reply, Means: rc.Last.Means, Remedy: rc.Last.Remedy, LastAttempt: rc.Last.At}
	if rc.Last.Reply == (reply.Reply{}) {
		d.Why, _, _ = strings.Cut(rc.Last.Err, "\n") // a panic's stack is for the log
	} else {
		d.RemoteMTA = r.host(account, rc.Last.Transport)
	}
	return d
}

// host names the server that answered.
func (r reporter) host(account, transport string) string {
	cfg := r.cfg()
	for _, a := range cfg.Accounts {
		if a.Name != account {
			continue
		}
		p := providerOf(cfg, a)
		if transport == "smtp" {
			host, _, _ := strings.Cut(p.SMTP, ":")
			return host
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(p.Graph, "https://"), "http://"), "/")
		host, _, _ = strings.Cut(host, ":")
		return host
	}
	return ""
}

// tellExpiries has [notify] told of what ends soon. The Error lines are the warner's.
func tellExpiries(desk *notice.Desk, all []expiry.End) {
	var near []notice.Trouble
	for _, e := range all {
		if !e.Near {
			continue
		}
		of := "provider " + e.Provider
		if e.Login != "" {
			of = e.Login
		}
		on := e.At.Format("2 January 2006")
		near = append(near, notice.Trouble{Key: e.What + " " + of + " " + on, Text: fmt.Sprintf("the %s of %s ends on %s", e.What, of, on), Remedy: e.Remedy})
	}
	desk.Current("expiry ", near)
}
