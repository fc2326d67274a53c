package sandbox

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	askGraph = "https://graph.microsoft.com/Mail.Send offline_access openid"
	askSMTP  = "https://outlook.office.com/SMTP.Send"
)

func TestTokenErrors(t *testing.T) {
	public := url.Values{"grant_type": {"refresh_token"}, "client_id": {PublicClientID}, "refresh_token": {"RT"}, "scope": {askGraph}}
	web := url.Values{"grant_type": {"client_credentials"}, "client_id": {ConfidentialClientID},
		"client_secret": {ConfidentialSecret.Reveal()}, "scope": {"https://graph.microsoft.com/.default"}}
	for _, tc := range []struct {
		name   string
		tenant string
		base   url.Values
		change map[string]string // "" removes
		status int
		code   float64
		oauth  string
	}{
		{"an unknown tenant domain is not found", "fabrikam.test", public, nil, 400, 90002, "invalid_request"},
		{"an unknown tenant GUID is not found", "5a0b1c2d-0000-4a5b-8c6d-7e8f9a0b1c2d", public, nil, 400, 90002, "invalid_request"},
		{"a tenant that is no name is refused", "contoso", public, nil, 400, 900023, "invalid_request"},
		{"an unknown client is unauthorized", TenantID, public, map[string]string{"client_id": "99999999-2222-3333-4444-555555555555"}, 400, 700016, "unauthorized_client"},
		{"a missing client id is named", TenantID, public, map[string]string{"client_id": ""}, 400, 900144, "invalid_request"},
		{"a single-tenant app may not use common", "common", public, nil, 400, 50194, "invalid_request"},
		{"an organization's app may not use consumers", "consumers", public, nil, 400, 9002332, "invalid_request"},
		{"a public client must not present a secret", TenantID, public, map[string]string{"client_secret": "x"}, 401, 700025, "invalid_client"},
		{"an unknown refresh token is malformed", TenantID, public, map[string]string{"refresh_token": "1.nonsense"}, 400, 70000, "invalid_grant"},
		{"a missing refresh token is named", TenantID, public, map[string]string{"refresh_token": ""}, 400, 900144, "invalid_request"},
		{"an unconsented scope needs consent", TenantID, public, map[string]string{"scope": "https://outlook.office.com/IMAP.AccessAsUser.All"}, 400, 65001, "invalid_grant"},
		{"a scope that no resource defines is invalid", TenantID, public, map[string]string{"scope": "Mail.Sendd"}, 400, 70011, "invalid_scope"},
		{"two resources in one request are refused", TenantID, public, map[string]string{"scope": "Mail.Send " + askSMTP}, 400, 28000, "invalid_scope"},
		{"default beside a named scope is refused", TenantID, public, map[string]string{"scope": "https://graph.microsoft.com/.default Mail.Send"}, 400, 70011, "invalid_scope"},
		{"a foreign resource is not found", TenantID, public, map[string]string{"scope": "https://example.test/Mail.Send"}, 400, 500011, "invalid_resource"},
		{"an unknown grant is unsupported", TenantID, public, map[string]string{"grant_type": "password"}, 400, 70003, "unsupported_grant_type"},
		{"a missing grant is named", TenantID, public, map[string]string{"grant_type": ""}, 400, 900144, "invalid_request"},
		{"a wrong secret is an invalid client", TenantID, web, map[string]string{"client_secret": "the-secret-id"}, 401, 7000215, "invalid_client"},
		{"client credentials without a secret are refused", TenantID, web, map[string]string{"client_secret": ""}, 401, 7000216, "invalid_client"},
		{"a confidential client must present its secret on refresh", TenantID, public, map[string]string{"client_id": ConfidentialClientID}, 401, 7000218, "invalid_client"},
		{"client credentials take default only", TenantID, web, map[string]string{"scope": "https://graph.microsoft.com/Mail.Send"}, 400, 1002012, "invalid_scope"},
		{"client credentials need a specific tenant", "organizations", web, nil, 400, 9001023, "invalid_request"},
		{"another app's refresh token is no grant", TenantID, public, map[string]string{"client_id": ConfidentialClientID, "client_secret": ConfidentialSecret.Reveal()}, 400, 70000, "invalid_grant"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, Options{})
			form := url.Values{}
			for k, v := range tc.base {
				form[k] = v
			}
			if form.Get("refresh_token") == "RT" {
				form.Set("refresh_token", s.RefreshToken("erp@contoso.test").Reveal())
			}
			for k, v := range tc.change {
				if form.Set(k, v); v == "" {
					form.Del(k)
				}
			}
			a := tokenCall(t, s, tc.tenant, form)
			wantSTS(t, a, tc.status, tc.code, tc.oauth)
		})
	}
}

var description = regexp.MustCompile(`^AADSTS(\d+): .+ Trace ID: [-0-9a-f]{36} Correlation ID: [-0-9a-f]{36} Timestamp: 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ$`)

