package sandbox

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests move.
type clock struct{ at chan time.Time }

func newClock() *clock {
	c := &clock{make(chan time.Time, 1)}
	c.at <- time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)
	return c
}

func (c *clock) now() time.Time {
	t := <-c.at
	c.at <- t
	return t
}

func (c *clock) add(d time.Duration) { c.at <- (<-c.at).Add(d) }

func start(t *testing.T, o Options) *Sandbox {
	t.Helper()
	if o.Logf == nil {
		o.Logf = t.Logf
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// answer is one HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return m
}

// errorCode is Graph's error.code.
func (a answer) errorCode(t *testing.T) string {
	t.Helper()
	e, _ := a.json(t)["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

func do(t *testing.T, r *http.Request) answer {
	t.Helper()
	a, err := try(r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(r *http.Request) (answer, error) {
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body}, err
}

func request(t *testing.T, method, to, contentType, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

func tokenCall(t *testing.T, s *Sandbox, tenant string, form url.Values) answer {
	t.Helper()
	return do(t, request(t, "POST", s.Authority()+"/"+tenant+"/oauth2/v2.0/token", "application/x-www-form-urlencoded", form.Encode()))
}

// accessFor refreshes at the public app and returns the access token.
func accessFor(t *testing.T, s *Sandbox, login, scope string) string {
	t.Helper()
	a := tokenCall(t, s, TenantName, url.Values{"grant_type": {"refresh_token"}, "client_id": {PublicClientID},
		"refresh_token": {s.RefreshToken(login).Reveal()}, "scope": {scope}})
	at, _ := a.json(t)["access_token"].(string)
	if a.status != 200 || at == "" {
		t.Fatalf("token for %s: %d %s", login, a.status, a.body)
	}
	return at
}

// appAccess is accessFor with the confidential app's client credentials.
func appAccess(t *testing.T, s *Sandbox, resource string) string {
	t.Helper()
	a := tokenCall(t, s, TenantID, url.Values{"grant_type": {"client_credentials"}, "client_id": {ConfidentialClientID},
		"client_secret": {ConfidentialSecret.Reveal()}, "scope": {resource + "/.default"}})
	at, _ := a.json(t)["access_token"].(string)
	if a.status != 200 || at == "" {
		t.Fatalf("app-only token: %d %s", a.status, a.body)
	}
	return at
}

func sendRequest(t *testing.T, s *Sandbox, path, bearer, mime string) *http.Request {
	t.Helper()
	r := request(t, "POST", s.GraphURL()+path, "text/plain", base64.StdEncoding.EncodeToString([]byte(crlf(mime))))
	r.Header.Set("Authorization", "Bearer "+bearer)
	return r
}

// counter is a Logf that tells of messages that were judged.
func counter() (logf func(string, ...any), judged <-chan bool) {
	c := make(chan bool, 100)
	return func(format string, _ ...any) {
		if strings.HasPrefix(format, "%s: message from") {
			c <- true
		}
	}, c
}

func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// client is a raw SMTP client that reads replies line by line.
type client struct {
	t    *testing.T
	s    *Sandbox
	conn net.Conn
	r    *bufio.Reader
}

func dialSMTP(t *testing.T, s *Sandbox) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.SMTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, s: s, conn: conn, r: bufio.NewReader(conn)}
	t.Cleanup(func() { _ = c.conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a test that hangs fails
	return c
}

// read returns one whole reply; "" when the connection ended.
func (c *client) read() string {
	c.t.Helper()
	var all string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return all
		}
		all += line
		if len(line) < 4 || line[3] != '-' {
			return strings.ReplaceAll(strings.TrimSuffix(all, "\r\n"), "\r\n", "\n")
		}
	}
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) cmd(line string) string {
	c.t.Helper()
	c.write(line + "\r\n")
	return c.read()
}

// want sends a line and demands the reply's beginning.
func (c *client) want(line, prefix string) {
	c.t.Helper()
	if got := c.cmd(line); !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("%.60q answered %q, want %q", line, got, prefix)
	}
}

func (c *client) startTLS() {
	c.t.Helper()
	c.want("EHLO client.test", "250")
	c.want("STARTTLS", "220 2.0.0 SMTP server ready")
	tlsConn := overTLS(c.t, c.s, c.conn)
	c.conn, c.r = tlsConn.conn, tlsConn.r
	c.want("EHLO client.test", "250")
}

func overTLS(t *testing.T, s *Sandbox, raw net.Conn) *client {
	t.Helper()
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second)) // a test that hangs fails
	t.Cleanup(func() { _ = raw.Close() })
	conn := tls.Client(raw, &tls.Config{RootCAs: pool(t, s), ServerName: "127.0.0.1"})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, s: s, conn: conn, r: bufio.NewReader(conn)}
}

func pool(t *testing.T, s *Sandbox) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in CAFile")
	}
	return p
}

func blob(user, token string) string {
	return base64.StdEncoding.EncodeToString([]byte("user=" + user + "\x01auth=Bearer " + token + "\x01\x01"))
}

// signedIn dials and signs login in with its own token.
func signedIn(t *testing.T, s *Sandbox, login string) *client {
	t.Helper()
	c := dialSMTP(t, s)
	c.read()
	c.startTLS()
	c.want("AUTH XOAUTH2 "+blob(login, accessFor(t, s, login, outlookResource+"/SMTP.Send")), "235 2.7.0 ")
	return c
}

// submit sends one message and returns the reply to the dot.
func (c *client) submit(from, text string, to ...string) string {
	c.t.Helper()
	c.want("MAIL FROM:<"+from+">", "250 2.1.0 Sender OK")
	for _, rcpt := range to {
		c.want("RCPT TO:<"+rcpt+">", "250 2.1.5 Recipient OK")
	}
	c.want("DATA", "354 Start mail input; end with <CRLF>.<CRLF>")
	return c.cmd(crlf(text) + "\r\n.")
}

func waitFor(t *testing.T, s *Sandbox, n int) []Received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := s.Wait(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
