// Package handin hands one message in to a listener of Postern's on this machine, as an application would: it connects,
// brings TLS up where the listener wants that, logs in, and speaks the dialogue of RFC 5321 to the reply to the final dot. It
// must not know where the listener, the user and the password come from, or what the message says. `postern send` and
// `postern sendmail` call it. A listener that is not there is ErrUnreachable, and a reply that refuses is a *Refusal in the
// listener's own words.
package handin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"postern/auth/token"
)

// patience is how long the listener may take for one message.
const patience = 5 * time.Minute

// ErrUnreachable says that nobody answers at the address, or that what answers does not greet with 220: it cannot take
// anything now (RFC 5321 section 3.1). No login has been tried then.
var ErrUnreachable = errors.New("cannot be reached")

// Refusal is a reply that ends the dialogue before the message is taken.
type Refusal struct {
	Code int    // as it was said; 400 to 499: the same may be taken later (RFC 5321 section 4.2.1)
	Text string // with the enhanced status where there is one; the lines of a longer reply separated by blanks
}

// Error is the reply as it was said: net/textproto would quote it once more.
func (r *Refusal) Error() string { return fmt.Sprintf("%d %s", r.Code, r.Text) }

// Door is the listener to come in by, and who comes.
type Door struct {
	Address  string // host:port, on this machine: nothing proves that it is the right one
	TLS      string // none | starttls | implicit
	Hostname string // that the listener's certificate is asked for by (RFC 6066 section 3); it is not verified
	User     string
	Password token.Secret
}

// HandIn hands one message in. from is the reverse-path and to are the recipients, without angle brackets. text is the whole
// message; a bare LF becomes CRLF, and a dot that begins a line is stuffed (RFC 5321 section 4.5.2). It returns the text of
// the reply to the final dot, without the code, lines separated by LF.
//
// The listener takes the message for every recipient or not at all: the first that it refuses ends the dialogue, and the
// error names it. Errors are ErrUnreachable, *Refusal, what text's reader said, and those of net/smtp and of the
// connection. After one of the connection's it is unknown whether a message was taken whose final dot was sent; after any
// other it was not. When ctx ends or five minutes have passed, what waits on the connection ends with
// os.ErrDeadlineExceeded. Safe for concurrent use.
func (d Door) HandIn(ctx context.Context, from string, to []string, text io.Reader) (reply string, err error) {
	defer func() { err = spoken(err) }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.Address)
	if err != nil {
		return "", d.unreachable(err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := d.enter(raw)
	if err != nil {
		return "", err
	}
	if err := c.Mail(from); err != nil {
		return "", err
	}
	for _, r := range to {
		if err := c.Rcpt(r); err != nil {
			return "", fmt.Errorf("recipient %s: %w", r, spoken(err))
		}
	}
	if reply, err = data(c, text); err != nil {
		return "", err
	}
	_ = c.Quit() // it is taken
	return reply, nil
}

// enter goes as far as the login.
func (d Door) enter(raw net.Conn) (*smtp.Client, error) {
	// The certificate names the host that other machines know; on the way to ourselves nobody stands between.
	insecure := &tls.Config{InsecureSkipVerify: true, ServerName: d.Hostname}
	if d.TLS == "implicit" {
		raw = tls.Client(raw, insecure)
	}
	host, _, _ := net.SplitHostPort(d.Address)
	c, err := smtp.NewClient(raw, host)
	if err != nil {
		return nil, d.unreachable(err)
	}
	if err := c.Hello("localhost"); err != nil {
		return nil, err
	}
	if d.TLS == "starttls" {
		if err := c.StartTLS(insecure); err != nil {
			return nil, err
		}
	}
	return c, c.Auth(plain{d.User, d.Password})
}

func (d Door) unreachable(err error) error {
	return fmt.Errorf("the listener on %s %w: %w", d.Address, ErrUnreachable, spoken(err))
}

// data sends the text and returns the reply, which net/smtp would throw away.
func data(c *smtp.Client, text io.Reader) (string, error) {
	id, err := c.Text.Cmd("DATA")
	if err != nil {
		return "", err
	}
	c.Text.StartResponse(id)
	_, _, err = c.Text.ReadResponse(354)
	c.Text.EndResponse(id)
	if err != nil {
		return "", err
	}
	w := c.Text.DotWriter()
	if _, err := io.Copy(w, text); err != nil {
		return "", err // without the final dot: nothing is taken
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_, reply, err := c.Text.ReadResponse(250)
	return reply, err
}

// spoken makes a Refusal of a reply.
func spoken(err error) error {
	if reply, ok := err.(*textproto.Error); ok {
		return &Refusal{Code: reply.Code, Text: strings.ReplaceAll(reply.Msg, "\n", " ")}
	}
	return err
}

// plain is AUTH PLAIN (RFC 4616) for a listener on this machine, also where its address is not loopback.
type plain struct {
	user     string
	password token.Secret
}

// Start implements smtp.Auth.
func (p plain) Start(*smtp.ServerInfo) (string, []byte, error) {
	return "PLAIN", []byte("\x00" + p.user + "\x00" + p.password.Reveal()), nil
}

// Next implements smtp.Auth.
func (plain) Next(_ []byte, more bool) ([]byte, error) {
	if more {
		return nil, errors.New("the listener asks for more than a password")
	}
	return nil, nil
}
