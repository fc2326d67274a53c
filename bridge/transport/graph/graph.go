// Package graph relays a message through Microsoft Graph: its MIME in base64 as one POST to sendMail, streamed, and
// Graph's answer turned into one of our outcomes by the code in the error body. It knows no queue, no waits, no SMTP
// and no way to get a token: relay calls it with one message, and it asks its TokenSource. It must never follow a
// redirect or send a request twice once its last bytes may have left, because sendMail is not idempotent and has
// nothing to match a copy by. Failure is a reply.Outcome that says whose trouble it is; there is no error beside it.
//
// A 4xx is a refusal and never a doubt, but for one: where Graph does not find the draft that it is to send. A gateway that
// makes a request twice gives the answer to the second one, for which the first has taken the draft away, and the copy in
// Sent Items may show late.
//
// The SDK (msgraph-sdk-go, package users alone) makes the request, and our own client sends it: the SDK's sender cannot
// tell 200 from 202, reads whole bodies into memory, and repeats a POST by itself.
package graph

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/microsoft/kiota-abstractions-go/authentication"
	kiotahttp "github.com/microsoft/kiota-http-go"
	kiotajson "github.com/microsoft/kiota-serialization-json-go"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// MaxMIME is the largest message, header and body in octets, that Graph takes as MIME: a write request may have 4 MB,
// and base64 makes four octets of three ("Send Outlook messages using MIME format", November 2026).
const MaxMIME = 3_000_000

// defaultTimeout bounds one request, from the dial to the head of the answer. 4 MB in it need 180 kbit/s.
const defaultTimeout = 3 * time.Minute

// name is the transport's word in outcomes and events.
const name = "graph"

// TokenSource yields access tokens of one account. Safe for concurrent use.
type TokenSource interface { // the hall hands in one account of package auth
	// Token returns a token good for at least one more minute. What a person must do about an error stands in its
	// *token.Error, found by errors.As.
	Token(ctx context.Context, r token.Resource) (token.Secret, error)

	// Refused says that the server did not take this token, so that the next Token fetches another one.
	Refused(r token.Resource, refused token.Secret)
}

// Options is what a Transport needs. Account, BaseURL, Mailbox and Tokens must be set.
type Options struct {
	Account string           // as configured, for events and remedies
	BaseURL string           // with the version, "https://graph.microsoft.com/v1.0"
	Mailbox envelope.Address // the one in the URL when AppOnly; "*@domain": the mailbox of the header From
	Login   envelope.Address // who signed in; null when AppOnly
	AppOnly bool             // the token is the application's own: /users/{mailbox}/sendMail, else /me/sendMail
	HTTP    *http.Client     // copied, without its redirects and cookies; nil: a client of the transport's own
	Tokens  TokenSource
	Events  *event.Bus       // nil: dropped
	Now     func() time.Time // nil: time.Now
	Timeout time.Duration    // of one request; 0: 3 minutes

	Drafts   Drafts      // "" is DraftsNever
	MayDraft func() bool // for DraftsAuto: Mail.ReadWrite was granted; nil: nobody knows, it is tried
	// UploadHosts are the only hosts that files of large messages go to, beside loopback where BaseURL is there.
	UploadHosts []string
	// Pause waits between two tries of an upload; nil: it sleeps. False: ctx ended first.
	Pause func(ctx context.Context, d time.Duration) bool
}

// Transport sends messages as one account. Safe for concurrent use; relay keeps to the account's concurrency (Graph
// takes four requests at a time for an app and mailbox).
type Transport struct {
	o       Options
	base    string // without a trailing slash
	host    string
	client  *http.Client
	adapter *kiotahttp.NetHttpRequestAdapter

	mu            sync.Mutex // guards noDraftsUntil
	noDraftsUntil time.Time
}

// New checks the options; it does not touch the network.
func New(o Options) (*Transport, error) {
	u, err := url.Parse(o.BaseURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("account %q: the Graph address %q is not an http or https URL", o.Account, o.BaseURL)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("account %q: the Graph address has more than scheme, host and path", o.Account)
	case o.Tokens == nil:
		return nil, fmt.Errorf("account %q: no source of tokens", o.Account)
	case o.Mailbox.IsNull():
		return nil, fmt.Errorf("account %q: no mailbox", o.Account)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Drafts == "" {
		o.Drafts = DraftsNever
	}
	if o.Pause == nil {
		o.Pause = pause
	}
	t := &Transport{o: o, base: strings.TrimRight(o.BaseURL, "/"), host: u.Host}
	t.client = newClient(o.HTTP)
	// The adapter only turns the SDK's request into a *http.Request; it has neither our client nor the token.
	t.adapter, err = kiotahttp.NewNetHttpRequestAdapterWithParseNodeFactoryAndSerializationWriterFactoryAndHttpClient(
		&authentication.AnonymousAuthenticationProvider{}, nil, kiotajson.NewJsonSerializationWriterFactory(), &http.Client{})
	if err != nil {
		return nil, fmt.Errorf("account %q: the Graph SDK: %w", o.Account, err)
	}
	return t, nil
}

// newClient copies from, or makes a client, that follows no redirect: a bearer token goes to the configured host alone,
// and a POST that was answered is over.
func newClient(from *http.Client) *http.Client {
	if from == nil {
		from = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 15 * time.Second,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 4,
			// Shorter than any front end's own limit: a POST on a connection that is being closed ends in doubt.
			IdleConnTimeout: 30 * time.Second,
		}}
	}
	c := *from
	c.Jar = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// Close closes the idle connections of the client, also of one that the hall handed in. Messages under way are not
