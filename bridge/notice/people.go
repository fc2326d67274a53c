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
