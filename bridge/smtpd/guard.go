package smtpd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/reply"
)

// mode says what the guard reads next.
type mode int

const (
	greeting mode = iota // nothing: the library is to greet
	commands
	exchange // a response of AUTH
	inText   // the message
	ended    // nothing any more
)

// guard is the library's net.Conn. The library calls it, and through session the guard is called back, all in the one
// goroutine that the library has for a connection; so nothing here needs a lock.
//
// It works in lock-step: Read gives one line and notes the reply that must follow (expect), Write watches for it and
// sends the guard's own text instead. A reply that was not expected, or a Read before one, means that guard and library
// disagree about the dialogue; then the connection ends.
type guard struct {
	*link
	mode     mode
	toLib    []byte // rest of what the library is to read
	fromLib  []byte // begin of a reply line of the library
	awaiting bool   // the library owes a reply
	code     int    // the one it must give
	answer   string // what the client reads instead; "" is nothing
	greeted  bool   // by a guard before this one: the greeting is not repeated
	rested   bool   // the library must hear HELO again
	handed   bool   // the link belongs to the guard that follows this one, or is closed

	helo        string // what the client called itself, made safe to print; "" before HELO
	extended    bool   // it said EHLO
	user        string // logged in as
	loginFailed bool   // no anonymous MAIL any more
	dataRefused bool   // DATA was refused: what follows may be text

	tx       transaction
	proposed transaction      // what MAIL said, until the library has called the session
	rcpt     envelope.Address // what RCPT said, likewise
	norm     *normalizer      // during DATA
	waited   time.Duration    // for text, during DATA
	broken   error            // the connection broke inside DATA
}

// transaction is one MAIL with its recipients.
type transaction struct {
	active bool
	user   string
	env    envelope.Envelope
	known  map[string]bool // keys of env.Recipients
}

func newGuard(l *link, greeted bool) *guard { return &guard{link: l, greeted: greeted} }

// Read gives the library its next line.
func (g *guard) Read(b []byte) (n int, err error) {
	defer g.recover(&err)
	if len(g.toLib) == 0 {
		if g.toLib, err = g.next(); err != nil {
			return 0, err
		}
	}
	n = copy(b, g.toLib)
	g.toLib = g.toLib[n:]
	return n, nil
}

func (g *guard) next() ([]byte, error) {
	if g.awaiting && g.mode != ended {
		g.fail(errors.New("the library reads before it has replied"))
	}
	for {
		var line string
		switch g.mode {
		case commands:
			line = g.nextCommand()
		case exchange:
			line = g.readResponse()
		case inText: // which is not for the library
			g.fail(errors.New("the library reads the message"))
		default:
			if !g.handed {
				g.flush()
			}
			return nil, io.EOF
		}
		if line != "" {
			return []byte(line + "\r\n"), nil
		}
	}
}

// Write watches the library's replies. It never fails: the library does not look.
func (g *guard) Write(p []byte) (n int, err error) {
	defer g.recover(nil)
	g.fromLib = append(g.fromLib, p...)
	for rest := g.fromLib; ; {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			g.fromLib = append(g.fromLib[:0], rest...)
			return len(p), nil
		}
		rest = after
		if len(line) < 4 || line[3] != '-' {
			code, _ := strconv.Atoi(string(line[:min(len(line), 3)]))
			g.replied(code)
		}
	}
}

// replied turns the library's reply into the guard's.
func (g *guard) replied(code int) {
	switch {
	case g.handed || g.err != nil || g.broken != nil:
		// Nobody is there to read it.
	case g.mode == greeting && code == 220:
		g.greet()
	case g.awaiting && code == g.code:
		if g.awaiting = false; g.answer != "" {
			g.say(g.answer)
		}
	case g.mode != ended || g.awaiting:
		g.fail(fmt.Errorf("the library replied %d where %d was due", code, g.code))
	}
}

// expect prepares the reply to what the library is about to read or has read.
func (g *guard) expect(code int, answer string) {
	g.awaiting, g.code, g.answer = true, code, answer
}

// pass hands a clean line to the library and expects the code that answer begins with.
func (g *guard) pass(line string, code int, answer string) string {
	g.expect(code, answer)
	return line
}

func (g *guard) greet() {
	g.mode = commands
	switch {
	case g.greeted: // the second greeting of the library, which the client must not see
	case g.o.TLS == Implicit && g.handshake() != nil:
		g.end("", g.err)
	case g.early():
	default:
		g.say("220 " + g.o.Hostname + " ESMTP Postern")
	}
}

// early ends a connection whose client talks before the greeting: off loopback that is no mail program. On loopback it is
// the oldest of all, printf piped into nc.
func (g *guard) early() bool {
	if g.remote.IsLoopback() {
		return false
	}
	switch first, err := g.peekEarly(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false
	case err != nil: // gone, as a port check is
		g.err = err
		g.end("", nil)
	case first == tlsHandshake:
		g.end("", errHello)
	default:
		g.linger = true
		g.end("554 5.5.0 You spoke before the greeting, closing the connection", errors.New("the client talks before the greeting"))
	}
	return true
}

