package sandbox

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// maxForm bounds the body of a token request, in octets.
const maxForm = 256 << 10

// serveEntra answers /{tenant}/...; rest is what follows the tenant.
func (s *Sandbox) serveEntra(w http.ResponseWriter, r *http.Request, tenant, rest string) {
	w.Header().Set("Cache-Control", "no-store, no-cache")
	w.Header().Set("Pragma", "no-cache")
	switch rest {
	case "oauth2/v2.0/token":
		s.serveToken(w, r, tenant)
	case "v2.0/.well-known/openid-configuration":
		s.serveDiscovery(w, r, tenant)
	case "discovery/v2.0/keys":
		writeJSON(w, http.StatusOK, map[string]any{"keys": []any{}})
	case "oauth2/v2.0/authorize":
		s.serveAuthorize(w, r, tenant)
	case "oauth2/v2.0/devicecode":
		s.serveDeviceCode(w, r, tenant)
	case "login":
		s.serveLogin(w, r)
	case "oauth2/nativeclient": // the page is blank: people copy its address
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	case "adminconsent", "v2.0/adminconsent":
		s.serveAdminConsent(w, r, tenant)
	default:
		http.NotFound(w, r)
	}
}

func (s *Sandbox) serveDiscovery(w http.ResponseWriter, r *http.Request, tenant string) {
	q := newTokenRequest(s, w, r)
	if e := checkTenant(tenant); e != nil {
		q.fail(*e)
		return
	}
	base := s.Authority() + "/" + tenant
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": s.issuer(tenant), "token_endpoint": base + "/oauth2/v2.0/token",
		"authorization_endpoint": base + "/oauth2/v2.0/authorize", "device_authorization_endpoint": base + "/oauth2/v2.0/devicecode",
		"jwks_uri": base + "/discovery/v2.0/keys", "response_types_supported": []string{"code", "id_token", "code id_token"},
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"subject_types_supported":               []string{"pairwise"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported": []string{"openid", "profile", "email", "offline_access"},
	})
}

// issuer is the real one's with our host; for the shared endpoints it is Entra's literal template (facts A1).
func (s *Sandbox) issuer(tenant string) string {
	id := TenantID
	if isSharedTenant(tenant) {
		id = "{tenantid}"
	}
	return s.Authority() + "/" + id + "/v2.0"
}

func isSharedTenant(t string) bool { return t == "common" || t == "organizations" || t == "consumers" }

var guidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func checkTenant(t string) *stsError {
	switch {
	case isSharedTenant(t), strings.EqualFold(t, TenantID), strings.EqualFold(t, TenantName), strings.EqualFold(t, Domain):
		return nil
	case guidForm.MatchString(t), strings.Contains(t, "."):
		return &stsError{90002, t}
	}
	return &stsError{900023, t}
}

// tokenRequest is one call of the token endpoint.
type tokenRequest struct {
	s                  *Sandbox
	w                  http.ResponseWriter
	r                  *http.Request
	at                 time.Time
	set                Switches
	trace, correlation string
	tenant             string
	form               url.Values
	app                App
	granted            []string // what the person consented to beyond app.Scopes
}

func newTokenRequest(s *Sandbox, w http.ResponseWriter, r *http.Request) *tokenRequest {
	q := &tokenRequest{s: s, w: w, r: r, at: s.now(), set: s.settings(), trace: newGUID(), correlation: r.Header.Get("client-request-id")}
	if !guidForm.MatchString(q.correlation) {
		q.correlation = newGUID()
	}
	w.Header().Set("x-ms-request-id", q.trace)
	return q
}

func (s *Sandbox) serveToken(w http.ResponseWriter, r *http.Request, tenant string) {
	q := newTokenRequest(s, w, r)
	q.tenant = tenant
	if e := q.readForm(); e != nil {
		q.fail(*e)
		return
	}
	if f := s.takeFault(AtToken, q.login()); f != nil && !s.tokenFault(q, f) {
		return
	}
	e := q.authenticate()
	if e == nil {
		switch q.form.Get("grant_type") {
		case "refresh_token":
			e = q.refresh()
		case "client_credentials":
			e = q.clientCredentials()
		case "authorization_code":
			e = q.redeemCode()
		case "urn:ietf:params:oauth:grant-type:device_code":
			e = q.redeemDevice()
		default:
			e = &stsError{70003, q.form.Get("grant_type")}
		}
	}
	if e != nil {
		q.fail(*e)
	}
}

