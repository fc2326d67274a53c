package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"postern/auth/token"
)

// deviceGrant is the grant type of RFC 8628 section 3.4.
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// What the device authorization response leaves open (RFC 8628 section 3.2; 15 minutes is Microsoft's: "OAuth 2.0 device
// authorization grant", read in November 2026).
const (
	deviceInterval = 5 * time.Second
	deviceExpires  = 15 * time.Minute
)

// Offer says what a sign-in asks for, and where. The authorization request may span resources; the token requests that
// follow may not. login_hint and prompt=select_account, because else the browser's own session, often an administrator's,
// would sign in without a question.
func (c *Client) Offer(w token.Wants) (token.Offer, error) {
	asked, err := c.wanted(w)
	if err != nil {
		return token.Offer{}, err
	}
	q := url.Values{
		"client_id": {c.config.ClientID}, "response_type": {"code"}, "response_mode": {"query"},
		"scope": {scopeParameter(asked)}, "login_hint": {w.Login}, "prompt": {"select_account"},
	}
	o := token.Offer{
		Authorize: c.endpoint("authorize") + "?" + q.Encode(),
		Native:    strings.TrimRight(c.config.Authority, "/") + "/common/oauth2/nativeclient",
	}
	for _, a := range asked {
		_, name, _ := cutLast(a.scope, '/')
		o.Scopes = append(o.Scopes, token.Scope{Name: name, Why: a.why})
	}
	return o, nil
}

// asked is one scope of a sign-in, with its resource's prefix.
type asked struct{ scope, why string }

// wanted returns the scopes that a sign-in asks for. Those of the directory come first: Entra gives the first token for
// the resource of the first scope, and that one asks /me.
func (c *Client) wanted(w token.Wants) ([]asked, error) {
	cloud := c.config.Cloud
	list := []asked{
		{"openid", "says who signed in"},
		{"profile", "says that person's name"},
		{"offline_access", "keeps the sign-in, so that nobody has to sign in again"},
	}
	if cloud.Graph != "" {
		list = append(list, asked{cloud.Graph + "/User.Read", "reads that person's addresses, to compare with the login"})
	}
	some := false
	for _, r := range w.Resources {
		switch {
		case r == token.Graph && cloud.Graph != "":
			list = append(list, asked{cloud.Graph + "/Mail.Send", "sends mail as that person"})
			if !c.personal() {
				list = append(list, asked{cloud.Graph + "/Mail.Send.Shared", "sends as shared mailboxes and others that Exchange allows"})
			}
			if w.Drafts {
				list = append(list, asked{cloud.Graph + "/Mail.ReadWrite", "makes drafts, for large mail and to look for mail in doubt"})
			}
		case r == token.SMTP && cloud.SMTP != "":
			list = append(list, asked{cloud.SMTP + "/SMTP.Send", "sends mail by SMTP"})
		default:
			continue
		}
		some = true
	}
	if !some {
		return nil, c.misconfigured("no scope for this account's transport is known in this cloud", "use another transport")
	}
	return list, nil
}

// personal reports a tenant of personal Microsoft accounts, which know no shared mailboxes: Mail.Send.Shared is for work
// and school accounts only ("Microsoft Graph permissions reference", read in November 2026).
func (c *Client) personal() bool {
	t := strings.ToLower(c.config.Tenant)
	return t == "consumers" || t == "9188040d-6c67-4c5b-b112-36a304b66dad"
}

func scopeParameter(list []asked) string {
	var all []string
	for _, a := range list {
		all = append(all, a.scope)
	}
	return strings.Join(all, " ")
}

// cutLast cuts at the last sep; without one, after is all of s.
func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// endpoint is another of the tenant's endpoints, beside token.
func (c *Client) endpoint(name string) string { return strings.TrimSuffix(c.url, "token") + name }

