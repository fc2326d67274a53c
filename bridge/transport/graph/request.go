package graph

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/microsoftgraph/msgraph-sdk-go/users"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

const (
	maxErrorBody  = 64 << 10         // octets of an answer that are read
	errorBodyTime = 10 * time.Second // for reading them
)

// delivery is one request to be made.
type delivery struct {
	out    message.Outgoing
	header []byte
	secret token.Secret
	intent *once
}

// answer is what one request came to: a status, or an error.
type answer struct {
	status   int // 0 where no answer came
	header   http.Header
	body     []byte // of an error, the beginning
	err      error  // why no answer came
	released bool   // the last bytes of the message may have left
	reused   bool   // on a connection that was kept from an earlier request
	stopped  bool   // the caller ended the attempt
	clientID string // our client-request-id
	took     time.Duration
	secret   token.Secret // never shown; taken out of what the server writes
}

// post makes one request and waits for its answer.
func (t *Transport) post(ctx context.Context, d delivery) answer {
	a := answer{clientID: uuid.NewString(), secret: d.secret}
	began := t.o.Now()
	t.exchange(ctx, d, &a)
	a.took = t.o.Now().Sub(began)
	a.stopped = ctx.Err() == context.Canceled
	return a
}

// exchange fills in the answer.
func (t *Transport) exchange(ctx context.Context, d delivery, a *answer) {
	ctx, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	stored, err := d.out.Open(ctx)
	if err != nil {
		a.err = &sourceError{"the stored body", err}
		return
	}
	size := int64(len(d.header)) + d.out.BodySize
	b := newBody(d.header, stored, size, func() error { return d.intent.do(ctx) })
	defer b.Close()

	// The trace runs in goroutines of the HTTP client.
	var reused atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
	})
	req, err := t.request(traced, t.endpoint(d.out), d.secret, a.clientID)
	if err != nil {
		a.err = &sourceError{"the request", err}
		return
	}
	// No GetBody and no Idempotency-Key: with either, Go's client would send a POST again by itself.
	req.Body, req.ContentLength, req.GetBody = b, encodedSize(size), nil
	resp, err := t.client.Do(req)
	a.reused = reused.Load()
	if err == nil {
		a.status, a.header = resp.StatusCode, resp.Header
		a.body = errorBody(resp, cancel)
	}
	// From here on nothing more can be released. It comes after reading the answer: taking the body away from a request
	// that was answered early closes its connection.
	b.Close()
	var source error
	a.released, source = b.outcome()
	switch {
	case a.status != 0:
	case source != nil:
		a.err = source
	default:
		a.err = err
	}
}

// errorBody reads the beginning of an answer that is not 202, for a while, and closes it. 202 is final, whatever follows
// it: not even a body that never ends is waited for.
func errorBody(resp *http.Response, cancel context.CancelFunc) []byte {
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusAccepted {
		return nil
	}
	timer := time.AfterFunc(errorBodyTime, cancel)
	defer timer.Stop()
	head, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what can be had of it
	return head
}

// endpoint is the full URL. With a person's token it is /me also for a shared mailbox: /users/{shared} would need Full
// Access beside Send As ("Send Outlook messages from another user", November 2026).
func (t *Transport) endpoint(out message.Outgoing) string { return t.mailboxURL(out) + "/sendMail" }

// mailboxURL is where the mailbox is that sends. A shared mailbox's drafts lie with who signed in, too: an upload session
// works there alone ("Microsoft Graph known issues").
func (t *Transport) mailboxURL(out message.Outgoing) string {
	if !t.o.AppOnly {
		return t.base + "/me"
	}
	return t.base + "/users/" + url.PathEscape(t.urlMailbox(out).String())
}

// urlMailbox is the account's mailbox, or for an account of a whole domain that of the header From.
func (t *Transport) urlMailbox(out message.Outgoing) envelope.Address {
	if t.o.Mailbox.Local == "*" {
		return out.Plan.HeaderFrom
	}
	return t.o.Mailbox
}

// request lets the SDK make the request. A builder serves for one request only: it loses its URL in it.
func (t *Transport) request(ctx context.Context, rawURL string, secret token.Secret, id string) (*http.Request, error) {
	info, err := users.NewItemSendMailRequestBuilder(rawURL, t.adapter).
		ToPostRequestInformation(ctx, users.NewItemSendMailPostRequestBody(), nil)
	if err != nil {
		return nil, err
	}
	native, err := t.adapter.ConvertToNativeRequest(ctx, info)
	if err != nil {
		return nil, err
	}
	req, ok := native.(*http.Request)
	if !ok {
		return nil, fmt.Errorf("the Graph SDK made a %T", native)
	}
	// text/plain says MIME in base64 ("user: sendMail", November 2026).
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Authorization", "Bearer "+secret.Reveal())
	req.Header.Set("client-request-id", id)
	req.Header.Set("return-client-request-id", "true")
	req.Header.Set("User-Agent", "Postern")
	return req, nil
}

// emit tells the log of one request.
func (t *Transport) emit(ctx context.Context, a answer, out message.Outgoing, o reply.Outcome) {
	level, kind := slog.LevelWarn, event.GraphFailed
	if o.Verdict == reply.Relayed {
		level, kind = slog.LevelDebug, event.GraphCalled
	}
	attrs := []slog.Attr{
		slog.String("queue_id", string(out.ID)), slog.String("message_id", out.Plan.MessageID),
		slog.String("account", t.o.Account), slog.String("transport", name), slog.String("host", t.host),
		slog.Int("attempt", out.Attempt), slog.Duration("duration", a.took), slog.String("reply", o.Reply.String()),
		slog.String("client_request_id", a.clientID),
	}
	for key, value := range map[string]string{"request_id": o.Reply.ID, "diagnostic": a.header.Get("x-ms-ags-diagnostic")} {
		if value != "" {
			attrs = append(attrs, slog.String(key, oneLine(value, a.secret)))
		}
	}
	if o.Err != nil {
		attrs = append(attrs, slog.String("err", o.Err.Error()))
	}
	t.o.Events.Emit(ctx, level, kind, attrs...)
}
