package bridge

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/auth"
	"postern/auth/token"
	"postern/bridge/config"
	"postern/bridge/sandbox"
)

// connectProxy is an HTTP proxy that knows CONNECT alone, and sends every name to one server.
type connectProxy struct {
	*httptest.Server
	target string

	mu     sync.Mutex // guards what follows
	status int        // other than 200: the answer to each CONNECT
	hang   bool       // never answers
	asked  []string
	open   []net.Conn
	tunnel sync.WaitGroup
}

func newConnectProxy(t *testing.T, target string) *connectProxy {
	p := &connectProxy{target: target, status: http.StatusOK}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
		p.mu.Lock()
		for _, c := range p.open { // idle connections of the client, which nobody else ends
			c.Close()
		}
		p.mu.Unlock()
		p.tunnel.Wait()
	})
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	status, hang := p.status, p.hang
	p.mu.Unlock()
	switch {
	case hang:
		<-r.Context().Done()
		return
	case r.Method != http.MethodConnect:
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	case status != http.StatusOK:
		w.Header().Set("Proxy-Authenticate", `Basic realm="canary-realm"`)
		http.Error(w, "<html>canary-page", status)
		return
	}
	there, err := net.Dial("tcp", p.target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	p.mu.Lock()
	p.open = append(p.open, here, there)
	p.mu.Unlock()
	fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	p.tunnel.Go(func() { io.Copy(there, buffered); there.Close() })
	p.tunnel.Go(func() { io.Copy(here, there); here.Close() })
}

func (p *connectProxy) set(status int, hang bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.hang, p.asked = status, hang, nil
}

func (p *connectProxy) requests() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.asked, ", ")
}

// behindProxy is a provider whose names no resolver knows: only a proxy leads there.
func behindProxy(t *testing.T) (config.Config, *connectProxy, *sandbox.Sandbox) {
	t.Helper()
	box, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	to, err := url.Parse(box.Authority())
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	t.Cleanup(front.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := newConnectProxy(t, front.Listener.Addr().String())
	// *.example.com stands in the certificate of httptest.
	cfg := config.Config{Bridge: config.Bridge{Proxy: proxy.URL}, Providers: []config.Provider{{
		Name: "contoso", Tenant: sandbox.TenantName, ClientID: sandbox.PublicClientID, CAFile: ca,
		Authority: "https://login.example.com", Graph: "https://graph.example.com/v1.0",
		GraphResource: "https://graph.microsoft.com"}}}
	return cfg, proxy, box
}

func TestProxy(t *testing.T) {
	cfg, proxy, box := behindProxy(t)
	ask := func(ctx context.Context) error {
		t.Helper()
		p, err := openProvider(&cfg, cfg.Providers[0], auth.Secrets{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Refresh(ctx, box.RefreshToken("erp@contoso.test"), token.Graph)
		return err
	}
	if err := ask(t.Context()); err != nil {
		t.Errorf("through the proxy: %v", err)
	}
	if got := proxy.requests(); got != "CONNECT login.example.com:443" {
		t.Errorf("the proxy was asked %q; want one CONNECT", got)
	}

	host := strings.TrimPrefix(proxy.URL, "http://")
	for status, remedy := range map[int]string{407: "HTTPS_PROXY=http://USER:PASSWORD@" + host, 403: "let the proxy " + host + " pass CONNECT to login.example.com:443",
		502: "let the proxy"} {
		proxy.set(status, false)
		var e *token.Error
		if err := ask(t.Context()); !errors.As(err, &e) || e.Person || !strings.Contains(e.Text, fmt.Sprint(status)) || !strings.Contains(e.Remedy, remedy) ||
			strings.Contains(fmt.Sprintf("%v %v", e, e.Err), "canary") {
			t.Errorf("%d at the proxy: %v; want one that passes, with %q", status, err, remedy)
		}
	}

	proxy.set(http.StatusOK, true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var e *token.Error
	if err := ask(ctx); !errors.As(err, &e) || e.Person {
		t.Errorf("a proxy that hangs: %v; want one that passes", err)
	}

	proxy.set(http.StatusOK, false)
	if err := ask(t.Context()); err != nil {
		t.Errorf("the proxy is well again: %v", err)
	}
}