// Redeem turns an authorization code or a device code into a grant with a refresh token. While nobody has approved a
// device code the error's Code is authorization_pending, or slow_down where it was asked too early; neither is a person's
// trouble. Errors are *token.Error.
func (c *Client) Redeem(ctx context.Context, p token.Proof) (token.Grant, error) {
	q := request{}
	if p.Device != "" {
		q.form = url.Values{"grant_type": {deviceGrant}, "device_code": {p.Device.Reveal()}}
		q.hidden = []token.Secret{p.Device}
	} else {
		q.form = url.Values{"grant_type": {"authorization_code"}, "code": {p.Code.Reveal()},
			"redirect_uri": {p.RedirectURI}, "code_verifier": {p.Verifier.Reveal()}}
		q.hidden = []token.Secret{p.Code, p.Verifier}
		q.scopes = identityScopes(c.config.Cloud)
	}
	g, err := c.ask(ctx, q)
	if err != nil {
		if p.Device == "" {
			return token.Grant{}, c.tellCode(err)
		}
		return token.Grant{}, tellDevice(err)
	}
	if g.Refresh == "" {
		return token.Grant{}, c.misconfigured("the sign-in brought no refresh token: offline_access was not granted",
			"allow offline_access (\"Maintain access to data\") for the app, then "+signInRemedy)
	}
	return g, nil
}

// identityScopes are for one resource, as a token request must be; without Graph, for none.
func identityScopes(cloud Cloud) []string {
	scopes := []string{"openid", "profile", "offline_access"}
	if cloud.Graph != "" {
		scopes = append(scopes, cloud.Graph+"/User.Read")
	}
	return scopes
}

// tellCode says of an authorization code what Entra says with the same numbers of a refresh token: AADSTS70000 is any
// grant that is malformed, 70008 one that has expired.
func (c *Client) tellCode(err error) error {
	var e *token.Error
	if !errors.As(err, &e) || e.Number != 70000 && e.Number != 70008 {
		return tellDevice(err)
	}
	e.Text = fmt.Sprintf("provider %s: the code is wrong, was used already, or has expired (AADSTS%d)", c.config.Provider, e.Number)
	e.Remedy = signInRemedy + " again; with --paste, copy the whole address"
	return e
}

// tellDevice says in words what RFC 8628 section 3.5 says in codes.
func tellDevice(err error) error {
	var e *token.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case "authorization_declined", "access_denied":
		e.Text = "the sign-in was declined"
	case "expired_token":
		e.Text = "nobody signed in in time: the code has expired"
	}
	return e
}

// DeviceCode begins a sign-in on another machine. Whether one code may be for two resources is in no fact: where that is
// refused it is for the first alone, and its Resources say so.
func (c *Client) DeviceCode(ctx context.Context, w token.Wants) (token.DeviceCode, error) {
	list, err := c.wanted(w)
	if err != nil {
		return token.DeviceCode{}, err
	}
	d, err := c.deviceCode(ctx, list)
	if twoRefused(err) && len(w.Resources) > 1 {
		w.Resources = w.Resources[:1]
		if list, err = c.wanted(w); err != nil {
			return token.DeviceCode{}, err
		}
		d, err = c.deviceCode(ctx, list)
	}
	if twoRefused(err) && len(w.Resources) == 1 && w.Resources[0] == token.SMTP {
		// User.Read is Graph's, and so is a second resource beside SMTP.Send; the id token tells who signed in, too.
		directory := c.config.Cloud.Graph + "/User.Read"
		d, err = c.deviceCode(ctx, slices.DeleteFunc(list, func(a asked) bool { return a.scope == directory }))
	}
	d.Resources = w.Resources
	return d, err
}

// twoRefused reports an answer that fewer resources could change.
func twoRefused(err error) bool {
	var e *token.Error
	return errors.As(err, &e) && slices.Contains([]string{"invalid_scope", "invalid_resource", "invalid_request"}, e.Code)
}

