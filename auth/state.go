package auth

import (
	"context"
	"time"

	"postern/auth/token"
)

// State is what `postern accounts` shows of an account. It holds no secret and survives JSON.
type State struct {
	Account   string          `json:"account"`
	Provider  string          `json:"provider"`
	Login     string          `json:"login,omitempty"` // "" if app-only
	AppOnly   bool            `json:"app_only"`
	SignedIn  bool            `json:"signed_in"`         // a refresh token is there; true if app-only, where nobody signs in
	User      string          `json:"user,omitempty"`    // who signed in, as the provider said
	Since     time.Time       `json:"since,omitzero"`    // when the person signed in
	Received  time.Time       `json:"received,omitzero"` // when the refresh token in use came
	Used      time.Time       `json:"used,omitzero"`     // when it last worked; it dies IdleLife after that
	Trouble   *Trouble        `json:"trouble,omitempty"` // of the sign-in itself, or of storing it; nil: none
	Resources []ResourceState `json:"resources"`
}

// ResourceState is the state of one resource's access token. Times are zero while there is none.
type ResourceState struct {
	Resource    token.Resource `json:"resource"`
	Fetched     time.Time      `json:"fetched,omitzero"`
	Expiry      time.Time      `json:"expiry,omitzero"`
	NextRefresh time.Time      `json:"next_refresh,omitzero"` // at the first use after it
	Scopes      []string       `json:"scopes,omitempty"`
	Trouble     *Trouble       `json:"trouble,omitempty"` // why the last request gave none; nil: it gave one, or none was made
}

// Trouble is a failure for people to read.
type Trouble struct {
	Text    string    `json:"text"`
	Remedy  string    `json:"remedy,omitempty"`
	Person  bool      `json:"person"`            // a person must act
	Since   time.Time `json:"since,omitzero"`    // of the first failure in a row
	RetryAt time.Time `json:"retry_at,omitzero"` // nothing is asked before
}

// States returns the state of every account, in the order of the configuration. It asks nobody but the vault.
func (a *Accounts) States(context.Context) []State {
	set := a.set.Load()
	states := make([]State, 0, len(set.accounts))
	for _, acc := range set.accounts {
		states = append(states, set.logins[acc.Name].state(acc))
	}
	return states
}

func (l *login) state(acc Account) State {
	st := State{Account: acc.Name, Provider: acc.Provider, AppOnly: acc.AppOnly, SignedIn: acc.AppOnly}
	if !acc.AppOnly {
		st.Login = acc.Login
		s, err := l.load()
		if err == nil {
			st.SignedIn, st.User, st.Since, st.Received, st.Used = true, s.User, s.SignedIn, s.Received, s.lastUse()
		} else {
			st.Trouble = trouble(err, acc.Name)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if st.SignedIn && !acc.AppOnly && l.used.After(st.Used) {
		st.Used = l.used.Round(0)
	}
	if l.unsaved != nil {
		st.Trouble = trouble(notStored(l.unsaved.err), acc.Name)
	}
	for _, r := range acc.Resources {
		rs := ResourceState{Resource: r}
		if c := l.cells[r]; c != nil {
			if g := c.grant; g.Access != "" {
				rs.Fetched, rs.Expiry, rs.NextRefresh, rs.Scopes = g.Fetched.Round(0), g.Expiry.Round(0), c.dueAt.Round(0), g.Scopes
			}
			if f := c.failure; f != nil {
				rs.Trouble = trouble(f.err, acc.Name)
				rs.Trouble.Since, rs.Trouble.RetryAt = f.since.Round(0), f.until.Round(0)
			}
		}
		st.Resources = append(st.Resources, rs)
	}
	return st
}

func trouble(err *token.Error, account string) *Trouble {
	err = err.For(account)
	return &Trouble{Text: err.Text, Remedy: err.Remedy, Person: err.Person}
}
