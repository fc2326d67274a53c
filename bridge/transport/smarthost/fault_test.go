package smarthost

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
	"postern/bridge/message"
	"postern/bridge/reply"
	. "postern/bridge/transport/smarthost/smarthosttest"
)

// stepFaults are single faults, step by step.
var stepFaults = []struct {
	at      Step
	name    string
	action  Action
	verdict reply.Verdict
	owner   reply.Owner
}{
	{Greeting, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{Greeting, "421", Action{Reply: "421 4.3.2 busy\r\n", Drop: true}, reply.Deferred, reply.Route},
	{Greeting, "554", Action{Reply: "554 5.7.1 no\r\n"}, reply.Deferred, reply.Route},
	{Greeting, "blocked tenant", Action{Reply: "550 5.7.705 Access denied, tenant has exceeded threshold\r\n"}, reply.Deferred, reply.Account},
	{Greeting, "endless", Action{Endless: true}, reply.Deferred, reply.Route},
	{Greeting, "a line of 1 MB", Action{Reply: "220 " + strings.Repeat("x", 1<<20) + "\r\n"}, reply.Deferred, reply.Route},
	{Greeting, "no SMTP", Action{Reply: "HTTP/1.1 400 Bad Request\r\n\r\n"}, reply.Deferred, reply.Route},
	{EHLO, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{EHLO, "421", Action{Reply: "421 4.3.2 busy\r\n"}, reply.Deferred, reply.Route},
	{EHLO, "550", Action{Reply: "550 5.7.1 no\r\n"}, reply.Deferred, reply.Route},
	{EHLO, "endless", Action{Endless: true}, reply.Deferred, reply.Route},
	{STARTTLS, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{STARTTLS, "454", Action{Reply: "454 4.7.0 not now\r\n"}, reply.Deferred, reply.Route},
	{STARTTLS, "clear text after the 220", Action{Reply: "220 go\r\n250 injected\r\n"}, reply.Deferred, reply.Route},
	{TLS, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{EHLOTLS, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{EHLOTLS, "502", Action{Reply: "502 5.5.1 no EHLO\r\n"}, reply.Deferred, reply.Route},
	{EHLOTLS, "endless", Action{Endless: true}, reply.Deferred, reply.Route},
	{AUTH, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{AUTH, "421", Action{Reply: "421 4.3.2 busy\r\n"}, reply.Deferred, reply.Route},
	{AUTH, "454", Action{Reply: "454 4.7.0 Temporary authentication failure\r\n"}, reply.Deferred, reply.Route},
	{AUTH, "504", Action{Reply: "504 5.7.4 Unrecognized authentication type\r\n"}, reply.Deferred, reply.Account},
	{AUTH, "a challenge that is no Base64", Action{Reply: "334 who are you?\r\n"}, reply.Deferred, reply.Route},
	{Token, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{Token, "454", Action{Reply: "454 4.7.0 Temporary authentication failure\r\n"}, reply.Deferred, reply.Route},
	{Token, "SMTP AUTH is off", Action{Reply: "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.\r\n"}, reply.Deferred, reply.Account},
	{MAIL, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{MAIL, "421", Action{Reply: "421 4.3.2 busy\r\n"}, reply.Deferred, reply.Route},
	{MAIL, "451", Action{Reply: "451 4.7.0 Temporary server error\r\n"}, reply.Deferred, reply.Route},
	{MAIL, "550", Action{Reply: "550 5.1.0 no\r\n"}, reply.Deferred, reply.Message},
	{MAIL, "555", Action{Reply: "555 5.5.4 Unsupported option\r\n"}, reply.Deferred, reply.Message},
	{MAIL, "530", Action{Reply: "530 5.7.57 Client not authenticated to send mail.\r\n"}, reply.Deferred, reply.Account},
	{MAIL, "too large", Action{Reply: "552 5.3.4 Message size exceeds fixed maximum message size\r\n"}, reply.Failed, reply.Message},
	{RCPT, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{RCPT, "421", Action{Reply: "421 4.3.2 busy\r\n", Drop: true}, reply.Deferred, reply.Route},
	{RCPT, "450", Action{Reply: "450 4.2.0 later\r\n"}, reply.Deferred, reply.Recipient},
	{RCPT, "550", Action{Reply: "550 5.1.1 unknown\r\n"}, reply.Failed, reply.Recipient},
	{RCPT, "blocked account", Action{Reply: "550 5.7.708 Access denied, traffic not accepted from this IP\r\n"}, reply.Deferred, reply.Account},
	{DATA, "drop", Action{Drop: true}, reply.Deferred, reply.Route},
	{DATA, "421", Action{Reply: "421 4.3.2 busy\r\n"}, reply.Deferred, reply.Route},
	{DATA, "451", Action{Reply: "451 4.3.0 later\r\n"}, reply.Deferred, reply.Route},
	{DATA, "554", Action{Reply: "554 5.5.1 no\r\n"}, reply.Deferred, reply.Message},
	{Dot, "drop", Action{Drop: true}, reply.InDoubt, reply.Route},
	{Dot, "half a reply", Action{Reply: "250 2.0", Drop: true}, reply.InDoubt, reply.Route},
	{Dot, "endless", Action{Endless: true}, reply.InDoubt, reply.Route},
	{Dot, "a line of 1 MB", Action{Reply: "250 " + strings.Repeat("x", 1<<20) + "\r\n"}, reply.InDoubt, reply.Route},
	{Dot, "no reply at all", Action{Reply: "what?\r\n"}, reply.InDoubt, reply.Route},
	{Dot, "354 again", Action{Reply: "354 more\r\n"}, reply.InDoubt, reply.Route},
	{Dot, "421", Action{Reply: "421 4.3.2 busy\r\n", Drop: true}, reply.Deferred, reply.Route},
	{Dot, "432", Action{Reply: "432 4.3.2 Concurrent connections limit exceeded.\r\n"}, reply.Deferred, reply.Route},
	{Dot, "451", Action{Reply: "451 4.6.0 later\r\n"}, reply.Deferred, reply.Message},
	{Dot, "550", Action{Reply: "550 5.6.11 bare line feeds\r\n"}, reply.Failed, reply.Message},
	{Dot, "Send As", Action{Reply: "554 5.2.252 SendAsDenied; svc not allowed to send as erp; " + strings.Repeat("diag ", 700) + "\r\n"}, reply.Deferred, reply.Sender},
	{Dot, "554 of many lines", Action{Reply: "554-5.6.0 first\r\n554-5.6.0 second\r\n554 5.6.0 third\r\n"}, reply.Failed, reply.Message},
}

// TestEveryStepsFaults goes through the dialogue; every fault lets the next message pass.
func TestEveryStepsFaults(t *testing.T) {
	for _, tc := range stepFaults {
		t.Run(string(tc.at)+" "+tc.name, func(t *testing.T) {
			r := start(t, Script{On: Once(tc.at, tc.action)})
			o := r.send(t, outgoing(t, plainBody, bob))
			got := o.For(mustAddress(t, bob).Key())
			if got.Verdict != tc.verdict || got.Owner != tc.owner {
				t.Errorf("Send = %v, %v (%v); want %v, %v", got.Verdict, got.Owner, got.Err, tc.verdict, tc.owner)
			}
			if got.Err == nil {
				t.Error("no Err for the log")
			}
			if len(got.Reply.Text) > 1000 || strings.ContainsAny(got.Reply.Text, "\r\n") {
				t.Errorf("Reply.Text is no short line: %d octets", len(got.Reply.Text))
			}
			if n := len(r.server.Messages()); n != 0 && tc.verdict != reply.InDoubt {
				t.Errorf("%d messages arrived", n)
			}
			if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
				t.Errorf("next message = %v, %v (%v)", o.Verdict, o.Owner, o.Err)
			}
		})
	}
}

// TestBrokenWithinTheMessageIsNoDoubt: nothing that is not complete can have been accepted.
func TestBrokenWithinTheMessageIsNoDoubt(t *testing.T) {
	r := start(t, Script{On: Once(Body, Action{Drop: true})})
	out := outgoing(t, strings.Repeat(strings.Repeat("y", 76)+"\r\n", 400_000), bob)
	intents := 0
	out.Intent = func(context.Context) error { intents++; return nil }
	if o := r.send(t, out); o.Verdict != reply.Deferred || o.Owner != reply.Route || intents != 0 {
		t.Errorf("Send = %+v, Intent called %d times; want deferred, route, without intent", o, intents)
	}
	if !strings.Contains(r.events.String(), "smarthost failed") {
		t.Errorf("events: %s", r.events)
	}
}

func TestTLSIsNeverGivenUp(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script Script
		owner  reply.Owner
		remedy string
		err    string
	}{
		{"expired certificate", Script{Certificate: Expired}, reply.Route, "clock", "expired"},
		{"wrong name", Script{Certificate: WrongName}, reply.Route, "by the name", "another.test"},
		{"unknown authority", Script{Certificate: UnknownCA}, reply.Route, "ca_file", "unknown authority"},
		{"unknown authority under implicit TLS", Script{Certificate: UnknownCA, Implicit: true}, reply.Route, "ca_file", "unknown authority"},
		{"TLS 1.1 at most", Script{MaxTLS: tls.VersionTLS11}, reply.Route, "", "protocol version"},
		{"STARTTLS stripped", Script{NoSTARTTLS: true}, reply.Route, "strips STARTTLS", "does not offer STARTTLS"},
		{"XOAUTH2 not offered", Script{Mechanisms: []string{"LOGIN", "PLAIN"}}, reply.Account, "smtp.office365.com", `"LOGIN PLAIN"`},
		{"AUTH not offered", Script{Mechanisms: []string{}}, reply.Account, "smtp.office365.com", "no token was sent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, tc.script)
			o := r.send(t, outgoing(t, plainBody, bob))
			if o.Verdict != reply.Deferred || o.Owner != tc.owner || !strings.Contains(o.Remedy, tc.remedy) {
				t.Errorf("Send = %+v; want deferred, %v, remedy with %q", o, tc.owner, tc.remedy)
			}
			if o.Err == nil || !strings.Contains(o.Err.Error(), tc.err) {
				t.Errorf("Err = %v; want %q in it", o.Err, tc.err)
			}
			r.server.Close()
			if r.server.Said("AUTH") || r.server.Said("MAIL") || len(r.server.Tokens()) != 0 {
				t.Errorf("said %q", r.server.Commands())
			}
			if !strings.Contains(r.events.String(), "smarthost failed") {
				t.Errorf("events: %s", r.events)
			}
		})
	}
	t.Run("implicit TLS on the port for STARTTLS", func(t *testing.T) {
		r := newRig(t, Start(t, Script{}), func(o *Options) { o.TLS = Implicit })
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Owner != reply.Route || !strings.Contains(o.Remedy, "starttls") {
			t.Errorf("Send = %+v", o)
		}
	})
}

const freshCanary = canary + ".second"

var personMustAct = &token.Error{Person: true, Text: "refresh token of svc@contoso.test was revoked", Remedy: "run: postern signin erp"}

// tokenCases are refusals of tokens and sources that have none.
var tokenCases = []struct {
	name    string
	script  Script
	list    []string
	err     error
	verdict reply.Verdict
	owner   reply.Owner
	remedy  string
	refused int
	opened  int
}{
	{"a stale token is refreshed once",
		Script{Accept: func(_, tok string) bool { return tok == freshCanary }},
		[]string{canary, freshCanary}, nil, reply.Relayed, reply.Nobody, "", 1, 2},
	{"Gmail's error challenge is answered, then likewise",
		Script{Accept: func(_, tok string) bool { return tok == freshCanary }, ErrorChallenge: true},
		[]string{canary, freshCanary}, nil, reply.Relayed, reply.Nobody, "", 1, 2},
	{"OAUTHBEARER's error challenge likewise",
		Script{Accept: func(_, tok string) bool { return tok == freshCanary }, ErrorChallenge: true, Mechanisms: []string{"OAUTHBEARER"}},
		[]string{canary, freshCanary}, nil, reply.Relayed, reply.Nobody, "", 1, 2},
	{"a fresh token that is refused too is the account's trouble",
		Script{Accept: func(_, tok string) bool { return false }},
		[]string{canary, freshCanary}, nil, reply.Deferred, reply.Account, "postern check --live", 1, 2},
	{"without a fresh token a person must act",
		Script{Accept: func(_, tok string) bool { return false }},
		[]string{canary}, personMustAct, reply.Deferred, reply.Login, "postern signin erp", 1, 1},
	{"SMTP AUTH disabled for the tenant costs no token",
		Script{On: Always(Token, Action{Reply: "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit x\r\n"})},
		[]string{canary, freshCanary}, nil, reply.Deferred, reply.Account, "Set-TransportConfig -SmtpClientAuthenticationDisabled $false", 0, 1},
	{"SMTP AUTH disabled for the mailbox costs no token",
		Script{On: Always(Token, Action{Reply: "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit x\r\n"})},
		[]string{canary, freshCanary}, nil, reply.Deferred, reply.Account, "Set-CASMailbox -Identity 'svc@contoso.test'", 0, 1},
	{"no token at all: nothing is connected",
		Script{}, nil, personMustAct, reply.Deferred, reply.Login, "postern signin erp", 0, 0},
	{"the token endpoint is down",
		Script{}, nil, &token.Error{Text: "token endpoint answered 503", RetryAfter: 2 * time.Hour}, reply.Deferred, reply.Route, "", 0, 0},
	{"an error that says nothing passes by itself",
		Script{}, nil, errStore, reply.Deferred, reply.Route, "", 0, 0},
	{"a token with a control character is never sent",
		Script{}, []string{canary + "\x01auth=x"}, nil, reply.Deferred, reply.Account, "", 0, 1},
}

func TestRefusedTokens(t *testing.T) {
	for _, tc := range tokenCases {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, tc.script)
			r.tokens.list, r.tokens.err = tc.list, tc.err
			o := r.send(t, outgoing(t, plainBody, bob))
			if o.Verdict != tc.verdict || o.Owner != tc.owner || !strings.Contains(o.Remedy, tc.remedy) {
				t.Errorf("Send = %+v; want %v, %v, remedy with %q", o, tc.verdict, tc.owner, tc.remedy)
			}
			if tc.remedy != "" && o.Err != nil && strings.Contains(o.Err.Error(), tc.remedy) {
				t.Errorf("Err = %v; it says the remedy again", o.Err)
			}
			if o.RetryAfter > time.Hour {
				t.Errorf("RetryAfter = %v; an hour is the most", o.RetryAfter)
			}
			if got := r.tokens.refusals(); got != tc.refused {
				t.Errorf("%d tokens were reported refused, want %d", got, tc.refused)
			}
			if got := r.server.Connections(); got != tc.opened {
				t.Errorf("%d connections, want %d", got, tc.opened)
			}
			if tc.script.ErrorChallenge && !r.server.Said("dismissal:") {
				t.Error("the error challenge was not answered")
			}
			if r.server.Said("*") {
				t.Error("the library's stray * went out")
			}
		})
	}
}

func TestEchoOfTheTokenIsRedacted(t *testing.T) {
	blob := base64.StdEncoding.EncodeToString([]byte("user=" + login + "\x01auth=Bearer " + canary + "\x01\x01"))
	for _, tc := range []struct{ name, text string }{
		{"the token", "535 5.7.8 bad token " + canary},
		{"half of it", "535 5.7.8 bad token " + canary[:40] + "..."},
		{"the response", "535 5.7.8 bad line: " + blob},
		{"the response over two lines", "535-5.7.8 " + blob[:76] + "\r\n535 5.7.8 " + blob[76:]},
		{"a line that is no reply", blob},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{On: Always(Token, Action{Reply: tc.text + "\r\n"})})
			r.tokens.list = []string{canary, canary}
			o := r.send(t, outgoing(t, plainBody, bob))
			all := fmt.Sprintf("%+v %s", o, r.events)
			for i := 0; i+24 <= len(blob); i += 8 {
				if strings.Contains(all, blob[i:i+24]) {
					t.Fatalf("the response stands in: %s", all)
				}
			}
			if !strings.Contains(all, "[redacted]") {
				t.Errorf("nothing redacted in: %s", all)
			}
		})
	}
}

