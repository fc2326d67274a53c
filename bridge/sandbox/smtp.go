package sandbox

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	frontHost   = "SB0P282CA0001.outlook.sandbox.test"      // greets
	backendHost = "SB0P282MB0001.SANDBOX.PROD.OUTLOOK.TEST" // stores
	maxSize     = 157286400                                 // what SIZE says; the mailbox's own limit is judged after the dot
	maxLine     = 16 << 10                                  // octets of a command line: a one-step XOAUTH2 is long
	idleTimeout = 10 * time.Minute                          // for the next command or the next piece of data
	dateForm    = "Mon, 2 Jan 2006 15:04:05 -0700"          // of the banner
)

// session is one SMTP connection.
type session struct {
	s      *Sandbox
	conn   net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	id     string // in brackets at the end of banner and 535
	tls    bool
	helo   string     // "" before EHLO or HELO
	who    *principal // nil before AUTH
	tx     *transaction
	ending bool // close after the reply
}

// principal is who is signed in to SMTP.
type principal struct {
	clientID string
	login    string  // "" for app-only
	id       string  // by which rights are granted: the login, or the client id
	mailbox  Mailbox // as it was at AUTH
}

// errBareLF is a command line that ends without CR.
var errBareLF = errors.New("bare line feed")

func (s *Sandbox) acceptSMTP(ln net.Listener, implicitTLS bool) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return // closed
		}
		if !s.begin() {
			_ = conn.Close()
			return
		}
		go func() { // waited for by begin's count
			defer s.wg.Done()
			s.track(conn, true)
			defer s.track(conn, false)
			defer conn.Close()
			s.newSession(conn, implicitTLS).run()
		}()
	}
}

// track lets Close cut the connection.
func (s *Sandbox) track(conn net.Conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !open:
		delete(s.conns, conn)
	case s.closed:
		_ = conn.Close()
	default:
		s.conns[conn] = true
	}
}

func (s *Sandbox) newSession(conn net.Conn, implicitTLS bool) *session {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	c := &session{s: s, id: strings.ToUpper(fmt.Sprintf("%x", b))}
	if implicitTLS {
		conn = tls.Server(conn, s.ca.tls)
		c.tls = true
	}
	c.use(conn)
	return c
}

// use starts reading and writing on conn; what was buffered before is forgotten (RFC 3207 section 4.2).
func (c *session) use(conn net.Conn) {
	c.conn, c.r, c.w = conn, bufio.NewReaderSize(conn, maxLine), bufio.NewWriter(conn)
}

func (c *session) run() {
	defer c.reset()
	defer func() { _ = c.conn.Close() }() // with TLS's close_notify
	if c.struck(AtGreeting) {
		_ = c.w.Flush()
		return
	}
	c.reply("220 %s Microsoft ESMTP MAIL Service ready at %s [%s]", frontHost, c.s.now().UTC().Format(dateForm), c.id)
	for !c.ending {
		line, err := c.readLine()
		if err != nil {
			if errors.Is(err, errBareLF) || errors.Is(err, bufio.ErrBufferFull) {
				c.reply("500 5.5.2 Syntax error: a line ends with CR LF and is shorter than %d octets", maxLine)
			}
			_ = c.w.Flush() // the client may have left
			return
		}
		c.command(line)
	}
	_ = c.w.Flush() // the client may have left
}

// readLine reads one line that CRLF ends, and sends the replies first when the client has nothing more under way
// (RFC 2920).
func (c *session) readLine() (string, error) {
	if c.r.Buffered() == 0 {
		if err := c.w.Flush(); err != nil {
			return "", err
		}
	}
	_ = c.conn.SetDeadline(time.Now().Add(idleTimeout)) // fails only on a closed connection, and then so does the read
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok || strings.ContainsAny(text, "\r\x00") {
		return "", errBareLF
	}
	return text, nil
}

// reply buffers one line.
func (c *session) reply(format string, args ...any) {
	fmt.Fprintf(c.w, format+"\r\n", args...) // an error comes back at Flush
}

// stamp ends a reply as Exchange's front end does: [host time id].
func (c *session) stamp() string {
	return fmt.Sprintf("[%s %s %s]", frontHost, c.s.now().UTC().Format("2006-01-02T15:04:05.000Z"), c.id)
}

