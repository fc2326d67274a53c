package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// codeLife is how long an authorization code is good (facts A1).
const codeLife = 10 * time.Minute

// pageLife is how long a login page may be left open.
const pageLife = time.Hour

// signIns are the sign-ins under way and what came of them. Guarded by Sandbox.mu.
type signIns struct {
	pages    map[string]*loginPage // by the random name that the page's form carries
	codes    map[string]*authCode
	devices  map[string]*device  // by device code
	consents map[string][]string // by client id and login: what that person accepted, like App.Scopes
}

func newSignIns() signIns {
	return signIns{pages: map[string]*loginPage{}, codes: map[string]*authCode{}, devices: map[string]*device{},
		consents: map[string][]string{}}
}

func consentKey(clientID, login string) string { return strings.ToLower(clientID + " " + login) }

// loginPage is a page that waits for a person to choose. What was asked stays here, so that the form cannot change it.
type loginPage struct {
	app      App
	tenant   string
	scopes   []string // as asked
	at       time.Time
	hint     string
	redirect string // of an authorization request, as asked
	mode     string // response_mode
	state    string
	code     authCode // what a choice makes of it: challenge and method are filled in
	device   *device  // instead, where a device code is approved
	admin    bool     // an administrator consents for everybody, and nobody signs in
}

// authCode is an authorization code.
type authCode struct {
	clientID, tenant, login string
	scopes                  []string
	redirect                string
	challenge, method       string // of PKCE; "" without
	at                      time.Time
	used                    bool
}

// serveAuthorize answers GET authorize: a page to choose a mailbox and to consent on. What is wrong with the app or the
// redirect URI is told on a page, because nobody knows yet where to send the browser (RFC 6749 section 4.1.2.1).
func (s *Sandbox) serveAuthorize(w http.ResponseWriter, r *http.Request, tenant string) {
	q, p := s.askedForPage(w, r, tenant)
	if p == nil {
		return
	}
	if code, e := q.checkAuthorize(p); e != nil {
		q.redirect(p, q.errorParameters(code, *e))
		return
	}
	s.show(w, s.openPage(p))
}

// askedForPage is the page that a browser asks for with GET; nil where it was answered already.
func (s *Sandbox) askedForPage(w http.ResponseWriter, r *http.Request, tenant string) (*tokenRequest, *loginPage) {
	q := newTokenRequest(s, w, r)
	q.tenant = tenant
	if !localPage(w, r, http.MethodGet) {
		return q, nil
	}
	q.form = r.URL.Query()
	p, e := q.authorizePage()
	if e != nil {
		q.failPage(*e)
		return q, nil
	}
	return q, p
}

// authorizePage checks what must be right before the browser may be sent back.
func (q *tokenRequest) authorizePage() (*loginPage, *stsError) {
	for name, values := range q.form {
		if len(values) > 1 {
			return nil, &stsError{9000411, name}
		}
	}
	if e := checkTenant(q.tenant); e != nil {
		return nil, e
	}
	if e := q.findApp(q.form.Get("client_id")); e != nil {
		return nil, e
	}
	p := &loginPage{app: q.app, tenant: q.tenant, at: q.at, scopes: strings.Fields(q.form.Get("scope")),
		hint: q.form.Get("login_hint"), redirect: q.form.Get("redirect_uri"), mode: q.form.Get("response_mode"), state: q.form.Get("state")}
	switch {
	case p.redirect == "":
		return nil, &stsError{900971, ""}
	case !q.app.redirects(q.s.Authority(), p.redirect):
		return nil, &stsError{50011, ""}
	}
	if p.mode == "" {
		p.mode = "query"
	}
	return p, nil
}

// checkAuthorize checks the rest; it returns the OAuth error to send back with the number's text.
func (q *tokenRequest) checkAuthorize(p *loginPage) (string, *stsError) {
	switch {
	case !slices.Contains([]string{"query", "fragment", "form_post"}, p.mode):
		p.mode = "query"
		return "invalid_request", &stsError{90023, "response_mode"}
	case q.form.Get("response_type") == "":
		return "invalid_request", &stsError{900144, "response_type"}
	case q.form.Get("response_type") != "code":
		return "unsupported_response_type", &stsError{70007, q.form.Get("response_type")}
	case len(p.scopes) == 0:
		return "invalid_request", &stsError{900144, "scope"}
	case q.form.Get("prompt") == "none":
		return "login_required", &stsError{50058, ""} // the sandbox knows no session
	}
	for _, scope := range p.scopes {
		resource, name, e := splitScope(scope)
		switch {
		case e != nil:
			return "invalid_resource", e
		case resource != "" && name != ".default" && !has(knownScopes[resource], name):
			return "invalid_scope", &stsError{70011, scope}
		case has(q.app.AdminOnly, resource+"/"+name) && !has(q.app.Scopes, resource+"/"+name):
			return "access_denied", &stsError{90094, ""}
		}
	}
	return q.checkChallenge(p)
}

