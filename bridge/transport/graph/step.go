package graph

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"postern/auth/token"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// maxAnswer is how much of a successful answer is read: the properties of a message without its body.
const maxAnswer = 1 << 20

// step is one request about a draft: everything but the last one, the send, can be made again without a copy.
//
// The SDK's models are not used for these: they hold a file's whole content in memory, and our bodies are read from the
// store while they are sent.
type step struct {
	method string
	url    string
	header map[string]string
	body   func(context.Context) (io.ReadCloser, int64, error) // nil: none
	want   int                                                 // the only status that means done
	also   int                                                 // another one, 0 for none
	draft  bool                                                // the URL names a draft, which may be gone
	gone   bool                                                // that it is gone means done too
	upload bool                                                // at the upload host: without Authorization, and the URL is a secret
	intent func(context.Context) error                         // before the request may take effect; nil: it needs none
	out    message.Outgoing
}

// jsonBody is a small JSON body.
func jsonBody(v any) func(context.Context) (io.ReadCloser, int64, error) {
	return func(context.Context) (io.ReadCloser, int64, error) {
		b, err := json.Marshal(v)
		return io.NopCloser(strings.NewReader(string(b))), int64(len(b)), err
	}
}

// harmless reports whether the request can be made twice: it asks, or what it sets or deletes is then as it would be.
func (s step) harmless() bool {
	return s.method == http.MethodGet || s.method == http.MethodPatch || s.method == http.MethodDelete
}

// do takes a step: a refused token is replaced once, and a connection that was kept and is dead is replaced once where
// a second request does no harm. The outcome says whether it was done; else why not, and a is what came.
func (t *Transport) do(ctx context.Context, s step) (a answer, o reply.Outcome, done bool) {
	refreshed, redialled := false, false
	for {
		var secret token.Secret
		if !s.upload {
			var err error
			if secret, err = t.o.Tokens.Token(ctx, token.Graph); err != nil {
				return answer{}, t.noToken(ctx, err), false
			}
		}
		a = t.take(ctx, s, secret)
		if a.status != 0 && (a.status == s.want || a.status == s.also || s.gone && isGone(a)) {
			t.emit(ctx, a, s.out, reply.Outcome{Verdict: reply.Relayed, Reply: reply.Reply{Code: a.status, Text: s.method}})
			return a, reply.Outcome{}, true
		}
		o = t.judgeStep(a, s)
		t.emit(ctx, a, s.out, o)
		switch {
		case a.status != 0 && o.Owner == reply.Login && !refreshed && !s.upload:
			refreshed = true
			t.o.Tokens.Refused(token.Graph, secret)
		case a.err != nil && a.reused && s.harmless() && !redialled && !fromSource(a.err) && ctx.Err() == nil:
			redialled = true
		default:
			return a, o, false
		}
	}
}

// take makes one request and reads its answer.
func (t *Transport) take(ctx context.Context, s step, secret token.Secret) (a answer) {
	a = answer{clientID: uuid.NewString(), secret: secret}
	began := t.o.Now()
	defer func() {
		a.took = t.o.Now().Sub(began)
		a.stopped = ctx.Err() == context.Canceled
	}()
	limited, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	// From the moment that it has a connection the request may be written, and who waits for the answer may hear of its end
	// before the goroutine that writes says that it did. The client asks for another connection only where the server
	// cannot have taken the request from the one before.
	var reused, mayLeave atomic.Bool
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GetConn: func(string) { mayLeave.Store(false) },
		GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused); mayLeave.Store(true) },
	})
	req, err := t.stepRequest(traced, s, a.clientID, secret)
	if err != nil {
		a.err = &sourceError{"the request", err}
		return a
	}
	if s.intent != nil {
		if err := s.intent(limited); err != nil {
			req.Body.Close()
			a.err = &sourceError{"the in-doubt record", err}
			return a
		}
	}
	resp, err := t.client.Do(req)
	a.reused, a.released = reused.Load(), mayLeave.Load()
	if err != nil {
		a.err = unveiled(err, s)
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.status == http.StatusAccepted {
		return a // final, whatever follows it
	}
	a.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what can be had of it
	return a
}

func (t *Transport) stepRequest(ctx context.Context, s step, id string, secret token.Secret) (*http.Request, error) {
	var body io.ReadCloser = http.NoBody
	var size int64
	if s.body != nil {
		var err error
		if body, size, err = s.body(ctx); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, s.method, s.url, nil)
	if err != nil {
		body.Close()
		return nil, errors.New("an address that is none") // the URL may be a secret
	}
	req.Body, req.ContentLength = body, size
	req.Header.Set("User-Agent", "Postern")
	if !s.upload {
		req.Header.Set("Authorization", "Bearer "+secret.Reveal())
		req.Header.Set("client-request-id", id)
		req.Header.Set("return-client-request-id", "true")
	}
	for k, v := range s.header {
		req.Header.Set(k, v)
	}
	return req, nil
}

// unveiled takes the URL out of an error of the HTTP client: that of an upload is a credential.
func unveiled(err error, s step) error {
	var source *sourceError
	var withURL *url.Error
	switch {
	case errors.As(err, &source):
		return source
	case s.upload && errors.As(err, &withURL):
		return withURL.Err
	}
	return err
}

// judgeStep is judge for a request that cannot have sent the message, but for the send itself.
func (t *Transport) judgeStep(a answer, s step) reply.Outcome {
	if a.status >= 200 && a.status < 300 {
		o := reply.Outcome{Verdict: reply.Deferred, Owner: reply.Message, Transport: name,
			Reply: reply.Reply{Code: a.status, Text: "not what " + s.method + " is answered with"}}
		if a.status == http.StatusOK && s.intent == nil {
			o.Verdict, o.Size = reply.Failed, reply.OverRequest
			o.Reply.Text = plainText(a)
		}
		if s.intent != nil { // the send: what another 2xx stands for nobody knows
			o.Verdict, o.Owner = reply.InDoubt, reply.Route
		}
		return o
	}
	doubt := a
	doubt.released = s.intent != nil && (a.released || a.status != 0)
	o := t.judge(doubt, s.out)
	if isNoPermission(a) && s.intent == nil {
		o.Owner, o.Remedy = reply.Account, "consent to the permission Mail.ReadWrite, or set drafts = \"never\" for account "+t.o.Account
	}
	if s.draft && isGone(a) { // it is made again
		o.Verdict, o.Owner, o.Remedy = reply.Deferred, reply.Message, ""
		o.Means = "the draft is not there any more"
	}
	if s.upload && !fromSource(a.err) && o.Owner != reply.Process { // the upload host speaks of its session, never of an account
		o.Verdict, o.Owner, o.Remedy = reply.Deferred, reply.Route, ""
	}
	return o
}