// readForm takes the body; parameters in the URL do not count (RFC 6749 section 3.2).
func (q *tokenRequest) readForm() *stsError {
	if e := q.readBody(); e != nil {
		return e
	}
	if q.form.Get("grant_type") == "" {
		return &stsError{900144, "grant_type"}
	}
	return nil
}

// readBody takes a form, of any endpoint.
func (q *tokenRequest) readBody() *stsError {
	if q.r.Method != http.MethodPost {
		return &stsError{900561, q.r.Method}
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxForm))
	kind, _, _ := strings.Cut(q.r.Header.Get("Content-Type"), ";")
	if err == nil && strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		// A part that cannot be decoded, as a secret with a bare %, is dropped, and missing then.
		q.form, _ = url.ParseQuery(string(body))
	}
	for name, values := range q.form {
		if len(values) > 1 { // RFC 6749 section 3.2: no parameter twice
			return &stsError{9000411, name}
		}
	}
	return nil
}

// login is whose refresh token was presented, for faults aimed at one login.
func (q *tokenRequest) login() string {
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	if rt := q.s.tokens.refresh[q.form.Get("refresh_token")]; rt != nil {
		return rt.login
	}
	if c := q.s.signins.codes[q.form.Get("code")]; c != nil {
		return c.login
	}
	if d := q.s.signins.devices[q.form.Get("device_code")]; d != nil {
		return d.login
	}
	return ""
}

// authenticate checks tenant, app and its secret, which may come in the form or as HTTP Basic (facts A1, A3).
func (q *tokenRequest) authenticate() *stsError {
	if e := checkTenant(q.tenant); e != nil {
		return e
	}
	id, secret := q.form.Get("client_id"), q.form.Get("client_secret")
	if user, pass, ok := q.r.BasicAuth(); ok {
		// RFC 6749 section 2.3.1: both are form-encoded before Basic.
		user, errUser := url.QueryUnescape(user)
		pass, errPass := url.QueryUnescape(pass)
		if errUser == nil && errPass == nil {
			id, secret = user, pass
		}
	}
	if e := q.findApp(id); e != nil {
		return e
	}
	return q.checkSecret(secret)
}

// findApp finds the app registration, and checks that it may use the tenant.
func (q *tokenRequest) findApp(id string) *stsError {
	if id == "" {
		return &stsError{900144, "client_id"}
	}
	q.s.mu.Lock()
	app, ok := q.s.world.app(id)
	q.s.mu.Unlock()
	if !ok {
		return &stsError{700016, id}
	}
	q.app = app
	switch {
	case q.tenant == "consumers":
		return &stsError{9002332, app.ClientID}
	case isSharedTenant(q.tenant) && q.form.Get("grant_type") == "client_credentials":
		return &stsError{9001023, ""}
	case isSharedTenant(q.tenant) && !app.MultiTenant:
		return &stsError{50194, app.ClientID}
	}
	return nil
}

func (q *tokenRequest) checkSecret(secret string) *stsError {
	assertion := q.form.Has("client_assertion")
	switch {
	case q.form.Get("grant_type") == "client_credentials" && secret == "" && !assertion:
		return &stsError{7000216, ""}
	case q.app.Public && (secret != "" || assertion):
		return &stsError{700025, ""}
	case q.app.Public:
		return nil
	case assertion:
		return q.checkAssertion()
	case secret == "":
		return &stsError{7000218, ""}
	case subtle.ConstantTimeCompare([]byte(secret), []byte(q.app.Secret.Reveal())) != 1:
		return &stsError{7000215, q.app.ClientID}
	case q.app.SecretExpired:
		return &stsError{7000222, q.app.ClientID}
	}
	return nil
}

