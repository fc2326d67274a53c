package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"postern/auth"
	"postern/auth/token"
	"postern/auth/vault"
	"postern/bridge/backup"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/datadir"
	"postern/bridge/event"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
	"postern/bridge/queueadmin"
	"postern/bridge/relay"
)

// ErrNoQueue says that data_dir holds none, nor anything else of Postern's where that was all that was asked for.
var ErrNoQueue = errors.New("there is no queue")

// Admin reaches the daemon that runs on cfg's data_dir; where none runs it opens data_dir itself, under its lock, or fails
// with ErrNoQueue where Postern has never used it: another one made beside the daemon's would only mislead. Call done
// when finished.
func Admin(ctx context.Context, cfg *config.Config) (svc control.Service, done func() error, err error) {
	client, err := control.Dial(ctx, cfg.Bridge.DataDir)
	if err == nil {
		return client, client.Close, nil
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return nil, nil, err
	}
	if !datadir.Used(cfg.Bridge.DataDir) { // a backup that was put back has no lock yet
		if err := hasQueue(cfg); err != nil {
			return nil, nil, err
		}
	}
	return openStopped(ctx, cfg)
}

// AdminNew is Admin for what may come before the first start: it makes data_dir where it is missing.
func AdminNew(ctx context.Context, cfg *config.Config) (svc control.Service, done func() error, err error) {
	svc, done, err = Admin(ctx, cfg)
	if errors.Is(err, ErrNoQueue) {
		return openStopped(ctx, cfg)
	}
	return svc, done, err
}

// hasQueue fails with ErrNoQueue where there is none.
func hasQueue(cfg *config.Config) error {
	kept, err := sqlite.Kept(storeFile(cfg))
	if err == nil && !kept {
		return fmt.Errorf("%w in %s (data_dir); is the daemon running with another configuration? Otherwise start it: postern service start", ErrNoQueue, cfg.Bridge.DataDir)
	}
	return err
}

// openStopped opens what the command line needs of a stopped daemon.
func openStopped(ctx context.Context, cfg *config.Config) (svc control.Service, done func() error, err error) {
	key, err := unitKey()
	if err != nil {
		return nil, nil, err
	}
	dir, err := openDataDir(cfg.Bridge.DataDir)
	if err != nil {
		return nil, nil, err
	}
	by := systemUser()
	if err := dir.TakeIdentity(); err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	stopped := &stoppedQueue{cfg: cfg}
	audit := event.NewBus(stoppedAudit{stopped, by})
	accounts, err := openAccounts(cfg, key, audit)
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	done = func() error {
		accounts.Close(ctx)
		return errors.Join(stopped.close(), dir.Close())
	}
	caller := callerOr(by)
	return &admin{cfg: cfg, accounts: accounts, counts: storedCounts(cfg), freed: stopped.freed, events: audit, caller: caller,
		Admin: stopped.queueAdmin(caller), toCopy: stopped.toCopy}, done, nil
}

// newAdmin is the daemon's.
func (b *Bridge) newAdmin() *admin {
	caller := callerOr(systemUser())
	return &admin{cfg: b.cfg, accounts: b.accounts, counts: b.queue.Counts, states: b.relay.States, lacks: b.queue.Lacks, freed: b.freed, events: b.events, caller: caller,
		reload: b.Reload, describe: b.describe, pass: b.pass, Admin: b.queueAdmin(caller), sealed: b.accounts.Snapshot,
		toCopy: func(context.Context) (backup.Store, error) { return b.store, nil }}
}

// storedCounts counts in the store of a stopped daemon. It is opened only for that: `secret` and `signin` must work
// where the queue is damaged. A damaged one is left to the daemon's start, which tells of what it saves.
func storedCounts(cfg *config.Config) func(context.Context) ([]queue.Count, error) {
	return func(ctx context.Context) (list []queue.Count, err error) {
		if err := hasQueue(cfg); errors.Is(err, ErrNoQueue) {
			return nil, nil // before the first start
		}
		s, err := sqlite.OpenSound(ctx, storeFile(cfg))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return s.Counts(ctx)
	}
}

