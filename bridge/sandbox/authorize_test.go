package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	testVerifier = "a-verifier-of-at-least-forty-three-characters"
	testRedirect = "http://localhost:49152"
	deviceGrant  = "urn:ietf:params:oauth:grant-type:device_code"
)

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeQuery is a right request.
func authorizeQuery() url.Values {
	return url.Values{"client_id": {PublicClientID}, "response_type": {"code"}, "redirect_uri": {testRedirect}, "state": {"st&te"},
		"scope":      {"openid profile offline_access " + graphResource + "/User.Read " + graphResource + "/Mail.Send " + outlookResource + "/SMTP.Send"},
		"login_hint": {"erp@" + Domain}, "prompt": {"select_account"}, "code_challenge": {challengeOf(testVerifier)}, "code_challenge_method": {"S256"}}
}

func authorizeCall(t *testing.T, s *Sandbox, tenant string, q url.Values) answer {
	t.Helper()
	return do(t, request(t, "GET", s.Authority()+"/"+tenant+"/oauth2/v2.0/authorize?"+q.Encode(), "", ""))
}

var pageName = regexp.MustCompile(`name="page" value="([^"]+)"`)

// choose sends the form of a login page.
func choose(t *testing.T, s *Sandbox, page answer, login, what string) answer {
	t.Helper()
	m := pageName.FindSubmatch(page.body)
	if page.status != 200 || m == nil {
		t.Fatalf("no login page: %d %s", page.status, page.body)
	}
	form := url.Values{"page": {html.UnescapeString(string(m[1]))}, "login": {login}, "answer": {what}}
	return do(t, request(t, "POST", s.Authority()+"/common/login", "application/x-www-form-urlencoded", form.Encode()))
}

// back returns the parameters that the browser is sent back with.
func back(t *testing.T, a answer) url.Values {
	t.Helper()
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusFound {
		t.Fatalf("no redirect: %d %q %s", a.status, a.header.Get("Location"), a.body)
	}
	return u.Query()
}

func codeForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {PublicClientID}, "code": {code}, "redirect_uri": {testRedirect},
		"code_verifier": {testVerifier}, "scope": {"openid profile offline_access " + graphResource + "/User.Read"}}
}

func newCode(t *testing.T, s *Sandbox, login string) string {
	t.Helper()
	return back(t, choose(t, s, authorizeCall(t, s, TenantName, authorizeQuery()), login, "accept")).Get("code")
}

