package smarthost

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/auth/token"
	"postern/bridge/event"
	"postern/bridge/reply"
)

const (
	// maxMessages ends a connection: the library remembers every recipient, and servers grow tired of long ones.
	maxMessages = 100

	quitLimit = 5 * time.Second
)

// session is a signed-in connection. One Send uses it at a time; between two it stands in Transport.idle.
type session struct {
	client   *smtp.Client
	wire     *wire
	messages int         // begun on it
	unclean  bool        // a transaction is open that RSET must end
	expiry   *time.Timer // ends it when nobody takes it; set while it is idle
}

// connect opens a connection and signs in with the token.
func (t *Transport) connect(ctx context.Context, access token.Secret) (*session, *trouble) {
	began := t.o.Now()
	dialing, cancel := context.WithTimeout(ctx, t.o.Timeouts.Connect)
	raw, err := t.o.Dial(dialing, "tcp", t.o.Address)
	cancel()
	if err != nil {
		return nil, t.report(ctx, began, "", interrupted(ctx, fmt.Errorf("connect: %w", err)))
	}
	release := watch(ctx, raw)
	s, last, tr := t.signIn(ctx, raw, access)
	if release() && tr == nil {
		tr = interrupted(ctx, ctx.Err())
	}
	if tr != nil {
		raw.Close()
		return nil, t.report(ctx, began, last, tr)
	}
	t.o.Events.Emit(ctx, slog.LevelDebug, event.SmarthostOpened, t.attrs(began, s.wire.last)...)
	return s, nil
}

// signIn takes the dialogue to the end of AUTH. last is the last line that the server said.
func (t *Transport) signIn(ctx context.Context, raw net.Conn, access token.Secret) (s *session, last string, tr *trouble) {
	w, tr := t.secure(ctx, raw)
	if tr != nil {
		if w != nil {
			last = w.last
		}
		return nil, last, tr
	}
	client := smtp.NewClient(w)
	if err := client.Hello(t.o.Hostname); err != nil {
		return nil, w.last, t.stepTrouble(ctx, hello, err)
	}
	if tr := t.authenticate(ctx, client, w, access); tr != nil {
		return nil, w.last, tr
	}
	return &session{client: client, wire: w}, w.last, nil
}

// secure returns the connection under verified TLS, with the server's greeting still to be read. The token cannot leave
// before: whoever calls has no other connection.
func (t *Transport) secure(ctx context.Context, raw net.Conn) (*wire, *trouble) {
	var greeting string
	if t.o.TLS == StartTLS {
		plain := newWire(raw, raw, t.o.Timeouts)
		var tr *trouble
		if greeting, tr = t.startTLS(ctx, plain); tr != nil {
			return plain, tr
		}
	}
	raw.SetDeadline(time.Now().Add(t.o.Timeouts.TLS))
	conn := tls.Client(raw, t.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		tr := interrupted(ctx, fmt.Errorf("TLS handshake: %w", err))
		tr.outcome.Remedy = tlsRemedy(err)
		return nil, tr
	}
	raw.SetDeadline(time.Time{})
	w := newWire(conn, raw, t.o.Timeouts)
	if greeting != "" {
		w.unread(greeting) // the library waits for one, and the server gave it before TLS
		return w, nil
	}
	w.expect(t.o.Timeouts.Greeting)
	return w, nil
}

// startTLS speaks the few lines before TLS itself: the library would say EHLO localhost and put its TLS above our wire.
func (t *Transport) startTLS(ctx context.Context, w *wire) (greeting string, tr *trouble) {
	c := textproto.NewReader(newLineReader(w))
	w.expect(t.o.Timeouts.Greeting)
	if _, _, err := c.ReadResponse(220); err != nil {
		return "", t.stepTrouble(ctx, greet, err)
	}
	w.expect(t.o.Timeouts.Command)
	fmt.Fprintf(w, "EHLO %s\r\n", t.o.Hostname)
	_, text, err := c.ReadResponse(250)
	if err != nil {
		return "", t.stepTrouble(ctx, hello, err)
	}
	isStartTLS := func(line string) bool { return strings.EqualFold(strings.TrimSpace(line), "STARTTLS") }
	if !slices.ContainsFunc(strings.Split(text, "\n"), isStartTLS) {
		tr := deferred(reply.Route, errors.New("smarthost does not offer STARTTLS; nothing was sent in clear text"))
		tr.outcome.Remedy = "check that no firewall inspects SMTP and strips STARTTLS; for a port that begins with TLS set " +
			`smtp_tls = "implicit"`
		return "", tr
	}
	fmt.Fprint(w, "STARTTLS\r\n")
	if _, _, err := c.ReadResponse(220); err != nil {
		return "", t.stepTrouble(ctx, starttls, err)
	}
	// What came in clear text after the 220 was not said by the server that TLS will prove (CVE-2011-0411).
	if !w.quiet() {
		return "", deferred(reply.Route, errors.New("clear text after the reply to STARTTLS; somebody may be in between"))
	}
	return "220 " + t.host, nil
}

