package entra

import (
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"
)

// maxReplyBytes is far more than any token reply has: an access token is 2 to 4 KB, a refresh token 1 to 2 KB.
const maxReplyBytes = 256 << 10

// errNotJSON says that a success is no reply of a token endpoint but some page: a captive portal, a proxy's notice.
var errNotJSON = errors.New("the token endpoint's reply is not JSON")

// newHTTP keeps the transport of base and nothing else. Redirects are not followed: a 307 would send the form, with the
// refresh token and the client secret in it, to wherever the reply points.
func newHTTP(base *http.Client, timeout time.Duration) *http.Client {
	next := http.DefaultTransport
	if base != nil && base.Transport != nil {
		next = base.Transport
	}
	return &http.Client{
		Transport:     jsonOnly{next},
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// jsonOnly caps replies, and refuses a success that is not JSON: x/oauth2 would take a form or plain text as well.
type jsonOnly struct{ next http.RoundTripper }

func (j jsonOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	resp, err := j.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	json := media == "application/json" || strings.HasSuffix(media, "+json")
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 && !json {
		resp.Body.Close()
		return nil, errNotJSON
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxReplyBytes)
	return resp, nil
}
