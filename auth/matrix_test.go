package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/auth/diagnosis"
	"postern/auth/entra"
	"postern/auth/token"
	"postern/auth/vault"
)

// tokenEndpoint answers as it is told, and counts.
type tokenEndpoint struct {
	*httptest.Server
	mu    sync.Mutex // guards what follows
	next  http.HandlerFunc
	asked int
}

func newTokenEndpoint(t *testing.T) *tokenEndpoint {
	e := &tokenEndpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.asked++
		next := e.next
		e.mu.Unlock()
		_ = r.ParseForm()
		next(w, r)
	}))
	t.Cleanup(func() { e.CloseClientConnections(); e.Close() })
	return e
}

// say sets the answer, and returns how often the endpoint was asked since the last call.
func (e *tokenEndpoint) say(next http.HandlerFunc) (asked int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked, e.asked = e.asked, 0
	if next != nil {
		e.next = next
	}
	return asked
}

// reply answers with a status, a body and headers by turns.
func reply(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

const goodReply = `{"token_type":"Bearer","expires_in":3600,"access_token":"access","refresh_token":"refresh-new"}`

// with changes one member of the good reply.
func with(old, new string) http.HandlerFunc {
	return reply(200, strings.Replace(goodReply, old, new, 1))
}

// hijack takes the connection and does something to it.
func hijack(do func(*net.TCPConn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			do(c.(*net.TCPConn))
			c.Close()
		}
	}
}

// matrixBench is a cabinet with the real client of Entra, one signed-in login, and a clock that the test sets.
type matrixBench struct {
	*Accounts
	endpoint *tokenEndpoint
	vault    *vault.Vault
	mu       sync.Mutex // guards at
	at       time.Time
}

// globalCloud is Microsoft's for most customers.
var globalCloud = entra.Cloud{Graph: "https://graph.microsoft.com", SMTP: "https://outlook.office.com", ExchangeApps: "https://outlook.office365.com"}

