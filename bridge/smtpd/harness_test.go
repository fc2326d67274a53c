package smtpd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeUsers has one user, nav with the password "secret", and may know him by his address.
type fakeUsers struct {
	at     netip.Prefix
	wait   time.Duration // before the answer to a failure
	panics bool
}

func (f *fakeUsers) LoginFrom(ctx context.Context, _ netip.Addr, name, password string) (string, time.Duration, error) {
	switch {
	case strings.EqualFold(name, "nav") && password == "secret":
		return "nav", 0, nil
	case name == "panic":
		panic("the users broke")
	case name == "unreachable":
		return "", 0, errors.New("the directory at ldap://secret-host is down")
	case name == "slow":
		<-ctx.Done()
		return "", 0, ctx.Err()
	case name == "blocked":
		return "", f.wait, &reply.Error{Code: 454, Enhanced: "4.7.0", Text: "Too many failed logins, try again later", Err: errors.New("30 failed logins")}
	}
	return "", f.wait, &reply.Error{Code: 535, Enhanced: "5.7.8", Text: "Authentication credentials invalid"}
}

func (f *fakeUsers) At(a netip.Addr) (string, bool) {
	if f.panics {
		panic("the networks broke")
	}
	return "nav", f.at.IsValid() && f.at.Contains(a)
}

// message is what the fake desk was handed.
type message struct {
	s    envelope.Session
	env  envelope.Envelope
	body string
	err  error // of the reader
}

func (m message) String() string {
	var to []string
	for _, r := range m.env.Recipients {
		to = append(to, "<"+r.String()+">")
	}
	s := fmt.Sprintf("<%s> -> %s user=%s %s helo=%s", m.env.ReversePath, strings.Join(to, ","), m.s.User, m.s.Protocol, m.s.Helo)
	if m.env.SMTPUTF8 {
		s += " SMTPUTF8"
	}
	if m.env.Body8Bit {
		s += " 8BITMIME"
	}
	return fmt.Sprintf("%s %q", s, m.body)
}

// fakeDesk keeps what it is handed. The first recipient's local part chooses what else it does.
type fakeDesk struct {
	mu    sync.Mutex
	kept  []message
	seen  []message     // kept or not
	enter chan struct{} // told when "wait@" has read everything
	leave chan struct{} // "wait@" returns when it is closed
}

func (d *fakeDesk) Submit(ctx context.Context, s envelope.Session, env envelope.Envelope, data io.Reader) (envelope.ID, error) {
	mode := env.Recipients[0].Local
	switch mode {
	case "early":
		return "", &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "Queue is full"}
	case "lazy":
		return "0000000000000000", nil
	case "panic":
		panic("the desk broke")
	}
	b, err := io.ReadAll(data)
	m := message{s, env, string(b), err}
	d.mu.Lock()
	d.seen = append(d.seen, m)
	d.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("read the message: %w", err)
	}
	switch mode {
	case "refused":
		return "", &reply.Error{Code: 550, Enhanced: "5.7.1", Text: "You may not send as\r\n250 somebody \u00e4"}
	case "strange":
		return "", &reply.Error{Code: 250, Enhanced: "2.0.0", Text: "Ok"}
	case "mismatch":
		return "", &reply.Error{Code: 550, Enhanced: "4.7.1", Text: "Classes differ"}
	case "broken":
		return "", errors.New("write /var/lib/postern/queue.db: disk I/O error\nsecond line")
	case "wait":
		d.enter <- struct{}{}
		select {
		case <-d.leave:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = append(d.kept, m)
	return "0123456789abcdef", nil
}

func (d *fakeDesk) messages() []message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]message(nil), d.kept...)
}

// events keeps what the server tells the log.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) Handle(_ context.Context, ev event.Event) {
	s := ev.Level.String() + " " + string(ev.Kind)
	for _, a := range ev.Attrs {
		s += " " + a.String()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.list, "\n")
}

// house is a server on loopback with fakes around it.
type house struct {
	t       testing.TB
	s       *Server
	desk    *fakeDesk
	users   *fakeUsers
	events  *events
	address string
	served  chan error
	remote  string // what the server takes the client's address for
	record  *recording
}

type option func(*Options, *house)

func open(t testing.TB, opts ...option) *house {
	t.Helper()
	h := &house{
		t: t, desk: &fakeDesk{enter: make(chan struct{}, 1), leave: make(chan struct{})}, users: &fakeUsers{}, events: &events{},
		served: make(chan error, 1),
	}
	o := Options{
		Address: "listener", Hostname: "bridge.contoso.test", DefaultDomain: "contoso.test", MaxMessage: 1 << 20,
		Auth: Optional, Users: h.users, Desk: h.desk, Events: event.NewBus(h.events),
	}
	for _, f := range opts {
		f(&o, h)
	}
	var err error
	if h.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	go func() { h.served <- h.s.Serve(&fakeListener{l, h}) }()
	t.Cleanup(h.close)
	return h
}

func (h *house) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h.s.Shutdown(ctx)
	if err := <-h.served; err != nil {
		h.t.Errorf("Serve = %v; want nil after Shutdown", err)
	}
	h.served <- nil
}

// fakeListener gives connections another address.
type fakeListener struct {
	net.Listener
	h *house
}

func (l *fakeListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && l.h.record != nil {
		c = &recordedConn{c, l.h.record}
	}
	if err != nil || l.h.remote == "" {
		return c, err
	}
	return &fakeConn{c, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.h.remote))}, nil
}

type fakeConn struct {
	net.Conn
	remote net.Addr
}

func (c *fakeConn) RemoteAddr() net.Addr { return c.remote }

// client is one connection to a house.
type client struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func (h *house) dial() *client {
	h.t.Helper()
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs ends
	h.t.Cleanup(func() { c.Close() })
	return &client{h.t, c, bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("send %.60q: %v", s, err)
	}
}

// line reads one line; "" when the server has closed.
func (c *client) line() string {
	s, err := c.in.ReadString('\n')
	if err != nil {
		return ""
	}
	s = strings.TrimSuffix(s, "\r\n")
	checkReply(c.t, s)
	return s
}

// reply reads a whole reply and returns its last line.
func (c *client) reply() string {
	for {
		l := c.line()
		if len(l) < 4 || l[3] != '-' {
			return l
		}
	}
}

// want sends a line, or raw text that ends so, and checks how the reply begins.
func (c *client) want(send, reply string) {
	c.t.Helper()
	if send != "" {
		c.send(send + "\r\n")
	}
	if got := c.reply(); !strings.HasPrefix(got, reply) || reply == "" && got != "" {
		c.t.Fatalf("after %.80q the server says %q; want %q", send, got, reply)
	}
}

// closed checks that nothing more comes.
func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		c.t.Fatalf("the connection is open, or the server says %q (%v)", rest, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// begin logs in and says MAIL and RCPT.
func (h *house) begin(rcpt string) *client {
	h.t.Helper()
	c := h.dial()
	c.want("", "220 ")
	c.want("EHLO client.test", "250 ")
	c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235 ")
	c.want("MAIL FROM:<a@contoso.test>", "250 ")
	c.want("RCPT TO:<"+rcpt+">", "250 ")
	return c
}

// sure checks that the connection still works and is at a command: no text has become one.
func (c *client) sure() {
	c.t.Helper()
	c.want("NOOP", "250 2.0.0")
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bridge.contoso.test"},
		DNSNames: []string{"bridge.contoso.test"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{certificate()}} }

// secure brings TLS up.
func (c *client) secure() {
	c.t.Helper()
	t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = t, bufio.NewReader(t)
}