func TestAuthorizeShowsWhatIsAskedFor(t *testing.T) {
	s := start(t, Options{})
	page := authorizeCall(t, s, TenantName, authorizeQuery())
	text := string(page.body)
	for _, want := range []string{"Postern asks for permission to", "Send mail as you", "SMTP.Send (Exchange Online)", "offline_access",
		`value="erp@contoso.test" required checked`, "nav@contoso.test", "localhost:49152"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "noreply@") {
		t.Error("a shared mailbox can be chosen")
	}
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' http://localhost:49152") {
		t.Errorf("a browser would not follow the redirect: %s", csp)
	}
	a := choose(t, s, page, "erp@"+Domain, "accept")
	if to := a.header.Get("Location"); !strings.HasPrefix(to, testRedirect+"/?") {
		t.Errorf("Location %q; want a path", to)
	}
	q := back(t, a)
	if q.Get("code") == "" || q.Get("state") != "st&te" {
		t.Errorf("came back with %v", q)
	}
	if again := choose(t, s, page, "erp@"+Domain, "accept"); again.status != 400 {
		t.Errorf("a page was good twice: %d", again.status)
	}
	r := tokenCall(t, s, TenantName, codeForm(q.Get("code"))).json(t)
	if r["refresh_token"] == nil || r["id_token"] == nil || !strings.Contains(r["scope"].(string), "User.Read") {
		t.Errorf("the code gave %v", r)
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	s := start(t, Options{Apps: append(DefaultApps(), App{ClientID: newGUID(), Name: "other"})})
	s.SetApp(App{ClientID: "77777777-2222-3333-4444-555555555555", Name: "Strict", Public: true,
		AdminOnly: []string{graphResource + "/Mail.Send"}})
	for _, tc := range []struct {
		name   string
		tenant string
		change func(url.Values)
		page   string // the number on a page; "": the browser is sent back with err
		err    string
	}{
		{"an unknown tenant", "fabrikam.test", nil, "AADSTS90002", ""},
		{"an unknown app", TenantName, func(q url.Values) { q.Set("client_id", newGUID()) }, "AADSTS700016", ""},
		{"a single-tenant app at common", "common", nil, "AADSTS50194", ""},
		{"a foreign redirect URI", TenantName, func(q url.Values) { q.Set("redirect_uri", "https://evil.test/") }, "AADSTS50011", ""},
		{"another path", TenantName, func(q url.Values) { q.Set("redirect_uri", "http://localhost:1/x") }, "AADSTS50011", ""},
		{"the IPv6 loopback", TenantName, func(q url.Values) { q.Set("redirect_uri", "http://[::1]:1") }, "AADSTS50011", ""},
		{"the number, which is not registered", TenantName, func(q url.Values) { q.Set("redirect_uri", "http://127.0.0.1:1") }, "AADSTS50011", ""},
		{"https on localhost", TenantName, func(q url.Values) { q.Set("redirect_uri", "https://localhost:1") }, "AADSTS50011", ""},
		{"no redirect URI", TenantName, func(q url.Values) { q.Del("redirect_uri") }, "AADSTS900971", ""},
		{"a parameter twice", TenantName, func(q url.Values) { q.Add("client_id", "x") }, "AADSTS9000411", ""},
		{"no PKCE", TenantName, func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }, "", "invalid_request AADSTS9002325"},
		{"plain PKCE", TenantName, func(q url.Values) { q.Set("code_challenge_method", "plain") }, "", "invalid_request AADSTS50147"},
		{"a short challenge", TenantName, func(q url.Values) { q.Set("code_challenge", "short") }, "", "invalid_request AADSTS501491"},
		{"another response type", TenantName, func(q url.Values) { q.Set("response_type", "token") }, "", "unsupported_response_type AADSTS70007"},
		{"no scope", TenantName, func(q url.Values) { q.Del("scope") }, "", "invalid_request AADSTS900144"},
		{"a scope that does not exist", TenantName, func(q url.Values) { q.Set("scope", "Mail.Sent") }, "", "invalid_scope AADSTS70011"},
		{"a resource that does not exist", TenantName, func(q url.Values) { q.Set("scope", "https://x.test/y") }, "", "invalid_resource AADSTS500011"},
		{"a silent sign-in", TenantName, func(q url.Values) { q.Set("prompt", "none") }, "", "login_required AADSTS50058"},
		{"a scope that an administrator must consent to", TenantName, func(q url.Values) { q.Set("client_id", "77777777-2222-3333-4444-555555555555") }, "", "access_denied AADSTS90094"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := authorizeQuery()
			if tc.change != nil {
				tc.change(q)
			}
			a := authorizeCall(t, s, tc.tenant, q)
			if tc.page != "" {
				if a.status != 400 || !strings.Contains(string(a.body), tc.page) || a.header.Get("Location") != "" {
					t.Errorf("%d %s; want a page with %s", a.status, a.body, tc.page)
				}
				return
			}
			got := back(t, a)
			code, number, _ := strings.Cut(tc.err, " ")
			if got.Get("error") != code || !strings.HasPrefix(got.Get("error_description"), number+":") || got.Get("state") != "st&te" {
				t.Errorf("came back with %v; want %s", got, tc.err)
			}
		})
	}
	foreign := request(t, "GET", s.Authority()+"/"+TenantName+"/oauth2/v2.0/authorize?"+authorizeQuery().Encode(), "", "")
	foreign.Host = "evil.test"
	if a := do(t, foreign); a.status != 403 {
		t.Errorf("a foreign name that points here got %d", a.status)
	}
}

func TestConsent(t *testing.T) {
	s := start(t, Options{})
	app := App{ClientID: PublicClientID, Name: "Postern", Public: true, Scopes: []string{"openid", "profile", "offline_access", graphResource + "/User.Read"}}
	s.SetApp(app)
	refused := back(t, choose(t, s, authorizeCall(t, s, TenantName, authorizeQuery()), "erp@"+Domain, "cancel"))
	if refused.Get("error") != "access_denied" || !strings.Contains(refused.Get("error_description"), "AADSTS65004") || refused.Get("state") != "st&te" {
		t.Errorf("declined: %v", refused)
	}
	send := func(refresh string) answer {
		return tokenCall(t, s, TenantName, url.Values{"grant_type": {"refresh_token"}, "client_id": {PublicClientID}, "refresh_token": {refresh},
			"scope": {graphResource + "/Mail.Send offline_access"}})
	}
	before := s.RefreshToken("erp@" + Domain).Reveal()
	if a := send(before); a.json(t)["suberror"] != "consent_required" {
		t.Errorf("before the consent: %s", a.body)
	}
	r := tokenCall(t, s, TenantName, codeForm(newCode(t, s, "erp@"+Domain))).json(t)
	if a := send(r["refresh_token"].(string)); a.status != 200 {
		t.Errorf("after the consent: %s", a.body)
	}
	if a := send(s.RefreshToken("nav@" + Domain).Reveal()); a.status == 200 {
		t.Error("one person's consent serves another")
	}
}