// authenticate sends the token, in a mechanism that the server offers.
func (t *Transport) authenticate(ctx context.Context, client *smtp.Client, w *wire, access token.Secret) *trouble {
	mechanism := xoauth2
	if !client.SupportsAuth(xoauth2) {
		if mechanism = oauthBearer; !client.SupportsAuth(oauthBearer) {
			_, offered := client.Extension("AUTH")
			tr := deferred(reply.Account,
				fmt.Errorf("smarthost offers neither XOAUTH2 nor OAUTHBEARER, only %q; no token was sent", reply.OneLine(offered)))
			tr.outcome.Remedy = "check the provider's smtp address: Exchange Online's is smtp.office365.com:587"
			return tr
		}
	}
	b, err := newBearer(mechanism, t.o.Login, t.o.Address, access)
	if err != nil {
		return deferred(reply.Account, err)
	}
	w.secrets = []string{access.Reveal(), base64.StdEncoding.EncodeToString(b.response)}
	w.expect(t.o.Timeouts.Command)
	if err := client.Auth(b); err != nil {
		tr := t.stepTrouble(ctx, auth, err)
		if b.status != "" {
			tr.outcome.Err = fmt.Errorf("%w (error challenge: status %q)", tr.outcome.Err, redact(b.status, w.secrets))
		}
		return tr
	}
	return nil
}

// take returns the idle connection that was used last, or nil.
func (t *Transport) take() *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.idle)
	if n == 0 {
		return nil
	}
	s := t.idle[n-1]
	t.idle = t.idle[:n-1]
	s.expiry.Stop() // where it has fired already, expire finds s taken
	return s
}

// keep puts a connection back for the next message, or says goodbye to one that has done enough.
func (t *Transport) keep(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || s.messages >= maxMessages || !s.wire.quiet() {
		t.wg.Go(s.quit)
		return
	}
	s.expiry = time.AfterFunc(t.o.Timeouts.Idle, func() { t.expire(s) })
	t.idle = append(t.idle, s)
}

// expire says goodbye to a connection that nobody took.
func (t *Transport) expire(s *session) {
	t.mu.Lock()
	i := slices.Index(t.idle, s)
	if i >= 0 {
		t.idle = slices.Delete(t.idle, i, i+1)
		t.wg.Add(1)
	}
	t.mu.Unlock()
	if i >= 0 {
		defer t.wg.Done()
		s.quit()
	}
}

// quit says goodbye and closes, in any case. Never after DATA without its end: the library would write the final dot
// before QUIT, and send a message that was given up.
func (s *session) quit() {
	s.wire.expect(quitLimit)
	s.wire.writeLimit = quitLimit
	s.client.Quit()
	s.abort()
}

// abort closes without a word.
func (s *session) abort() { s.wire.raw.Close() }

// report tells of a connection that failed.
func (t *Transport) report(ctx context.Context, began time.Time, last string, tr *trouble) *trouble {
	level := slog.LevelWarn
	if tr.outcome.Owner == reply.Process { // we are being stopped
		level = slog.LevelInfo
	}
	attrs := append(t.attrs(began, last), slog.String("err", tr.outcome.Err.Error()))
	if tr.outcome.Remedy != "" {
		attrs = append(attrs, slog.String("remedy", tr.outcome.Remedy))
	}
	t.o.Events.Emit(ctx, level, event.SmarthostFailed, attrs...)
	return tr
}

func (t *Transport) attrs(began time.Time, last string) []slog.Attr {
	return []slog.Attr{
		slog.String("account", t.o.Account),
		slog.String("transport", transportName),
		slog.String("remote", t.o.Address),
		slog.Duration("duration", t.o.Now().Sub(began)),
		slog.String("reply", reply.OneLine(last)),
	}
}
