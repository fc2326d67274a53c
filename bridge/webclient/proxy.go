package webclient

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Refusal is an HTTP proxy's answer to CONNECT that is not 200. What it says reaches accounts and the log; the
// proxy's own page does not.
type Refusal struct {
	proxy, target string // host:port
	status        int
}

// Error says who refused what.
func (e *Refusal) Error() string {
	return fmt.Sprintf("the HTTP proxy %s refuses to connect to %s (%d %s)", e.proxy, e.target, e.status, http.StatusText(e.status))
}

// Remedy says what to do.
func (e *Refusal) Remedy() string {
	if e.status == http.StatusProxyAuthRequired {
		return "give the service the environment variable HTTPS_PROXY=http://USER:PASSWORD@" + e.proxy + ", or exempt this machine at the proxy"
	}
	return "let the proxy " + e.proxy + " pass CONNECT to " + e.target
}

// proxyAnswer is http.Transport.OnProxyConnectResponse.
func proxyAnswer(_ context.Context, proxy *url.URL, request *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &Refusal{proxy: proxy.Host, target: request.Host, status: answer.StatusCode}
}
