package smtpd

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/bridge/event"
	"postern/bridge/reply"
)

// maxLogins is how many failed logins end a connection.
const maxLogins = 5

// mechanism runs a SASL mechanism inside the library and says what the client reads at each step.
type mechanism struct {
	g    *guard
	next func(response []byte) (challenge []byte, done bool, err error)
}

// Next implements sasl.Server.
func (m *mechanism) Next(response []byte) (challenge []byte, done bool, err error) {
	g := m.g
	g.mode = commands
	challenge, done, err = m.next(response)
	var refusal *reply.Error
	switch {
	case err == nil && !done:
		g.mode = exchange
		g.expect(334, "334 "+base64.StdEncoding.EncodeToString(challenge))
		return challenge, false, nil
	case err == nil:
		g.expect(235, "235 2.7.0 Authentication successful")
		return nil, true, nil
	case !errors.As(err, &refusal):
		refusal = &reply.Error{Code: 501, Enhanced: "5.5.2", Text: "Malformed authentication", Err: err}
		g.emit(slog.LevelWarn, event.AuthFailed, "", refusal)
	}
	code, answer := replyLine(refusal)
	g.expect(code, answer)
	g.countFailure()
	return nil, false, &smtp.SMTPError{Code: code}
}

// countFailure closes when a client has failed too often, whatever for.
func (g *guard) countFailure() {
	g.loginFailed = true
	if g.failedLogins++; g.failedLogins >= maxLogins {
		g.answer = "421 4.7.0 Too many failed logins, closing the connection"
		g.mode = ended
		g.cause = errors.New("too many failed logins")
	}
}

// plain checks what PLAIN brought (RFC 4616). Acting for somebody else is not offered.
func (g *guard) plain(authzid, name, password string) error {
	if authzid != "" && !strings.EqualFold(authzid, name) {
		err := &reply.Error{Code: 535, Enhanced: "5.7.8", Text: "Authentication credentials invalid"}
		g.emit(slog.LevelWarn, event.AuthFailed, printable(name, 64), fmt.Errorf("%w (it asked to act as somebody else)", err))
		return err
	}
	return g.login(name, password)
}

// login asks the users. The error is what the client reads.
func (g *guard) login(name, password string) error {
	ctx, cancel := context.WithTimeout(g.s.force, g.o.LoginTimeout)
	defer cancel()
	user, wait, err := g.o.Users.LoginFrom(ctx, g.remote, name, password)
	var refusal *reply.Error
	switch {
	case err == nil && user != "":
		g.user = user
		g.s.worked(g.remote)
		g.emit(slog.LevelInfo, event.AuthSucceeded, user, nil)
		return nil
	case err == nil:
		err = errors.New("a login without a user")
	}
	g.emit(slog.LevelWarn, event.AuthFailed, printable(name, 64), err)
	g.s.pause(wait)
	if errors.As(err, &refusal) {
		return refusal
	}
	return &reply.Error{Code: 454, Enhanced: "4.7.0", Text: "Temporary authentication failure", Err: err}
}

// loginServer is the LOGIN mechanism, which no RFC describes and every old application speaks
// (draft-murchison-sasl-login). The prompts are matched literally by some. The user name may come with the AUTH line
// (PowerShell's Send-MailMessage).
type loginServer struct {
	check func(name, password string) error
	name  *string
}

func newLoginServer(check func(name, password string) error) *loginServer {
	return &loginServer{check: check}
}

// Next implements sasl.Server. An empty response is an empty name.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.name == nil:
		name := string(response)
		l.name = &name
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(*l.name, string(response))
}
