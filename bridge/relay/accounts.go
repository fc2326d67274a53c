package relay

import (
	"context"
	"fmt"
)

// SetAccounts replaces the accounts; after an error the old ones stay. An attempt under way ends with the transports that
// it began with, so that whoever closes those waits for it. Trouble stays with the mailbox or login that it belongs to,
// but for that of a transport which its accounts have given up: should it come back, a message finds out and it is told. A
// pause ends where the transport takes another path now, unless who asked for it is on that too.
func (r *Relay) SetAccounts(list []Account) error {
	accounts, names := make(map[string]Account, len(list)), make([]string, 0, len(list))
	for _, a := range list {
		if _, twice := accounts[a.Name]; twice || a.Name == "" {
			return fmt.Errorf("account %q: no name, or one that is there twice", a.Name)
		}
		if err := a.check(); err != nil {
			return fmt.Errorf("account %q: %w", a.Name, err)
		}
		a.Concurrency = max(a.Concurrency, 1)
		accounts[a.Name] = a
		names = append(names, a.Name)
	}
	r.mu.Lock()
	r.accounts, r.names = accounts, names
	unused := r.unused()
	for _, at := range unused {
		delete(r.troubles, at)
	}
	moved := r.moved()
	r.mu.Unlock()
	r.remember(context.Background(), unused...)
	r.tellEnded(moved)
	return nil
}

// unused lists where there is trouble with transports that accounts have given up. That of an account which is gone is not
// among them. r.mu is held.
func (r *Relay) unused() (all []place) {
	if len(r.troubles) == 0 {
		return nil // as nearly always
	}
	used := map[place]bool{}
	for _, a := range r.accounts {
		for _, w := range a.ways() {
			login, route := a.places(w.name)
			used[login], used[route] = true, true
		}
	}
	for _, a := range r.accounts {
		for _, transport := range []Mode{ModeGraph, ModeSMTP} {
			login, route := a.places(string(transport))
			for _, at := range []place{login, route} {
				if r.troubles[at] != nil && !used[at] {
					all = append(all, at)
				}
			}
		}
	}
	return all
}

func (r *Relay) account(name string) (Account, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.accounts[name]
	return a, ok
}