// refresh is RFC 6749 section 6 with Entra's rotation: a new refresh token each time, the old one stays valid (facts A4).
func (q *tokenRequest) refresh() *stsError {
	text := q.form.Get("refresh_token")
	if text == "" {
		return &stsError{900144, "refresh_token"}
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	rt := q.s.tokens.refresh[text]
	switch {
	case rt == nil, !strings.EqualFold(rt.clientID, q.app.ClientID), rt.used && q.set.RevokeOnUse:
		return &stsError{70000, ""}
	case !rt.revoked.IsZero():
		return &stsError{50173, fmt.Sprintf(" The grant was issued on '%s' and the TokensValidFrom date (before which tokens are not valid) for this user is '%s'.",
			stsTime(rt.issued), stsTime(rt.revoked))}
	case q.at.Sub(rt.issued) >= inactivity:
		return &stsError{700082, stsTime(rt.issued)}
	}
	user, ok := q.s.world.mailbox(rt.login)
	if !ok {
		return &stsError{50034, ""}
	}
	if user.Disabled {
		return &stsError{50057, ""}
	}
	want := strings.Fields(q.form.Get("scope"))
	if len(want) == 0 {
		want = firstResource(rt.scopes)
	}
	q.granted = q.s.signins.consents[consentKey(q.app.ClientID, rt.login)]
	grant, e := q.grantScopes(want)
	if e != nil {
		return e
	}
	rt.used = true
	q.answerUser(grant, user, rt)
	return nil
}

func stsTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// answerUser writes the success body of a delegated grant. Sandbox.mu is held.
func (q *tokenRequest) answerUser(g grant, user Mailbox, rt *refreshToken) {
	life := q.lifetime()
	at := accessToken{audience: g.resource, clientID: q.app.ClientID, login: user.Address, scopes: g.names, expires: q.at.Add(life)}
	body := map[string]any{"token_type": "Bearer", "scope": strings.Join(g.shown, " "),
		"access_token": q.s.tokens.newAccess(at, user, q.at)}
	q.putLifetime(body, life)
	if g.offline && !q.set.NoNewRefreshToken {
		body["refresh_token"] = q.s.tokens.newRefresh(q.app.ClientID, user.Address, rt.scopes, q.at)
	}
	if has(g.shown, "openid") {
		body["id_token"] = idToken(q.s.issuer(TenantID), q.app.ClientID, user, q.at)
	}
	if q.form.Get("client_info") == "1" {
		info := fmt.Sprintf(`{"uid":%q,"utid":%q}`, user.objectID(), TenantID)
		body["client_info"] = base64.RawURLEncoding.EncodeToString([]byte(info))
	}
	q.s.logf("entra: token for %s, resource %s", user.Address, g.resource)
	writeJSON(q.w, http.StatusOK, body)
}

// clientCredentials gives an app-only token: only {resource}/.default, never a refresh token (facts A1). Entra gives one
// without roles too; the resource refuses it later.
func (q *tokenRequest) clientCredentials() *stsError {
	scope := q.form.Get("scope")
	base, ok := strings.CutSuffix(scope, "/.default")
	if !ok || strings.ContainsAny(scope, " \t") {
		return &stsError{1002012, scope}
	}
	resource, ok := resourceOf(base)
	if !ok {
		return &stsError{500011, base}
	}
	life := q.lifetime()
	at := accessToken{audience: resource, clientID: q.app.ClientID, expires: q.at.Add(life)}
	for _, role := range q.app.Roles {
		if name, ok := strings.CutPrefix(role, resource+"/"); ok {
			at.roles = append(at.roles, name)
		}
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	body := map[string]any{"token_type": "Bearer", "access_token": q.s.tokens.newAccess(at, Mailbox{}, q.at)}
	q.putLifetime(body, life)
	q.s.logf("entra: app-only token for %s, resource %s", q.app.ClientID, resource)
	writeJSON(q.w, http.StatusOK, body)
	return nil
}

// lifetime is random between 60 and 90 minutes (facts A4) unless a switch fixes it.
func (q *tokenRequest) lifetime() time.Duration {
	if d := q.set.TokenLifetime.Duration; d > 0 {
		return d
	}
	return time.Duration(3600+mathrand.IntN(1800)) * time.Second
}

func (q *tokenRequest) putLifetime(body map[string]any, life time.Duration) {
	seconds := int64(life / time.Second)
	body["expires_in"], body["ext_expires_in"] = seconds, seconds
	if q.set.ExpiresInString {
		body["expires_in"], body["ext_expires_in"] = fmt.Sprint(seconds), fmt.Sprint(seconds)
	}
}
