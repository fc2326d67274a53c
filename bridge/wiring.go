package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"postern/auth"
	"postern/auth/token"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/datadir"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/logbook"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/smtpd"
	"postern/bridge/submission"
	"postern/bridge/transport/graph"
	"postern/bridge/transport/smarthost"
	"postern/bridge/users"
	"postern/bridge/webclient"
)

// ErrInUse says that another process holds data_dir.
var ErrInUse = datadir.ErrInUse

// openDataDir opens data_dir for this process alone.
func openDataDir(path string) (*datadir.Dir, error) {
	// Before anything is made: a path that is too long for the socket must not leave half an installation behind.
	if err := control.CheckPath(path); err != nil {
		return nil, err
	}
	return datadir.Open(path)
}

// SyncFolder makes the names in a folder durable, as far as this user and its file system can.
func SyncFolder(path string) error { return datadir.SyncFolder(path) }

// logOptions is [log] for logbook.
func logOptions(c config.Log, o Options) logbook.Options {
	return logbook.Options{Level: c.Level, Format: c.Format, To: c.To, File: c.File, MaxSize: c.MaxSize, Keep: c.Keep,
		Service: o.Service, Stderr: o.Stderr, OpenEventLog: o.OpenEventLog}
}

// listenerOptions is one [[listener]] for smtpd, without the rooms it calls.
func listenerOptions(cfg *config.Config, l config.Listener) (o smtpd.Options, err error) {
	o = smtpd.Options{
		Address: l.Address, Hostname: cfg.Bridge.Hostname, DefaultDomain: cfg.Bridge.DefaultDomain,
		TLS:                      map[string]smtpd.Mode{"none": smtpd.None, "starttls": smtpd.StartTLS, "implicit": smtpd.Implicit}[l.TLS],
		Auth:                     map[string]smtpd.AuthMode{"required": smtpd.Required, "optional": smtpd.Optional, "none": smtpd.NoAuth}[l.Auth],
		Networks:                 l.Networks,
		PlaintextAuth:            slices.Contains(l.Tolerate, "plaintext-auth"),
		BareCR:                   slices.Contains(l.Tolerate, "bare-cr"),
		CRCRLFEnd:                slices.Contains(l.Tolerate, "crcrlf-end"),
		MaxMessage:               largestMessage(cfg, l, nil),
		MaxConnections:           l.MaxConnections,
		MaxConnectionsPerAddress: l.MaxConnectionsPerAddress,
	}
	if o.TLS != smtpd.None {
		o.TLSConfig, err = serverTLS(l)
	}
	return o, err
}

func openUsers(cfg *config.Config) (*users.Users, error) {
	var list []users.User
	for _, u := range cfg.Users {
		list = append(list, users.User{Name: u.Name, Hashes: u.Passwords, Networks: u.Networks})
	}
	return users.New(users.Options{Users: list})
}

