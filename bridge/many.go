package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/quota"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/submission"
)

// An account for every mailbox of a domain ("*@contoso.test") is one account in the file, and for relay and queue one for
// each mailbox that has sent: "people/ann@contoso.test". So rate, concurrency, pauses and parks are that mailbox's, as
// Exchange counts them (facts C4), and one that is full stops nobody else. They are made when their first mail comes, and
// at the start for those that have mail in the queue.

// maxMailboxes bounds them: each has a goroutine, and an application may write any name as From. Beyond it those are
// forgotten that have no mail and have sent none for keepMailbox, which no message takes to come in.
const (
	maxMailboxes = 5000
	keepMailbox  = time.Hour
)

// mailboxOf names such an account. A name in the file has no slash.
func mailboxOf(account string, from envelope.Address) string { return account + "/" + from.Key() }

// accountOf returns the account in the file.
func accountOf(name string) string {
	account, _, _ := strings.Cut(name, "/")
	return account
}

func isMany(a config.Account) bool { return strings.HasPrefix(a.Mailbox, "*@") }

// mailboxes gives relay and queue their accounts. Safe for concurrent use.
type mailboxes struct {
	relay *relay.Relay
	queue *queue.Queue
	now   func() time.Time

	mu       sync.Mutex // guards what follows
	many     map[string]config.Account
	routes   []relay.Account      // of the file
	accounts []queue.Account      // likewise
	seen     map[string]time.Time // names of single mailboxes, and when mail last came for them
}

// set puts the accounts of a configuration in force.
func (m *mailboxes) set(cfg *config.Config, routes []relay.Account, accounts []queue.Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routes, m.accounts, m.many = routes, accounts, map[string]config.Account{}
	for _, a := range cfg.Accounts {
		if isMany(a) {
			m.many[a.Name] = a
		}
	}
	return m.apply()
}

// recall makes the accounts of mail that is in the queue.
func (m *mailboxes) recall(ctx context.Context) error {
	counts, err := m.queue.Counts(ctx)
	if err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range counts {
		if strings.Contains(c.Account, "/") && c.State != queue.Relayed { // what has failed may be tried again
			m.see(c.Account)
		}
	}
	return m.apply()
}

func (m *mailboxes) see(name string) {
	if m.seen == nil {
		m.seen = map[string]time.Time{}
	}
	m.seen[name] = m.now()
}

// forget drops those that nothing waits for. m.mu is held.
func (m *mailboxes) forget(ctx context.Context) error {
	counts, err := m.queue.Counts(ctx)
	if err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	waiting := map[string]bool{}
	for _, c := range counts {
		waiting[c.Account] = waiting[c.Account] || c.State != queue.Relayed
	}
	now := m.now()
	maps.DeleteFunc(m.seen, func(name string, last time.Time) bool { return !waiting[name] && now.Sub(last) > keepMailbox })
	return nil
}

// admit returns the account that a plan of that account and From is relayed as.
func (m *mailboxes) admit(ctx context.Context, account string, from envelope.Address) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.many[account]; !ok {
		return account, nil
	}
	name := mailboxOf(account, from)
	if _, ok := m.seen[name]; ok {
		m.see(name)
		return name, nil
	}
	if len(m.seen) >= maxMailboxes {
		if err := m.forget(ctx); err != nil {
			return "", err
		}
	}
	if len(m.seen) >= maxMailboxes {
		return "", fmt.Errorf("account %q sends for %d mailboxes within an hour, and for no more", account, len(m.seen))
	}
	m.see(name)
	return name, m.apply()
}

// apply tells relay and queue; relay first, as queue.SetAccounts asks for. m.mu is held.
func (m *mailboxes) apply() error {
	routes, accounts := slices.Clone(m.routes), slices.Clone(m.accounts)
	for _, name := range slices.Sorted(maps.Keys(m.seen)) {
		base, mailbox, _ := strings.Cut(name, "/")
		a, ok := m.many[base]
		if !ok {
			continue // it is not in the file any more: its mail waits
		}
		key := a.Provider + " " + mailbox
		for _, r := range m.routes {
			if r.Name == base {
				r.Name, r.Mailbox = name, key
				routes = append(routes, r)
			}
		}
		for _, q := range m.accounts {
			if q.Name == base {
				q.Name, q.Mailbox = name, key
				accounts = append(accounts, q)
			}
		}
	}
	if err := m.relay.SetAccounts(routes); err != nil {
		return err
	}
	m.queue.SetAccounts(accounts)
	return nil
}

// quotaOf is the mailbox that an account or a single mailbox of one sends for, by the configuration in force.
func (b *Bridge) quotaOf(name string) (quota.Mailbox, bool) {
	base, mailbox, single := strings.Cut(name, "/")
	for _, a := range b.live.Load().Accounts {
		if a.Name != base {
			continue
		}
		m := quota.Mailbox{Key: mailboxKey(a), PerDay: a.RecipientsPerDay}
		if single {
			m.Key = a.Provider + " " + mailbox
		}
		return m, true
	}
	return quota.Mailbox{}, false
}

// stoppedMailboxes lists those of the account that are paused or parked, for people.
func stoppedMailboxes(account string, routes []relay.State) []control.Transport {
	var list []control.Transport
	for _, r := range routes {
		if base, mailbox, ok := strings.Cut(r.Account, "/"); ok && base == account && r.Condition != relay.Up {
			list = append(list, control.Transport{Name: r.Transport, State: string(r.Condition), Until: r.Until, Why: mailbox + ": " + r.Why, Remedy: r.Remedy})
		}
	}
	return list
}

// enqueuer is the queue as the desk sees it.
type enqueuer struct {
	queue     *queue.Queue
	mailboxes *mailboxes
}

// Enqueue implements submission.Enqueuer.
func (e enqueuer) Enqueue(ctx context.Context, m message.Message, body io.Reader) error {
	account, err := e.mailboxes.admit(ctx, m.Plan.Account, m.Plan.HeaderFrom)
	if err != nil {
		return &reply.Error{Code: 451, Enhanced: "4.3.2", Text: "the account sends for too many mailboxes; try again later", Err: err}
	}
	m.Plan.Account = account
	return e.queue.Enqueue(ctx, m, body)
}

var _ submission.Enqueuer = enqueuer{}

// perMailbox is the SMTP transport of such an account: who logs in is the mailbox of the From that leaves.
type perMailbox struct {
	open func(mailbox string) (closingTransport, error)

	mu  sync.Mutex // guards all
	all map[string]closingTransport
}

type closingTransport interface {
	relay.Transport
	Close() error
}

// Send implements relay.Transport.
func (p *perMailbox) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	t, err := p.transport(out.Plan.HeaderFrom.Key())
	if err != nil {
		return reply.Outcome{Owner: reply.Process, Err: err}
	}
	return t.Send(ctx, out)
}

func (p *perMailbox) transport(mailbox string) (closingTransport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.all[mailbox]; t != nil {
		return t, nil
	}
	t, err := p.open(mailbox)
	if err != nil {
		return nil, err
	}
	if p.all == nil {
		p.all = map[string]closingTransport{}
	}
	p.all[mailbox] = t
	return t, nil
}

// Close implements closingTransport.
func (p *perMailbox) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, t := range p.all {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}
