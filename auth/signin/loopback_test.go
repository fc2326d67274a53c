package signin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"postern/auth/token"
)

// browser asks once, without following anything.
func browser(t *testing.T, address string, change ...func(*http.Request)) (status int, body string, header http.Header) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(r)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func listen(t *testing.T) *Loopback {
	t.Helper()
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// waited is what Wait returned.
type waited struct {
	code token.Secret
	err  error
}

func wait(l *Loopback) chan waited {
	done := make(chan waited, 1)
	go func() {
		code, err := l.Wait(context.Background())
		done <- waited{code, err}
	}()
	return done
}

func TestLoopback(t *testing.T) {
	l := listen(t)
	a, done := l.Attempt, wait(l)
	answer := l.Attempt.RedirectURI + "/?code=1.AX&state=" + a.state
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, tc := range []struct {
		name, address string
		change        func(*http.Request)
		status        int
		body          string
	}{
		{"a favicon", l.Attempt.RedirectURI + "/favicon.ico", nil, 404, ""},
		{"another path", l.Attempt.RedirectURI + "/x?code=1.AX&state=" + a.state, nil, 404, ""},
		{"no parameters", l.Attempt.RedirectURI + "/", nil, 400, "another sign-in"},
		{"a wrong state", l.Attempt.RedirectURI + "/?code=evil&state=WRONG", nil, 400, "another sign-in"},
		{"an error with a wrong state", l.Attempt.RedirectURI + "/?error=access_denied&state=WRONG", nil, 400, "another sign-in"},
		{"two codes", answer + "&code=evil", nil, 400, "code twice"},
		{"no code", l.Attempt.RedirectURI + "/?state=" + a.state, nil, 400, "no code"},
		{"a broken query", l.Attempt.RedirectURI + "/?code=%zz", nil, 400, "cannot be read"},
		{"a foreign name that points here", answer, host("evil.test"), 421, "not the address"},
		{"another port's name", answer, host("localhost:1"), 421, "not the address"},
		{"the bare number", answer, host(strings.TrimPrefix(l.Attempt.RedirectURI, "http://localhost") + "x"), 421, ""},
		{"another method", answer, func(r *http.Request) { r.Method = "HEAD" }, 405, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			change := tc.change
			if change == nil {
				change = func(*http.Request) {}
			}
			if status, body, _ := browser(t, tc.address, change); status != tc.status || !strings.Contains(body, tc.body) {
				t.Errorf("%d %s; want %d with %q", status, body, tc.status, tc.body)
			}
		})
	}
	shown := make(chan string, 1)
	go func() {
		_, body, h := browser(t, answer)
		if h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("the page may tell others: %v", h)
		}
		shown <- body
	}()
	got := <-done
	if got.err != nil || got.code.Reveal() != "1.AX" {
		t.Fatalf("Wait = %q, %v; want the code, after all that was none", got.code.Reveal(), got.err)
	}
	if status, body, _ := browser(t, answer); status != 409 || !strings.Contains(body, "answered already") {
		t.Errorf("a second callback: %d %s", status, body)
	}
	select {
	case body := <-shown:
		t.Errorf("the browser was told before it was known how it ends: %s", body)
	default:
	}
	l.Show(true, "Postern sends as <erp@contoso.test>.")
	if body := <-shown; !strings.Contains(body, "Signed in") || !strings.Contains(body, "&lt;erp@contoso.test&gt;") {
		t.Errorf("the page is %s", body)
	}
}

func TestLoopbackRefusal(t *testing.T) {
	l := listen(t)
	a, done := l.Attempt, wait(l)
	shown := make(chan string, 1)
	go func() {
		_, body, _ := browser(t, l.Attempt.RedirectURI+"/?error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E%1b[2J&state="+a.state)
		shown <- body
	}()
	got := <-done
	var r *Refusal
	if !errors.As(got.err, &r) || r.Code != "access_denied" || strings.ContainsRune(r.Said, '\x1b') {
		t.Errorf("Wait = %v; want the refusal, fit for a terminal", got.err)
	}
	l.Show(false, got.err.Error())
	if body := <-shown; !strings.Contains(body, "Not signed in") || strings.Contains(body, "<script") {
		t.Errorf("the page is %s", body)
	}
}

func TestLoopbackClosedWhileTheBrowserWaits(t *testing.T) {
	l := listen(t)
	a, done := l.Attempt, wait(l)
	shown := make(chan string, 1)
	go func() {
		_, body, _ := browser(t, l.Attempt.RedirectURI+"/?code=1.AX&state="+a.state)
		shown <- body
	}()
	<-done
	l.Close()
	if body := <-shown; !strings.Contains(body, "given up") {
		t.Errorf("the page is %s", body)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	l := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v", err)
	}
}

// TestLoopbackHoldsBothFamilies: nobody else can have the port, in neither family nor for all addresses.
func TestLoopbackHoldsBothFamilies(t *testing.T) {
	l := listen(t)
	port := ":" + strconv.Itoa(l.listeners[0].Addr().(*net.TCPAddr).Port)
	addresses := []string{"127.0.0.1" + port, "0.0.0.0" + port}
	if len(l.listeners) == 2 {
		addresses = append(addresses, "[::1]"+port, "[::]"+port)
	}
	for _, a := range addresses {
		if other, err := net.Listen("tcp", a); err == nil {
			other.Close()
			t.Errorf("somebody else could listen on %s", a)
		}
	}
	for _, ln := range l.listeners {
		if !ln.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("%s is not loopback", ln.Addr())
		}
	}
	if !strings.HasPrefix(l.Attempt.RedirectURI, "http://localhost:") {
		t.Errorf("the redirect URI is %s", l.Attempt.RedirectURI)
	}
}