// admin answers the command line, in the daemon and on a stopped one.
type admin struct {
	cfg      *config.Config
	accounts *auth.Accounts
	counts   func(context.Context) ([]queue.Count, error)
	states   func() []relay.State // nil where no daemon runs; so is lacks
	lacks    func(context.Context) []queue.Lack
	freed    func(account string)
	events   *event.Bus
	reload   func(context.Context) (control.Reloaded, error) // nil where no daemon runs; so are the next two
	describe func(*control.Health)
	pass     func(cfg *config.Config, user string) (control.Pass, error)
	caller   func(context.Context) string // for the audit line
	*queueadmin.Admin

	// Of Backup. sealed returns the vault's files as they belong together; nil where the lock of data_dir keeps them so.
	toCopy func(context.Context) (backup.Store, error)
	sealed func() (map[string][]byte, error)
}

// Accounts implements control.Service.
func (a *admin) Accounts(ctx context.Context) ([]control.Account, error) {
	counts, err := a.counts(ctx)
	damaged := errors.Is(err, queue.ErrDamaged)
	if err != nil && !damaged {
		return nil, fmt.Errorf("count the queue: %w", err)
	}
	waiting := map[string]int{}
	for _, c := range counts {
		if c.State != queue.Relayed && c.State != queue.Failed {
			waiting[accountOf(c.Account)] += c.N
		}
	}
	var routes []relay.State
	if a.states != nil {
		routes = a.states()
	}
	lacks := a.senderLacks(ctx)
	states := a.accounts.States(ctx)
	ends := expiries(a.cfg, states, time.Now())
	list := make([]control.Account, 0, len(states))
	for _, s := range states {
		i := slices.IndexFunc(a.cfg.Accounts, func(c config.Account) bool { return c.Name == s.Account })
		if i < 0 {
			continue // a reload came between
		}
		c := a.cfg.Accounts[i]
		acc := control.Account{Name: c.Name, Mailbox: c.Mailbox, Login: s.Login, SignIn: c.SignIn, SignedIn: s.SignedIn,
			Since: s.Since, SignedInAs: s.User, Lacks: lacks[c.Name], Waiting: waiting[c.Name], Uncounted: damaged}
		for _, e := range ends[c.Name] {
			acc.Expires = append(acc.Expires, control.Expiry(e))
		}
		if s.Trouble != nil {
			acc.Trouble, acc.Remedy = s.Trouble.Text, s.Trouble.Remedy
		}
		if ref := a.missingSecret(c); ref != "" { // first of all: signing in needs it too
			acc.Trouble, acc.Remedy = "the client secret "+ref+" is not set", auth.SecretRemedy(ref)
		}
		for _, r := range s.Resources {
			acc.Transports = append(acc.Transports, transportState(c.Name, r, routes))
		}
		acc.Transports = append(acc.Transports, stoppedMailboxes(c.Name, routes)...)
		list = append(list, acc)
	}
	return list, nil
}

// senderLacks lists the senders whose mail waits for a right, by account in the file.
func (a *admin) senderLacks(ctx context.Context) map[string][]control.Lack {
	if a.lacks == nil {
		return nil
	}
	all := map[string][]control.Lack{}
	for _, l := range a.lacks(ctx) {
		name := accountOf(l.Account)
		all[name] = append(all[name], control.Lack{From: l.From, Since: l.Since, Why: l.Why, Remedy: l.Remedy})
	}
	return all
}

// missingSecret returns what the account's provider refers to and the vault has not; "" where nothing is missing. It is
// known before a token is asked for.
func (a *admin) missingSecret(c config.Account) string {
	i := slices.IndexFunc(a.cfg.Providers, func(p config.Provider) bool { return p.Name == c.Provider })
	if i < 0 || a.cfg.Providers[i].ClientSecret.Kind != "vault" {
		return ""
	}
	name := a.cfg.Providers[i].ClientSecret.Name
	if slices.ContainsFunc(a.accounts.ListSecrets(), func(s auth.SecretInfo) bool { return s.Name == name }) {
		return ""
	}
	return "vault:" + name
}

