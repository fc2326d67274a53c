package entra

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/oauth2"

	"postern/auth/token"
)

// Verified is what Verify could find out.
type Verified struct {
	// Credential says what the app was believed by: "client secret", "certificate", or "" where it has none or where the
	// answer does not tell.
	Credential string
	// Roles are the application permissions for Graph in an app-only token. They are for warnings alone: Microsoft's tokens
	// are not for clients to read, and may be opaque one day ("Microsoft identity platform access tokens", November 2026).
	Roles      []string
	RolesKnown bool // such a token came and could be read
}

// noToken stands where a refresh token would: the endpoint looks at tenant and app before it refuses it.
const noToken token.Secret = "postern-check"

// Verify finds out whether the tenant, the app and its credential are right, before anybody has signed in. It gets no
// token that is kept. Errors are *token.Error.
func (c *Client) Verify(ctx context.Context) (Verified, error) {
	if err := c.findTenant(ctx); err != nil {
		return Verified{}, err
	}
	credential := ""
	switch {
	case c.config.Certificates != nil:
		credential = "certificate"
	case c.config.Secret != nil:
		credential = "client secret"
	}
	if credential == "" || c.manyTenants() || c.config.Cloud.appOnly(token.Graph) == "" {
		return Verified{}, c.findApp(ctx)
	}
	g, err := c.ClientCredentials(ctx, token.Graph)
	if err != nil {
		return Verified{}, err
	}
	v := Verified{Credential: credential}
	v.Roles, v.RolesKnown = rolesIn(g.Access)
	return v, nil
}

// findTenant asks for the tenant's metadata, which it takes no app to read.
func (c *Client) findTenant(ctx context.Context) error {
	u := strings.TrimSuffix(c.url, "/oauth2/v2.0/token") + "/v2.0/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return c.unusable(errors.New("it has no usable address"))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.fault(err, request{}, proof{})
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return c.fault(err, request{}, proof{})
	case resp.StatusCode == http.StatusOK:
		return nil
	}
	return c.answered(resp, body)
}

// answered makes a fault of an answer that is no success, to a request that the library did not make.
func (c *Client) answered(resp *http.Response, body []byte) error {
	answer := &oauth2.RetrieveError{Response: resp, Body: body}
	var said struct {
		Code string `json:"error"`
		Text string `json:"error_description"`
	}
	if json.Unmarshal(body, &said) == nil {
		answer.ErrorCode, answer.ErrorDescription = said.Code, said.Text
	}
	return c.fault(answer, request{}, proof{})
}

// findApp offers a refresh token that is none. An answer about that token says that the app is there and was let in;
// since the tenant is known to be right, so does one about the request.
func (c *Client) findApp(ctx context.Context) error {
	_, err := c.ask(ctx, request{scopes: []string{"openid", "offline_access"}, refresh: noToken})
	var e *token.Error
	if errors.As(err, &e) && (e.Code == "invalid_grant" || e.Code == "invalid_request") {
		return nil
	}
	if err == nil {
		return fmt.Errorf("provider %s: %w", c.config.Provider, &token.Error{Person: true,
			Text: "what answers there gives tokens for nothing, and is not Entra", Remedy: "check authority of provider " + c.config.Provider})
	}
	return err
}

// rolesIn reads the roles claim of a token, if it is one that can be read.
func rolesIn(access token.Secret) ([]string, bool) {
	parts := strings.Split(access.Reveal(), ".")
	if len(parts) != 3 {
		return nil, false
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var c struct {
		Roles []string `json:"roles"`
	}
	if err != nil || json.Unmarshal(claims, &c) != nil {
		return nil, false
	}
	return c.Roles, true
}
