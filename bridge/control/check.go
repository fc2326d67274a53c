package control

import (
	"context"
	"net/http"
)

// Checks is what `check --live` asks.
type Checks interface {
	// CheckLive asks every provider, signs every account in and opens its transports. It sends mail only where sendTo is an
	// address: one message by each account, transport and configured sender. A green account goes on if it was parked.
	CheckLive(ctx context.Context, sendTo string) ([]Check, error)
}

// The states of a Check.
const (
	Green  = "green"
	Yellow = "yellow" // it works, and something should be known
	Red    = "red"
)

// Check is one line of `check --live`. The JSON names are a contract with scripts.
type Check struct {
	Subject   string `json:"subject"` // "provider contoso", "account erp, graph"
	Provider  string `json:"provider,omitempty"`
	Account   string `json:"account,omitempty"`
	Transport string `json:"transport,omitempty"` // graph | smtp
	State     string `json:"state"`               // green | yellow | red
	Text      string `json:"text"`                // what was found
	Remedy    string `json:"remedy,omitempty"`    // what to do
}

type checkRequest struct {
	SendTo string `json:"send_to,omitempty"`
}

func handleChecks(mux *http.ServeMux, svc Checks) {
	mux.HandleFunc("POST /check", func(w http.ResponseWriter, r *http.Request) {
		var q checkRequest
		if ask(w, r, &q) {
			answer(w)(svc.CheckLive(r.Context(), q.SendTo))
		}
	})
}

// CheckLive asks the daemon to check.
func (c *Client) CheckLive(ctx context.Context, sendTo string) (list []Check, err error) {
	return list, c.do(ctx, "POST", "/check", checkRequest{sendTo}, &list)
}
