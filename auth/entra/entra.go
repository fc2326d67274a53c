// Package entra speaks to the Microsoft identity platform's token endpoint: a refresh token or the app's own credential
// in, an access token for one resource out. It must not know accounts, caches, the vault or mail. The key cabinet
// (package auth) calls it as its provider. Every failure is a *token.Error: decided on the OAuth error and the HTTP status
// alone, explained by the AADSTS number, and without any secret; what cannot be understood may pass by itself.
package entra

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"postern/auth/token"
)

// defaultTimeout bounds one request to the token endpoint, from dialling to the last byte of the reply.
const defaultTimeout = 30 * time.Second

// Config describes one app registration.
type Config struct {
	Provider  string                       // its name in our configuration, for texts
	Cloud     Cloud                        // where it is registered
	Authority string                       // its token endpoints are below, https://login.microsoftonline.com
	Tenant    string                       // GUID, domain, or common, organizations, consumers
	ClientID  string                       // the application (client) id
	Secret    func() (token.Secret, error) // read for each request; nil: a public client, which has none
	// Certificates prove the app instead of Secret; read for each request. Those valid now are tried in turn, the one that
	// stays so the longest first, until Entra takes one. nil: no certificate.
	Certificates func() ([]Certificate, error)
	// SecretRemedy says how to give a new client secret or certificate, for example "run: postern secret set contoso".
	SecretRemedy string
	// NoDrafts leaves Mail.ReadWrite away: no account makes drafts.
	NoDrafts bool
	// HTTP gives the transport (proxy, CA file); its timeout and redirect policy are not used. Default
	// http.DefaultTransport.
	HTTP    *http.Client
	Timeout time.Duration    // of one request; default 30 s
	Now     func() time.Time // default time.Now
	// GraphURL is Microsoft Graph with its version, where /me tells who signed in. "": the id token alone does.
	GraphURL string
}

// Client asks one app registration's token endpoint. Safe for concurrent use; it does not cache and does not retry.
type Client struct {
	config Config
	url    string
	http   *http.Client
}

// New returns a client. Its errors are for a configuration that names no tenant, client or usable authority.
func New(c Config) (*Client, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.SecretRemedy == "" {
		c.SecretRemedy = fmt.Sprintf("give provider %s a client_secret", c.Provider)
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	u, err := url.Parse(c.Authority)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("provider %s: the authority is not an https URL", c.Provider)
	}
	if c.Tenant == "" || c.ClientID == "" {
		return nil, fmt.Errorf("provider %s: tenant and client_id are needed", c.Provider)
	}
	return &Client{
		config: c,
		url:    strings.TrimRight(c.Authority, "/") + "/" + url.PathEscape(c.Tenant) + "/oauth2/v2.0/token",
		http:   newHTTP(c.HTTP, c.Timeout),
	}, nil
}

// Refresh redeems a refresh token for an access token to one resource. The grant's Refresh is the token to use from now
// on, "" where the server sent none or the same. Errors are *token.Error.
func (c *Client) Refresh(ctx context.Context, refresh token.Secret, r token.Resource) (token.Grant, error) {
	sets := c.config.Cloud.delegated(r, c.config.NoDrafts)
	if sets == nil {
		return token.Grant{}, c.noResource(r)
	}
	var grant token.Grant
	var err error
	for _, scopes := range sets {
		grant, err = c.ask(ctx, request{scopes: scopes, refresh: refresh})
		if !perhapsNotConsented(err) {
			break
		}
	}
	return grant, err
}

// perhapsNotConsented reports an answer that asking for less could change. invalid_grant also means a dead token, and
// only the number tells which; numbers decide nothing (Microsoft: "numbers may change"), so a dead token costs one
// request more. A refused refresh uses no token up.
func perhapsNotConsented(err error) bool {
	var e *token.Error
	return errors.As(err, &e) && e.Person && slices.Contains([]string{"invalid_grant", "interaction_required", "consent_required", "invalid_scope"}, e.Code)
}