// openDesk opens the desk with what o names beside the configuration.
func openDesk(cfg *config.Config, o submission.Options) (*submission.Desk, error) {
	o.Hostname, o.DefaultDomain = cfg.Bridge.Hostname, cfg.Bridge.DefaultDomain
	var errs []error
	address := func(what, s string) envelope.Address {
		if s == "" {
			return envelope.Address{}
		}
		a, err := envelope.ParseAddress(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", what, s, err))
		}
		return a
	}
	for _, a := range cfg.Accounts {
		o.Accounts = append(o.Accounts, submission.Account{Name: a.Name, Mailbox: address("mailbox", a.Mailbox),
			Login: address("login", a.Login), MaxMessage: a.MaxMessage})
		if a.Default || len(cfg.Accounts) == 1 {
			o.Default = a.Name
		}
	}
	for _, u := range cfg.Users {
		su := submission.User{Name: u.Name, Account: u.Account, Address: address("address", u.Address),
			MaySendAs: u.MaySendAs, MaySendTo: u.MaySendTo, MaxMessage: u.MaxMessage, MaxRecipients: u.MaxRecipients,
			RatePerMinute: u.RatePerMinute}
		if u.DefaultSenders {
			su.MaySendAs = nil // the desk's default also knows the account of a scenario
		}
		var err error
		if su.Sender, err = senderOf(u.Sender); err != nil {
			errs = append(errs, fmt.Errorf("sender of user %q: %w", u.Name, err))
		}
		o.Users = append(o.Users, su)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return submission.New(o)
}

// openStore opens the queue by sqlite.Open or sqlite.OpenSound.
func openStore(ctx context.Context, cfg *config.Config, open func(context.Context, string) (*sqlite.Store, error)) (*sqlite.Store, error) {
	s, err := open(ctx, storeFile(cfg))
	if errors.Is(err, queue.ErrFull) {
		return nil, fmt.Errorf("the queue in data_dir %s cannot be opened: %w; make room on its disk", cfg.Bridge.DataDir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("the queue in data_dir %s cannot be opened: %w", cfg.Bridge.DataDir, err)
	}
	if err := s.MindRoom(ctx, func() (int64, error) { return datadir.Free(cfg.Bridge.DataDir) }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func queueOptions(cfg *config.Config, s *sqlite.Store, r *relay.Relay, events *event.Bus) queue.Options {
	o := queue.Options{Store: s, Relayer: relayer{r}, Events: events,
		GiveUpAfter: cfg.Queue.GiveUpAfter, WarnAfter: cfg.Queue.WarnAfter, ParkLimit: cfg.Queue.ParkLimit,
		KeepHistory: cfg.Queue.KeepHistory, KeepFailed: cfg.Queue.KeepFailed, KeepBodies: cfg.Queue.KeepBodies,
		StopGrace: cfg.Queue.StopGrace, MaxQueued: map[string]queue.Usage{},
		MinFree: cfg.Queue.MinFreeDisk, Free: func() (int64, error) { return freeForQueue(cfg, s.Owed()) }}
	for _, u := range cfg.Users {
		o.MaxQueued[u.Name] = queue.Usage{Messages: u.MaxQueued, Bytes: u.MaxQueuedSize}
	}
	for _, a := range cfg.Accounts {
		doubt := queue.Resend
		if a.OnDoubt == "hold" {
			doubt = queue.Hold
		}
		o.Accounts = append(o.Accounts, queue.Account{Name: a.Name, Mailbox: mailboxKey(a), Concurrency: a.Concurrency, RatePerMinute: a.RatePerMinute,
			OnDoubt: doubt, DoubtWait: a.DoubtWait})
	}
	return o
}

// relayer shows relay to the queue, which has a Gate of its own, because rooms do not import rooms.
type relayer struct{ room *relay.Relay }

// Gate implements queue.Relayer.
func (r relayer) Gate(account string, now time.Time) queue.Gate {
	return queue.Gate(r.room.Gate(account, now))
}

// Relay implements queue.Relayer.
func (r relayer) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	return r.room.Relay(ctx, out)
}

// providerOf finds the account's provider; the configuration has checked that it is there.
func providerOf(cfg *config.Config, a config.Account) config.Provider {
	i := slices.IndexFunc(cfg.Providers, func(p config.Provider) bool { return p.Name == a.Provider })
	return cfg.Providers[i]
}

// webClient speaks HTTP to a provider, trusting ca_file too.
func webClient(cfg *config.Config, p config.Provider) (*http.Client, error) {
	roots, err := rootCAs(cfg, p)
	if err != nil {
		return nil, err
	}
	return webclient.New(webclient.Options{Proxy: cfg.Bridge.Proxy, Roots: roots})
}

// openTransports makes each account's transports and returns what closes them.
func openTransports(cfg *config.Config, accounts *auth.Accounts, events *event.Bus) (list []relay.Account, closeAll func() error, err error) {
	var closers []func() error
	closeAll = func() error { return closeTogether(closers) }
	for _, a := range cfg.Accounts {
		r, closeBoth, err := openRoute(cfg, a, accounts.Source(a.Name), events)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		list, closers = append(list, r), append(closers, closeBoth)
	}
	return list, closeAll, nil
}

// openRoute makes the transports of one account and returns what closes them.
func openRoute(cfg *config.Config, a config.Account, tokens *auth.Source, events *event.Bus) (relay.Account, func() error, error) {
	p := providerOf(cfg, a)
	r := routeOf(a)
	none := func() error { return nil }
	closeGraph, closeSMTP := none, none
	if usesGraph(a) {
		g, err := openGraph(cfg, a, p, tokens, events)
		if err != nil {
			return r, none, fmt.Errorf("account %q: %w", a.Name, err)
		}
		r.Graph, closeGraph = g, g.Close
	}
	if usesSMTP(a, p) {
		s, err := openSmarthosts(cfg, a, p, tokens, events)
		if err != nil {
			return r, none, errors.Join(fmt.Errorf("account %q: %w", a.Name, err), closeGraph())
		}
		r.SMTP, closeSMTP = s, s.Close
	}
	return r, func() error { return errors.Join(closeGraph(), closeSMTP()) }, nil
}

// routeOf is an account for relay, without transports.
func routeOf(a config.Account) relay.Account {
	return relay.Account{Name: a.Name, Mode: relay.Mode(a.Transport), Concurrency: a.Concurrency, Login: loginKey(a), Mailbox: mailboxKey(a)}
}

func usesGraph(a config.Account) bool { return a.Transport != "smtp" }

func usesSMTP(a config.Account, p config.Provider) bool {
	return a.Transport != "graph" && p.SMTP != ""
}

// loginKey names whose token it is; mailboxKey whose limits count: the mailbox that authenticates or stands in the URL.
func loginKey(a config.Account) string {
	if a.SignIn == "app-only" {
		return a.Provider
	}
	return a.Provider + " " + strings.ToLower(a.Login)
}

func mailboxKey(a config.Account) string {
	if a.SignIn == "app-only" {
		return a.Provider + " " + strings.ToLower(a.Mailbox)
	}
	return loginKey(a)
}

func openGraph(cfg *config.Config, a config.Account, p config.Provider, tokens *auth.Source, events *event.Bus) (*graph.Transport, error) {
	mailbox, err := envelope.ParseAddress(a.Mailbox)
	if err != nil {
		return nil, fmt.Errorf("mailbox: %w", err)
	}
	o := graph.Options{Account: a.Name, BaseURL: p.Graph, Mailbox: mailbox, AppOnly: a.SignIn == "app-only", Tokens: tokens, Events: events}
	if !o.AppOnly {
		if o.Login, err = envelope.ParseAddress(a.Login); err != nil {
			return nil, fmt.Errorf("login: %w", err)
		}
	}
	if o.HTTP, err = webClient(cfg, p); err != nil {
		return nil, err
	}
	o.Drafts, o.UploadHosts = graph.Drafts(a.Drafts), p.UploadHosts
	if !o.AppOnly { // the roles of an application's token are in no answer: it is tried
		o.MayDraft = func() bool { return mayDraft(tokens.Scopes(token.Graph)) }
	}
	return graph.New(o)
}

// What relay asks Graph for beside Send. One that did not fit would only be missing.
var (
	_ relay.Looker   = (*graph.Transport)(nil)
	_ relay.Splitter = (*graph.Transport)(nil)
	_ relay.Tidier   = (*graph.Transport)(nil)
	_ relay.Drafter  = (*graph.Transport)(nil)
)

// openSmarthosts makes the SMTP transport of an account, or of each of its mailboxes when mail comes for it.
func openSmarthosts(cfg *config.Config, a config.Account, p config.Provider, tokens *auth.Source, events *event.Bus) (closingTransport, error) {
	if !isMany(a) {
		return openSmarthost(cfg, a, p, tokens, events)
	}
	return &perMailbox{open: func(mailbox string) (closingTransport, error) {
		one := a
		one.Name, one.Mailbox = a.Name+"/"+mailbox, mailbox
		return openSmarthost(cfg, one, p, tokens, events)
	}}, nil
}

func openSmarthost(cfg *config.Config, a config.Account, p config.Provider, tokens *auth.Source, events *event.Bus) (*smarthost.Transport, error) {
	roots, err := rootCAs(cfg, p)
	if err != nil {
		return nil, err
	}
	o := smarthost.Options{Account: a.Name, Address: p.SMTP, RootCAs: roots, Login: a.Login, Hostname: cfg.Bridge.Hostname, Tokens: tokens, Events: events}
	if a.SignIn == "app-only" {
		o.AppOnly = true
		o.Login = a.Mailbox // the application has no address; XOAUTH2 names the mailbox
	}
	if p.SMTPTLS == "implicit" {
		o.TLS = smarthost.Implicit
	}
	return smarthost.New(o), nil
}