func (c *Client) deviceCode(ctx context.Context, list []asked) (token.DeviceCode, error) {
	form := url.Values{"client_id": {c.config.ClientID}, "scope": {scopeParameter(list)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint("devicecode"), strings.NewReader(form.Encode()))
	if err != nil {
		return token.DeviceCode{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// Not by the library's DeviceAuth, which does not end with its context.
	resp, err := c.http.Do(req)
	if err != nil {
		return token.DeviceCode{}, c.fault(err, request{}, proof{})
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return token.DeviceCode{}, c.fault(err, request{}, proof{})
	}
	if resp.StatusCode != http.StatusOK {
		return token.DeviceCode{}, c.answered(resp, body)
	}
	d, err := readDeviceCode(body)
	if err != nil {
		return token.DeviceCode{}, c.unusable(err)
	}
	return d, nil
}

// readDeviceCode takes what a terminal may show: the code and the address are printed for a person to follow.
func readDeviceCode(body []byte) (token.DeviceCode, error) {
	var said struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URI        string `json:"verification_uri"`
		ExpiresIn  any    `json:"expires_in"`
		Interval   any    `json:"interval"`
	}
	if json.Unmarshal(body, &said) != nil {
		return token.DeviceCode{}, errors.New("it is not JSON")
	}
	odd := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }
	u, err := url.Parse(said.URI)
	switch {
	case said.DeviceCode == "" || said.UserCode == "" || len(said.UserCode) > 64 || strings.ContainsFunc(said.UserCode, odd):
		return token.DeviceCode{}, errors.New("it has no usable device code")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsFunc(said.URI, odd):
		return token.DeviceCode{}, errors.New("it has no usable verification_uri")
	}
	d := token.DeviceCode{Device: token.Secret(said.DeviceCode), UserCode: said.UserCode, URI: said.URI,
		Interval: deviceInterval, Expires: deviceExpires}
	if in, ok := seconds(said.Interval); ok {
		d.Interval = min(max(in, time.Second), time.Minute)
	}
	if in, ok := seconds(said.ExpiresIn); ok && in > 0 {
		d.Expires = min(in, time.Hour)
	}
	return d, nil
}

// errNobodyToAsk says that no Graph is known that could tell who signed in.
var errNobodyToAsk = errors.New("no Microsoft Graph is known")

// Identify asks Graph who a refresh token is of. The grant carries the refresh token to go on with, also with an error:
// /me may be out of reach when the token is already used. Any error means that nobody could be asked.
func (c *Client) Identify(ctx context.Context, refresh token.Secret) (token.Person, token.Grant, error) {
	if c.config.GraphURL == "" || c.config.Cloud.Graph == "" {
		return token.Person{}, token.Grant{}, errNobodyToAsk
	}
	g, err := c.ask(ctx, request{scopes: identityScopes(c.config.Cloud), refresh: refresh})
	if err != nil {
		return token.Person{}, token.Grant{}, err
	}
	p, err := c.me(ctx, g.Access)
	return p, g, err
}

func (c *Client) me(ctx context.Context, access token.Secret) (token.Person, error) {
	to := strings.TrimRight(c.config.GraphURL, "/") + "/me?$select=userPrincipalName,mail,proxyAddresses"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return token.Person{}, errors.New("the address of Graph is no URL")
	}
	req.Header.Set("Authorization", "Bearer "+access.Reveal())
	resp, err := c.http.Do(req)
	if err != nil {
		var network *url.Error
		if errors.As(err, &network) {
			err = network.Err
		}
		return token.Person{}, fmt.Errorf("ask Graph who signed in: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return token.Person{}, fmt.Errorf("ask Graph who signed in: HTTP %d", resp.StatusCode)
	}
	var said struct {
		Name  string   `json:"userPrincipalName"`
		Mail  string   `json:"mail"`
		Proxy []string `json:"proxyAddresses"`
	}
	if json.NewDecoder(resp.Body).Decode(&said) != nil || said.Name == "" {
		return token.Person{}, errors.New("ask Graph who signed in: the answer cannot be used")
	}
	p := token.Person{Name: plainName(said.Name), Addresses: []string{said.Name, said.Mail}}
	for _, a := range said.Proxy {
		// "SMTP:" marks the primary address, "smtp:" the others; X500, SIP and the like are no mail addresses.
		if kind, address, ok := strings.Cut(a, ":"); ok && strings.EqualFold(kind, "smtp") {
			p.Addresses = append(p.Addresses, address)
		}
	}
	p.Addresses = slices.DeleteFunc(p.Addresses, func(a string) bool { return a == "" })
	return p, nil
}

// plainName makes a name of the directory fit for a terminal.
func plainName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	return s[:min(len(s), 320)]
}
