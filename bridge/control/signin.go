package control

import (
	"context"
	"net/http"
	"time"

	"postern/auth/token"
)

// SignIns is the part of a Service that signs people in and out. The person is at the command line; the daemon speaks to
// the provider, because it has the client secret, the proxy and the vault.
type SignIns interface {
	// Offer says what a sign-in of the account's login asks for, and where. It asks nobody and changes nothing.
	Offer(ctx context.Context, account string) (Offer, error)
	// DeviceCode begins a sign-in on another machine, for these transports or, without any, for all that are used.
	DeviceCode(ctx context.Context, account string, only []string) (DeviceCode, error)
	// Redeem signs in with what a person brought back. A failure that may pass is a Turn, not an error.
	Redeem(ctx context.Context, account string, p token.Proof) (Turn, error)
	// SignOut deletes the sign-in of the account's login, and returns the accounts that used it.
	SignOut(ctx context.Context, account string) ([]string, error)
}

// Offer is what a sign-in asks a person for, and where.
type Offer struct {
	Account   string        `json:"account"`
	Login     string        `json:"login"` // who should sign in
	Provider  string        `json:"provider"`
	Tenant    string        `json:"tenant"`
	ClientID  string        `json:"client_id"`
	Shares    []string      `json:"shares"` // the accounts that will use the sign-in, this one first
	Scopes    []token.Scope `json:"scopes"`
	Authorize string        `json:"authorize"` // the URL, but for redirect_uri, state and code_challenge
	Native    string        `json:"native"`    // the redirect URI to paste from, where http://localhost is not registered
}

// DeviceCode is a sign-in that waits for a person with another machine's browser.
type DeviceCode struct {
	Device     string        `json:"device"` // a secret
	UserCode   string        `json:"user_code"`
	URI        string        `json:"uri"`
	Interval   time.Duration `json:"interval"` // nanoseconds, between two turns
	Expires    time.Duration `json:"expires"`  // nanoseconds, from now
	Transports []string      `json:"transports"`
}

// The states of a Turn.
const (
	Done    = "done"    // signed in
	Pending = "pending" // nobody has approved the device code yet
	Slower  = "slower"  // likewise, and it was asked too early
	Trouble = "trouble" // something that may pass; Text says what
)

// Turn is what one try to redeem a code came to.
type Turn struct {
	State      string        `json:"state"`
	Text       string        `json:"text,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"` // nanoseconds; 0: the server did not say
	SignedIn   SignedIn      `json:"signed_in,omitzero"`    // of Done
}

// The requests carry plain strings, because a token.Secret encodes as "[redacted]".
type (
	deviceRequest struct {
		Account string   `json:"account"`
		Only    []string `json:"only"`
	}
	redeemRequest struct {
		Account     string `json:"account"`
		Refresh     string `json:"refresh,omitempty"`
		Code        string `json:"code,omitempty"`
		Verifier    string `json:"verifier,omitempty"`
		RedirectURI string `json:"redirect_uri,omitempty"`
		Device      string `json:"device,omitempty"`
	}
	accountRequest struct {
		Account string `json:"account"`
	}
)

func handleSignIns(mux *http.ServeMux, svc SignIns) {
	mux.HandleFunc("POST /signin/offer", func(w http.ResponseWriter, r *http.Request) {
		var q accountRequest
		if ask(w, r, &q) {
			answer(w)(svc.Offer(r.Context(), q.Account))
		}
	})
	mux.HandleFunc("POST /signin/device", func(w http.ResponseWriter, r *http.Request) {
		var q deviceRequest
		if ask(w, r, &q) {
			answer(w)(svc.DeviceCode(r.Context(), q.Account, q.Only))
		}
	})
	mux.HandleFunc("POST /signin/redeem", func(w http.ResponseWriter, r *http.Request) {
		var q redeemRequest
		if ask(w, r, &q) {
			answer(w)(svc.Redeem(r.Context(), q.Account, token.Proof{Refresh: token.Secret(q.Refresh), Code: token.Secret(q.Code),
				Verifier: token.Secret(q.Verifier), RedirectURI: q.RedirectURI, Device: token.Secret(q.Device)}))
		}
	})
	mux.HandleFunc("POST /signout", func(w http.ResponseWriter, r *http.Request) {
		var q accountRequest
		if ask(w, r, &q) {
			answer(w)(svc.SignOut(r.Context(), q.Account))
		}
	})
}

// Offer asks what a sign-in asks for.
func (c *Client) Offer(ctx context.Context, account string) (o Offer, err error) {
	return o, c.do(ctx, "POST", "/signin/offer", accountRequest{account}, &o)
}

// DeviceCode has a sign-in begun.
func (c *Client) DeviceCode(ctx context.Context, account string, only []string) (d DeviceCode, err error) {
	return d, c.do(ctx, "POST", "/signin/device", deviceRequest{account, only}, &d)
}

// Redeem hands over what a person brought back.
func (c *Client) Redeem(ctx context.Context, account string, p token.Proof) (t Turn, err error) {
	return t, c.do(ctx, "POST", "/signin/redeem", redeemRequest{account, p.Refresh.Reveal(), p.Code.Reveal(),
		p.Verifier.Reveal(), p.RedirectURI, p.Device.Reveal()}, &t)
}

// SignOut has the sign-in deleted.
func (c *Client) SignOut(ctx context.Context, account string) (accounts []string, err error) {
	return accounts, c.do(ctx, "POST", "/signout", accountRequest{account}, &accounts)
}
