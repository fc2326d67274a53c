package bridge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"postern/auth"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/relay"
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

// paths say to relay where the transports lead.
func (k providerKey) paths() (graph, smtp relay.Path) {
	p := k.provider
	graph = relay.Path{Server: p.Graph, SignIn: p.Authority + "/" + p.Tenant, By: fmt.Sprintf("%s %x", k.proxy, k.ca)}
	smtp = graph
	smtp.Server, smtp.By = p.SMTP, graph.By+" "+p.SMTPTLS
	return graph, smtp
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

// outlet is an account's transports.
type outlet struct {
	key outletKey
	*relay.Outlet
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
			errs = append(errs, o.Close())
		}
		return errors.Join(errs...)
	}
	for _, a := range cfg.Accounts {
		key := outletKeyOf(cfg, a)
		if was := old[a.Name]; was != nil && reflect.DeepEqual(was.key, key) {
			all[a.Name] = was
			continue
		}
		r, closeBoth, err := openRoute(cfg, a, source(a.Name), events)
		if err != nil {
			return nil, nil, errors.Join(err, undo())
		}
		o := &outlet{key, relay.NewOutlet(r.Graph, r.SMTP, closeBoth)}
		all[a.Name], made = o, append(made, o)
	}
	return all, undo, nil
}

// routes are the accounts for relay.
func (all outlets) routes(cfg *config.Config) []relay.Account {
	var list []relay.Account
	for _, a := range cfg.Accounts {
		r, o := routeOf(a), all[a.Name]
		r.Graph, r.SMTP = o.Graph, o.SMTP
		r.GraphPath, r.SMTPPath = o.key.provider.paths()
		list = append(list, r)
	}
	return list
}