var challengeForm = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

// checkChallenge demands PKCE with S256. Entra itself also takes plain, and a public client without any (facts A1), but a
// client that we judge has no excuse.
func (q *tokenRequest) checkChallenge(p *loginPage) (string, *stsError) {
	p.code.challenge, p.code.method = q.form.Get("code_challenge"), q.form.Get("code_challenge_method")
	if p.code.challenge != "" && p.code.method == "" {
		p.code.method = "plain"
	}
	switch {
	case p.code.challenge == "" && q.set.PKCEOptional:
	case p.code.challenge == "":
		return "invalid_request", &stsError{9002325, ""}
	case p.code.method == "plain" && !q.set.PKCEOptional, p.code.method != "plain" && p.code.method != "S256":
		return "invalid_request", &stsError{50147, ""}
	case !challengeForm.MatchString(p.code.challenge):
		return "invalid_request", &stsError{501491, ""}
	}
	return "", nil
}

// redirects reports whether the app may send the browser there (facts A7): the port of localhost and 127.0.0.1 does not
// count, the path does, with its case; http is for these two alone.
func (a App) redirects(authority, to string) bool {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Fragment != "" || len(to) > 256 {
		return false
	}
	registered := a.RedirectURIs
	if registered == nil {
		registered = []string{"http://localhost", "https://login.microsoftonline.com/common/oauth2/nativeclient"}
	}
	for _, known := range registered {
		if to == known || strings.HasSuffix(known, "/common/oauth2/nativeclient") && to == authority+"/common/oauth2/nativeclient" {
			return true
		}
		k, err := url.Parse(known)
		if err != nil || k.Scheme != "http" || k.Hostname() != "localhost" && k.Hostname() != "127.0.0.1" {
			continue
		}
		if u.Scheme == k.Scheme && strings.EqualFold(u.Hostname(), k.Hostname()) && rootPath(u.Path) == rootPath(k.Path) && u.RawQuery == k.RawQuery {
			return true
		}
	}
	return false
}

func rootPath(p string) string {
	if p == "" {
		return "/"
	}
	return p
}

// openPage keeps a page until the person has chosen, and returns its name.
func (s *Sandbox) openPage(p *loginPage) string {
	name := random(24)
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, page := range s.signins.pages {
		if p.at.Sub(page.at) > pageLife {
			delete(s.signins.pages, old)
		}
	}
	s.signins.pages[name] = p
	return name
}

// takePage returns a page once.
func (s *Sandbox) takePage(name string) *loginPage {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.signins.pages[name]
	delete(s.signins.pages, name)
	return p
}

// serveLogin takes what a person chose on a login page.
func (s *Sandbox) serveLogin(w http.ResponseWriter, r *http.Request) {
	q := newTokenRequest(s, w, r)
	if !localPage(w, r, http.MethodPost) {
		return
	}
	if e := q.readBody(); e != nil {
		q.failPage(*e)
		return
	}
	p := s.takePage(q.form.Get("page"))
	if p == nil || q.at.Sub(p.at) > pageLife {
		s.message(w, http.StatusBadRequest, "Sign in", "This page was used before, or is too old. Start again.")
		return
	}
	q.app, q.tenant = p.app, p.tenant
	if p.admin {
		q.adminAnswered(p, q.form.Get("answer") == "accept")
		return
	}
	if q.form.Get("answer") != "accept" {
		q.declined(p)
		return
	}
	login := q.form.Get("login")
	s.mu.Lock()
	user, ok := s.world.mailbox(login)
	s.mu.Unlock()
	switch {
	case !ok || user.Shared:
		q.failPage(stsError{50034, ""})
	case user.Disabled:
		q.failPage(stsError{50057, ""})
	default:
		q.accepted(p, user)
	}
}

func (q *tokenRequest) declined(p *loginPage) {
	q.s.logf("entra: sign-in declined")
	if p.device != nil {
		q.s.decide(p.device, "", true)
		q.s.message(q.w, http.StatusOK, "Declined", "You have declined. You may close this window.")
		return
	}
	q.redirect(p, q.errorParameters("access_denied", stsError{65004, ""}))
}

