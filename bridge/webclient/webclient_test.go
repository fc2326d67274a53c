package webclient

import (
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestProxyRefuses: who refused what, what to do, and nothing of the proxy's own page.
func TestProxyRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		remedy string
	}{
		{"it wants to know who asks", http.StatusProxyAuthRequired, "HTTPS_PROXY=http://USER:PASSWORD@"},
		{"it does not let us through", http.StatusForbidden, "pass CONNECT to login.contoso.test:443"},
		{"it reaches nobody", http.StatusBadGateway, "pass CONNECT to login.contoso.test:443"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", tc.status) }))
			defer proxy.Close()
			client, err := New(Options{Proxy: proxy.URL})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Get("https://login.contoso.test/")
			var refusal *Refusal
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Remedy(), tc.remedy) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v; want a refusal with %q", err, tc.remedy)
			}
		})
	}
}

func TestRoots(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for _, tc := range []struct {
		name  string
		roots *x509.CertPool
		ok    bool
	}{
		{"an authority of its own is trusted", pool, true},
		{"the system does not know it", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, err := New(Options{Roots: tc.roots})
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseIdleConnections()
			resp, err := client.Get(server.URL)
			if (err == nil) != tc.ok {
				t.Fatalf("Get = %v; want it to work: %v", err, tc.ok)
			}
			if err == nil {
				resp.Body.Close()
			}
		})
	}
}

func TestProxyThatIsNoURL(t *testing.T) {
	if _, err := New(Options{Proxy: "http://user:canary@%zz"}); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("New = %v; want an error without the password", err)
	}
}
