package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// lab is a listener under test in a synctest bubble: ours, or the bare library in front of a plain backend as its
// documentation shows one. A probe sees no difference but in what they do.
type lab struct {
	t        *testing.T
	l        *pipes
	kept     func() []keptMail
	shutdown func(context.Context) error
	log      func() string
	entered  chan struct{} // told when a message to "wait@" has been read
	leave    chan struct{} // then it waits for this
}

// keptMail is one message that a backend was handed whole.
type keptMail struct {
	from string
	to   []string
	body string
}

// knobs are what a probe sets at both; zero is the default of each.
type knobs struct {
	timeout  time.Duration // of reads
	maxBytes int64
	tls      bool
	anyLine  bool // the library's limit of lines is off, as ours has it
	login    bool // nobody may send without one
}

// ours runs probe against a Server.
func ours(t *testing.T, k knobs, probe func(b *lab)) {
	opts := func(o *Options, h *house) {
		o.MaxMessage, h.users.at, o.Auth = k.maxBytes, netip.MustParsePrefix("127.0.0.0/8"), Optional
		o.CommandTimeout, o.DataTimeout = k.timeout, k.timeout
		if k.login {
			o.Auth = Required
		}
		if k.tls {
			o.TLS, o.TLSConfig = StartTLS, serverTLS()
		}
	}
	inBubble(t, opts, func(t *testing.T, b *bubble) {
		probe(&lab{t: t, l: b.l, shutdown: b.s.Shutdown, log: b.events.String, entered: b.desk.enter, leave: b.desk.leave,
			kept: func() (list []keptMail) {
				for _, m := range b.desk.messages() {
					k := keptMail{from: m.env.ReversePath.String(), body: m.body}
					for _, r := range m.env.Recipients {
						k.to = append(k.to, r.String())
					}
					list = append(list, k)
				}
				return list
			}})
	})
}

// bare runs probe against the library alone.
func bare(t *testing.T, k knobs, probe func(b *lab)) {
	synctest.Test(t, func(t *testing.T) {
		be := &plainBackend{entered: make(chan struct{}, 1), leave: make(chan struct{})}
		s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &plainSession{be: be}, nil }))
		s.Domain, s.AllowInsecureAuth, s.ErrorLog = "bridge.contoso.test", true, log.New(io.Discard, "", 0)
		s.ReadTimeout, s.MaxMessageBytes = k.timeout, k.maxBytes
		if k.anyLine {
			s.MaxLineLength = 0
		}
		if k.tls {
			s.TLSConfig = serverTLS()
		}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		var served sync.WaitGroup
		served.Go(func() { s.Serve(l) })
		probe(&lab{t: t, l: l, kept: be.messages, shutdown: s.Shutdown, log: func() string { return "" }, entered: be.entered, leave: be.leave})
		s.Close()
		served.Wait()
	})
}

// plainBackend keeps what it is handed, as the library's example does.
type plainBackend struct {
	mu             sync.Mutex
	list           []keptMail
	entered, leave chan struct{}
}

func (b *plainBackend) messages() []keptMail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]keptMail(nil), b.list...)
}

type plainSession struct {
	be   *plainBackend
	mail keptMail
}

func (s *plainSession) Reset()        { s.mail = keptMail{} }
func (s *plainSession) Logout() error { return nil }

func (s *plainSession) Mail(from string, _ *smtp.MailOptions) error {
	s.mail.from = from
	return nil
}

func (s *plainSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "refused") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user"}
	}
	s.mail.to = append(s.mail.to, to)
	return nil
}

func (s *plainSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(s.mail.to[0], "broken"):
		return errors.New("write /var/lib/postern/queue.db: disk I/O error\nsecond line")
	case strings.HasPrefix(s.mail.to[0], "panic"):
		panic("the backend broke")
	case strings.HasPrefix(s.mail.to[0], "wait"):
		s.be.entered <- struct{}{}
		<-s.be.leave
	}
	s.mail.body = string(b)
	s.be.mu.Lock()
	defer s.be.mu.Unlock()
	s.be.list = append(s.be.list, s.mail)
	return nil
}

func (s *plainSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *plainSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, name, password string) error {
		switch {
		case name == "unreachable":
			return errors.New("the directory at ldap://secret-host is down")
		case password != "secret":
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

// wire is a client's end of a connection to a lab. Nothing that it does fails a test: a probe judges what it reads.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	out  chan string // to the goroutine that writes: a pipe has no buffer
}

func (b *lab) dial() *wire {
	mine, theirs := net.Pipe()
	w := &wire{mine, bufio.NewReader(mine), make(chan string, 10_000)}
	var writer sync.WaitGroup
	b.t.Cleanup(func() { close(w.out); mine.Close(); writer.Wait() })
	b.l.conns <- &fakeConn{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:9"))}
	writer.Go(func() {
		for s := range w.out {
			io.WriteString(mine, s) // an error means that the server has closed, which reading shows
		}
	})
	return w
}

// hello dials, reads the greeting and says EHLO.
func (b *lab) hello() *wire {
	w := b.dial()
	w.recv()
	w.say("EHLO client.test")
	return w
}

// open goes as far as the reply to RCPT.
func (b *lab) open(rcpt string) *wire {
	w := b.hello()
	w.say("MAIL FROM:<a@b.test>")
	w.say("RCPT TO:<" + rcpt + ">")
	return w
}

func (w *wire) send(s string) { w.out <- s }

// recv reads one reply whole; "closed" when there is no more, "silence" when none comes within a day.
func (w *wire) recv() string {
	w.conn.SetReadDeadline(time.Now().Add(24 * time.Hour))
	all := ""
	for {
		l, err := w.in.ReadString('\n')
		switch {
		case isTimeout(err):
			return "silence"
		case err != nil:
			return "closed"
		}
		all += l
		if len(l) < 4 || l[3] != '-' {
			return strings.TrimSuffix(all, "\r\n")
		}
	}
}

func (w *wire) say(line string) string {
	w.send(line + "\r\n")
	return w.recv()
}

// hangUp closes the client's end once everything has been written.
func (w *wire) hangUp() {
	synctest.Wait()
	w.conn.Close()
	synctest.Wait()
}

// secure brings TLS up.
func (w *wire) secure() error {
	t := tls.Client(w.conn, &tls.Config{InsecureSkipVerify: true})
	return t.Handshake()
}
