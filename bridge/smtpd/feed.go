package smtpd

import (
	"net"
	"sync"
)

// feed is the library's net.Listener: what comes out of Accept is a guard, a fresh one also for a client that has just
// said STARTTLS, so that the library begins with no helo, no login and no transaction (RFC 3207 section 4.2).
type feed struct {
	conns  chan net.Conn
	closed chan struct{} // closed by Close; push and Accept give up then
	once   sync.Once
}

func newFeed() *feed {
	return &feed{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// push hands c to the library; false once the feed is closed.
func (f *feed) push(c net.Conn) bool {
	select {
	case f.conns <- c:
		return true
	case <-f.closed:
		return false
	}
}

func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *feed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

func (f *feed) Addr() net.Addr { return &net.TCPAddr{} }