// struck answers with an ordered fault; false when there is none, or one that only delays.
func (c *session) struck(at Where) bool {
	login := ""
	if c.who != nil {
		login = c.who.mailbox.Address
	}
	f := c.s.takeFault(at, login)
	switch {
	case f == nil:
		return false
	case f.Drop:
		c.ending = true
		_ = c.conn.Close()
		return true
	case f.Reply == "":
		return false
	}
	c.reply("%s", f.Reply)
	c.ending = strings.HasPrefix(f.Reply, "421") || at == AtGreeting
	return true
}

func (c *session) command(line string) {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "HELO":
		c.hello(strings.ToUpper(verb), strings.TrimSpace(arg))
	case "STARTTLS":
		c.startTLS(arg)
	case "AUTH":
		c.auth(arg)
	case "MAIL":
		c.mail(arg)
	case "RCPT":
		c.rcpt(arg)
	case "DATA":
		c.data(arg)
	case "BDAT":
		c.bdat(arg)
	case "RSET":
		c.reset()
		c.reply("250 2.0.0 Resetting")
	case "NOOP":
		c.reply("250 2.0.0 OK")
	case "VRFY":
		c.reply("252 2.1.5 Cannot VRFY user")
	case "HELP":
		c.reply("214-This server supports the following commands:")
		c.reply("214 HELO EHLO STARTTLS RCPT DATA RSET MAIL QUIT HELP AUTH BDAT")
	case "QUIT":
		c.reply("221 2.0.0 Service closing transmission channel")
		c.ending = true
	default:
		c.reply("500 5.3.3 Unrecognized command '%.40s'", strings.Map(printable, verb))
	}
}

// printable replaces what should not be echoed.
func printable(r rune) rune {
	if r < 0x20 || r >= 0x7f {
		return '?'
	}
	return r
}

func (c *session) hello(verb, name string) {
	if name == "" {
		c.reply("501 5.5.4 Invalid domain name")
		return
	}
	c.reset() // RFC 5321 section 4.1.4
	c.helo = name
	remote, _, _ := net.SplitHostPort(c.conn.RemoteAddr().String()) // an address of ours always splits
	if verb == "HELO" {
		c.reply("250 %s Hello [%s]", frontHost, remote)
		return
	}
	lines := capabilities(c.tls)
	c.reply("250-%s Hello [%s]", frontHost, remote)
	for _, line := range lines[:len(lines)-1] {
		c.reply("250-%s", line)
	}
	c.reply("250 %s", lines[len(lines)-1])
}

// capabilities in Exchange's order; AUTH stands where STARTTLS stood (facts C1).
func capabilities(tls bool) []string {
	security := "STARTTLS"
	if tls {
		security = "AUTH LOGIN XOAUTH2"
	}
	return []string{"SIZE " + strconv.Itoa(maxSize), "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", security, "8BITMIME", "BINARYMIME",
		"CHUNKING", "SMTPUTF8"}
}

// startTLS forgets everything that was said in the clear (RFC 3207 section 4.2).
func (c *session) startTLS(arg string) {
	switch {
	case c.tls:
		c.reply("503 5.5.2 Only one STARTTLS command can be issued per session")
		return
	case c.helo == "":
		c.reply("503 5.5.2 Send hello first")
		return
	case arg != "":
		c.reply("501 5.5.4 Invalid arguments")
		return
	case c.r.Buffered() > 0: // commands smuggled in before TLS, or a client that pipelines STARTTLS (RFC 2920 section 3.1)
		c.reply("503 5.5.2 Nothing may follow STARTTLS before its reply")
		c.ending = true
		return
	}
	if c.struck(AtSTARTTLS) {
		return
	}
	c.reply("220 2.0.0 SMTP server ready")
	if c.w.Flush() != nil {
		c.ending = true
		return
	}
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute)) // for the handshake
	conn := tls.Server(c.conn, c.s.ca.tls)
	if err := conn.Handshake(); err != nil {
		c.s.logf("smtp: TLS: %v", err)
		c.ending = true
		return
	}
	c.reset()
	c.use(conn)
	c.tls, c.helo = true, ""
}