// accepted records the consent and sends the browser back with a code, or lets the device go on.
func (q *tokenRequest) accepted(p *loginPage, user Mailbox) {
	q.s.logf("entra: %s signed in to %s", user.Address, p.app.Name)
	q.s.consent(p, user)
	if p.device != nil {
		q.s.decide(p.device, user.Address, false)
		q.s.message(q.w, http.StatusOK, "Signed in", "You have signed in to "+p.app.Name+" on the other device. You may close this window.")
		return
	}
	c := p.code
	c.clientID, c.tenant, c.login, c.scopes, c.redirect, c.at = p.app.ClientID, p.tenant, user.Address, p.scopes, p.redirect, q.at
	text := "1.AXsbx" + random(24) + "." + random(500) // the length of real ones, which matters where they are pasted
	q.s.mu.Lock()
	q.s.signins.codes[text] = &c
	q.s.mu.Unlock()
	q.redirect(p, url.Values{"code": {text}, "session_state": {newGUID()}})
}

// consent remembers the scopes in the form of App.Scopes.
func (s *Sandbox) consent(p *loginPage, user Mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := consentKey(p.app.ClientID, user.Address)
	for _, scope := range p.scopes {
		resource, name, _ := splitScope(scope) // they were checked
		if resource != "" {
			name = resource + "/" + name
		}
		if !has(s.signins.consents[key], name) {
			s.signins.consents[key] = append(s.signins.consents[key], name)
		}
	}
}

// errorParameters are those of RFC 6749 section 4.1.2.1, with Entra's text.
func (q *tokenRequest) errorParameters(code string, e stsError) url.Values {
	q.s.logf("entra: AADSTS%d %s", e.number, code)
	return url.Values{"error": {code}, "error_description": {q.describe(e)},
		"error_uri": {fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.number)}}
}

// redirect sends the browser back. A redirect URI without a path gets one (facts A7).
func (q *tokenRequest) redirect(p *loginPage, with url.Values) {
	if p.state != "" {
		with.Set("state", p.state)
	}
	u, _ := url.Parse(p.redirect) // it was checked
	u.Path = rootPath(u.Path)
	switch p.mode {
	case "form_post":
		q.s.postBack(q.w, u, with)
		return
	case "fragment":
		u.Fragment = with.Encode()
		// Not u.String(), which would escape the fragment again.
		to := strings.SplitN(u.String(), "#", 2)[0] + "#" + with.Encode()
		q.w.Header().Set("Location", to)
	default:
		query := u.Query()
		for name, values := range with {
			query[name] = values
		}
		u.RawQuery = query.Encode()
		q.w.Header().Set("Location", u.String())
	}
	q.w.WriteHeader(http.StatusFound)
}

// redeemCode is RFC 6749 section 4.1.3 with RFC 7636 section 4.6.
func (q *tokenRequest) redeemCode() *stsError {
	text := q.form.Get("code")
	switch {
	case text == "":
		return &stsError{900144, "code"}
	case q.form.Get("redirect_uri") == "":
		return &stsError{900144, "redirect_uri"}
	}
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	c := q.s.signins.codes[text]
	switch {
	case c == nil, !strings.EqualFold(c.clientID, q.app.ClientID):
		return &stsError{70000, ""}
	case c.used:
		return &stsError{54005, ""}
	case q.at.Sub(c.at) >= codeLife:
		return &stsError{70008, ""}
	case !strings.EqualFold(c.tenant, q.tenant):
		return &stsError{700005, ""}
	case c.redirect != q.form.Get("redirect_uri"):
		return &stsError{500112, ""}
	case !c.verified(q.form.Get("code_verifier")):
		return &stsError{501481, ""}
	}
	e := q.giveUser(c.login, c.scopes, q.form.Get("scope"))
	c.used = e == nil
	return e
}

// verified checks the PKCE verifier.
func (c *authCode) verified(verifier string) bool {
	want := verifier
	if c.method == "S256" {
		sum := sha256.Sum256([]byte(verifier))
		want = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return subtle.ConstantTimeCompare([]byte(want), []byte(c.challenge)) == 1
}

// giveUser answers with the tokens of a fresh sign-in: for the scopes of the request, else for the first resource of those
// that the sign-in asked for. Sandbox.mu is held.
func (q *tokenRequest) giveUser(login string, asked []string, scope string) *stsError {
	user, ok := q.s.world.mailbox(login)
	switch {
	case !ok:
		return &stsError{50034, ""}
	case user.Disabled:
		return &stsError{50057, ""}
	}
	want := strings.Fields(scope)
	if len(want) == 0 {
		want = firstResource(asked)
	}
	q.granted = q.s.signins.consents[consentKey(q.app.ClientID, login)]
	grant, e := q.grantScopes(want)
	if e != nil {
		return e
	}
	q.answerUser(grant, user, &refreshToken{scopes: asked})
	return nil
}
