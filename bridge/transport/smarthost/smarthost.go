// Package smarthost relays one attempt over SMTP (RFC 5321) to a smarthost that takes OAuth tokens: XOAUTH2, or
// OAUTHBEARER (RFC 7628) where the server offers only that. It opens, signs in, keeps and reuses the connections of one
// account, and turns the server's answers into outcomes. It must not know how tokens are made, what policy made the
// plan, or when the next attempt is due. Package relay calls it; it calls its TokenSource. It is the only importer of
// go-smtp's client, which speaks through a conn of ours (wire.go). Failure is a reply.Outcome: what the server said,
// whose trouble that is and what a person can do; nothing is sent in clear text, and no token stands in any text.
package smarthost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// transportName is what Outcome.Transport says.
const transportName = "smtp"

// TokenSource yields access tokens of one login for SMTP. Safe for concurrent use. The hall hands in one account of
// package auth.
type TokenSource interface {
	// Token returns a token that is valid for at least one more minute. errors.As finds a *token.Error in what it returns.
	Token(ctx context.Context, r token.Resource) (token.Secret, error)

	// Refused says that the server refused this token: the next Token fetches a fresh one. A token that is no longer the
	// current one changes nothing, so that two connections refused together cost one refresh.
	Refused(r token.Resource, refused token.Secret)
}

// Mode says when TLS begins. There is no mode without it.
type Mode int

const (
	StartTLS Mode = iota // after STARTTLS (RFC 3207), port 587
	Implicit             // from the first octet (RFC 8314 section 3.3), port 465
)

// Options says where one account's smarthost is and who signs in. Account, Address, Login and Tokens are needed.
type Options struct {
	Account  string         // the account's name, for events and remedies
	Address  string         // host:port; the certificate must name the host
	TLS      Mode           // default StartTLS
	RootCAs  *x509.CertPool // whom to trust; nil: the system's
	Login    string         // who signs in: user= of XOAUTH2
	AppOnly  bool           // nobody does: Login is the mailbox, and remedies speak of the application
	Hostname string         // for EHLO; default "localhost"
	Tokens   TokenSource
	Events   *event.Bus       // nil drops them
	Now      func() time.Time // for durations in events; default time.Now
	Timeouts Timeouts

	// Dial opens the TCP connection; default a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Timeouts are the limits of the steps. A zero field takes the default, after RFC 5321 section 4.5.3.2. The context of
// Send limits the whole.
type Timeouts struct {
	Connect   time.Duration // name and TCP, 30 s
	TLS       time.Duration // handshake, 30 s
	Greeting  time.Duration // 5 min
	Command   time.Duration // the reply to EHLO, AUTH, MAIL, RCPT, RSET: 5 min each
	Reused    time.Duration // the reply to MAIL on a kept connection, 30 s: one that a firewall forgot is silent
	DataStart time.Duration // the reply to DATA, 2 min
	DataBlock time.Duration // one write, 3 min
	DataEnd   time.Duration // the reply to the final dot, 10 min
	Idle      time.Duration // how long a connection is kept for the next message, 45 s
}

func (l Timeouts) withDefaults() Timeouts {
	for _, f := range []struct {
		d   *time.Duration
		def time.Duration
	}{
		{&l.Connect, 30 * time.Second},
		{&l.TLS, 30 * time.Second},
		{&l.Greeting, 5 * time.Minute},
		{&l.Command, 5 * time.Minute},
		{&l.Reused, 30 * time.Second},
		{&l.DataStart, 2 * time.Minute},
		{&l.DataBlock, 3 * time.Minute},
		{&l.DataEnd, 10 * time.Minute},
		{&l.Idle, 45 * time.Second},
	} {
		if *f.d <= 0 {
			*f.d = f.def
		}
	}
	return l
}

// Transport relays for one account. Safe for concurrent use; how many at once is the caller's decision (Exchange Online
// allows three submissions per mailbox).
type Transport struct {
	o    Options
	host string
	tls  *tls.Config

	mu     sync.Mutex // guards idle and closed; wg.Add happens under it, so that Close waits for all
	idle   []*session // the last put back is the next taken
	closed bool
	wg     sync.WaitGroup // Sends, Probes and goodbyes under way
}

// New returns a transport. It touches nothing: a wrong address shows at the first Send.
func New(o Options) *Transport {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if !isHostname(o.Hostname) {
		o.Hostname = "localhost"
	}
	o.Timeouts = o.Timeouts.withDefaults()
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		host = o.Address
	}
	return &Transport{
		o:    o,
		host: host,
		tls:  &tls.Config{ServerName: host, RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
	}
}

// isHostname keeps anything out of the EHLO line that is no name or address literal.
func isHostname(s string) bool {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r))
	}
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, bad)
}

