package graph

import (
	"context"
	"errors"
	"strings"
	"testing"

	"postern/auth/token"
	"postern/bridge/reply"
	"postern/bridge/transport/graph/graphtest"
)

func TestProbe(t *testing.T) {
	good := graphtest.Fault(400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.")
	for _, tc := range []struct {
		name    string
		answers []graphtest.Answer
		asked   int
		err     string // a part of it; "": none
		owner   reply.Owner
	}{
		{"an answer about the message: all before it is in order", []graphtest.Answer{good}, 1, "", 0},
		{"a 400 that nobody knows is about the message too", []graphtest.Answer{graphtest.Fault(400, "Brandnew", "x")}, 1, "", 0},
		{"a refused token is replaced once", []graphtest.Answer{graphtest.Fault(401, "InvalidAuthenticationToken", "x"), good}, 2, "", 0},
		{"a token that is refused again", []graphtest.Answer{graphtest.Fault(401, "InvalidAuthenticationToken", "x")}, 2, "postern signin erp", reply.Login},
		{"no permission", []graphtest.Answer{graphtest.Fault(403, "ErrorAccessDenied", "x")}, 1, "Mail.Send", reply.Account},
		{"no mailbox", []graphtest.Answer{graphtest.Fault(404, "MailboxNotEnabledForRESTAPI", "x")}, 1, "licence", reply.Account},
		{"throttled", []graphtest.Answer{graphtest.Fault(429, "TooManyRequests", "x")}, 1, "429", reply.Route},
		{"something that takes anything", []graphtest.Answer{{}}, 1, "graph address", reply.Nobody},
		{"a portal that says 200", []graphtest.Answer{{Status: 200, Body: "<html>"}}, 1, "graph address", reply.Message},
		{"a proxy that says 403", []graphtest.Answer{{Status: 403, Body: "<html>"}}, 1, "graph address", reply.Account},
		{"a redirect", []graphtest.Answer{{Status: 302}}, 1, "graph address", reply.Route},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t, tc.answers...)
			err := newBench(t, s.URL, nil).Probe(context.Background())
			if n := len(s.Requests()); n != tc.asked {
				t.Errorf("%d requests; want %d", n, tc.asked)
			}
			if tc.err == "" {
				if err != nil {
					t.Errorf("Probe = %v; want nil", err)
				}
				return
			}
			var p *ProbeError
			if !errors.As(err, &p) || !strings.Contains(err.Error(), tc.err) || p.Outcome.Owner != tc.owner || strings.Contains(err.Error(), canary) {
				t.Errorf("Probe = %v (%+v); want %q, trouble of %v", err, p, tc.err, tc.owner)
			}
		})
	}
}

func TestProbeWithoutAnswer(t *testing.T) {
	s := graphtest.New(t)
	b := newBench(t, s.URL, nil)
	b.tokens.err = &token.Error{Person: true, Text: "needs sign-in", Remedy: "run: postern signin erp"}
	if err := b.Probe(context.Background()); err == nil || !strings.Contains(err.Error(), "postern signin erp") {
		t.Errorf("Probe = %v; want the token's remedy", err)
	}
	gone := newBench(t, "http://127.0.0.1:1", nil) // tcpmux, where nobody listens
	var p *ProbeError
	if err := gone.Probe(context.Background()); !errors.As(err, &p) || p.Outcome.Verdict != reply.Deferred || p.Outcome.Owner != reply.Route {
		t.Errorf("Probe = %v; want trouble of the route", err)
	}
	domain := newBench(t, s.URL, func(o *Options) { o.AppOnly = true; o.Mailbox.Local = "*" })
	if err := domain.Probe(context.Background()); err == nil || !strings.Contains(err.Error(), "whole domain") {
		t.Errorf("Probe = %v", err)
	}
}