func wantSTS(t *testing.T, a answer, status int, code float64, oauth string) {
	t.Helper()
	e := a.json(t)
	codes, _ := e["error_codes"].([]any)
	if a.status != status || e["error"] != oauth || len(codes) != 1 || codes[0] != code {
		t.Fatalf("%d %s; want %d %s %v", a.status, a.body, status, oauth, code)
	}
	if text, _ := e["error_description"].(string); !description.MatchString(text) || strings.Contains(text, "%!") || strings.Contains(text, "%s") {
		t.Errorf("error_description %q", text)
	}
	for _, k := range []string{"timestamp", "trace_id", "correlation_id", "error_uri"} {
		if v, _ := e[k].(string); v == "" {
			t.Errorf("no %s in %s", k, a.body)
		}
	}
}

func refresh(t *testing.T, s *Sandbox, rt, scope string) answer {
	t.Helper()
	return tokenCall(t, s, TenantID, url.Values{"grant_type": {"refresh_token"}, "client_id": {PublicClientID}, "refresh_token": {rt}, "scope": {scope}})
}

func TestRefreshRotatesAndTheOldTokenStaysValid(t *testing.T) {
	s := start(t, Options{})
	old := s.RefreshToken("erp@contoso.test").Reveal()
	first := refresh(t, s, old, askGraph).json(t)
	fresh, _ := first["refresh_token"].(string)
	if fresh == "" || fresh == old {
		t.Fatalf("no new refresh token")
	}
	if life, _ := first["expires_in"].(float64); life < 3600 || life > 5400 {
		t.Errorf("expires_in %v, want 60 to 90 minutes", first["expires_in"])
	}
	if first["id_token"] == nil || first["token_type"] != "Bearer" || first["scope"] != "https://graph.microsoft.com/Mail.Send openid" {
		t.Errorf("answer %v", first)
	}
	if at, _ := first["access_token"].(string); len(at) < 1500 {
		t.Errorf("an access token of %d octets; real ones have 1500 and more", len(at))
	}
	for _, rt := range []string{old, fresh} {
		if a := refresh(t, s, rt, askSMTP); a.status != 200 {
			t.Errorf("refresh: %d %s", a.status, a.body)
		} else if m := a.json(t); m["refresh_token"] != nil || m["id_token"] != nil {
			t.Errorf("a refresh or id token that was not asked for: %s", a.body)
		}
	}
}

func TestTokenSwitches(t *testing.T) {
	s := start(t, Options{Switches: Switches{RevokeOnUse: true, ExpiresInString: true, TokenLifetime: Duration{time.Minute}, FirstScopeWins: true, OldTrailer: true}})
	rt := s.RefreshToken("erp@contoso.test").Reveal()
	m := refresh(t, s, rt, askGraph+" "+askSMTP).json(t)
	if m["expires_in"] != "60" || m["scope"] != "https://graph.microsoft.com/Mail.Send openid" {
		t.Errorf("answer %v", m)
	}
	a := refresh(t, s, rt, askGraph)
	if e, _ := a.json(t)["error_description"].(string); a.status != 400 || !strings.Contains(e, "AADSTS70000") || !strings.Contains(e, "\r\nTrace ID: ") {
		t.Errorf("a used token with RevokeOnUse: %d %s", a.status, a.body)
	}
	s.Switch(func(w *Switches) { w.RevokeOnUse, w.NoNewRefreshToken = false, true })
	if m := refresh(t, s, rt, askGraph).json(t); m["refresh_token"] != nil || m["access_token"] == nil {
		t.Errorf("answer with NoNewRefreshToken: %v", m)
	}
}

func TestDeadRefreshTokens(t *testing.T) {
	c := newClock()
	s := start(t, Options{Now: c.now})
	idle := s.RefreshToken("erp@contoso.test").Reveal()
	c.add(90*24*time.Hour - time.Second)
	fresh, _ := refresh(t, s, idle, askGraph).json(t)["refresh_token"].(string)
	c.add(time.Second)
	a := refresh(t, s, idle, askGraph)
	wantSTS(t, a, 400, 700082, "invalid_grant")
	if !strings.Contains(string(a.body), "The token was issued on 2026-11-20T09:30:00.0000000Z and was inactive for 90.00:00:00.") {
		t.Errorf("text %s", a.body)
	}
	if a := refresh(t, s, fresh, askGraph); a.status != 200 {
		t.Errorf("the newer token: %d %s", a.status, a.body)
	}
	s.Revoke("erp@contoso.test")
	a = refresh(t, s, fresh, askGraph)
	wantSTS(t, a, 400, 50173, "invalid_grant")
	if a.json(t)["suberror"] != "bad_token" {
		t.Errorf("suberror in %s", a.body)
	}
	svc := s.RefreshToken("svc@contoso.test").Reveal()
	s.SetMailbox(Mailbox{Address: "svc@contoso.test", Disabled: true})
	wantSTS(t, refresh(t, s, svc, askGraph), 400, 50057, "invalid_grant")
	if s.RefreshToken("noreply@contoso.test") != "" || s.RefreshToken("nobody@contoso.test") != "" {
		t.Error("a shared or unknown mailbox signed in")
	}
}

func TestClientCredentials(t *testing.T) {
	s := start(t, Options{})
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"https://outlook.office365.com/.default"}}
	r := request(t, "POST", s.Authority()+"/"+TenantID+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", form.Encode())
	r.SetBasicAuth(url.QueryEscape(ConfidentialClientID), url.QueryEscape(ConfidentialSecret.Reveal()))
	a := do(t, r)
	m := a.json(t)
	if a.status != 200 || m["access_token"] == nil || m["refresh_token"] != nil || m["scope"] != nil {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	if h := a.header.Get("Cache-Control"); !strings.Contains(h, "no-store") {
		t.Errorf("Cache-Control %q", h)
	}
	s.SetApp(App{ClientID: ConfidentialClientID, Secret: ConfidentialSecret, SecretExpired: true})
	r.Body, _ = r.GetBody()
	wantSTS(t, do(t, r), 401, 7000222, "invalid_client")
}

func TestRequestForm(t *testing.T) {
	s := start(t, Options{})
	to := s.Authority() + "/" + TenantID + "/oauth2/v2.0/token"
	wantSTS(t, do(t, request(t, "GET", to, "", "")), 400, 900561, "invalid_request")
	wantSTS(t, do(t, request(t, "POST", to, "application/json", `{"grant_type":"refresh_token"}`)), 400, 900144, "invalid_request")
	wantSTS(t, do(t, request(t, "POST", to+"?grant_type=refresh_token", "application/x-www-form-urlencoded", "")), 400, 900144, "invalid_request")
	wantSTS(t, do(t, request(t, "POST", to, "application/x-www-form-urlencoded", "scope=a&scope=b&grant_type=refresh_token")), 400, 9000411, "invalid_request")
	// A secret that was not URL-encoded arrives as another one.
	raw := "grant_type=client_credentials&client_id=" + ConfidentialClientID + "&client_secret=" + ConfidentialSecret.Reveal()
	if a := do(t, request(t, "POST", to, "application/x-www-form-urlencoded", raw)); a.status != http.StatusUnauthorized {
		t.Errorf("an unencoded secret: %d %s", a.status, a.body)
	}
}

func TestDiscovery(t *testing.T) {
	s := start(t, Options{})
	m := do(t, request(t, "GET", s.Authority()+"/"+TenantName+"/v2.0/.well-known/openid-configuration", "", "")).json(t)
	if m["issuer"] != s.Authority()+"/"+TenantID+"/v2.0" || m["token_endpoint"] != s.Authority()+"/"+TenantName+"/oauth2/v2.0/token" {
		t.Errorf("document %v", m)
	}
	m = do(t, request(t, "GET", s.Authority()+"/common/v2.0/.well-known/openid-configuration", "", "")).json(t)
	if m["issuer"] != s.Authority()+"/{tenantid}/v2.0" {
		t.Errorf("issuer of common %v", m["issuer"])
	}
	a := do(t, request(t, "GET", s.Authority()+"/fabrikam.test/v2.0/.well-known/openid-configuration", "", ""))
	wantSTS(t, a, 400, 90002, "invalid_request")
}

func TestTokenFaults(t *testing.T) {
	s := start(t, Options{})
	rt := s.RefreshToken("erp@contoso.test").Reveal()
	for _, f := range []Fault{
		{Where: AtToken, AADSTS: 50076}, {Where: AtToken, Status: 503, RetryAfter: "2.5"}, {Where: AtToken, AADSTS: 90033},
		{Where: AtToken, Login: "svc@contoso.test", AADSTS: 70043, Times: -1},
	} {
		if err := s.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	wantSTS(t, refresh(t, s, rt, askGraph), 400, 50076, "interaction_required")
	if a := refresh(t, s, rt, askGraph); a.status != 503 || a.header.Get("Retry-After") != "2.5" || !strings.Contains(string(a.body), "<html>") {
		t.Errorf("ordered 503: %d %s", a.status, a.body)
	}
	wantSTS(t, refresh(t, s, rt, askGraph), 503, 90033, "temporarily_unavailable")
	if a := refresh(t, s, rt, askGraph); a.status != 200 {
		t.Errorf("after the faults: %d %s", a.status, a.body)
	}
	svc := s.RefreshToken("svc@contoso.test").Reveal()
	for range 3 {
		wantSTS(t, refresh(t, s, svc, askGraph), 400, 70043, "invalid_grant")
	}
	s.ClearFaults()
	if a := refresh(t, s, svc, askGraph); a.status != 200 {
		t.Errorf("after ClearFaults: %d %s", a.status, a.body)
	}
	for _, bad := range []Fault{{}, {Where: AtToken}, {Where: AtToken, AADSTS: 1}, {Where: AtDot, Outcome: "nonsense"}, {Where: AtGraph, Status: 99}, {Where: AtMail, Reply: "550 a\r\n250 b"},
		{Where: AtSend, Status: 500, After: 1}, {Where: AtSend, Drop: true, Late: true, After: 1}, {Where: AtData, Drop: true, After: 1}, {Where: AtSend, Drop: true, After: -1}} {
		if s.Fault(bad) == nil {
			t.Errorf("Fault(%+v) was taken", bad)
		}
	}
}