func TestSilenceEnds(t *testing.T) {
	for _, tc := range []struct {
		at   Step
		want time.Duration
		verd reply.Verdict
	}{
		{Greeting, 5 * time.Minute, reply.Deferred},
		{TLS, 30 * time.Second, reply.Deferred},
		{EHLOTLS, 5 * time.Minute, reply.Deferred},
		{Token, 5 * time.Minute, reply.Deferred},
		{MAIL, 5 * time.Minute, reply.Deferred},
		{RCPT, 5 * time.Minute, reply.Deferred},
		{DATA, 2 * time.Minute, reply.Deferred},
		{Body, 3 * time.Minute, reply.Deferred},
		{Dot, 10 * time.Minute, reply.InDoubt},
	} {
		t.Run("at "+string(tc.at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, StartPipe(t, Script{On: Always(tc.at, Action{Wait: make(chan struct{})})}), nil)
				began := time.Now()
				o := r.send(t, outgoing(t, strings.Repeat("line\r\n", 20_000), bob))
				if o.Verdict != tc.verd || o.Owner != reply.Route {
					t.Errorf("Send = %+v", o)
				}
				if got := time.Since(began); got != tc.want {
					t.Errorf("gave up after %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestTricklingReplyEnds: the limit is one for the whole reply, however often an octet comes.
func TestTricklingReplyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		ended := make(chan struct{})
		defer func() { <-ended }()
		go func() {
			defer close(ended)
			defer there.Close()
			for {
				if _, err := there.Write([]byte("2")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		r := newRig(t, StartPipe(t, Script{}), func(o *Options) {
			o.Dial = func(context.Context, string, string) (net.Conn, error) { return here, nil }
		})
		began := time.Now()
		if o := r.send(t, outgoing(t, plainBody, bob)); o.Owner != reply.Route {
			t.Errorf("Send = %+v", o)
		}
		if got := time.Since(began); got != 5*time.Minute {
			t.Errorf("gave up after %v, want 5m", got)
		}
	})
}

func TestConnectFails(t *testing.T) {
	for _, tc := range []struct {
		name  string
		dial  func(ctx context.Context, network, address string) (net.Conn, error)
		owner reply.Owner
		after time.Duration
	}{
		{"refused", func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }, reply.Route, 0},
		{"no answer", func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, reply.Route, 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, StartPipe(t, Script{}), func(o *Options) { o.Dial = tc.dial })
				began := time.Now()
				if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Deferred || o.Owner != tc.owner {
					t.Errorf("Send = %+v", o)
				}
				if got := time.Since(began); got != tc.after {
					t.Errorf("gave up after %v, want %v", got, tc.after)
				}
			})
		})
	}
}

