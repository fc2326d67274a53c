package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/bridge/config"
	"postern/bridge/control"
)

// draft is what `send` was asked for.
type draft struct {
	user, from, subject, text string
	to, attach                []string
}

func (c *cli) send() *cobra.Command {
	var d draft
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Hand in a test message, as an application would",
		Long: `Makes a message and hands it in through the first listener that offers a login
on this machine, as that user would: with the same rules and the same refusals.
No password is asked for: the running daemon gives root, administrators and
members of group postern one that is good for a minute.`,
		Example: `  postern send --user nav --to you@example.com
  postern send --user nav --to you@example.com --subject Test --attach a.pdf`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case d.user == "":
				return usageError{errors.New("--user is missing: whose mail is it?")}
			case len(d.to) == 0:
				return usageError{errors.New("--to is missing")}
			}
			p, err := c.pass(cmd.Context(), d.user)
			if err != nil {
				return err
			}
			if d.from == "" {
				d.from = p.Mailbox
			}
			message, err := d.build(time.Now())
			if err != nil {
				return err
			}
			reply, err := handIn(cmd.Context(), p, d.from, d.to, bytes.NewReader(message))
			if err != nil {
				return fmt.Errorf("not taken: %w", err)
			}
			see := "list --all"
			if _, id, ok := strings.Cut(reply, "queued as "); ok {
				see = "show " + id
			}
			_, err = fmt.Fprintf(c.out, "taken: %s\nsee what becomes of it: postern queue %s\n", reply, see)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.user, "user", "", "the `NAME` of a [[user]]")
	f.StringVar(&d.from, "from", "", "sender `ADDRESS`; default the account's mailbox")
	f.StringArrayVar(&d.to, "to", nil, "recipient `ADDRESS`; may be repeated")
	f.StringVar(&d.subject, "subject", "Test message of Postern", "the subject")
	f.StringVar(&d.text, "text", "This was sent by: postern send\n", "the text")
	f.StringArrayVar(&d.attach, "attach", nil, "a `FILE` to attach; may be repeated")
	return cmd
}

// build makes the message, with CRLF.
func (d draft) build(now time.Time) ([]byte, error) {
	for _, s := range append([]string{d.from}, d.to...) {
		if strings.ContainsAny(s, "\r\n<>") {
			return nil, usageError{fmt.Errorf("%.60q is no address", s)}
		}
	}
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("From", d.from)
	field("To", strings.Join(d.to, ",\r\n "))
	field("Subject", mime.QEncoding.Encode("utf-8", strings.NewReplacer("\r", " ", "\n", " ").Replace(d.subject)))
	field("Date", now.Format(time.RFC1123Z))
	field("MIME-Version", "1.0")
	var text bytes.Buffer
	q := quotedprintable.NewWriter(&text)
	_, _ = io.WriteString(q, d.text) // a buffer takes everything
	if err := q.Close(); err != nil {
		return nil, err
	}
	header := textproto.MIMEHeader{"Content-Type": {"text/plain; charset=utf-8"}, "Content-Transfer-Encoding": {"quoted-printable"}}
	if len(d.attach) == 0 {
		for name, values := range header {
			field(name, values[0])
		}
		fmt.Fprintf(&b, "\r\n%s\r\n", text.Bytes())
		return b.Bytes(), nil
	}
	m := multipart.NewWriter(&b)
	field("Content-Type", "multipart/mixed; boundary="+m.Boundary())
	b.WriteString("\r\n")
	part, err := m.CreatePart(header)
	if err != nil {
		return nil, err
	}
	if _, err := part.Write(append(text.Bytes(), '\r', '\n')); err != nil {
		return nil, err
	}
	for _, path := range d.attach {
		if err := attach(m, path); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), m.Close()
}

func attach(m *multipart.Writer, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	kind := mime.TypeByExtension(filepath.Ext(path))
	if kind == "" {
		kind = http.DetectContentType(data)
	}
	part, err := m.CreatePart(textproto.MIMEHeader{
		"Content-Type":              {kind},
		"Content-Transfer-Encoding": {"base64"},
		"Content-Disposition":       {mime.FormatMediaType("attachment", map[string]string{"filename": filepath.Base(path)})},
	})
	if err != nil {
		return err
	}
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 0 {
		n := min(76, len(text))
		if _, err := io.WriteString(part, text[:n]+"\r\n"); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// unreachable says that the daemon or its listener cannot be reached.
type unreachable struct{ error }

// Unwrap implements the chain of errors.
func (u unreachable) Unwrap() error { return u.error }

// pass asks the running daemon for a one-minute password; without a user, for the one that sendmail_user names.
func (c *cli) pass(ctx context.Context, user string) (control.Pass, error) {
	client, err := c.dial(ctx)
	var mistakes *config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		return control.Pass{}, err
	case errors.Is(err, control.ErrNotRunning):
		return control.Pass{}, unreachable{fmt.Errorf("%w; run: postern service start", err)}
	case err != nil:
		return control.Pass{}, unreachable{err}
	}
	defer client.Close()
	return client.Pass(ctx, user)
}

// handInPatience is how long the listener may take for one message.
const handInPatience = 5 * time.Minute

// handIn logs in with the one-minute password and hands one message in. It returns the reply to the final dot.
func handIn(ctx context.Context, p control.Pass, from string, to []string, text io.Reader) (reply string, err error) {
	defer func() { err = spoken(err) }()
	ctx, cancel := context.WithTimeout(ctx, handInPatience)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return "", unreachable{fmt.Errorf("the listener on %s cannot be reached: %w", p.Address, spoken(err))}
	}
	defer raw.Close()
	if at, ok := ctx.Deadline(); ok {
		raw.SetDeadline(at)
	}
	// The certificate names the host that other machines know; on the way to ourselves nobody stands between.
	insecure := &tls.Config{InsecureSkipVerify: true, ServerName: p.Hostname}
	if p.TLS == "implicit" {
		raw = tls.Client(raw, insecure)
	}
	host, _, _ := net.SplitHostPort(p.Address)
	c, err := smtp.NewClient(raw, host)
	if err != nil {
		return "", unreachable{fmt.Errorf("the listener on %s cannot be reached: %w", p.Address, spoken(err))}
	}
	if err := c.Hello("localhost"); err != nil {
		return "", err
	}
	if p.TLS == "starttls" {
		if err := c.StartTLS(insecure); err != nil {
			return "", err
		}
	}
	if err := c.Auth(plain{p.User, p.Password}); err != nil {
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

// refusal is a listener's reply as it was said: net/textproto would quote it once more.
type refusal struct{ reply *textproto.Error }

// Error has the lines behind one another.
func (r refusal) Error() string {
	return fmt.Sprintf("%03d %s", r.reply.Code, strings.ReplaceAll(r.reply.Msg, "\n", " "))
}

// Unwrap implements the chain of errors.
func (r refusal) Unwrap() error { return r.reply }

func spoken(err error) error {
	if reply, ok := err.(*textproto.Error); ok {
		return refusal{reply}
	}
	return err
}

// plain is AUTH PLAIN for a listener on this machine, also where its address is not loopback.
type plain struct{ user, password string }

// Start implements smtp.Auth.
func (p plain) Start(*smtp.ServerInfo) (string, []byte, error) {
	return "PLAIN", []byte("\x00" + p.user + "\x00" + p.password), nil
}

// Next implements smtp.Auth.
func (plain) Next(_ []byte, more bool) ([]byte, error) {
	if more {
		return nil, errors.New("the listener asks for more than a password")
	}
	return nil, nil
}
