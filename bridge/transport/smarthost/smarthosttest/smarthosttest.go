// Package smarthosttest is a small scriptable smarthost for tests: its own line server with TLS under a throw-away
// authority, XOAUTH2 and OAUTHBEARER, and the misbehaviour of every step. It knows no vendor's rules (the sandbox does)
// and nothing of package smarthost. Tests start it; what it received is read from it. What goes wrong in it fails the
// test or ends that connection.
package smarthosttest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Step is a place in the dialogue where the server can misbehave.
type Step string

// The steps, in order. Line is what the client said there.
const (
	Greeting  Step = "greeting"
	EHLO      Step = "EHLO" // before TLS, where that begins with STARTTLS
	STARTTLS  Step = "STARTTLS"
	TLS       Step = "TLS"       // the handshake; Reply is not used
	EHLOTLS   Step = "EHLO/TLS"  // under TLS
	AUTH      Step = "AUTH"      // the command; the good answer is "334 "
	Token     Step = "token"     // the response with the token
	Dismissal Step = "dismissal" // the answer to the error challenge (ErrorChallenge)
	MAIL      Step = "MAIL"
	RCPT      Step = "RCPT"
	DATA      Step = "DATA"
	Body      Step = "body" // after the first octets of the message; Reply is sent although nobody asked
	Dot       Step = "dot"  // after the whole message
	RSET      Step = "RSET"
	QUIT      Step = "QUIT"
)

// Exchange is one line of the client.
type Exchange struct {
	Step       Step
	Connection int    // counted from 1
	Count      int    // how often this step came on all connections, this one included
	Line       string // without the line end; "" at Greeting, TLS, Body and Dot; never the token
	Data       []byte // the message, at Dot
}

// Action is what the server does instead of the good answer. The zero value does what is good.
type Action struct {
	Wait    <-chan struct{} // first wait until it is closed, or the server is
	Reply   string          // sent as it stands, CRLF and all; "" is the good answer, unless Drop or Endless is set
	Endless bool            // sends "250-" lines until the connection ends
	Drop    bool            // closes the connection after Reply
}

// Certificate says what is wrong with the server's certificate.
type Certificate int

const (
	Good Certificate = iota
	Expired
	WrongName
	UnknownCA
)

// Script says how the server behaves. The zero value is a good server in the manner of Exchange Online: STARTTLS, and
// AUTH LOGIN XOAUTH2 that takes any token.
type Script struct {
	Implicit    bool // TLS from the first octet
	Certificate Certificate
	MaxTLS      uint16 // highest version; 0 is the newest

	Extensions     []string // instead of the usual ones; STARTTLS and AUTH are added
	NoSTARTTLS     bool     // does not offer it
	Mechanisms     []string // of AUTH; nil: LOGIN XOAUTH2; empty: no AUTH line
	ErrorChallenge bool     // a refused token gets Gmail's 334 with JSON first
	ID             string   // in the 250 to the final dot; default "<1@smarthost.test>"

	// Accept says whether a token is good; nil takes any. It is called from several goroutines.
	Accept func(login, token string) bool

	// On is asked at every step; nil does what is good. It is called from several goroutines.
	On func(Exchange) *Action
}

// Always is a Script.On that does a at one step, every time.
func Always(at Step, a Action) func(Exchange) *Action {
	return func(x Exchange) *Action {
		if x.Step == at {
			return &a
		}
		return nil
	}
}

// Once is a Script.On that does a at one step, the first time it comes.
func Once(at Step, a Action) func(Exchange) *Action {
	return func(x Exchange) *Action {
		if x.Step == at && x.Count == 1 {
			return &a
		}
		return nil
	}
}

// Message is what arrived between MAIL and the final dot; a message that was refused at the dot is not among them.
type Message struct {
	Connection int
	Login      string
	Mail       string   // the MAIL line, with its parameters
	Rcpt       []string // the RCPT lines that were accepted
	Data       []byte   // the octets of the message, without SMTP's dots
}

// Server is a smarthost on a loopback address. Safe for concurrent use.
type Server struct {
	script   Script
	listener net.Listener
	config   *tls.Config
	roots    *x509.CertPool

	ctx  context.Context // ends when the test does
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex // guards all below
	conns    map[net.Conn]bool
	opened   int
	counts   map[Step]int
	commands []string
	messages []Message
	tokens   []string
}

// Start starts a server that ends with the test.
func Start(t testing.TB, s Script) *Server {
	t.Helper()
	v := newServer(t, s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	v.listener = listener
	v.wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			v.serve(c)
		}
	})
	return v
}

// StartPipe starts a server without a socket, for tests in a bubble of testing/synctest: reach it by Dial. A pipe holds
// no octets, so that both sides must not write at once.
func StartPipe(t testing.TB, s Script) *Server {
	t.Helper()
	return newServer(t, s)
}

func newServer(t testing.TB, s Script) *Server {
	t.Helper()
	config, roots, err := certificate(s.Certificate)
	if err != nil {
		t.Fatalf("make a certificate: %v", err)
	}
	config.MaxVersion = s.MaxTLS
	if s.MaxTLS != 0 {
		config.MinVersion = s.MaxTLS
	}
	v := &Server{script: s, config: config, roots: roots, conns: map[net.Conn]bool{}, counts: map[Step]int{}}
	v.ctx, v.stop = context.WithCancel(context.Background())
	t.Cleanup(v.Close)
	return v
}

// Close ends the server and its connections, and waits for them.
func (v *Server) Close() {
	v.stop()
	if v.listener != nil {
		v.listener.Close()
	}
	v.DropAll()
	v.wg.Wait()
}

// DropAll closes every connection, as a server does that restarts.
func (v *Server) DropAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		c.Close()
	}
}

// Host is the name in the server's good certificate.
const Host = "localhost"

// Address returns host:port, with the host that the certificate names.
func (v *Server) Address() string {
	if v.listener == nil {
		return Host + ":587"
	}
	_, port, _ := net.SplitHostPort(v.listener.Addr().String())
	return net.JoinHostPort(Host, port)
}

// Dial connects to the server, whatever the address says.
func (v *Server) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if v.listener != nil {
		return new(net.Dialer).DialContext(ctx, network, v.listener.Addr().String())
	}
	here, there := net.Pipe()
	v.serve(there)
	return here, nil
}

// RootCAs returns the authority to trust. With UnknownCA it is another one's.
func (v *Server) RootCAs() *x509.CertPool { return v.roots }

// Messages returns what was accepted, in order.
func (v *Server) Messages() []Message {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.messages)
}

// Commands returns what the clients said, in order, without tokens and message text; the response with a token is
// "(token)".
func (v *Server) Commands() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.commands)
}

// Said reports whether a client said a command that begins so.
func (v *Server) Said(prefix string) bool {
	return slices.ContainsFunc(v.Commands(), func(c string) bool { return strings.HasPrefix(c, prefix) })
}

// Tokens returns the tokens that arrived, in order.
func (v *Server) Tokens() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.tokens)
}

// Connections returns how many were opened.
func (v *Server) Connections() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.opened
}

// Open returns how many are open.
func (v *Server) Open() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.conns)
}