func TestDuplicateDelivery(t *testing.T) {
	const text = "554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException.MapiExceptionDuplicateDelivery; x\r\n"
	for _, tc := range []struct {
		name    string
		change  func(*message.Outgoing)
		verdict reply.Verdict
	}{
		{"the first attempt waits for another Message-ID", func(*message.Outgoing) {}, reply.Deferred},
		{"a later attempt without a doubt before proves nothing", func(o *message.Outgoing) { o.Attempt = 2 }, reply.Deferred},
		{"a resend after a doubt has arrived before", func(o *message.Outgoing) { o.Attempt, o.Resend = 2, true }, reply.Relayed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{On: Always(Dot, Action{Reply: text})})
			out := outgoing(t, plainBody, bob, "eve@fabrikam.test")
			tc.change(&out)
			o := r.send(t, out)
			if o.Verdict != tc.verdict {
				t.Errorf("Send = %+v; want %v", o, tc.verdict)
			}
			if !o.Duplicate || o.Verdict == reply.Deferred && (o.Owner != reply.Message || !strings.Contains(o.Remedy, "Message-ID")) {
				t.Errorf("Send = %+v; want the message's, with a note", o)
			}
		})
	}
}

// cutConn is a connection whose writes can be made to fail, as when the network goes away under us.
type cutConn struct {
	net.Conn
	cut *bool // set and read by the goroutine of Send alone
}

