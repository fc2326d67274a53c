package graph

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"postern/bridge/reply"
)

// heldConn passes on what is written, and where that holds the header of a request (RFC 9113 section 6.2) while it is
// armed, it returns late: the server has the request, and who wrote it does not know yet.
type heldConn struct {
	net.Conn
	armed   *atomic.Bool
	release chan struct{}
}

func (c heldConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.armed.Load() && hasHeaders(p) {
		<-c.release
	}
	return n, err
}

func hasHeaders(p []byte) bool {
	for len(p) >= 9 {
		size := 9 + int(p[0])<<16 + int(p[1])<<8 + int(p[2])
		if p[3] == 1 {
			return true
		}
		p = p[min(size, len(p)):]
	}
	return false
}

// overHTTP2 is a transport that speaks HTTP/2 without TLS to the handler.
func overHTTP2(t *testing.T, h http.HandlerFunc, armed *atomic.Bool, release chan struct{}) (*bench, *httptest.Server) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = &p
	s.Start()
	t.Cleanup(s.Close)
	b := newBench(t, s.URL+"/v1.0", func(o *Options) {
		o.Drafts = DraftsAlways
		o.HTTP = &http.Client{Transport: &http.Transport{Protocols: &p, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return heldConn{c, armed, release}, err
		}}}
	})
	return b, s
}

// TestSendThatMayHaveLeftIsInDoubt: over HTTP/2 the server can have the request before the client's own goroutine says
// that it wrote it.
func TestSendThatMayHaveLeftIsInDoubt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var armed atomic.Bool
	release, asked := make(chan struct{}), make(chan struct{})
	b, _ := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s by %s; want HTTP/2", r.URL.Path, r.Proto)
		}
		if r.URL.Path == "/v1.0/me/messages/d1/send" {
			close(asked)
			cancel() // the program ends while the answer is on its way
			<-r.Context().Done()
			return
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"id":"d1"}`)
	}, &armed, release)
	m := mail(t, "hi\r\n")
	m.Intent = func(context.Context) error { armed.Store(true); return nil }
	o := b.Send(ctx, m.Outgoing)
	armed.Store(false)
	close(release)
	<-asked
	if o.Verdict != reply.InDoubt {
		t.Errorf("Send = %+v; want doubt: the server had the request", o)
	}
}

// TestSendThatCannotHaveLeftIsNoDoubt: no connection came about.
func TestSendThatCannotHaveLeftIsNoDoubt(t *testing.T) {
	var armed atomic.Bool
	b, s := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"id":"d1"}`)
	}, &armed, nil)
	m := mail(t, "hi\r\n")
	m.Intent = func(context.Context) error {
		s.Close()
		b.client.CloseIdleConnections()
		return nil
	}
	if o := b.Send(context.Background(), m.Outgoing); o.Verdict != reply.Deferred || o.Owner != reply.Route {
		t.Errorf("Send = %+v; want it deferred for the route, without doubt", o)
	}
}
