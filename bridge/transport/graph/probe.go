package graph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"postern/auth/token"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// noMIME is no base64, and so no message: Graph answers ErrorMimeContentInvalidBase64String once it has looked at token,
// mailbox and permission ("Send Outlook messages using MIME format", November 2026).
const noMIME = "!"

// Probe finds out whether Graph would take mail from the account, and can send none: it calls sendMail with something that
// is no message. The error is a *ProbeError. An account of a whole domain has no mailbox to try; its error says so.
func (t *Transport) Probe(ctx context.Context) error {
	if t.o.Mailbox.Local == "*" {
		return &ProbeError{reply.Outcome{Transport: name, Owner: reply.Process, Reply: reply.Reply{Text: "no mailbox to try: the account is for a whole domain"}}}
	}
	for try := 1; ; try++ {
		secret, err := t.o.Tokens.Token(ctx, token.Graph)
		if err != nil {
			return &ProbeError{t.noToken(ctx, err)}
		}
		o := t.judge(t.probe(ctx, secret), message.Outgoing{})
		switch {
		case o.Owner == reply.Message && o.Reply.Code >= 400:
			return nil // it was about the message: all before was in order
		case o.Owner == reply.Login && try == 1:
			t.o.Tokens.Refused(token.Graph, secret)
			continue
		case o.Verdict == reply.Relayed || o.Owner == reply.Message:
			o.Reply.Text = "what answers there takes anything for a message, and is not Microsoft Graph"
			o.Remedy = "check the provider's graph address and the proxy"
		}
		return &ProbeError{o}
	}
}

// probe makes the request.
func (t *Transport) probe(ctx context.Context, secret token.Secret) answer {
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	a := answer{clientID: uuid.NewString(), secret: secret}
	req, err := t.request(ctx, t.endpoint(message.Outgoing{}), secret, a.clientID)
	if err != nil {
		a.err = err
		return a
	}
	req.Body, req.ContentLength, req.GetBody = io.NopCloser(strings.NewReader(noMIME)), int64(len(noMIME)), nil
	resp, err := t.client.Do(req)
	if err != nil {
		a.err, a.stopped = err, errors.Is(ctx.Err(), context.Canceled)
		return a
	}
	a.status, a.header, a.body = resp.StatusCode, resp.Header, errorBody(resp, cancel)
	return a
}

// ProbeError says why Graph would not take mail, and what to do.
type ProbeError struct{ Outcome reply.Outcome }

// Error returns what Graph said and the remedy.
func (e *ProbeError) Error() string {
	text := e.Outcome.Reply.String()
	if e.Outcome.Err != nil && e.Outcome.Reply.Code == 0 {
		text = fmt.Sprintf("%s: %v", text, e.Outcome.Err)
	}
	if e.Outcome.Remedy == "" {
		return text
	}
	return text + "; " + e.Outcome.Remedy
}

// Unwrap returns the cause.
func (e *ProbeError) Unwrap() error { return e.Outcome.Err }
