package notice

import "postern/bridge/envelope"

// people is who is told, and by which accounts. It is never changed: another configuration is another value.
type people struct {
	accounts []Account
	notify   []envelope.Address
	ours     map[string]bool // domains, as keys
}

// SetPeople replaces Accounts, Notify and DefaultDomain of the Options; the rest of o is not looked at. Safe for
// concurrent use.
func (d *Desk) SetPeople(o Options) {
	p := &people{accounts: o.Accounts, notify: o.Notify, ours: map[string]bool{}}
	for _, a := range o.Accounts {
		p.ours[domainKey(a.Mailbox)] = true
	}
	if a, err := envelope.ParseAddress("postmaster@" + o.DefaultDomain); err == nil {
		p.ours[domainKey(a)] = true
	}
	d.whos.Store(p)
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
				all = append(all, Account{a.Name, from})
				break
			}
		}
	}
	return all
}