func transportState(account string, r auth.ResourceState, routes []relay.State) control.Transport {
	t := control.Transport{Name: string(r.Resource), State: "up", TokenFetched: r.Fetched, TokenExpires: r.Expiry, NextRefresh: r.NextRefresh}
	if r.Trouble != nil {
		t.TokenTrouble, t.Remedy = r.Trouble.Text, r.Trouble.Remedy
	}
	i := slices.IndexFunc(routes, func(s relay.State) bool { return s.Account == account && s.Transport == t.Name })
	if i >= 0 {
		t.Drafts = routes[i].Drafts
	}
	if i >= 0 && routes[i].Condition != relay.Up {
		t.State, t.Until, t.Why = string(routes[i].Condition), routes[i].Until, routes[i].Why
		if routes[i].Remedy != "" {
			t.Remedy = routes[i].Remedy
		}
	}
	return t
}

// SignIn implements control.Service.
func (a *admin) SignIn(ctx context.Context, account string, refresh token.Secret) (control.SignedIn, error) {
	if err := a.known(account); err != nil {
		return control.SignedIn{}, err
	}
	result, err := a.accounts.SignIn(ctx, account, refresh)
	if err != nil {
		return control.SignedIn{}, err
	}
	return a.signedIn(account, result), nil
}

// signedIn says what a sign-in brought, and lets the mail go that waited for it.
func (a *admin) signedIn(account string, result auth.Result) control.SignedIn {
	in := control.SignedIn{As: result.User, Works: []string{}, Refused: []string{}}
	for _, r := range result.Works {
		in.Works = append(in.Works, string(r))
	}
	for r, err := range result.Failed {
		in.Refused = append(in.Refused, fmt.Sprintf("%s: %v", r, err))
	}
	slices.Sort(in.Refused)
	in.Transport = in.Works[0] // in the order of preference; SignIn fails where nothing works
	a.freed(account)
	return in
}

func (a *admin) known(account string) error {
	var names []string
	for _, c := range a.cfg.Accounts {
		if c.Name == account {
			return nil
		}
		names = append(names, c.Name)
	}
	text := fmt.Sprintf("there is no account %.60q; accounts: %s", account, strings.Join(names, ", "))
	if a.reload != nil {
		text += notYet
	}
	return &control.Error{Text: text, Usage: true}
}

// notYet is for a name that the daemon does not know: it goes by the file as it was last put in force.
const notYet = "; where the file has it by now, run: postern reload"

// Secrets implements control.Service.
func (a *admin) Secrets(context.Context) ([]control.Secret, error) {
	list := []control.Secret{}
	for _, s := range a.accounts.ListSecrets() {
		used := control.Secret{Name: s.Name, Set: s.Set}
		for _, p := range a.cfg.Providers {
			if p.ClientSecret.Kind == "vault" && p.ClientSecret.Name == s.Name {
				used.UsedBy = append(used.UsedBy, p.Name)
			}
		}
		list = append(list, used)
	}
	return list, nil
}

// audit writes the line that says who did what.
func (a *admin) audit(ctx context.Context, kind event.Kind, attrs ...slog.Attr) {
	a.events.Emit(ctx, slog.LevelInfo, kind, append([]slog.Attr{slog.String("by", a.caller(ctx))}, attrs...)...)
}

// CheckSecretName says what is wrong with a name for a secret in the vault, before anybody is asked for the secret.
func CheckSecretName(name string) error { return auth.CheckSecretName(name) }

// SetSecret implements control.Service.
func (a *admin) SetSecret(ctx context.Context, name string, value token.Secret) error {
	if err := a.accounts.SetSecret(name, value); err != nil {
		return err
	}
	a.audit(ctx, event.SecretStored, slog.String("secret", name))
	for _, c := range a.cfg.Accounts {
		a.freed(c.Name) // whoever used it, and a login that waited for it, may go on
	}
	return nil
}

// RemoveSecret implements control.Service.
func (a *admin) RemoveSecret(ctx context.Context, name string) error {
	err := a.accounts.RemoveSecret(name)
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return fmt.Errorf("there is no secret %.60q; see: postern secret list", name)
	case err == nil:
		a.audit(ctx, event.SecretRemoved, slog.String("secret", name))
	}
	return err
}
