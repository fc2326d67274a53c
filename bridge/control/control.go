// Package control is the way in for the administrator: the daemon answers the command line over a Unix socket in
// data_dir (on Windows over loopback TCP, with a random key in a file there), so that nobody opens the store or the
// vault behind the daemon's back. It carries requests and answers and decides nothing: the hall implements Service, and
// the command line calls a Client, which is a Service too. It must not know config, queue or tokens beyond these types.
// A failure is an *Error, whose text was written for a person; no daemon is ErrNotRunning, one that hangs is ErrSilent.
package control

import (
	"context"
	"errors"
	"time"

	"postern/auth/token"
)

// ErrNotRunning says that no daemon answers on this data_dir.
var ErrNotRunning = errors.New("no daemon is running")

// ErrSilent says that a daemon runs on this data_dir and hangs.
var ErrSilent = errors.New("does not answer")

// Service is what the command line may ask. Safe for concurrent use.
type Service interface {
	// Accounts returns the state of each account, in the file's order.
	Accounts(ctx context.Context) ([]Account, error)
	// SignIn tries the refresh token for what the account can use, and stores it when at least one token came of it.
	SignIn(ctx context.Context, account string, refresh token.Secret) (SignedIn, error)
	// Secrets lists the client secrets in the vault by name.
	Secrets(ctx context.Context) ([]Secret, error)
	// SetSecret stores a client secret; accounts that waited for it go on.
	SetSecret(ctx context.Context, name string, value token.Secret) error
	// RemoveSecret removes one.
	RemoveSecret(ctx context.Context, name string) error
	SignIns
	Reloads
	Healths
	Queue
	Checks
	Vaults
}

// Account is the state of one account. The JSON names are a contract with scripts.
type Account struct {
	Name       string      `json:"name"`
	Mailbox    string      `json:"mailbox"`
	Login      string      `json:"login"`
	SignIn     string      `json:"signin"` // delegated | app-only
	SignedIn   bool        `json:"signed_in"`
	Since      time.Time   `json:"signed_in_since,omitzero"`
	SignedInAs string      `json:"signed_in_as,omitempty"`
	Trouble    string      `json:"trouble,omitempty"` // why no token can be had, in plain words
	Remedy     string      `json:"remedy,omitempty"`
	Transports []Transport `json:"transports"`
	Lacks      []Lack      `json:"lacks,omitempty"`     // senders whose mail waits for a right; while the daemon runs
	Waiting    int         `json:"waiting"`             // messages that are not finished; 0 where that is not known
	Uncounted  bool        `json:"uncounted,omitempty"` // the queue is damaged, and how many wait is not known
	Expires    []Expiry    `json:"expires,omitempty"`   // what of it ends by time, the nearest first
}

// Expiry is something that ends by time unless a person acts.
type Expiry struct {
	What     string    `json:"what"` // client secret | certificate | sign-in (unused until then)
	Provider string    `json:"provider"`
	Login    string    `json:"login,omitempty"` // of a sign-in
	At       time.Time `json:"at"`
	Near     bool      `json:"near"` // within 30 days, or past
	Remedy   string    `json:"remedy"`
}

// Lack is a sender that the account may not send as.
type Lack struct {
	From   string    `json:"from"`
	Since  time.Time `json:"since"`
	Why    string    `json:"why,omitempty"`
	Remedy string    `json:"remedy,omitempty"`
}

// Transport is one way out of an account.
type Transport struct {
	Name         string    `json:"name"`           // graph | smtp
	State        string    `json:"state"`          // up | paused | parked
	Until        time.Time `json:"until,omitzero"` // when it is tried again; zero: when a person has acted
	Why          string    `json:"why,omitempty"`  // of a pause or a parking
	Remedy       string    `json:"remedy,omitempty"`
	TokenFetched time.Time `json:"token_fetched,omitzero"`
	TokenExpires time.Time `json:"token_expires,omitzero"`
	NextRefresh  time.Time `json:"next_refresh,omitzero"`
	TokenTrouble string    `json:"token_trouble,omitempty"`
	Drafts       string    `json:"drafts,omitempty"` // yes | no | not known; of graph alone, while the daemon runs
}

// SignedIn says what a sign-in brought.
type SignedIn struct {
	As        string   `json:"as,omitempty"` // who signed in, where the server said so
	Works     []string `json:"works"`        // transports that have a token now
	Refused   []string `json:"refused"`      // "smtp: why", for those that have none
	Transport string   `json:"transport"`    // the one that mail will take
}

// Secret is a client secret in the vault, without its value.
type Secret struct {
	Name   string    `json:"name"`
	Set    time.Time `json:"set"`
	UsedBy []string  `json:"used_by,omitempty"` // providers of the configuration in force
}

// Error is the daemon's refusal, as text for the administrator.
type Error struct {
	Text  string `json:"error"`
	Usage bool   `json:"usage,omitempty"` // the command line named what the configuration does not have
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }
