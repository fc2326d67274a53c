package entra

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/auth/diagnosis"
	"postern/auth/token"
)

// Every fake reply and request carries these; no error may.
const (
	refreshCanary = "0.canary-refresh~x+y/z"
	nextCanary    = "0.canary-next"
	secretCanary  = "canary~secret+8Q"
	accessCanary  = "eyJ.canary-access.sig"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// endpoint is a token endpoint that answers with handler and keeps the forms that it got.
type endpoint struct {
	*httptest.Server
	mu  sync.Mutex // guards got: a reset connection does not order handler and test
	got []url.Values
}

func (e *endpoint) forms() []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

func newEndpoint(t *testing.T, handler http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		e.mu.Lock()
		e.got = append(e.got, r.PostForm)
		e.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

// Clouds as the configuration has them, but for dod, whose SMTP scope is unknown here.
var (
	global = Cloud{"https://graph.microsoft.com", "https://outlook.office.com", "https://outlook.office365.com"}
	usgov  = Cloud{"https://graph.microsoft.us", "https://outlook.office365.us", "https://outlook.office365.us"}
	dod    = Cloud{Graph: "https://dod-graph.microsoft.us"}
)

func newClient(t *testing.T, authority string, change func(*Config)) *Client {
	t.Helper()
	config := Config{
		Provider: "contoso", Cloud: global, Authority: authority, Tenant: "contoso.test", ClientID: "1111-2222",
		Secret:       func() (token.Secret, error) { return secretCanary, nil },
		SecretRemedy: "run: postern secret set contoso",
		Now:          func() time.Time { return noon },
		HTTP:         &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if change != nil {
		change(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func tokenReply(change map[string]any) string {
	reply := map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": accessCanary,
		"refresh_token": nextCanary, "scope": "https://graph.microsoft.com/Mail.Send"}
	for k, v := range change {
		if v == nil {
			delete(reply, k)
		} else {
			reply[k] = v
		}
	}
	b, _ := json.Marshal(reply)
	return string(b)
}

// wantClean fails if anything that err can print holds a secret.
func wantClean(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, text := range []string{e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
			if strings.Contains(strings.ToLower(text), "canary") {
				t.Errorf("the error holds a secret: %s", text)
			}
		}
	}
}

func fault(t *testing.T, err error) *token.Error {
	t.Helper()
	wantClean(t, err)
	var e *token.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T (%v); want *token.Error", err, err)
	}
	return e
}

func TestRequests(t *testing.T) {
	ctx := context.Background()
	public := func(c *Config) { c.Secret = nil }
	for _, tc := range []struct {
		name   string
		change func(*Config)
		ask    func(*Client) (token.Grant, error)
		want   url.Values
	}{
		{"a refresh for Graph asks for other senders too", nil,
			func(c *Client) (token.Grant, error) { return c.Refresh(ctx, refreshCanary, token.Graph) },
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshCanary}, "client_id": {"1111-2222"},
				"client_secret": {secretCanary}, "scope": {"https://graph.microsoft.com/Mail.Send https://graph.microsoft.com/Mail.Send.Shared https://graph.microsoft.com/Mail.ReadWrite offline_access openid profile"}}},
		{"a refresh for SMTP asks for one resource only", nil,
			func(c *Client) (token.Grant, error) { return c.Refresh(ctx, refreshCanary, token.SMTP) },
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshCanary}, "client_id": {"1111-2222"},
				"client_secret": {secretCanary}, "scope": {"https://outlook.office.com/SMTP.Send offline_access openid profile"}}},
		{"a public client sends no secret", public,
			func(c *Client) (token.Grant, error) { return c.Refresh(ctx, refreshCanary, token.Graph) },
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshCanary}, "client_id": {"1111-2222"},
				"scope": {"https://graph.microsoft.com/Mail.Send https://graph.microsoft.com/Mail.Send.Shared https://graph.microsoft.com/Mail.ReadWrite offline_access openid profile"}}},
		{"app-only for Graph", nil,
			func(c *Client) (token.Grant, error) { return c.ClientCredentials(ctx, token.Graph) },
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"1111-2222"}, "client_secret": {secretCanary},
				"scope": {"https://graph.microsoft.com/.default"}}},
		{"app-only for SMTP names office365.com", nil,
			func(c *Client) (token.Grant, error) { return c.ClientCredentials(ctx, token.SMTP) },
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"1111-2222"}, "client_secret": {secretCanary},
				"scope": {"https://outlook.office365.com/.default"}}},
		{"another cloud has other scopes", func(c *Config) { c.Cloud = usgov },
			func(c *Client) (token.Grant, error) { return c.ClientCredentials(ctx, token.Graph) },
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"1111-2222"}, "client_secret": {secretCanary},
				"scope": {"https://graph.microsoft.us/.default"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var path string
			e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				path = r.URL.Path
				answer(200, tokenReply(nil))(w, r)
			})
			if _, err := tc.ask(newClient(t, e.URL, tc.change)); err != nil {
				t.Fatal(err)
			}
			if len(e.forms()) != 1 {
				t.Fatalf("%d requests; want 1", len(e.forms()))
			}
			if diff := cmp.Diff(tc.want, e.forms()[0]); diff != "" {
				t.Errorf("form (-want +got):\n%s", diff)
			}
			if path != "/contoso.test/oauth2/v2.0/token" {
				t.Errorf("path %q", path)
			}
		})
	}
}

// TestRefreshAsksForLess: Mail.Send.Shared is optional, and a refresh that names a scope without consent is refused whole.
func TestRefreshAsksForLess(t *testing.T) {
	notConsented := `{"error":"invalid_grant","error_description":"AADSTS65001: The user or administrator has not consented","error_codes":[65001],"suberror":"consent_required"}`
	for _, tc := range []struct {
		name     string
		handler  func(scope string) http.HandlerFunc
		requests int
		fails    bool
	}{
		{"without consent to Mail.Send.Shared the refresh is for Mail.Send", func(scope string) http.HandlerFunc {
			if strings.Contains(scope, "Shared") {
				return answer(400, notConsented)
			}
			return answer(200, tokenReply(nil))
		}, 2, false},
		{"without consent to Mail.ReadWrite the refresh is for what sendMail needs", func(scope string) http.HandlerFunc {
			if strings.Contains(scope, "ReadWrite") {
				return answer(400, notConsented)
			}
			return answer(200, tokenReply(nil))
		}, 3, false},
		{"a dead token is refused once for each set and no more", func(string) http.HandlerFunc {
			return answer(400, `{"error":"invalid_grant","error_codes":[700082]}`)
		}, 4, true},
		{"a wrong client secret is asked about once", func(string) http.HandlerFunc {
			return answer(401, `{"error":"invalid_client","error_codes":[7000215]}`)
		}, 1, true},
		{"a server that is down is asked once", func(string) http.HandlerFunc { return answer(503, `{"error":"invalid_grant"}`) }, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) { tc.handler(r.PostFormValue("scope"))(w, r) })
			grant, err := newClient(t, e.URL, nil).Refresh(context.Background(), refreshCanary, token.Graph)
			if (err != nil) != tc.fails || !tc.fails && grant.Access != accessCanary {
				t.Errorf("Refresh = %v, %v; want a failure: %v", grant, err, tc.fails)
			}
			if n := len(e.forms()); n != tc.requests {
				t.Errorf("%d requests; want %d", n, tc.requests)
			}
		})
	}
}