// disturbed.
func (t *Transport) Close() error {
	t.client.CloseIdleConnections()
	return nil
}

// Send relays one message to out.Recipients. A refused token is replaced and the request repeated once; a connection
// that was kept and turns out dead before the last bytes left is replaced once. out.Intent is committed once at most,
// directly before those last bytes. Only 202 is Relayed. The null reverse-path cannot be expressed at Graph and becomes
// the mailbox.
//
// Where drafts are in use the message goes as a draft that is then sent, and also where it is too large for one request.
func (t *Transport) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	if err := t.learnGrants(ctx); err != nil {
		return t.noToken(ctx, err)
	}
	large := int64(len(out.Final))+out.BodySize > MaxMIME
	// A draft in doubt is asked about also where the permission is gone meanwhile: sendMail could make a copy of it.
	doubted := out.Resend && readMemo(out.Notes[noteKey(out)]).Draft != ""
	if t.usesDrafts() || doubted {
		if o, fallback := t.sendAsDraft(ctx, out, large); !fallback {
			return o
		}
	}
	o := t.sendMIME(ctx, out)
	if o.Size == reply.OverRequest && t.usesDrafts() {
		o, _ = t.sendAsDraft(ctx, out, true)
	}
	return o
}

// learnGrants gets a token where only that says whether drafts are allowed.
func (t *Transport) learnGrants(ctx context.Context) error {
	if t.o.Drafts != DraftsAuto || t.o.MayDraft == nil {
		return nil
	}
	_, err := t.o.Tokens.Token(ctx, token.Graph)
	return err
}

// sendMIME is Send by sendMail.
func (t *Transport) sendMIME(ctx context.Context, out message.Outgoing) reply.Outcome {
	header, err := fitRecipients(out)
	if err != nil {
		return t.ours("the recipients could not be written into the header", err)
	}
	if size := int64(len(header)) + out.BodySize; size > MaxMIME {
		return t.tooLarge(size)
	}
	intent := &once{commit: out.Intent}
	refreshed, redialled := false, false
	for {
		secret, err := t.o.Tokens.Token(ctx, token.Graph)
		if err != nil {
			return t.noToken(ctx, err)
		}
		a := t.post(ctx, delivery{out: out, header: header, secret: secret, intent: intent})
		o := t.judge(a, out)
		t.emit(ctx, a, out, o)
		switch {
		case a.status != 0 && o.Owner == reply.Login && !refreshed:
			refreshed = true
			t.o.Tokens.Refused(token.Graph, secret)
		case a.err != nil && a.reused && !a.released && !redialled && !fromSource(a.err) && ctx.Err() == nil:
			redialled = true
		default:
			return o
		}
	}
}

// fitRecipients returns the final header block with exactly out.Recipients in it, since Graph has no envelope: people in
// To and Cc whom the envelope lacks leave, and recipients whom no field names go to Bcc.
func fitRecipients(out message.Outgoing) ([]byte, error) {
	header, _, _, err := message.ReconcileRecipients(out.Final, out.Recipients)
	return header, err
}

// tooLarge fails a message that no request can carry. relay gives such a message to SMTP where the account has it.
func (t *Transport) tooLarge(size int64) reply.Outcome {
	return reply.Outcome{
		Verdict: reply.Failed, Owner: reply.Message, Transport: name, Size: reply.OverRequest,
		Reply: reply.Reply{Code: 552, Enhanced: "5.3.4",
			Text: fmt.Sprintf("larger than Graph takes as MIME: %d octets, at most %d", size, MaxMIME)},
		Remedy: fmt.Sprintf(`let large mail go by SMTP: transport = "auto" for account %q`, t.o.Account),
	}
}

// noToken defers; the error says whether a person must act, and relay finds that by errors.As.
func (t *Transport) noToken(ctx context.Context, err error) reply.Outcome {
	if errors.Is(ctx.Err(), context.Canceled) {
		return t.ours("stopped before anything was sent", err)
	}
	o := reply.Outcome{Verdict: reply.Deferred, Owner: reply.Login, Transport: name,
		Reply: reply.Reply{Text: "no access token for Microsoft Graph"},
		Err:   fmt.Errorf("access token of account %q: %w", t.o.Account, err)}
	var te *token.Error
	if errors.As(err, &te) {
		o.Remedy, o.RetryAfter = te.Remedy, te.RetryAfter
		o.Reply.Text = oneLine(te.Text, "")
		bare := *te
		bare.Remedy = "" // the outcome has it; in the text it would be read twice
		o.Err = fmt.Errorf("access token of account %q: %w", t.o.Account, &bare)
	}
	return o
}

// ours is trouble of the process itself: nothing is said about the route.
func (t *Transport) ours(text string, err error) reply.Outcome {
	return reply.Outcome{Verdict: reply.Deferred, Owner: reply.Process, Transport: name,
		Reply: reply.Reply{Text: text}, Err: fmt.Errorf("account %q: %s: %w", t.o.Account, text, err)}
}