// ClientCredentials gets an access token for the app itself. Errors are *token.Error.
func (c *Client) ClientCredentials(ctx context.Context, r token.Resource) (token.Grant, error) {
	scope := c.config.Cloud.appOnly(r)
	switch {
	case scope == "":
		return token.Grant{}, c.noResource(r)
	case c.config.Secret == nil && c.config.Certificates == nil:
		return token.Grant{}, c.misconfigured("app-only sign-in needs a client secret or a certificate", c.config.SecretRemedy)
	case c.manyTenants():
		return token.Grant{}, c.misconfigured("app-only sign-in is not possible with tenant "+c.config.Tenant,
			"write the tenant's own GUID or domain as tenant of provider "+c.config.Provider)
	}
	return c.ask(ctx, request{scopes: []string{scope}})
}

// manyTenants reports a tenant value that stands for more than one tenant; app-only needs a specific one (AADSTS9001023).
func (c *Client) manyTenants() bool {
	switch strings.ToLower(c.config.Tenant) {
	case "common", "organizations", "consumers":
		return true
	}
	return false
}

func (c *Client) noResource(r token.Resource) error {
	return c.misconfigured(fmt.Sprintf("the scope for %s in this cloud is not known", r),
		"use another transport for the accounts of provider "+c.config.Provider)
}

func (c *Client) misconfigured(text, remedy string) *token.Error {
	return &token.Error{Person: true, Text: "provider " + c.config.Provider + ": " + text, Remedy: remedy}
}

// request is one request to the token endpoint; without refresh it is for the app's own token.
type request struct {
	scopes  []string
	refresh token.Secret
	form    url.Values     // of a sign-in's own grant types, instead of refresh; see signin.go
	hidden  []token.Secret // what form carries and no text may show
}

// ask makes the request, once for each proof of the app until one is taken.
func (c *Client) ask(ctx context.Context, q request) (grant token.Grant, err error) {
	proofs, missing := c.proofs()
	if missing != nil {
		return token.Grant{}, missing
	}
	var first error
	for _, p := range proofs {
		grant, err = c.askAs(ctx, q, p)
		if !anotherProof(err) {
			return grant, err
		}
		if first == nil {
			first = err
		}
	}
	return token.Grant{}, first
}

func (c *Client) askAs(ctx context.Context, q request, p proof) (token.Grant, error) {
	// clientcredentials is made for another grant, but lets it be changed; oauth2.Config could send no scope with a
	// refresh. AuthStyleInParams keeps the library from sending a failing request twice.
	lib := clientcredentials.Config{
		ClientID:     c.config.ClientID,
		ClientSecret: p.secret(),
		TokenURL:     c.url,
		Scopes:       q.scopes,
		AuthStyle:    oauth2.AuthStyleInParams,
	}
	if q.refresh != "" {
		lib.EndpointParams = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {q.refresh.Reveal()}}
	} else if q.form != nil {
		lib.EndpointParams = maps.Clone(q.form)
	}
	lib.EndpointParams = p.params(lib.EndpointParams)
	// The life of a token is counted from before the request: a slow reply makes it end early, never late.
	asked := c.config.Now()
	got, err := lib.Token(context.WithValue(ctx, oauth2.HTTPClient, c.http))
	if err != nil {
		return token.Grant{}, c.fault(err, q, p)
	}
	grant, err := readGrant(got, q.refresh, asked)
	if err != nil {
		return token.Grant{}, c.unusable(err)
	}
	return grant, nil
}

// noSecret says that our own copy of the client secret cannot be read.
func (c *Client) noSecret(err error) *token.Error {
	var known *token.Error
	if errors.As(err, &known) {
		return known
	}
	e := c.misconfigured("the client secret cannot be read: "+err.Error(), c.config.SecretRemedy)
	e.Err = err
	return e
}
