package submission

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// user is a User with everything looked up that a message needs.
type user struct {
	User
	account   *Account
	sender    Sender
	replyTo   envelope.Address // where Sender.ReplyTo is an address
	maySendAs patterns
	maySendTo patterns

	// home is the address that stands for the account: its mailbox, or of an account for many mailboxes the user's own
	// address in that domain; null where there is none.
	home envelope.Address
}

// New returns a Desk, or all that is wrong with the options at once.
func New(o Options) (*Desk, error) {
	d := &Desk{domain: o.DefaultDomain, users: map[string]*user{}, queue: o.Queue, carrier: o.Carrier, events: o.Events, now: o.Now,
		limits: map[string]int64{}, pacer: o.Pacer, spoolDir: o.SpoolDir, room: o.Room, full: o.Full}
	if d.room == nil {
		d.room = func(context.Context, int) error { return nil }
	}
	if d.full == nil {
		d.full = func(error) bool { return false }
	}
	d.readers.New = func() any { return message.NewReader(nil) }
	if d.pacer == nil {
		d.pacer = &Pacer{}
	}
	if d.now == nil {
		d.now = time.Now
	}
	var wrong []error
	if o.Queue == nil {
		wrong = append(wrong, errors.New("no queue"))
	}
	host, err := envelope.ParseAddress("postmaster@" + o.Hostname)
	if err != nil {
		wrong = append(wrong, fmt.Errorf("hostname %q: %w", o.Hostname, err))
	} else {
		_, d.hostname, _ = strings.Cut(host.Wire(), "@")
	}
	accounts := map[string]*Account{}
	for _, a := range o.Accounts {
		if accounts[a.Name] != nil || a.Name == "" || a.Mailbox.IsNull() {
			wrong = append(wrong, fmt.Errorf("account %q: no name, no mailbox, or there twice", a.Name))
		}
		accounts[a.Name] = &a
	}
	fallback := o.Default
	if fallback == "" && len(o.Accounts) == 1 {
		fallback = o.Accounts[0].Name
	}
	for _, cfg := range o.Users {
		if cfg.Account == "" {
			cfg.Account = fallback
		}
		u, err := newUser(cfg, accounts[cfg.Account])
		if err == nil && d.users[u.Name] != nil {
			err = errors.New("there twice")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("user %q: %w", cfg.Name, err))
			continue
		}
		d.users[u.Name] = u
		d.limits[u.Name] = u.maxMessage()
	}
	wrong = append(wrong, d.addScenarios(o, accounts, fallback)...)
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return d, nil
}

// addScenarios resolves the scenarios for every user that they can be for.
func (d *Desk) addScenarios(o Options, accounts map[string]*Account, fallback string) (wrong []error) {
	for _, cfg := range o.Scenarios {
		s := newScenario(cfg)
		if err := s.resolve(o.Users, accounts, fallback); err != nil {
			wrong = append(wrong, fmt.Errorf("scenario %q: %w", cfg.Name, err))
		}
		for name, u := range s.users {
			if limit := u.maxMessage(); limit == 0 || limit > d.limits[name] && d.limits[name] > 0 {
				d.limits[name] = limit
			}
		}
		d.scenarios = append(d.scenarios, s)
	}
	return wrong
}

// newUser resolves one user; account is nil where his does not exist.
func newUser(cfg User, account *Account) (*user, error) {
	if account == nil {
		if cfg.Account == "" {
			return nil, errors.New("it names no account, and none is the default")
		}
		return nil, fmt.Errorf("there is no account %q", cfg.Account)
	}
	u := &user{User: cfg, account: account, home: account.Mailbox, maySendTo: patterns{{text: "*", any: true}}}
	if cfg.Sender != nil {
		u.sender = *cfg.Sender
	}
	if isWildcard(account.Mailbox) {
		u.home = envelope.Address{}
		if !cfg.Address.IsNull() && domainKey(cfg.Address) == domainKey(account.Mailbox) {
			u.home = cfg.Address
		}
	}
	wrong := []error{u.checkSender()}
	var err error
	u.maySendAs = u.defaultMaySendAs()
	if cfg.MaySendAs != nil {
		u.maySendAs, err = parsePatterns(cfg.MaySendAs)
		wrong = append(wrong, wrap("may_send_as", err))
	}
	if cfg.MaySendTo != nil {
		u.maySendTo, err = parsePatterns(cfg.MaySendTo)
		wrong = append(wrong, wrap("may_send_to", err))
	}
	return u, errors.Join(wrong...)
}