// Send relays one attempt and says how it ended for each recipient. When ctx ends the connection is closed at once: that
// is deferred before the final dot and in doubt after it.
func (t *Transport) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	if !t.enter() {
		return closedTrouble().outcome
	}
	defer t.wg.Done()

	if s := t.take(); s != nil {
		x := t.transact(ctx, s, out)
		if !x.stale || ctx.Err() != nil {
			return x.outcome
		}
		// The server had given the kept connection up, and nothing of the message had left: a fresh one costs nothing.
	}
	s, tr := t.open(ctx)
	if tr != nil {
		return tr.outcome
	}
	return t.transact(ctx, s, out).outcome
}

// Probe connects, starts TLS, signs in and says goodbye, and sends no mail. The error is a *ProbeError.
func (t *Transport) Probe(ctx context.Context) error {
	if !t.enter() {
		return &ProbeError{closedTrouble().outcome}
	}
	defer t.wg.Done()

	s, tr := t.open(ctx)
	if tr != nil {
		return &ProbeError{tr.outcome}
	}
	s.quit() // its failure says nothing: the sign-in worked
	return nil
}

// ProbeError says why the smarthost cannot be used, and what to do.
type ProbeError struct{ Outcome reply.Outcome }

// Error returns the cause and the remedy.
func (e *ProbeError) Error() string {
	if e.Outcome.Remedy == "" {
		return e.Outcome.Err.Error()
	}
	return e.Outcome.Err.Error() + "; " + e.Outcome.Remedy
}

// Unwrap returns the cause.
func (e *ProbeError) Unwrap() error { return e.Outcome.Err }

// Close says goodbye on the idle connections, five seconds at most, and waits for every Send and Probe under way; end
// their contexts to end them sooner. Later calls of Send are deferred. It returns nil.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	for _, s := range t.idle {
		s.expiry.Stop()
		t.wg.Go(s.quit)
	}
	t.idle = nil
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// enter counts a caller in, unless the transport is closed. The caller ends with t.wg.Done.
func (t *Transport) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.wg.Add(1)
	}
	return !t.closed
}

func closedTrouble() *trouble {
	return deferred(reply.Process, errors.New("transport to the smarthost is closed"))
}

// open returns a signed-in connection. A token that the server refuses is fetched anew once, for one more connection:
// Exchange's 535 5.7.3 says nothing about the cause (design.md section 6, "Tokens").
func (t *Transport) open(ctx context.Context) (*session, *trouble) {
	for try := 1; ; try++ {
		access, err := t.o.Tokens.Token(ctx, token.SMTP)
		if err != nil {
			return nil, tokenTrouble(ctx, err)
		}
		s, tr := t.connect(ctx, access)
		if tr == nil {
			return s, nil
		}
		if !tr.badToken || try == 2 {
			return nil, tr
		}
		t.o.Tokens.Refused(token.SMTP, access)
	}
}

// tokenTrouble says whose trouble a missing token is. Without a *token.Error it is taken to pass by itself.
func tokenTrouble(ctx context.Context, err error) *trouble {
	var e *token.Error
	if !errors.As(err, &e) {
		return interrupted(ctx, fmt.Errorf("access token for SMTP: %w", err))
	}
	bare := *e
	bare.Remedy = "" // the outcome has it; in the text it would be read twice
	tr := deferred(reply.Route, fmt.Errorf("access token for SMTP: %w", &bare))
	tr.outcome.RetryAfter = min(e.RetryAfter, time.Hour)
	tr.outcome.Remedy = e.Remedy
	if e.Person {
		tr.outcome.Owner = reply.Login
	}
	return tr
}

// wirePath returns the address for MAIL or RCPT, "" for the null reverse-path. go-smtp writes what it is given, so that
// a blank or a bracket would become a parameter or a second recipient: what does not parse as exactly itself is refused,
// although envelope.Address was checked when it was made.
func wirePath(a envelope.Address) (string, error) {
	if a.IsNull() {
		return "", nil
	}
	w := a.Wire()
	p, err := envelope.ParseAddress(w)
	if err != nil {
		return "", fmt.Errorf("address cannot be written into an SMTP command: %w", err)
	}
	if p.Wire() != w {
		return "", errors.New("address cannot be written into an SMTP command")
	}
	return w, nil
}
