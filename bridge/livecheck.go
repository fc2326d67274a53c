package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"postern/auth"
	"postern/auth/entra"
	"postern/auth/token"
	"postern/bridge/check"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/relay"
	"postern/bridge/transport/graph"
	"postern/bridge/transport/smarthost"
)

// CheckLive implements control.Service.
func (a *admin) CheckLive(ctx context.Context, sendTo string) ([]control.Check, error) {
	o := check.Options{Hostname: a.cfg.Bridge.Hostname, Works: a.freed}
	if sendTo != "" {
		to, err := envelope.ParseAddress(sendTo)
		if err != nil {
			return nil, &control.Error{Text: fmt.Sprintf("%.200q is not an address to send to: %v", sendTo, err), Usage: true}
		}
		o.SendTo = to
	}
	// Transports of its own: those of the daemon are busy with mail, and a stopped one has none.
	routes, done, err := openTransports(a.cfg, a.accounts, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, p := range a.cfg.Providers {
		o.Providers = append(o.Providers, checkProvider(a.cfg, p, a.accounts.Secrets()))
	}
	for i, acc := range a.cfg.Accounts { // routes has their order
		a.accounts.Recheck(acc.Name)
		o.Accounts = append(o.Accounts, checkAccount(a.cfg, acc, routes[i], a.accounts.Source(acc.Name)))
	}
	var list []control.Check
	for _, l := range check.Run(ctx, o) {
		list = append(list, control.Check(l))
	}
	return list, nil
}

func checkProvider(cfg *config.Config, p config.Provider, secrets auth.Secrets) check.Provider {
	byRole := slices.ContainsFunc(cfg.Accounts, func(a config.Account) bool {
		return a.Provider == p.Name && a.SignIn == "app-only" && usesGraph(a)
	})
	return check.Provider{Name: p.Name, ClientID: p.ClientID, ByRole: byRole,
		Open: func(watch func(http.RoundTripper) http.RoundTripper) (check.Verifier, error) {
			client, err := openEntra(cfg, p, secrets, watch)
			return verifier{client}, err
		}}
}

// verifier shows an app registration's client to check.
type verifier struct{ client *entra.Client }

// Verify implements check.Verifier.
func (v verifier) Verify(ctx context.Context) (check.Verified, error) {
	found, err := v.client.Verify(ctx)
	return check.Verified(found), err
}

func checkAccount(cfg *config.Config, a config.Account, route relay.Account, tokens *auth.Source) check.Account {
	acc := check.Account{Name: a.Name, Mailbox: a.Mailbox, Login: a.Login, Domain: isMany(a), Auto: a.Transport == "auto", Senders: sendersOf(cfg, a)}
	add := func(name string, t relay.Transport, r token.Resource) {
		if t == nil {
			return
		}
		p := probed{Transport: t}
		if acc.Domain {
			p.tokens, p.resource = tokens, r
		}
		acc.Ways = append(acc.Ways, check.Way{Name: name, By: p})
	}
	add("graph", route.Graph, token.Graph)
	add("smtp", route.SMTP, token.SMTP)
	return acc
}

// probed shows a transport to check.
type probed struct {
	relay.Transport
	tokens   *auth.Source // of an account for every mailbox of a domain: there is no single one to try; else nil
	resource token.Resource
}

// Probe implements check.Transport.
func (p probed) Probe(ctx context.Context) error {
	if p.tokens != nil {
		_, err := p.tokens.Token(ctx, p.resource)
		return err
	}
	err := p.Transport.(interface{ Probe(context.Context) error }).Probe(ctx)
	var byGraph *graph.ProbeError
	var bySMTP *smarthost.ProbeError
	switch {
	case errors.As(err, &byGraph):
		return &check.Refusal{Outcome: byGraph.Outcome}
	case errors.As(err, &bySMTP):
		return &check.Refusal{Outcome: bySMTP.Outcome}
	}
	return err
}

// sendersOf lists the account's mailbox and the senders of the users that use it, each once.
func sendersOf(cfg *config.Config, a config.Account) []check.Sender {
	var list []check.Sender
	add := func(address string, onBehalf bool) {
		from, err := envelope.ParseAddress(address)
		if err != nil || slices.ContainsFunc(list, func(s check.Sender) bool { return s.From.Key() == from.Key() }) {
			return
		}
		list = append(list, check.Sender{From: from, OnBehalf: onBehalf})
	}
	if !isMany(a) {
		add(a.Mailbox, false)
	}
	for _, u := range cfg.Users {
		if u.Account == a.Name && u.Sender != nil && u.Sender.Address != "" {
			add(u.Sender.Address, u.Sender.Mode == "on-behalf")
		}
	}
	return list
}
