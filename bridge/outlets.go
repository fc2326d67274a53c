package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
	"time"

	"postern/auth"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// providerKey is what a provider's client is made from. Where it is the same after a reload the client stays.
type providerKey struct {
	provider config.Provider
	proxy    string
	ca       [sha256.Size]byte // of ca_file's content
}

func providerKeyOf(cfg *config.Config, p config.Provider) providerKey {
	k := providerKey{provider: p, proxy: cfg.Bridge.Proxy}
	k.provider.ClientSecretExpires = time.Time{} // for the warning alone
	if p.CAFile != "" {
		if b, err := os.ReadFile(p.CAFile); err == nil { // whoever opens it says why not
			k.ca = sha256.Sum256(b)
		}
	}
	return k
}

// providers are the clients that are in use.
type providers map[string]madeProvider

type madeProvider struct {
	key    providerKey
	client auth.Provider
}

// openProviders makes the clients of a configuration; those of old that would be the same stay.
func openProviders(cfg *config.Config, secrets auth.Secrets, old providers) (providers, error) {
	all := providers{}
	for _, p := range cfg.Providers {
		made := madeProvider{key: providerKeyOf(cfg, p)}
		if was, ok := old[p.Name]; ok && reflect.DeepEqual(was.key, made.key) {
			all[p.Name] = was
			continue
		}
		var err error
		if made.client, err = openProvider(cfg, p, secrets); err != nil {
			return nil, fmt.Errorf("provider %q: %w", p.Name, err)
		}
		all[p.Name] = made
	}
	return all, nil
}

func (p providers) clients() map[string]auth.Provider {
	all := make(map[string]auth.Provider, len(p))
	for name, made := range p {
		all[name] = made.client
	}
	return all
}

// outletKey is what an account's transports are made from.
type outletKey struct {
	account  config.Account
	provider providerKey
}

func outletKeyOf(cfg *config.Config, a config.Account) outletKey {
	k := outletKey{account: a, provider: providerKeyOf(cfg, providerOf(cfg, a))}
	k.account.Default, k.account.MaxMessage = false, 0 // what the desk or the queue obeys
	k.account.Concurrency, k.account.RatePerMinute = 0, 0
	k.account.OnDoubt, k.account.DoubtWait = "", 0
	return k
}

// outlet is an account's transports, counted: after a reload they may be closed only when nobody uses them.
type outlet struct {
	key   outletKey
	graph relay.Transport // nil where there is none
	smtp  relay.Transport
	close func() error

	mu      sync.Mutex // guards what follows
	busy    int
	retired time.Time // zero while in use
	closed  bool
}

// counted is one transport of an outlet.
type counted struct {
	relay.Transport
	o *outlet
}

// use counts one call until the returned function ends it.
func (c counted) use() (end func()) {
	c.o.mu.Lock()
	c.o.busy++
	c.o.mu.Unlock()
	return func() {
		c.o.mu.Lock()
		c.o.busy--
		c.o.mu.Unlock()
	}
}

// CanLook implements relay.Looker for a transport that is one: what wraps it must not hide what else it can do.
func (c counted) CanLook() bool {
	l, ok := c.Transport.(relay.Looker)
	return ok && l.CanLook()
}

// Look implements relay.Looker. It is called where CanLook holds.
func (c counted) Look(ctx context.Context, out message.Outgoing) reply.Outcome {
	defer c.use()()
	return c.Transport.(relay.Looker).Look(ctx, out)
}

// Splits implements relay.Splitter for a transport that is one.
func (c counted) Splits() bool {
	s, ok := c.Transport.(relay.Splitter)
	return ok && s.Splits()
}

// CheckCarry implements relay.Splitter. It is called where Splits holds.
func (c counted) CheckCarry(header []byte, body io.Reader) error {
	return c.Transport.(relay.Splitter).CheckCarry(header, body)
}

// CanTidy implements relay.Tidier for a transport that is one.
func (c counted) CanTidy() bool {
	t, ok := c.Transport.(relay.Tidier)
	return ok && t.CanTidy()
}

// Tidy implements relay.Tidier. It is called where CanTidy holds.
func (c counted) Tidy(ctx context.Context, out message.Outgoing) error {
	defer c.use()()
	return c.Transport.(relay.Tidier).Tidy(ctx, out)
}

// DraftsInUse says whether messages go as drafts, "" for a transport that has none.
func (c counted) DraftsInUse() string {
	if d, ok := c.Transport.(interface{ DraftsInUse() string }); ok {
		return d.DraftsInUse()
	}
	return ""
}

// Send implements relay.Transport.
func (c counted) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	defer c.use()()
	return c.Transport.Send(ctx, out)
}

// outlets are the transports by account's name.
type outlets map[string]*outlet

// openOutlets makes the transports of a configuration; those of old that would be the same stay. The closing of those
// that it made, and not of the old ones, is undo's.
func openOutlets(cfg *config.Config, source func(account string) *auth.Source, events *event.Bus, old outlets) (all outlets, undo func() error, err error) {
	all = outlets{}
	var made []*outlet
	undo = func() error {
		var errs []error
		for _, o := range made {
			errs = append(errs, o.shut())
		}
		return errors.Join(errs...)
	}
	for _, a := range cfg.Accounts {
		o := &outlet{key: outletKeyOf(cfg, a)}
		if was := old[a.Name]; was != nil && reflect.DeepEqual(was.key, o.key) {
			all[a.Name] = was
			continue
		}
		r, closeBoth, err := openRoute(cfg, a, source(a.Name), events)
		if err != nil {
			return nil, nil, errors.Join(err, undo())
		}
		if o.close = closeBoth; r.Graph != nil {
			o.graph = counted{r.Graph, o}
		}
		if r.SMTP != nil {
			o.smtp = counted{r.SMTP, o}
		}
		all[a.Name], made = o, append(made, o)
	}
	return all, undo, nil
}

// routes are the accounts for relay.
func (all outlets) routes(cfg *config.Config) []relay.Account {
	var list []relay.Account
	for _, a := range cfg.Accounts {
		r, o := routeOf(a), all[a.Name]
		r.Graph, r.SMTP = o.graph, o.smtp
		list = append(list, r)
	}
	return list
}

// retireAfter is how long a transport that was replaced stays open: an attempt that has just begun may still be on its way
// to it.
const retireAfter = 10 * time.Second

// retire has the outlet closed once nobody uses it.
func (o *outlet) retire(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = now
}

// shutIfIdle closes a retired outlet that nobody uses, and reports whether it is closed.
func (o *outlet) shutIfIdle(now time.Time) (closed bool, err error) {
	o.mu.Lock()
	idle := !o.retired.IsZero() && o.busy == 0 && now.Sub(o.retired) >= retireAfter
	o.mu.Unlock()
	if !idle {
		return false, nil
	}
	return true, o.shut()
}

// shut closes the transports, once.
func (o *outlet) shut() error {
	o.mu.Lock()
	was := o.closed
	o.closed = true
	o.mu.Unlock()
	if was {
		return nil
	}
	return o.close()
}
