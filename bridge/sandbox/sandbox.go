// Package sandbox is a small Microsoft 365 of our own: Entra ID's token endpoint, Graph's mail calls and Exchange
// Online's SMTP submission, with the status codes, error bodies and replies of the real ones. Administrators try their
// application against it before they touch their tenant, and the whole test suite trusts it; so it is strict, and it
// shares no code with what it judges: it imports no other room and neither go-smtp nor msgraph. It delivers nothing:
// what it accepts is kept as .eml files and shown on a page. package bridge (the verbs demo and sandbox) and tests start
// it. Failure looks as at Microsoft; where nobody knows how Microsoft behaves there is a switch (Switches), and trouble
// is ordered by recipient (table in outcome.go) or by Fault.
//
// The login page asks for consent each time, and knows no passwords.
// Known liberties: tokens carry the scopes that were asked for and not all that were consented; signatures of tokens are
// random octets and /discovery/v2.0/keys is empty; SMTP keeps a Bcc field (Exchange is thought to strip it).
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postern/auth/token"
)

// Options says what to start. The zero value is complete.
type Options struct {
	Dir       string           // where mail, CA and secrets of the default world go; "" is a temporary folder, removed at Close
	HTTP      string           // address of Entra, Graph, admin and page; default "127.0.0.1:0"
	SMTP      string           // address with STARTTLS; default "127.0.0.1:0"
	SMTPS     string           // address with implicit TLS; "" is none (as at Exchange Online)
	Mailboxes []Mailbox        // default DefaultMailboxes()
	Apps      []App            // default DefaultApps()
	Switches  Switches         // what may be set while running too
	Now       func() time.Time // default time.Now; rules token expiry, not network deadlines
	Logf      func(format string, args ...any)
	Step      func(Where) // nil, or called when a client has come so far, before the answer: a test may end the client there
}

// Sandbox is a running one. All methods are safe for concurrent use.
type Sandbox struct {
	dir       string
	removeDir bool
	now       func() time.Time
	logf      func(format string, args ...any)
	step      func(Where)
	ca        *authority
	httpLn    net.Listener
	smtpLn    net.Listener
	smtpsLn   net.Listener // nil without implicit TLS
	uploadLn  net.Listener // the second host, of upload sessions
	web       *http.Server
	upload    *http.Server

	ctx    context.Context // ends at Close; handlers that wait watch it
	cancel context.CancelFunc
	wg     sync.WaitGroup // accept loops, SMTP sessions and HTTP handlers; see begin

	mu          sync.Mutex // guards all below
	closed      bool
	conns       map[net.Conn]bool // open SMTP connections
	world       world
	switches    Switches
	faults      []*Fault
	attempts    map[string]int  // of a message at a scripted recipient
	busy        map[string]int  // requests or transactions under way per mailbox
	seen        map[string]bool // mailbox and Message-ID of what was accepted
	tokens      tokens
	signins     signIns
	drafts      map[string]*draft // by id; after /send the copy in Sent Items
	sessions    map[string]*uploadSession
	draftNumber int
	received    []Received
	number      int           // of the last .eml file
	arrived     chan struct{} // closed and replaced at each arrival
}

// Start listens, writes CAFile and the secrets of confidential apps, and serves until Close.
func Start(o Options) (*Sandbox, error) {
	s := &Sandbox{
		dir: o.Dir, now: o.Now, logf: o.Logf, switches: o.Switches.filled(),
		conns: map[net.Conn]bool{}, attempts: map[string]int{}, busy: map[string]int{}, seen: map[string]bool{},
		tokens: newTokens(), signins: newSignIns(), arrived: make(chan struct{}), drafts: map[string]*draft{}, sessions: map[string]*uploadSession{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.step = o.Step; s.step == nil {
		s.step = func(Where) {}
	}
	if s.logf == nil {
		s.logf = func(string, ...any) {}
	}
	if o.Mailboxes == nil {
		o.Mailboxes = DefaultMailboxes()
	}
	if o.Apps == nil {
		o.Apps = DefaultApps()
	}
	s.world = newWorld(o.Mailboxes, o.Apps)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.open(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.serve()
	return s, nil
}

// open makes the folder, the CA and the listeners.
func (s *Sandbox) open(o Options) (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "postern-sandbox-"); err != nil {
			return err
		}
		s.removeDir = true
	} else if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	s.number = lastNumber(s.dir)
	if s.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := os.WriteFile(s.CAFile(), s.ca.pem, 0o600); err != nil {
		return err
	}
	for _, a := range s.world.apps {
		if !a.Public && a.Secret != "" {
			if err := os.WriteFile(s.secretFile(a.ClientID), []byte(a.Secret.Reveal()+"\n"), 0o600); err != nil {
				return err
			}
		}
	}
	if s.httpLn, err = listen(o.HTTP); err != nil {
		return fmt.Errorf("sandbox HTTP: %w", err)
	}
	if s.uploadLn, err = listen(""); err != nil {
		return fmt.Errorf("sandbox uploads: %w", err)
	}
	if s.smtpLn, err = listen(o.SMTP); err != nil {
		return fmt.Errorf("sandbox SMTP: %w", err)
	}
	if o.SMTPS != "" {
		if s.smtpsLn, err = listen(o.SMTPS); err != nil {
			return fmt.Errorf("sandbox SMTP with implicit TLS: %w", err)
		}
	}
	return nil
}

func listen(address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	// Its admin calls hand out tokens and its mail is for everybody to read.
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("%s is not on loopback, and the sandbox has no password; listen on 127.0.0.1", address), ln.Close())
	}
	return ln, nil
}