// end closes the connection after a last reply, which may be "".
func (g *guard) end(answer string, cause error) {
	if answer != "" {
		g.say(answer)
	}
	g.mode, g.awaiting = ended, false
	if g.cause == nil {
		g.cause = cause
	}
}

// fail ends a connection in which guard and library disagree, or in which the guard has broken.
func (g *guard) fail(err error) {
	g.end("421 4.3.0 Internal error, closing the connection", err)
}

// recover keeps a panic in one connection: outside of commands the library recovers nothing.
func (g *guard) recover(err *error) {
	if p := recover(); p != nil {
		g.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		if err != nil {
			*err = io.EOF
		}
	}
}

// Close ends the connection, unless it goes on under TLS. The library calls it more than once.
func (g *guard) Close() error {
	if !g.handed {
		g.handed = true
		if g.norm != nil {
			g.putBuffer()
		}
		g.close()
	}
	return nil
}

// readCommand reads one line of the client. It answers by itself and returns "", or returns a line for the library.
func (g *guard) readCommand() string {
	line, err := g.readLine(maxCommand)
	switch {
	case err == errTooLong:
		return g.bad("500 5.5.2 Line too long")
	case err != nil:
		g.stopReading(err)
		return ""
	}
	return g.command(line)
}

// stopReading ends the dialogue because no line can be had.
func (g *guard) stopReading(err error) {
	switch err {
	case errStopping:
		g.end("421 4.3.2 "+g.o.Hostname+" Service is stopping", nil)
	case errTimeout:
		g.end("421 4.4.2 "+g.o.Hostname+" Idle for too long, closing the connection", err)
	case errBareLF:
		// Nobody who ends lines so can end a message, and what looks like one line here is two elsewhere.
		g.linger = true
		g.end("500 5.5.2 Lines must end in CR LF, closing the connection", err)
	case errEndless:
		g.linger = true
		g.end("500 5.5.2 Line too long, closing the connection", err)
	case errHello:
		g.end("", err)
	default:
		g.end("", nil) // the client has gone
	}
}

// bad answers a command that is no SMTP, and closes when there are too many of them.
func (g *guard) bad(answer string) string {
	const most = 10
	g.say(answer)
	if g.badCommands++; g.badCommands >= most {
		g.linger = true
		g.end("421 4.7.0 Too many errors, closing the connection", errors.New("too many commands that are no SMTP"))
	}
	return ""
}

// readText reads a piece of the message and returns it normalised, dots still stuffed.
func (g *guard) readText() ([]byte, error) {
	g.flush()
	g.norm.out = g.norm.out[:0]
	for len(g.norm.out) == 0 {
		in, err := g.fill(&g.waited, g.norm.received)
		if err != nil {
			g.breakOff(err)
			return nil, err
		}
		used, done := g.norm.take(in)
		g.in.Discard(used)
		if !done && g.norm.refusal != nil && g.norm.received > max(maxDiscard, 4*g.o.MaxMessage) {
			g.breakOff(errNoEnd)
			return nil, errNoEnd
		}
		if done {
			g.mode, g.awaiting, g.code = commands, true, 0
		}
	}
	return g.norm.out, nil
}

// breakOff ends a connection that broke inside DATA. Nothing that follows may be read: it would be taken as commands.
func (g *guard) breakOff(err error) {
	g.broken = err
	switch {
	case g.err != nil:
		g.end("", fmt.Errorf("inside DATA: %w", err))
	case err == errNoEnd:
		g.linger = true
		_, refusal := replyLine(g.norm.refusal)
		g.end(refusal, fmt.Errorf("inside DATA: %w", err))
	case g.norm.unended() != "":
		g.linger = true
		g.end("421 4.4.2 The message did not end in CR LF . CR LF", fmt.Errorf(
			"inside DATA: the client waits for an answer, because %s", g.norm.unended()))
	default:
		g.linger = true
		g.end("421 4.4.2 Timeout inside DATA, closing the connection", fmt.Errorf("inside DATA: %w", err))
	}
	g.flush()
}

// putBuffer gives the buffers of DATA back.
func (g *guard) putBuffer() {
	g.s.buffers.Put(g.norm)
	g.norm = nil
}

// replyLine writes a refusal as one line: whatever it holds, the client reads a valid reply.
func replyLine(e *reply.Error) (code int, text string) {
	if e.Code < 400 || e.Code > 599 {
		return 451, "451 4.3.0 The message cannot be taken now, try again later"
	}
	enhanced := e.Enhanced
	var a, b, c int
	n, _ := fmt.Sscanf(enhanced, "%d.%d.%d", &a, &b, &c)
	if n != 3 || a != e.Code/100 || fmt.Sprintf("%d.%d.%d", a, b, c) != enhanced {
		enhanced = fmt.Sprintf("%d.0.0", e.Code/100)
	}
	return e.Code, fmt.Sprintf("%d %s %s", e.Code, enhanced, printable(e.Text, 400))
}

// printable returns s with everything but printable US-ASCII replaced, and cut.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

func (g *guard) LocalAddr() net.Addr  { return g.raw.LocalAddr() }
func (g *guard) RemoteAddr() net.Addr { return g.raw.RemoteAddr() }

// The library sets no deadline that counts: they are the link's.

func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
