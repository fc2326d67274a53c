package relay

import "fmt"

// SetAccounts replaces the accounts; after an error the old ones stay. An attempt under way ends with the transports that
// it began with, so that whoever closes those waits for it. Trouble stays with the mailbox or login that it belongs to.
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
	defer r.mu.Unlock()
	r.accounts, r.names = accounts, names
	return nil
}

func (r *Relay) account(name string) (Account, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.accounts[name]
	return a, ok
}