func (s *Sandbox) serve() {
	s.web = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: time.Minute,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // connections cut on purpose are no news
	}
	s.wg.Go(func() { _ = s.web.Serve(s.httpLn) }) // ends with ErrServerClosed
	s.upload = &http.Server{Handler: http.HandlerFunc(s.serveUpload), ReadHeaderTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		BaseContext: s.web.BaseContext, ErrorLog: s.web.ErrorLog}
	s.wg.Go(func() { _ = s.upload.Serve(s.uploadLn) })
	s.wg.Go(func() { s.acceptSMTP(s.smtpLn, false) })
	if s.smtpsLn != nil {
		s.wg.Go(func() { s.acceptSMTP(s.smtpsLn, true) })
	}
}

// begin counts a handler or session in, so that Close waits for it; false once closing.
func (s *Sandbox) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

// Close stops everything, cuts what is under way and waits for it. Wait calls return ErrClosed.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closed = true
	for c := range s.conns {
		_ = c.Close() // wakes its session
	}
	s.mu.Unlock()
	s.cancel()
	for _, ln := range []net.Listener{s.smtpLn, s.smtpsLn, s.httpLn, s.uploadLn} {
		if ln != nil {
			_ = ln.Close() // the accept loop sees it
		}
	}
	if s.web != nil {
		_ = s.web.Close() // its listener is closed already, and that is its only complaint
	}
	if s.upload != nil {
		_ = s.upload.Close()
	}
	s.wg.Wait()
	if s.removeDir {
		return os.RemoveAll(s.dir)
	}
	return nil
}

// Authority is Entra's base URL, for the key authority.
func (s *Sandbox) Authority() string { return "http://" + s.httpLn.Addr().String() }

// GraphURL is Graph's base URL with its version.
func (s *Sandbox) GraphURL() string { return s.Authority() + "/v1.0" }

// PageURL is where received mail is shown.
func (s *Sandbox) PageURL() string { return s.Authority() + "/" }

// SMTPAddr is host:port of the STARTTLS listener.
func (s *Sandbox) SMTPAddr() string { return s.smtpLn.Addr().String() }

// SMTPSAddr is host:port of the implicit TLS listener; "" when there is none.
func (s *Sandbox) SMTPSAddr() string {
	if s.smtpsLn == nil {
		return ""
	}
	return s.smtpsLn.Addr().String()
}

// CAFile is the PEM file with the throw-away CA that signed the SMTP certificate (127.0.0.1, ::1 and localhost).
func (s *Sandbox) CAFile() string { return filepath.Join(s.dir, "ca.pem") }

// Dir is the folder of the received mail.
func (s *Sandbox) Dir() string { return s.dir }

func (s *Sandbox) secretFile(clientID string) string {
	return filepath.Join(s.dir, "secret-"+clientID+".txt")
}

// ConfigTOML returns a whole [[provider]] table that points Postern at this sandbox as the given app; the secret of a
// confidential app is a file: reference into Dir.
func (s *Sandbox) ConfigTOML(name, clientID string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[provider]]\nname = %s\ntype = \"microsoft\"\ntenant = %s\nclient_id = %s\n",
		tomlString(name), tomlString(TenantName), tomlString(clientID))
	s.mu.Lock()
	app, ok := s.world.app(clientID)
	s.mu.Unlock()
	if ok && !app.Public && app.Secret != "" {
		fmt.Fprintf(&b, "client_secret = %s\n", tomlString("file:"+s.secretFile(app.ClientID)))
	}
	fmt.Fprintf(&b, "authority = %s\ngraph = %s\nsmtp = %s\nsmtp_tls = \"starttls\"\nca_file = %s\nallow_http = true\n",
		tomlString(s.Authority()), tomlString(s.GraphURL()), tomlString(s.SMTPAddr()), tomlString(s.CAFile()))
	return b.String()
}

// tomlString quotes for TOML 1.0; backslashes are doubled, so that Windows paths survive.
func tomlString(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// Switch changes the switches while running; what was left at zero gets its default again.
func (s *Sandbox) Switch(change func(*Switches)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.switches)
	s.switches = s.switches.filled()
}

func (s *Sandbox) settings() Switches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switches
}

// SetMailbox adds a mailbox or replaces the one with that address, with its rights.
func (s *Sandbox) SetMailbox(m Mailbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.setMailbox(m)
}

// SetApp adds an app registration or replaces the one with that client id.
func (s *Sandbox) SetApp(a App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.setApp(a)
}

// RefreshToken returns what a sign-in of login at the public app would have given; "" for an unknown login, and for a
// shared mailbox, which has no sign-in.
func (s *Sandbox) RefreshToken(login string) token.Secret {
	return s.RefreshTokenFor(PublicClientID, login)
}

// RefreshTokenFor is RefreshToken for another app.
func (s *Sandbox) RefreshTokenFor(clientID, login string) token.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.world.mailbox(login)
	a, known := s.world.app(clientID)
	if !ok || !known || m.Shared {
		return ""
	}
	return token.Secret(s.tokens.newRefresh(a.ClientID, m.Address, a.Scopes, s.now()))
}

// Revoke ends every refresh token of login, as "revoke sessions" does: AADSTS50173 from then on.
func (s *Sandbox) Revoke(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rt := range s.tokens.refresh {
		if strings.EqualFold(rt.login, login) {
			rt.revoked = s.now()
		}
	}
}

// ExpireAccessTokens ends every access token there is, as if its time had passed.
func (s *Sandbox) ExpireAccessTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.tokens.access {
		at.expires = s.now()
	}
}
