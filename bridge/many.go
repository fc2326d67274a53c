package bridge

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/mailboxes"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/quota"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/submission"
)

// accountOf returns the account in the file.
func accountOf(name string) string {
	account, _, _ := mailboxes.Split(name)
	return account
}

func isMany(a config.Account) bool { return strings.HasPrefix(a.Mailbox, "*@") }

// openMailboxes asks the queue what waits.
func (b *Bridge) openMailboxes() *mailboxes.Mailboxes {
	return mailboxes.New(mailboxes.Options{Waiting: func(ctx context.Context) (map[string]bool, error) {
		counts, err := b.queue.Counts(ctx)
		if err != nil {
			return nil, fmt.Errorf("count the queue: %w", err)
		}
		return waitingAccounts(counts), nil
	}})
}

// waitingAccounts are those that have mail which is to be sent yet.
func waitingAccounts(counts []queue.Count) map[string]bool {
	waiting := map[string]bool{}
	for _, c := range counts {
		if !c.State.Final() { // what has failed and is tried again has its mailbox recalled
			waiting[c.Account] = true
		}
	}
	return waiting
}

// domainAccounts has the providers of the accounts for a domain, by account.
func domainAccounts(cfg *config.Config) map[string]string {
	provider := map[string]string{}
	for _, a := range cfg.Accounts {
		if isMany(a) {
			provider[a.Name] = a.Provider
		}
	}
	return provider
}

// withMailboxes returns what relay or queue knows of the accounts, and the same of single mailboxes by their names. of says
// where the account's name and its mailbox stand.
func withMailboxes[A any](accounts []A, of func(*A) (name, mailbox *string), provider map[string]string, names []string) []A {
	all := slices.Clone(accounts)
	for _, single := range names {
		base, address, _ := mailboxes.Split(single)
		for _, a := range accounts {
			if name, mailbox := of(&a); *name == base {
				*name, *mailbox = single, provider[base]+" "+address
				all = append(all, a)
			}
		}
	}
	return all
}

func ofQueue(a *queue.Account) (name, mailbox *string) { return &a.Name, &a.Mailbox }

func ofRelay(a *relay.Account) (name, mailbox *string) { return &a.Name, &a.Mailbox }

// stoppedAccounts are the accounts as the daemon's start would know them: with the single mailboxes that have mail.
func stoppedAccounts(ctx context.Context, cfg *config.Config, store queue.Store, accounts []queue.Account) ([]queue.Account, error) {
	provider := domainAccounts(cfg)
	if len(provider) == 0 {
		return accounts, nil
	}
	counts, err := store.Counts(ctx)
	if err != nil {
		return nil, fmt.Errorf("count the queue: %w", err)
	}
	var names []string
	for name := range waitingAccounts(counts) {
		if base, _, single := mailboxes.Split(name); single && provider[base] != "" {
			names = append(names, name)
		}
	}
	return withMailboxes(accounts, ofQueue, provider, names), nil
}

// setMailboxes puts the accounts of a configuration in force, and those of single mailboxes with them.
func (b *Bridge) setMailboxes(cfg *config.Config, routes []relay.Account, accounts []queue.Account) error {
	provider := domainAccounts(cfg)
	return b.mailboxes.Set(slices.Collect(maps.Keys(provider)), func(names []string) error {
		if err := b.relay.SetAccounts(withMailboxes(routes, ofRelay, provider, names)); err != nil { // first, as queue.SetAccounts asks for
			return err
		}
		b.queue.SetAccounts(withMailboxes(accounts, ofQueue, provider, names))
		return nil
	})
}

// quotaOf is the mailbox that an account or a single mailbox of one sends for, by the configuration in force.
func (b *Bridge) quotaOf(name string) (quota.Mailbox, bool) {
	base, mailbox, single := mailboxes.Split(name)
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
		if base, mailbox, single := mailboxes.Split(r.Account); single && base == account && r.Condition != relay.Up {
			list = append(list, control.Transport{Name: r.Transport, State: string(r.Condition), Until: r.Until, Why: mailbox + ": " + r.Why, Remedy: r.Remedy})
		}
	}
	return list
}

// enqueuer is the queue as the desk sees it.
type enqueuer struct {
	queue     *queue.Queue
	mailboxes *mailboxes.Mailboxes
}

// Enqueue implements submission.Enqueuer.
func (e enqueuer) Enqueue(ctx context.Context, m message.Message, body io.Reader) error {
	account, err := e.mailboxes.Admit(ctx, m.Plan.Account, m.Plan.HeaderFrom)
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

	closing sync.WaitGroup // of those that were taken out

	mu   sync.Mutex // guards what follows
	all  map[string]*mailboxTransport
	uses int // so far
}

// mailboxTransport is the transport of one mailbox.
type mailboxTransport struct {
	closingTransport
	users int // attempts under way
	last  int // the last use, of all of the account's
}

// mostTransports of one account stay open where nobody uses them: each may keep connections for a while, and an
// application may write any name as From.
const mostTransports = 200

type closingTransport interface {
	relay.Transport
	Close() error
}

// Send implements relay.Transport.
func (p *perMailbox) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	t, spare, err := p.enter(out.Plan.HeaderFrom.Key())
	if err != nil {
		return reply.Outcome{Owner: reply.Process, Err: err}
	}
	defer p.leave(t)
	if spare != nil {
		p.closing.Go(func() { spare.Close() }) // nobody uses it: what its goodbyes meet concerns no message
	}
	return t.Send(ctx, out)
}

// enter returns the transport of a mailbox, which leave gives back, and one that has been taken out to be closed, nil
// where there is room for all.
func (p *perMailbox) enter(mailbox string) (t, spare *mailboxTransport, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t = p.all[mailbox]; t == nil {
		opened, err := p.open(mailbox)
		if err != nil {
			return nil, nil, err
		}
		if p.all == nil {
			p.all = map[string]*mailboxTransport{}
		}
		if len(p.all) >= mostTransports {
			spare = p.takeOldest()
		}
		t = &mailboxTransport{closingTransport: opened}
		p.all[mailbox] = t
	}
	p.uses++
	t.users, t.last = t.users+1, p.uses
	return t, spare, nil
}

func (p *perMailbox) leave(t *mailboxTransport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.users--
}

// takeOldest takes out the one that was not used for the longest, nil where all are in use. p.mu is held.
func (p *perMailbox) takeOldest() *mailboxTransport {
	oldest := ""
	for name, t := range p.all {
		if t.users == 0 && (oldest == "" || t.last < p.all[oldest].last) {
			oldest = name
		}
	}
	t := p.all[oldest]
	delete(p.all, oldest)
	return t
}

// Close implements closingTransport. Nothing is sent any more.
func (p *perMailbox) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var closers []func() error
	for _, t := range p.all {
		closers = append(closers, t.Close)
	}
	err := closeTogether(closers)
	p.closing.Wait()
	return err
}