func wrap(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

// checkSender refuses pairs that cannot be, and fills in what was left away.
func (u *user) checkSender() error {
	s := &u.sender
	if s.Mode == "" {
		s.Mode = Keep
	}
	if s.Otherwise == "" {
		s.Otherwise = Refuse
	}
	many := isWildcard(u.account.Mailbox)
	switch {
	case s.Mode != Keep && s.Mode != AsAccount && s.Mode != SendAs && s.Mode != OnBehalf && s.Mode != CurrentUser:
		return fmt.Errorf("sender: there is no mode %q", s.Mode)
	case s.Otherwise != Refuse && s.Otherwise != UseAccount:
		return fmt.Errorf("sender: otherwise is %q or %q, not %q", Refuse, UseAccount, s.Otherwise)
	case s.Mode == SendAs && s.Address.IsNull():
		return fmt.Errorf("sender: mode %q needs an address", SendAs)
	case s.Mode == OnBehalf && many:
		return fmt.Errorf("sender: mode %q cannot be with an account for many mailboxes: nobody is the Sender", OnBehalf)
	case u.home.IsNull() && (s.Mode == AsAccount || s.Otherwise == UseAccount):
		return fmt.Errorf("sender: an account for many mailboxes has no address to send as; give the user an address in %s", u.account.Mailbox.Domain)
	case s.Mode == SendAs && many && domainKey(s.Address) != domainKey(u.account.Mailbox):
		return fmt.Errorf("sender: %s is no mailbox of %s", s.Address, u.account.Mailbox.Domain)
	}
	if s.ReplyTo == "" || s.ReplyTo == replyToOriginal || s.ReplyTo == replyToNone {
		return nil
	}
	var err error
	u.replyTo, err = envelope.ParseAddress(s.ReplyTo)
	return wrap(fmt.Sprintf("sender: reply_to %q", s.ReplyTo), err)
}

// defaultMaySendAs is the list of a user without may_send_as.
func (u *user) defaultMaySendAs() patterns {
	var list patterns
	for _, a := range []envelope.Address{u.account.Mailbox, u.Address, u.sender.Address} {
		if !a.IsNull() {
			list = append(list, newPattern(a))
		}
	}
	return list
}

// isWildcard reports whether a mailbox stands for all of its domain.
func isWildcard(a envelope.Address) bool { return a.Local == "*" }

// domainKey returns the form of the domain that equal domains share.
func domainKey(a envelope.Address) string {
	key := a.Key()
	return key[strings.LastIndexByte(key, '@')+1:]
}

// pattern is one entry of may_send_as or may_send_to.
type pattern struct {
	text   string // as it stands in refusals
	any    bool
	domain string // all of this domain, by domainKey
	key    string // one address
}

type patterns []pattern

func newPattern(a envelope.Address) pattern {
	if isWildcard(a) {
		return pattern{text: a.Wire(), domain: domainKey(a)}
	}
	return pattern{text: a.Wire(), key: a.Key()}
}

func parsePatterns(all []string) (patterns, error) {
	var list patterns
	var wrong []error
	for _, s := range all {
		if s == "*" {
			list = append(list, pattern{text: s, any: true})
			continue
		}
		a, err := envelope.ParseAddress(s)
		if err == nil && a.Local != "*" && strings.Contains(a.Local, "*") || strings.Contains(a.Domain, "*") {
			err = errors.New("a star stands alone or for a whole local part")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%q: %w", s, err))
			continue
		}
		list = append(list, newPattern(a))
	}
	return list, errors.Join(wrong...)
}

// allow reports whether a pattern of the list covers the address. Case and IDNA form do not matter.
func (ps patterns) allow(a envelope.Address) bool {
	for _, p := range ps {
		if p.any || p.domain != "" && p.domain == domainKey(a) || p.key != "" && p.key == a.Key() {
			return true
		}
	}
	return false
}

// String returns the list for a refusal, short enough for a reply line.
func (ps patterns) String() string {
	if len(ps) == 0 {
		return "nobody"
	}
	const shown = 3
	var texts []string
	for i, p := range ps {
		if i == shown {
			texts = append(texts, fmt.Sprintf("and %d more", len(ps)-shown))
			break
		}
		texts = append(texts, fmt.Sprintf("%+.60q", p.text))
	}
	return strings.Join(texts, ", ")
}
