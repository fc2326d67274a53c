// Package mailboxes knows which mailboxes of a domain have an account. An account for every mailbox of a domain
// ("*@contoso.test") is one account in the file, and for whoever relays one for each mailbox that has sent:
// "people/ann@contoso.test". So rate, concurrency, pauses and parks are that mailbox's, as Exchange counts them (facts C4),
// and one that is full stops nobody else. They are made when their first mail comes, and at the start for those that have
// mail in the queue. It must not know what an account is to the rooms: the hall puts the names in force. Too many of them
// are an error, which may pass.
package mailboxes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/bridge/envelope"
)

// most bounds them: each costs a goroutine, and an application may write any name as From. Beyond it those are forgotten
// that have no mail and have sent none for keep, which no message takes to come in.
const (
	most = 5000
	keep = time.Hour

	// askAgain is when the queue is asked again what waits: that takes a while, and everybody's mail waits for it.
	askAgain = time.Minute
)

// Split returns the account in the file, and the mailbox where the name is that of a single one. A name in the file has no
// slash.
func Split(name string) (account, mailbox string, single bool) { return strings.Cut(name, "/") }

// Options are what Mailboxes need.
type Options struct {
	// Waiting returns the names of the accounts that have mail which is to be sent yet.
	Waiting func(ctx context.Context) (map[string]bool, error)
	Now     func() time.Time // nil: time.Now
}

// Mailboxes is safe for concurrent use.
type Mailboxes struct {
	o Options

	mu    sync.Mutex // guards what follows, and is held while apply runs
	of    []string   // accounts in the file that stand for a domain
	apply func(names []string) error
	seen  map[string]time.Time // names of single mailboxes, and when mail last came for them
	asked time.Time            // when Waiting was last asked for those to be forgotten
}

// New returns one that knows no mailbox.
func New(o Options) *Mailboxes {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Mailboxes{o: o, seen: map[string]time.Time{}}
}

// Set puts another configuration in force: of are its accounts for a domain, and apply has the rooms know its accounts and
// the single mailboxes of these names. It is called now and with each new one, one at a time; mail of a mailbox whose
// account is not in the file any more waits.
func (m *Mailboxes) Set(of []string, apply func(names []string) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of, m.apply = of, apply
	return m.tell()
}

// Recall makes those that have mail in the queue. Call it after the first Set, and when a person has mail tried again that
// nothing waited for any more.
func (m *Mailboxes) Recall(ctx context.Context) error {
	waiting, err := m.o.Waiting(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range waiting {
		if _, _, single := Split(name); single {
			m.seen[name] = m.o.Now()
		}
	}
	return m.tell()
}

// Admit returns the name by which mail of that account and From is relayed: the account's own unless that is for a domain.
func (m *Mailboxes) Admit(ctx context.Context, account string, from envelope.Address) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.of, account) {
		return account, nil
	}
	name := account + "/" + from.Key()
	if _, known := m.seen[name]; known {
		m.seen[name] = m.o.Now()
		return name, nil
	}
	if len(m.seen) >= most && m.o.Now().Sub(m.asked) >= askAgain {
		if err := m.forget(ctx); err != nil {
			return "", err
		}
	}
	if len(m.seen) >= most {
		return "", fmt.Errorf("account %q sends for %d mailboxes within an hour, and for no more", account, len(m.seen))
	}
	m.seen[name] = m.o.Now()
	return name, m.tell()
}

// forget drops those that nothing waits for. m.mu is held.
func (m *Mailboxes) forget(ctx context.Context) error {
	waiting, err := m.o.Waiting(ctx)
	if err != nil {
		return err
	}
	now := m.o.Now()
	m.asked = now
	maps.DeleteFunc(m.seen, func(name string, last time.Time) bool { return !waiting[name] && now.Sub(last) > keep })
	return nil
}

// tell has the rooms know the names. m.mu is held.
func (m *Mailboxes) tell() error {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(m.seen)) {
		if account, _, _ := Split(name); slices.Contains(m.of, account) {
			names = append(names, name)
		}
	}
	return m.apply(names)
}