func TestCode(t *testing.T) {
	c := newClock()
	s := start(t, Options{Now: c.now})
	code := func(t *testing.T, change func(url.Values), tenant string) float64 {
		t.Helper()
		form := codeForm(newCode(t, s, "erp@"+Domain))
		change(form)
		a := tokenCall(t, s, tenant, form)
		if a.status == 200 {
			return 200
		}
		return a.json(t)["error_codes"].([]any)[0].(float64)
	}
	for _, tc := range []struct {
		name   string
		tenant string
		change func(url.Values)
		want   float64
	}{
		{"a right code", TenantName, func(url.Values) {}, 200},
		{"without scope: the first resource's", TenantName, func(f url.Values) { f.Del("scope") }, 200},
		{"another verifier", TenantName, func(f url.Values) { f.Set("code_verifier", testVerifier+"x") }, 501481},
		{"no verifier", TenantName, func(f url.Values) { f.Del("code_verifier") }, 501481},
		{"another redirect URI", TenantName, func(f url.Values) { f.Set("redirect_uri", "http://localhost:1") }, 500112},
		{"no redirect URI", TenantName, func(f url.Values) { f.Del("redirect_uri") }, 900144},
		{"another tenant's name", TenantID, func(url.Values) {}, 700005},
		{"another app", TenantName, func(f url.Values) {
			f.Set("client_id", ConfidentialClientID)
			f.Set("client_secret", ConfidentialSecret.Reveal())
		}, 70000},
		{"an unknown code", TenantName, func(f url.Values) { f.Set("code", "x") }, 70000},
		{"two resources", TenantName, func(f url.Values) { f.Set("scope", graphResource+"/Mail.Send "+outlookResource+"/SMTP.Send") }, 28000},
		{"ten minutes later", TenantName, func(url.Values) { c.add(10 * time.Minute) }, 70008},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := code(t, tc.change, tc.tenant); got != tc.want {
				t.Errorf("got %v; want %v", got, tc.want)
			}
		})
	}
	form := codeForm(newCode(t, s, "erp@"+Domain))
	tokenCall(t, s, TenantName, form)
	if a := tokenCall(t, s, TenantName, form); a.json(t)["error_codes"].([]any)[0].(float64) != 54005 {
		t.Errorf("a code was good twice: %s", a.body)
	}
	s.SetMailbox(Mailbox{Address: "erp@" + Domain, Disabled: true})
	if a := choose(t, s, authorizeCall(t, s, TenantName, authorizeQuery()), "erp@"+Domain, "accept"); !strings.Contains(string(a.body), "AADSTS50057") {
		t.Errorf("a disabled person signed in: %s", a.body)
	}
}

func TestAdminConsent(t *testing.T) {
	s := start(t, Options{})
	s.SetApp(App{ClientID: PublicClientID, Name: "Postern", Public: true, Scopes: []string{"openid", "profile", "offline_access", graphResource + "/User.Read"},
		AdminOnly: []string{graphResource + "/Mail.Send"}, Roles: []string{outlookResource + "/SMTP.SendAsApp"}})
	ask := func(path string) answer {
		q := url.Values{"client_id": {PublicClientID}, "redirect_uri": {testRedirect}, "state": {"st&te"}}
		return do(t, request(t, "GET", s.Authority()+"/"+TenantName+path+"?"+q.Encode(), "", ""))
	}
	page := ask("/adminconsent")
	if text := string(page.body); !strings.Contains(text, "for everybody") || !strings.Contains(text, "SMTP.SendAsApp") || strings.Contains(text, "Choose a mailbox") {
		t.Errorf("the page: %s", text)
	}
	if q := back(t, choose(t, s, page, "", "cancel")); q.Get("error") != "permission_denied" || q.Get("state") != "st&te" {
		t.Errorf("declined: %v", q)
	}
	if q := back(t, authorizeCall(t, s, TenantName, authorizeQuery())); !strings.Contains(q.Get("error_description"), "AADSTS90094") {
		t.Errorf("before the consent: %v", q)
	}
	if q := back(t, choose(t, s, ask("/v2.0/adminconsent"), "", "accept")); q.Get("admin_consent") != "True" || q.Get("tenant") != TenantID || q.Get("state") != "st&te" {
		t.Errorf("accepted: %v", q)
	}
	if newCode(t, s, "erp@"+Domain) == "" {
		t.Error("nobody can sign in after the consent")
	}
}

func TestResponseModes(t *testing.T) {
	s := start(t, Options{Switches: Switches{PKCEOptional: true}})
	q := authorizeQuery()
	q.Set("redirect_uri", "https://login.microsoftonline.com/common/oauth2/nativeclient")
	q.Set("response_mode", "fragment")
	q.Del("code_challenge")
	q.Del("code_challenge_method")
	to := choose(t, s, authorizeCall(t, s, TenantName, q), "erp@"+Domain, "accept").header.Get("Location")
	if !strings.HasPrefix(to, "https://login.microsoftonline.com/common/oauth2/nativeclient#code=") {
		t.Errorf("fragment: %q", to)
	}
	q.Set("redirect_uri", s.Authority()+"/common/oauth2/nativeclient")
	q.Set("response_mode", "form_post")
	a := choose(t, s, authorizeCall(t, s, TenantName, q), "erp@"+Domain, "accept")
	if !strings.Contains(string(a.body), `action="`+s.Authority()+`/common/oauth2/nativeclient"`) || !strings.Contains(string(a.body), `name="code"`) {
		t.Errorf("form_post: %s", a.body)
	}
	if a := do(t, request(t, "GET", s.Authority()+"/common/oauth2/nativeclient?code=x", "", "")); a.status != 200 || len(a.body) != 0 {
		t.Errorf("the blank page: %d %s", a.status, a.body)
	}
}
