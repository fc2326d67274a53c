package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// TestProxyOfTheEnvironment: the program reaches names that no resolver knows through HTTPS_PROXY, and through proxy of
// [bridge] in its place. (Go reads the variables once in a process, so that it takes one for each.)
func TestProxyOfTheEnvironment(t *testing.T) {
	box := startSandbox(t)
	to, err := url.Parse(box.Authority())
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	defer front.Close()
	var asked, status atomic.Int64
	status.Store(http.StatusOK)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if s := int(status.Load()); r.Method != http.MethodConnect || s != http.StatusOK {
			w.WriteHeader(s)
			return
		}
		there, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			there.Close()
			return
		}
		fmt.Fprint(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(there, buffered); there.Close() }() // both end with the program's process
		go func() { io.Copy(here, there); here.Close() }()
	}))
	defer proxy.Close()

	file := install(t, box, "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(filepath.Dir(file), "front.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	// *.example.com stands in the certificate of httptest.
	changed := strings.NewReplacer(box.Authority()+"/v1.0", "https://graph.example.com/v1.0", box.Authority(), "https://login.example.com").Replace(string(text))
	changed = regexp.MustCompile(`ca_file = .*`).ReplaceAllLiteralString(changed, "ca_file = '"+ca+"'")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("HTTPS_PROXY", proxy.URL)
	signIn(t, file, box.RefreshToken("erp@contoso.test").Reveal())
	if out, status := outcome(t, "", "check", "--live", "--config", file); status != exitDone || asked.Load() == 0 {
		t.Errorf("check --live by HTTPS_PROXY = %d, %d requests at the proxy\n%s", status, asked.Load(), out)
	}
	status.Store(http.StatusProxyAuthRequired)
	out, code := outcome(t, "", "check", "--live", "--config", file)
	if code != exitFailed || !strings.Contains(out, "(407 Proxy Authentication Required)") || !strings.Contains(out, "HTTPS_PROXY=http://USER:PASSWORD@") {
		t.Errorf("check --live by a proxy that wants a password = %d\n%s", code, out)
	}

	status.Store(http.StatusOK)
	asked.Store(0)
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	changed = strings.Replace(changed, "[bridge]\n", fmt.Sprintf("[bridge]\nproxy = %q\n", proxy.URL), 1)
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := outcome(t, "", "check", "--live", "--config", file); status != exitDone || asked.Load() == 0 {
		t.Errorf("check --live by proxy of [bridge] = %d, %d requests at the proxy\n%s", status, asked.Load(), out)
	}
}
