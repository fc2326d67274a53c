package control

import (
	"context"
	"net/http"
	"time"
)

// Healths is the part of a Service that says how Postern is.
type Healths interface {
	// Health looks at everything; it asks nobody outside.
	Health(ctx context.Context) (Health, error)
	// Pass makes a password for a user of the file that is good for one minute, for the verbs that hand in mail. Without a
	// name it is the user that sendmail_user names.
	Pass(ctx context.Context, user string) (Pass, error)
}

// Health is how Postern is, for `health` and `service status`. The JSON names are a contract with scripts.
type Health struct {
	Running   bool           `json:"running"` // a daemon has answered
	Version   string         `json:"version,omitempty"`
	Since     time.Time      `json:"since,omitzero"` // when it started
	Listeners []string       `json:"listeners,omitempty"`
	Queue     map[string]int `json:"queue"` // messages by state
	Kept      int            `json:"kept"`  // of those that have failed, how many can be sent again or dropped
	Accounts  []Account      `json:"accounts"`
	Errors    []Incident     `json:"errors"` // the latest since the start, the latest first
	FreeDisk  int64          `json:"free_disk"`
	LeastDisk int64          `json:"least_disk"` // below it mail is refused (min_free_disk)
}

// Incident is an event that somebody should have seen.
type Incident struct {
	At      time.Time `json:"at"`
	Number  uint32    `json:"number"` // in the Windows event log
	Event   string    `json:"event"`
	Account string    `json:"account,omitempty"`
	QueueID string    `json:"queue_id,omitempty"`
	Text    string    `json:"text,omitempty"`
	Remedy  string    `json:"remedy,omitempty"`
}

// Pass is a way in for one minute.
type Pass struct {
	Address  string `json:"address"` // of the listener to use, host:port
	TLS      string `json:"tls"`     // none | starttls | implicit
	Hostname string `json:"hostname"`
	User     string `json:"user"`
	Password string `json:"password"` // a secret; a token.Secret would encode as "[redacted]"
	Mailbox  string `json:"mailbox"`  // of the account that the user's mail leaves by
}

type userRequest struct {
	User string `json:"user"`
}

func handleHealth(mux *http.ServeMux, svc Healths) {
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(svc.Health(r.Context()))
	})
	mux.HandleFunc("POST /pass", func(w http.ResponseWriter, r *http.Request) {
		var q userRequest
		if ask(w, r, &q) {
			answer(w)(svc.Pass(r.Context(), q.User))
		}
	})
}

// Health asks how the daemon is.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	return h, c.do(ctx, "GET", "/health", nil, &h)
}

// Pass asks for a one-minute password.
func (c *Client) Pass(ctx context.Context, user string) (p Pass, err error) {
	return p, c.do(ctx, "POST", "/pass", userRequest{user}, &p)
}
