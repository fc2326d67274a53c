package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/reply"
)

// session is the library's view of a connection. What it is called with is the placeholder; what the client said, the
// guard has parsed and holds ready.
type session struct{ g *guard }

func newSession(c *smtp.Conn) (smtp.Session, error) {
	g, ok := c.Conn().(*guard)
	if !ok {
		return nil, errors.New("a connection that is not guarded")
	}
	return &session{g}, nil
}

// Reset forgets the transaction: RSET, HELO, EHLO, and the end of DATA.
func (s *session) Reset() { s.g.tx = transaction{} }

// Logout has nothing to do. The library calls it outside of any recover.
func (s *session) Logout() error { return nil }

func (s *session) Mail(string, *smtp.MailOptions) error {
	s.g.tx = s.g.proposed
	return nil
}

func (s *session) Rcpt(string, *smtp.RcptOptions) error {
	tx := &s.g.tx
	tx.env.Recipients = append(tx.env.Recipients, s.g.rcpt)
	tx.known[s.g.rcpt.Key()] = true
	return nil
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth returns the mechanism; the guard has let through none but these.
func (s *session) Auth(mech string) (sasl.Server, error) {
	if mech == sasl.Login {
		return &mechanism{g: s.g, next: newLoginServer(s.g.login).Next}, nil
	}
	return &mechanism{g: s.g, next: sasl.NewPlainServer(s.g.plain).Next}, nil
}

// Data hands the message to the desk, reads what the desk has left, and replies. Of the message the library has the end.
func (s *session) Data(end io.Reader) error {
	g := s.g
	in := &dataReader{text: text{g: s.g}}
	id, err := g.submit(in)
	in.close()
	in.text.skip()
	io.Copy(io.Discard, end)
	refusal := in.refusal
	var own *reply.Error
	switch {
	case g.broken != nil: // nobody is there; what the desk said of it is of no interest
	case refusal != nil:
		g.refused(refusal, slog.LevelWarn)
	case errors.As(err, &own): // the desk has told the log
		refusal = own
	case err == nil && !in.ended:
		err = errors.New("the desk took a message without reading it to its end")
		fallthrough
	case err != nil:
		refusal = &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "The message cannot be taken now, try again later", Err: err}
		g.refused(refusal, slog.LevelError)
	}
	g.putBuffer()
	if g.broken != nil {
		return &smtp.SMTPError{Code: 451}
	}
	if refusal == nil {
		g.badCommands, g.useful = 0, time.Now()
		g.s.worked(g.remote)
		g.expect(250, "250 2.0.0 Ok: queued as "+printable(string(id), 64))
		return nil
	}
	code, answer := replyLine(refusal)
	g.expect(code, answer)
	return &smtp.SMTPError{Code: code}
}

func (g *guard) refused(r *reply.Error, level slog.Level) {
	g.emit(level, event.MessageRefused, g.tx.user, r)
}

func (g *guard) emit(level slog.Level, kind event.Kind, user string, err error) {
	attrs := []slog.Attr{
		slog.String("remote", g.remote.String()), slog.String("listener", g.o.Address), slog.String("user", user),
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	g.o.Events.Emit(context.Background(), level, kind, attrs...)
}

// submit calls the desk. Its context does not end when the client goes away: after the final dot the message no longer
// belongs to the session. It ends when the listener is closed by force.
func (g *guard) submit(in io.Reader) (id envelope.ID, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the desk: %v\n%s", p, debug.Stack())
		}
	}()
	return g.o.Desk.Submit(g.s.force, envelope.Session{
		User:     g.tx.user,
		Listener: g.o.Address,
		Remote:   g.remote,
		Helo:     g.helo,
		Protocol: g.protocol(),
	}, g.tx.env, in)
}

// protocol names the session as RFC 3848 does.
func (g *guard) protocol() string {
	if !g.extended && !g.secure && g.user == "" {
		return "SMTP"
	}
	p := "ESMTP"
	if g.secure {
		p += "S"
	}
	if g.user != "" {
		p += "A"
	}
	return p
}

// dataReader is what the desk reads. It fails where the guard has refused the text or the connection broke, and once the
// desk has answered.
type dataReader struct {
	mu      sync.Mutex // guards what follows against a desk that reads on in another goroutine
	text    text
	closed  bool
	ended   bool
	refusal *reply.Error
}

func (d *dataReader) Read(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, errors.New("read of a message after its answer")
	}
	n, err := d.text.Read(b)
	switch g := d.text.g; {
	case g.broken != nil:
		return 0, &reply.Error{Code: 451, Enhanced: "4.4.2", Text: "The connection broke inside the message", Err: g.broken}
	case g.norm.refusal != nil:
		d.refusal = g.norm.refusal
		return 0, d.refusal
	case err == io.EOF:
		d.ended = true
	case err != nil: // none is left that could be
		return 0, &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "The message cannot be read", Err: err}
	}
	return n, err
}

func (d *dataReader) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}