func TestReplies(t *testing.T) {
	id := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"preferred_username":"svc@contoso.test"}`)) + ".sig"
	full := token.Grant{
		Token: token.Token{Access: accessCanary, Fetched: noon, Expiry: noon.Add(3599 * time.Second),
			Scopes: []string{"https://graph.microsoft.com/Mail.Send"}},
		Refresh: nextCanary,
	}
	with := func(change func(*token.Grant)) *token.Grant { g := full; change(&g); return &g }
	life := func(d time.Duration) *token.Grant { return with(func(g *token.Grant) { g.Expiry = noon.Add(d) }) }
	for _, tc := range []struct {
		name   string
		change map[string]any
		want   *token.Grant // nil: refused
	}{
		{"a plain reply", nil, &full},
		{"expires_in as a string", map[string]any{"expires_in": "3600"}, life(time.Hour)},
		{"expires_on instead of expires_in", map[string]any{"expires_in": nil, "expires_on": noon.Add(time.Hour).Unix()}, life(time.Hour)},
		{"expires_on as a string", map[string]any{"expires_in": nil, "expires_on": fmt.Sprint(noon.Add(time.Hour).Unix())}, life(time.Hour)},
		{"a life of years is cut to a day", map[string]any{"expires_in": 1 << 40}, life(24 * time.Hour)},
		{"no refresh token: the old one stays", map[string]any{"refresh_token": nil}, with(func(g *token.Grant) { g.Refresh = "" })},
		{"the same refresh token again is no new one", map[string]any{"refresh_token": refreshCanary}, with(func(g *token.Grant) { g.Refresh = "" })},
		{"refresh_in", map[string]any{"refresh_in": 1800}, with(func(g *token.Grant) { g.RefreshIn = 30 * time.Minute })},
		{"refresh_in beyond the life is no hint", map[string]any{"refresh_in": 9000}, &full},
		{"the id token says who signed in", map[string]any{"id_token": id}, with(func(g *token.Grant) { g.User = "svc@contoso.test" })},
		{"a broken id token is passed over", map[string]any{"id_token": "e30.%%%.x"}, &full},
		{"token_type in another case", map[string]any{"token_type": "bearer"}, &full},
		{"no expires_in", map[string]any{"expires_in": nil}, nil},
		{"expires_in zero", map[string]any{"expires_in": 0}, nil},
		{"expires_in negative", map[string]any{"expires_in": -3600}, nil},
		{"expires_in a word", map[string]any{"expires_in": "soon"}, nil},
		{"expires_in a list", map[string]any{"expires_in": []int{3600}}, nil},
		{"expires_on in the past", map[string]any{"expires_in": nil, "expires_on": 1}, nil},
		{"no access_token", map[string]any{"access_token": nil}, nil},
		{"an empty access_token", map[string]any{"access_token": ""}, nil},
		{"an access_token that is a number", map[string]any{"access_token": 7}, nil},
		{"an access_token with a line end", map[string]any{"access_token": "canary\r\nX: y"}, nil},
		{"no token_type", map[string]any{"token_type": nil}, nil},
		{"token_type mac", map[string]any{"token_type": "mac"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEndpoint(t, answer(200, tokenReply(tc.change)))
			got, err := newClient(t, e.URL, nil).Refresh(context.Background(), refreshCanary, token.Graph)
			if tc.want == nil {
				if e := fault(t, err); e.Person {
					t.Errorf("a reply that cannot be read is called a person's trouble: %v", e)
				}
				if got.Access != "" || got.Refresh != "" {
					t.Error("a refused reply still gave a token")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*tc.want, got); diff != "" {
				t.Errorf("grant (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	oauth := func(code, description string) string {
		b, _ := json.Marshal(map[string]any{"error": code, "error_description": description, "leak": accessCanary})
		return string(b)
	}
	type want struct {
		person     bool
		code       string
		number     int
		retryAfter time.Duration
		text       string // part of the text
		remedy     string // part of the remedy
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		want    want
	}{
		{"invalid_grant with the old trailer", answer(400, oauth("invalid_grant",
			"AADSTS700082: The refresh token has expired.\r\nTrace ID: af03\r\nCorrelation ID: 57ed\r\nTimestamp: 2026-08-10")),
			want{true, "invalid_grant", 700082, 0, "after 90 days without use", "run: postern signin ACCOUNT"}},
		{"an unknown number keeps Microsoft's words without the old trailer", answer(400, oauth("invalid_grant",
			"AADSTS99999: Something new.\r\nTrace ID: af03\r\nCorrelation ID: 57ed\r\nTimestamp: 2026-08-10")),
			want{true, "invalid_grant", 99999, 0, "invalid_grant: AADSTS99999: Something new.", "run: postern signin ACCOUNT"}},
		{"and without the new one", answer(400, oauth("interaction_required",
			"AADSTS99999: Something new. Trace ID: af03 Correlation ID: 57ed Timestamp: 2026-08-10")),
			want{true, "interaction_required", 99999, 0, "AADSTS99999: Something new.", "run: postern signin ACCOUNT"}},
		{"a description that quotes our secrets", answer(400, oauth("invalid_grant",
			"bad token "+refreshCanary+" "+url.QueryEscape(refreshCanary)+" for "+secretCanary)),
			want{true, "invalid_grant", 0, 0, "bad token [redacted] [redacted] for [redacted]", "signin"}},
		{"invalid_client", answer(401, oauth("invalid_client", "AADSTS7000222: The provided client secret keys are expired.")),
			want{true, "invalid_client", 7000222, 0, "the client secret has expired", "run: postern secret set contoso"}},
		{"invalid_client without a number", answer(401, oauth("invalid_client", "")),
			want{true, "invalid_client", 0, 0, "HTTP 401 invalid_client", "run: postern secret set contoso"}},
		{"a number decides nothing", answer(400, oauth("temporarily_unavailable", "AADSTS700082: odd")),
			want{false, "temporarily_unavailable", 700082, 0, "", ""}},
		{"consent_required", answer(400, oauth("consent_required", "")), want{true, "consent_required", 0, 0, "", "signin"}},
		{"login_required", answer(400, oauth("login_required", "")), want{true, "login_required", 0, 0, "", "signin"}},
		{"unauthorized_client", answer(400, oauth("unauthorized_client", "AADSTS700016: x")),
			want{true, "unauthorized_client", 700016, 0, "the tenant contoso.test does not know the app 1111-2222", "client_id"}},
		{"invalid_scope", answer(400, oauth("invalid_scope", "")), want{true, "invalid_scope", 0, 0, "", "API permissions"}},
		{"invalid_request", answer(400, oauth("invalid_request", "")), want{true, "invalid_request", 0, 0, "", "client_id"}},
		{"access_denied", answer(400, oauth("access_denied", "AADSTS53003: Blocked.")),
			want{true, "access_denied", 53003, 0, "Conditional Access blocks", "sign-in log"}},
		{"an error with status 200", answer(200, oauth("invalid_grant", "AADSTS50173: x")),
			want{true, "invalid_grant", 50173, 0, "revoked", "signin"}},
		{"an unknown error may pass", answer(400, oauth("computer_says_no", "")), want{false, "computer_says_no", 0, 0, "", ""}},
		{"an error that is no word is not repeated", answer(400, oauth("canary 1", "")), want{false, "", 0, 0, "HTTP 400", ""}},
		{"429 with seconds", answer(429, oauth("invalid_grant", ""), "Retry-After", "17"), want{false, "invalid_grant", 0, 17 * time.Second, "", ""}},
		{"429 with a fraction", answer(429, "", "Retry-After", "1.5"), want{false, "", 0, 1500 * time.Millisecond, "", ""}},
		{"429 with a date", answer(429, "", "Date", "Fri, 20 Nov 2026 09:00:00 GMT", "Retry-After", "Fri, 20 Nov 2026 09:02:00 GMT"),
			want{false, "", 0, 2 * time.Minute, "", ""}},
		{"429 with a date in the past", answer(429, "", "Date", "Fri, 20 Nov 2026 09:00:00 GMT", "Retry-After", "Fri, 20 Nov 2026 08:02:00 GMT"),
			want{false, "", 0, 0, "", ""}},
		{"429 with a negative number", answer(429, "", "Retry-After", "-5"), want{}},
		{"429 with garbage", answer(429, "", "Retry-After", "tomorrow"), want{}},
		{"429 for ever", answer(429, "", "Retry-After", "1e300"), want{false, "", 0, 24 * time.Hour, "", ""}},
		{"500", answer(500, oauth("server_error", "AADSTS90033: x")), want{false, "server_error", 90033, 0, "busy", ""}},
		{"500 that claims invalid_grant", answer(500, oauth("invalid_grant", "")), want{false, "invalid_grant", 0, 0, "", ""}},
		{"503 with HTML", answer(503, "<html>canary</html>", "Content-Type", "text/html", "Retry-After", "3"),
			want{false, "", 0, 3 * time.Second, "HTTP 503", ""}},
		{"404 with HTML", answer(404, "<html>canary</html>", "Content-Type", "text/html"), want{false, "", 0, 0, "HTTP 404", ""}},
		{"HTML with status 200", answer(200, "<html>canary</html>", "Content-Type", "text/html"), want{false, "", 0, 0, "not JSON", ""}},
		{"a form with status 200", answer(200, "access_token=canary&token_type=Bearer&expires_in=3600", "Content-Type", "text/plain"),
			want{false, "", 0, 0, "not JSON", ""}},
		{"truncated JSON", answer(200, tokenReply(nil)[:60]), want{false, "", 0, 0, "cannot be used", ""}},
		{"an empty reply", answer(200, ""), want{false, "", 0, 0, "cannot be used", ""}},
		{"JSON that is a list", answer(200, `["canary"]`), want{false, "", 0, 0, "cannot be used", ""}},
		{"ten megabytes", answer(200, `{"pad":"`+strings.Repeat("canary ", 10<<20/7)+`"}`), want{false, "", 0, 0, "too large", ""}},
		{"a token reply of half a megabyte", answer(200, tokenReply(map[string]any{"pad": strings.Repeat("x", 1<<19)})),
			want{false, "", 0, 0, "too large", ""}},
		{"a reset", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, want{false, "", 0, 0, "cannot be reached", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, tc.handler)
			_, err := newClient(t, server.URL, nil).Refresh(context.Background(), refreshCanary, token.SMTP)
			e := fault(t, err)
			got := want{e.Person, e.Code, e.Number, e.RetryAfter, e.Text, e.Remedy}
			if !strings.Contains(got.text, tc.want.text) || !strings.Contains(got.remedy, tc.want.remedy) {
				t.Errorf("text %q, remedy %q; want parts %q, %q", got.text, got.remedy, tc.want.text, tc.want.remedy)
			}
			if got.person != (got.remedy != "") {
				t.Errorf("Person %v with remedy %q", got.person, got.remedy)
			}
			if !strings.HasPrefix(got.text, "provider contoso: ") || strings.ContainsAny(got.text, "\r\n") || strings.Contains(got.text, "Trace ID") {
				t.Errorf("text %q", got.text)
			}
			got.text, got.remedy = tc.want.text, tc.want.remedy
			if got != tc.want {
				t.Errorf("got %+v; want %+v", got, tc.want)
			}
			if len(server.forms()) != 1 {
				t.Errorf("%d requests; want 1", len(server.forms()))
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			thief := newEndpoint(t, answer(200, tokenReply(nil)))
			server := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, status) })
			_, err := newClient(t, server.URL, nil).Refresh(context.Background(), refreshCanary, token.Graph)
			if e := fault(t, err); e.Person || !strings.Contains(e.Text, "redirect") {
				t.Errorf("error %+v; want one that may pass and speaks of the redirect", e)
			}
			if len(thief.forms()) != 0 {
				t.Errorf("the form went to the redirect's target: %v", thief.forms()[0])
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Run("a refused connection may pass", func(t *testing.T) {
		server := newEndpoint(t, answer(200, ""))
		server.Close()
		_, err := newClient(t, server.URL, nil).ClientCredentials(context.Background(), token.Graph)
		if e := fault(t, err); e.Person || !strings.Contains(e.Text, "cannot be reached") {
			t.Errorf("error %+v", e)
		}
	})
	t.Run("a hanging endpoint ends with the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		release := make(chan struct{})
		server := newEndpoint(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-release })
		_, err := newClient(t, server.URL, nil).ClientCredentials(ctx, token.Graph)
		close(release)
		if e := fault(t, err); e.Person || !errors.Is(err, context.Canceled) {
			t.Errorf("error %+v; want one that may pass and is the context's", e)
		}
	})
	t.Run("every request has a time limit", func(t *testing.T) {
		if c := newHTTP(&http.Client{}, defaultTimeout); c.Timeout != 30*time.Second {
			t.Errorf("timeout %v; want 30s", c.Timeout)
		}
	})
}

func TestEveryRowReads(t *testing.T) {
	seen := 0
	for _, r := range diagnosis.All() {
		for _, sign := range r.Signs {
			n, err := strconv.Atoi(strings.TrimPrefix(sign, "AADSTS"))
			if err != nil {
				continue // not Entra's number
			}
			seen++
			code := r.OAuth
			if code == "" {
				code = "invalid_grant"
			}
			body := fmt.Sprintf(`{"error":%q,"error_description":"AADSTS%d: x. Trace ID: y","error_codes":[%d]}`, code, n, n)
			server := newEndpoint(t, answer(400, body))
			_, err = newClient(t, server.URL, nil).Refresh(context.Background(), refreshCanary, token.Graph)
			e := fault(t, err).For("erp")
			passing := r.OAuth == "temporarily_unavailable"
			if e.Person == passing || (e.Remedy == "") != passing || e.Number != n {
				t.Errorf("AADSTS%d: %+v; want a person's trouble with a remedy, or one that passes without", n, e)
			}
			if text := e.Error(); !strings.Contains(text, fmt.Sprintf("(AADSTS%d)", n)) || strings.ContainsAny(text, "{}") || strings.Contains(text, "ACCOUNT") {
				t.Errorf("AADSTS%d reads %q", n, text)
			}
			server.Close()
		}
	}
	if seen < 100 {
		t.Errorf("the table explains %d numbers; want all of those an administrator meets", seen)
	}
}

func TestMisconfigured(t *testing.T) {
	ctx := context.Background()
	for _, tc := range []struct {
		name   string
		change func(*Config)
		r      token.Resource
		remedy string
	}{
		{"app-only without a secret", func(c *Config) { c.Secret = nil }, token.Graph, "postern secret set contoso"},
		{"app-only in every tenant", func(c *Config) { c.Tenant = "Organizations" }, token.Graph, "tenant's own GUID"},
		{"a cloud whose SMTP scope nobody knows", func(c *Config) { c.Cloud = dod }, token.SMTP, "another transport"},
		{"a secret that is not there", func(c *Config) {
			c.Secret = func() (token.Secret, error) { return "", errors.New("vault:contoso is not set") }
		}, token.Graph, "postern secret set contoso"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := newEndpoint(t, answer(200, tokenReply(nil)))
			_, err := newClient(t, server.URL, tc.change).ClientCredentials(ctx, tc.r)
			if e := fault(t, err); !e.Person || !strings.Contains(e.Remedy, tc.remedy) {
				t.Errorf("error %+v; want a remedy with %q", e, tc.remedy)
			}
			if len(server.forms()) != 0 {
				t.Error("something was sent")
			}
		})
	}
	for name, c := range map[string]Config{
		"no tenant":         {ClientID: "x", Authority: "https://login.contoso.test"},
		"no client":         {Tenant: "x", Authority: "https://login.contoso.test"},
		"no authority":      {Tenant: "x", ClientID: "x"},
		"another scheme":    {Tenant: "x", ClientID: "x", Authority: "ldap://x"},
		"no URL":            {Tenant: "x", ClientID: "x", Authority: "login"},
		"a URL that is not": {Tenant: "x", ClientID: "x", Authority: "https://%"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New took a configuration with %s", name)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(200, "application/json", tokenReply(nil))
	f.Add(400, "application/json", `{"error":"invalid_grant","error_description":"AADSTS700082: x\r\nTrace ID: y","error_codes":[700082]}`)
	f.Add(200, "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":"1e400"}`)
	f.Fuzz(func(t *testing.T, status int, media, body string) {
		if status < 200 || status > 599 {
			return
		}
		reply := func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {media}},
				Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
		}
		c := newClient(t, "https://login.test", func(c *Config) { c.HTTP = &http.Client{Transport: transport(reply)} })
		g, err := c.Refresh(context.Background(), refreshCanary, token.Graph)
		if err != nil {
			var e *token.Error
			if !errors.As(err, &e) || strings.Contains(err.Error(), refreshCanary) || strings.Contains(err.Error(), secretCanary) {
				t.Errorf("error %#v", err)
			}
			return
		}
		if g.Access == "" || !g.Expiry.After(g.Fetched) || g.Expiry.After(g.Fetched.Add(maxLife)) {
			t.Errorf("grant %+v has no token or no sane life", g)
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
