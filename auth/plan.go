package auth

import (
	"fmt"

	"postern/auth/token"
)

// accountSet is what the configuration says of accounts. It is never changed: another configuration is another set.
type accountSet struct {
	accounts []Account
	logins   map[string]*login // by account's name; accounts of one login share the pointer
	former   []*login          // not in use any more, with a refresh token that the vault could not take yet
}

// members is what a login is to the configuration. It is never changed once the login has it.
type members struct {
	shown    string // the login as the configuration spells it
	accounts []string
	first    token.Resource // the first account's preferred one; "" where it can use none
	provider Provider
}

// Plan is a new set of accounts that is not in force yet.
type Plan struct {
	a       *Accounts
	set     *accountSet
	members map[*login]*members
}

// Prepare checks other accounts and providers (of o alone these two count) and changes nothing. Logins that stay keep their
// tokens.
func (a *Accounts) Prepare(o Options) (*Plan, error) {
	p := &Plan{a: a, set: &accountSet{accounts: o.Accounts, logins: map[string]*login{}}, members: map[*login]*members{}}
	shared := map[loginKey]*login{}
	for l := range a.eachLogin {
		shared[l.key] = l
	}
	for _, account := range o.Accounts {
		provider := o.Providers[account.Provider]
		key := keyOf(account)
		switch {
		case provider == nil:
			return nil, fmt.Errorf("account %s: provider %q is not known", account.Name, account.Provider)
		case p.set.logins[account.Name] != nil:
			return nil, fmt.Errorf("account %s is there twice", account.Name)
		case !account.AppOnly && account.Login == "":
			return nil, fmt.Errorf("account %s has no login", account.Name)
		}
		l := shared[key]
		if l == nil {
			l = newLogin(a, key)
			shared[key] = l
		}
		m := p.members[l]
		if m == nil {
			m = &members{shown: account.Login, provider: provider}
			p.members[l] = m
		}
		m.accounts = append(m.accounts, account.Name)
		if m.first == "" && len(account.Resources) > 0 {
			m.first = account.Resources[0]
		}
		p.set.logins[account.Name] = l
	}
	return p, nil
}

// Source returns the source of tokens that the account will have; before Commit it is not to be used.
func (p *Plan) Source(account string) *Source {
	return &Source{account: account, login: p.set.logins[account]}
}

// Commit puts the plan in force. Where a login's provider is another one, its tokens and remembered failures are
// forgotten. Only the plan that was prepared last may be committed.
func (p *Plan) Commit() {
	was := p.a.set.Load()
	if was != nil {
		for l := range p.a.eachLogin {
			if p.members[l] == nil && l.hasUnsaved() {
				p.set.former = append(p.set.former, l)
			}
		}
	}
	for l, m := range p.members {
		if old := l.members.Swap(m); old != nil && old.provider != m.provider {
			l.forget()
		}
	}
	p.a.set.Store(p.set)
}

// is returns what the login is to the configuration.
func (l *login) is() *members { return l.members.Load() }

// forget drops the tokens and failures that came from another provider.
func (l *login) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mended++
	for _, c := range l.cells {
		c.grant, c.failure = token.Grant{}, nil
	}
}

// eachLogin yields every login once, in the order of the configuration, then those that only wait for the vault.
func (a *Accounts) eachLogin(yield func(*login) bool) {
	set := a.set.Load()
	if set == nil {
		return
	}
	seen := map[*login]bool{}
	once := func(l *login) bool {
		if seen[l] {
			return true
		}
		seen[l] = true
		return yield(l)
	}
	for _, account := range set.accounts {
		if !once(set.logins[account.Name]) {
			return
		}
	}
	for _, l := range set.former {
		if !once(l) {
			return
		}
	}
}