func (c cutConn) Write(b []byte) (int, error) {
	if *c.cut {
		return 0, errors.New("connection reset by peer")
	}
	return c.Conn.Write(b)
}

// TestFinalDotThatNeverLeftIsNoDoubt: the octets with the dot were not taken from us, so nobody can have accepted them.
func TestFinalDotThatNeverLeftIsNoDoubt(t *testing.T) {
	var cut bool
	server := Start(t, Script{})
	r := newRig(t, server, func(o *Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := server.Dial(ctx, network, address)
			return cutConn{c, &cut}, err
		}
	})
	out := outgoing(t, plainBody, bob)
	out.Intent = func(context.Context) error { cut = true; return nil }
	if o := r.send(t, out); o.Verdict != reply.Deferred || o.Owner != reply.Route {
		t.Errorf("Send = %+v; want deferred, route", o)
	}
}

func TestThirdChallengeEndsAuth(t *testing.T) {
	r := start(t, Script{
		Accept:         func(_, _ string) bool { return false },
		ErrorChallenge: true,
		On:             Always(Dismissal, Action{Reply: "334 \r\n"}),
	})
	if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Deferred || o.Owner != reply.Route {
		t.Errorf("Send = %+v; want deferred, route", o)
	}
}

func TestInitialResponses(t *testing.T) {
	for _, tc := range []struct{ name, mechanism, login, want string }{
		{"XOAUTH2", xoauth2, "svc@contoso.test", "user=svc@contoso.test\x01auth=Bearer tok\x01\x01"},
		{"OAUTHBEARER", oauthBearer, "svc@contoso.test", "n,a=svc@contoso.test,\x01host=smtp.contoso.test\x01port=587\x01auth=Bearer tok\x01\x01"},
		{"OAUTHBEARER escapes what would end the name", oauthBearer, "a,b=c@contoso.test", "n,a=a=2Cb=3Dc@contoso.test,\x01host=smtp.contoso.test\x01port=587\x01auth=Bearer tok\x01\x01"},
		{"a login that would end its field", xoauth2, "svc\x01auth=x", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := newBearer(tc.mechanism, tc.login, "smtp.contoso.test:587", "tok")
			if tc.want == "" {
				if err == nil {
					t.Errorf("newBearer took the login")
				}
				return
			}
			if err != nil || string(b.response) != tc.want {
				t.Errorf("newBearer = %q, %v; want %q", b.response, err, tc.want)
			}
		})
	}
}