func newMatrixBench(t *testing.T, timeout time.Duration) *matrixBench {
	t.Helper()
	b := &matrixBench{endpoint: newTokenEndpoint(t), at: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	client, err := entra.New(entra.Config{Provider: "contoso", Cloud: globalCloud, Authority: b.endpoint.URL, Tenant: "contoso.test", ClientID: "1111",
		Secret:       func() (token.Secret, error) { return "secret", nil },
		SecretRemedy: "run: postern secret set contoso", Now: b.now, Timeout: timeout,
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if b.vault, err = vault.Open(t.TempDir(), vault.Options{Getenv: func(string) string { return "" }}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.vault.Swap("token/contoso/svc@contoso.test", 0, []byte(`{"refresh":"refresh-0","signed_in":"2026-11-01T00:00:00Z","received":"2026-11-19T00:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	b.Accounts, err = New(Options{Providers: map[string]Provider{"contoso": client}, Vault: b.vault, Now: b.now,
		Accounts: []Account{{Name: "erp", Provider: "contoso", Login: "svc@contoso.test", Resources: []token.Resource{token.SMTP}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	return b
}

func (b *matrixBench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *matrixBench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

func (b *matrixBench) ask() (token.Secret, *token.Error) {
	access, err := b.Source("erp").Token(context.Background(), token.SMTP)
	var e *token.Error
	errors.As(err, &e)
	return access, e
}

func (b *matrixBench) kept(t *testing.T) string {
	t.Helper()
	s, _, err := readSignIn(b.vault, "token/contoso/svc@contoso.test")
	if err != nil {
		t.Fatal(err)
	}
	return s.Refresh.Reveal()
}

// cell of the matrix: what the endpoint does, and what comes of it.
type matrixCell struct {
	name   string
	say    http.HandlerFunc
	wait   time.Duration // until the endpoint is asked again
	person bool          // parks: a person must act
	text   string        // what the administrator reads, a part of it
	remedy string        // likewise; "": none
}

const bad = 30 * time.Second // the wait after trouble that passes, without a token

func matrix() []matrixCell {
	const cannotUse = "reply cannot be used"
	cells := []matrixCell{
		{"reset", hijack(func(c *net.TCPConn) { c.SetLinger(0) }), bad, false, "cannot be reached", ""},
		{"closed without an answer", hijack(func(*net.TCPConn) {}), bad, false, "cannot be reached", ""},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, bad, false, "cannot be reached", ""},
		{"slow: half a reply, then nothing", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, goodReply[:40])
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, bad, false, "contoso", ""},
		{"cut short", hijack(func(c *net.TCPConn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"+goodReply[:50])
		}), bad, false, "contoso", ""},
		{"not HTTP", hijack(func(c *net.TCPConn) { io.WriteString(c, "220 mail.example.test ESMTP\r\n") }), bad, false, "cannot be reached", ""},

		{"429 with seconds", reply(429, "{}", "Retry-After", "90"), 90 * time.Second, false, "429", ""},
		{"429 with a fraction", reply(429, "{}", "Retry-After", "2.5"), 2500 * time.Millisecond, false, "429", ""},
		{"429 with a date", reply(429, "{}", "Retry-After", "Fri, 20 Nov 2026 12:02:00 GMT", "Date", "Fri, 20 Nov 2026 12:00:00 GMT"), 2 * time.Minute, false, "429", ""},
		{"429 with a date in the past", reply(429, "{}", "Retry-After", "Fri, 20 Nov 2020 12:02:00 GMT"), bad, false, "429", ""},
		{"429 without Retry-After", reply(429, "{}"), bad, false, "429", ""},
		{"429 with garbage", reply(429, "{}", "Retry-After", "soon"), bad, false, "429", ""},
		{"429 with a negative one", reply(429, "{}", "Retry-After", "-5"), bad, false, "429", ""},
		{"429 with a year", reply(429, "{}", "Retry-After", "31536000"), time.Hour, false, "429", ""},
		{"429 that speaks of the grant", reply(429, `{"error":"invalid_grant"}`), bad, false, "429", ""},
		{"500", reply(500, ""), bad, false, "500", ""},
		{"500 that speaks of the client", reply(500, `{"error":"invalid_client"}`), bad, false, "500", ""},
		{"502 with a page", reply(502, "<html>", "Content-Type", "text/html"), bad, false, "502", ""},
		{"503", reply(503, `{"error":"temporarily_unavailable"}`), bad, false, "503", ""},
		{"503 with seconds", reply(503, "{}", "Retry-After", "120"), 2 * time.Minute, false, "503", ""},
		{"504", reply(504, ""), bad, false, "504", ""},

		{"HTML with 200: a captive portal", reply(200, "<html>", "Content-Type", "text/html"), bad, false, "not JSON", ""},
		{"a form with 200", reply(200, "access_token=a&expires_in=3600", "Content-Type", "application/x-www-form-urlencoded"), bad, false, "not JSON", ""},
		{"plain text with 200", reply(200, "access_token=a", "Content-Type", "text/plain"), bad, false, "not JSON", ""},
		{"empty with 200", reply(200, ""), bad, false, "contoso", ""},
		{"truncated JSON", reply(200, goodReply[:60]), bad, false, cannotUse, ""},
		{"an array", reply(200, "[]"), bad, false, cannotUse, ""},
		{"no access_token", with(`"access_token":"access",`, ""), bad, false, "contoso", ""},
		{"access_token is a number", with(`"access"`, "7"), bad, false, cannotUse, ""},
		{"access_token with a line end", with(`"access"`, `"a\r\nb"`), bad, false, cannotUse, ""},
		{"no expires_in", with(`"expires_in":3600,`, ""), bad, false, cannotUse, ""},
		{"expires_in is zero", with("3600", "0"), bad, false, cannotUse, ""},
		{"expires_in is negative", with("3600", "-1"), bad, false, cannotUse, ""},
		{"expires_in is an object", with("3600", "{}"), bad, false, cannotUse, ""},
		{"expires_in is a word", with("3600", `"soon"`), bad, false, cannotUse, ""},
		{"another token_type", with("Bearer", "mac"), bad, false, cannotUse, ""},
		{"ten megabytes", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 160 { // ends when the client has had enough
				if _, err := io.WriteString(w, strings.Repeat(" ", 64<<10)); err != nil {
					return
				}
			}
			io.WriteString(w, goodReply)
		}, bad, false, "contoso", ""},
		{"400 without a word", reply(400, ""), bad, false, "400", ""},
		{"400 with an error nobody knows", reply(400, `{"error":"brand_new","error_description":"what"}`), bad, false, "brand_new", ""},
		{"400 with error as an object", reply(400, `{"error":{"code":"x"}}`), bad, false, "400", ""},
		{"403 with a page", reply(403, "<html>", "Content-Type", "text/html"), bad, false, "403", ""},

		{"invalid_grant without a number", reply(400, `{"error":"invalid_grant"}`), personWait, true, "invalid_grant", "postern signin erp"},
		{"interaction_required", reply(400, `{"error":"interaction_required"}`), personWait, true, "interaction_required", "postern signin erp"},
		{"invalid_client without a number", reply(401, `{"error":"invalid_client"}`), personWait, true, "invalid_client", "postern secret set contoso"},
		{"unauthorized_client without a number", reply(400, `{"error":"unauthorized_client"}`), personWait, true, "unauthorized_client", "compare tenant, client_id"},
		{"invalid_grant with a number nobody knows", reply(400, `{"error":"invalid_grant","error_codes":[424242]}`), personWait, true, "invalid_grant", "postern signin erp"},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		cells = append(cells, matrixCell{fmt.Sprintf("%d to another host", status), reply(status, "", "Location", "https://elsewhere.test/"),
			bad, false, "redirect", ""})
	}
	for _, row := range diagnosis.All() {
		for _, sign := range row.Signs {
			number, err := strconv.Atoi(strings.TrimPrefix(sign, "AADSTS"))
			if err != nil {
				continue
			}
			code, status := row.OAuth, 400
			switch code {
			case "":
				code = "invalid_grant"
			case "invalid_client":
				status = 401
			case "temporarily_unavailable":
				status = 503
			}
			c := matrixCell{name: sign, person: true, wait: personWait, text: "(" + sign + ")", remedy: "e",
				say: reply(status, fmt.Sprintf(`{"error":%q,"error_description":"AADSTS%d: x","error_codes":[%d]}`, code, number, number))}
			if status == 503 {
				c.person, c.wait, c.remedy = false, bad, ""
			}
			cells = append(cells, c)
		}
	}
	return cells
}

// TestFaultMatrix says for each thing that the token endpoint can do: the sign-in stays as it was, how often and when it
// is asked, whether that parks, and what the administrator reads in accounts.
func TestFaultMatrix(t *testing.T) {
	for _, c := range matrix() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			timeout := 20 * time.Second
			if c.name == "hangs" || strings.HasPrefix(c.name, "slow") {
				timeout = 100 * time.Millisecond // what is tried is that it ends
			}
			b := newMatrixBench(t, timeout)
			b.endpoint.say(c.say)
			_, e := b.ask()
			if e == nil {
				t.Fatal("it gave a token")
			}
			if e.Person != c.person || !strings.Contains(e.Text, c.text) || !strings.Contains(e.Remedy, c.remedy) || (e.Remedy == "") != (c.remedy == "") {
				t.Errorf("Person %v, %q; %q; want Person %v, %q; %q", e.Person, e.Text, e.Remedy, c.person, c.text, c.remedy)
			}
			if kept := b.kept(t); kept != "refresh-0" {
				t.Errorf("kept %q; want the refresh token as it was", kept)
			}
			shown := b.States(t.Context())[0].Resources[0].Trouble
			if shown == nil || shown.Text != e.Text || shown.Remedy != e.Remedy || shown.Person != c.person || !shown.RetryAt.Equal(b.now().Add(c.wait)) {
				t.Errorf("accounts show %+v; want what the error says, and the next request after %v", shown, c.wait)
			}
			if asked := b.endpoint.say(nil); asked < 1 || asked > 2 {
				t.Errorf("%d requests; want one (a connection that is reset may be tried once more)", asked)
			}
			b.pass(c.wait - time.Millisecond)
			if _, again := b.ask(); again == nil || again.Text != e.Text || b.endpoint.say(nil) != 0 {
				t.Errorf("asked again within the cool-down, or another error: %v", again)
			}
			b.pass(time.Millisecond)
			b.endpoint.say(reply(200, goodReply))
			if access, e := b.ask(); e != nil || access != "access" || b.endpoint.say(nil) != 1 {
				t.Errorf("after the cool-down %q, %v; want a token by one request", access, e)
			}
			if kept := b.kept(t); kept != "refresh-new" {
				t.Errorf("kept %q; want the new refresh token", kept)
			}
		})
	}
}

// TestAShortLifeKeepsTheNewRefreshToken: the access token is of no use, but the reply is whole, and a server that revokes
// takes the old refresh token no more.
func TestAShortLifeKeepsTheNewRefreshToken(t *testing.T) {
	b := newMatrixBench(t, 20*time.Second)
	b.endpoint.say(with("3600", "30"))
	if _, e := b.ask(); e == nil || e.Person || !strings.Contains(e.Text, "good for 30s only") || b.kept(t) != "refresh-new" {
		t.Errorf("error %v, kept %s", e, b.kept(t))
	}
}

// TestRefusedConnection is the cell without a server.
func TestRefusedConnection(t *testing.T) {
	b := newMatrixBench(t, 20*time.Second)
	b.endpoint.Close()
	if _, e := b.ask(); e == nil || e.Person || !strings.Contains(e.Text, "cannot be reached") || b.kept(t) != "refresh-0" {
		t.Errorf("error %v, kept %s", e, b.kept(t))
	}
}
