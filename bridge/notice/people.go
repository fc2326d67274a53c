package notice

import (
	"slices"
	"strings"

	"postern/bridge/envelope"
)

// people is who is told, and by which accounts. It is never changed: another configuration is another value.
type people struct {
	accounts []Account
	notify   []envelope.Address
	ours     map[string]bool // domains, as keys
}

// SetPeople replaces Accounts, Notify and DefaultDomain of the Options; the rest of o is not looked at. What the accounts
// show to be over is told. Safe for concurrent use.
func (d *Desk) SetPeople(o Options) {
	p := &people{accounts: o.Accounts, notify: o.Notify, ours: map[string]bool{}}
	for _, a := range o.Accounts {
		p.ours[domainKey(a.Mailbox)] = true
	}
	if a, err := envelope.ParseAddress("postmaster@" + o.DefaultDomain); err == nil {
		p.ours[domainKey(a)] = true
	}
	d.whos.Store(p)
	d.close(p.end)
}

func (d *Desk) who() *people { return d.whos.Load() }

// sending lists the accounts that mail of ours can leave by, each with the mailbox that it leaves from: that of the given
// name alone, "" for all. One for every mailbox of a domain sends as left, else as the first of [notify] who is in that
// domain; where there is neither it is left away.
func (p *people) sending(name string, left envelope.Address) (all []Account) {
	for _, a := range p.accounts {
		if name != "" && a.Name != name {
			continue
		}
		if a.Mailbox.Local != "*" {
			all = append(all, a)
			continue
		}
		for _, from := range append([]envelope.Address{left}, p.notify...) {
			if !from.IsNull() && domainKey(from) == domainKey(a.Mailbox) {
				all = append(all, Account{Name: a.Name, Mailbox: from})
				break
			}
		}
	}
	return all
}

// end reports whether the configuration alone ends the trouble: it has the account that was missing, or the account without
// the transport that was stopped. Nobody else would notice either.
func (p *people) end(n *note) bool {
	there, stopped := false, false
	for _, a := range p.accounts {
		if slices.ContainsFunc(n.Accounts, func(name string) bool { return fileName(name) == a.Name }) {
			there, stopped = true, stopped || slices.Contains(a.Transports, n.Transport)
		}
	}
	if n.Transport == "" {
		return there && !n.Token
	}
	return there && !stopped
}

// fileName is the account's name in the file: one for every mailbox of a domain stops for one of them as name/mailbox.
func fileName(account string) string {
	name, _, _ := strings.Cut(account, "/")
	return name
}
