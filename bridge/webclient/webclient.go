// Package webclient makes the HTTP client that speaks to a provider: through the proxy of the file or of the environment,
// with the certificate authorities that it is given, and with times in which a transport can still say what became of a
// message. It must not know who asks what. The hall hands its clients to entra and graph. A proxy that refuses is a
// *Refusal, which says what to do about it.
package webclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Options are of one provider.
type Options struct {
	Proxy string         // its URL; "": what the environment says (HTTPS_PROXY, NO_PROXY)
	Roots *x509.CertPool // nil: the system's
}

// New returns a client with connections of its own.
func New(o Options) (*http.Client, error) {
	proxy := http.ProxyFromEnvironment
	if o.Proxy != "" {
		u, err := url.Parse(o.Proxy)
		if err != nil {
			return nil, errors.New("proxy is not a URL") // err quotes it, and it may hold a password
		}
		proxy = http.ProxyURL(u)
	}
	return &http.Client{Transport: &http.Transport{
		Proxy: proxy, TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		// Short, because a request on a connection that the other side has just given up can end in doubt.
		IdleConnTimeout: 30 * time.Second, DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: 5 * time.Minute,
		MaxIdleConnsPerHost: 8, OnProxyConnectResponse: proxyAnswer,
	}}, nil
}
