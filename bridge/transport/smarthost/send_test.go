package smarthost

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
	. "postern/bridge/transport/smarthost/smarthosttest"
)

func TestSendRelays(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script Script
	}{
		{"STARTTLS and XOAUTH2", Script{}},
		{"implicit TLS", Script{Implicit: true}},
		{"OAUTHBEARER where it is all there is", Script{Mechanisms: []string{"LOGIN", "OAUTHBEARER"}}},
		{"Exchange's 334 without a blank", Script{On: Always(AUTH, Action{Reply: "334\r\n"})}},
		{"a greeting of several lines", Script{On: Always(Greeting, Action{Reply: "220-welcome\r\n220-to\r\n220 smarthost.test\r\n"})}},
		{"a QUIT that fails", Script{On: Always(QUIT, Action{Reply: "500 what?\r\n", Drop: true})}},
		{"a server that leaves after its 250", Script{On: Always(Dot, Action{Reply: "250 2.0.0 OK <1@smarthost.test>\r\n", Drop: true})}},
		{"a success of another number", Script{On: Always(Dot, Action{Reply: "252 2.0.0 OK\r\n"})}},
		{"a server without extensions", Script{Extensions: []string{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, tc.script)
			o := r.send(t, outgoing(t, plainBody, bob))
			if o.Verdict != reply.Relayed || o.Owner != reply.Nobody || o.Err != nil {
				t.Fatalf("Send = %+v; want relayed", o)
			}
			m := r.server.Messages()
			if len(m) != 1 {
				t.Fatalf("server has %d messages, want 1", len(m))
			}
			if m[0].Login != login {
				t.Errorf("signed in as %q, want %q", m[0].Login, login)
			}
			if got, want := string(m[0].Data), finalHeader+plainBody; got != want {
				t.Errorf("data:\n%s", cmp.Diff(want, got))
			}
			if got := r.server.Tokens(); len(got) != 1 || got[0] != canary {
				t.Errorf("tokens = %q", got)
			}
			if !strings.HasPrefix(r.events.String(), "smarthost connected [account=erp transport=smtp remote=localhost:") {
				t.Errorf("events: %s", r.events)
			}
		})
	}
}

func TestSendSaysWhatItMust(t *testing.T) {
	r := start(t, Script{})
	if o := r.send(t, outgoing(t, plainBody, bob, `"a b"@bücher.test`)); o.Verdict != reply.Relayed {
		t.Fatalf("Send = %+v", o)
	}
	want := []string{
		"EHLO bridge.contoso.test", "STARTTLS", "EHLO bridge.contoso.test", "AUTH XOAUTH2", "(token)",
		"MAIL FROM:<erp@contoso.test> BODY=8BITMIME SIZE=113",
		"RCPT TO:<bob@fabrikam.test>", `RCPT TO:<"a b"@xn--bcher-kva.test>`, "DATA",
	}
	if diff := cmp.Diff(want, r.server.Commands()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestReplyIsKept(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		want       reply.Reply
	}{
		{"Exchange", "250 2.0.0 OK <b225fdda@customer.test> [Hostname=X.PROD.OUTLOOK.COM]",
			reply.Reply{Code: 250, Enhanced: "2.0.0", Text: "OK <b225fdda@customer.test> [Hostname=X.PROD.OUTLOOK.COM]", ID: "<b225fdda@customer.test>"}},
		{"Postfix", "250 2.0.0 Ok: queued as 4F2A91C", reply.Reply{Code: 250, Enhanced: "2.0.0", Text: "Ok: queued as 4F2A91C", ID: "4F2A91C"}},
		{"no status and no id", "250 fine", reply.Reply{Code: 250, Text: "fine"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{On: Always(Dot, Action{Reply: tc.line + "\r\n"})})
			o := r.send(t, outgoing(t, plainBody, bob))
			if diff := cmp.Diff(tc.want, o.Reply); diff != "" {
				t.Errorf("Reply (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBodyArrivesAsItIs(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"lines that begin with dots", ".\r\n..\r\n.x\r\n", ".\r\n..\r\n.x\r\n"},
		{"a dot at the end", "x\r\n.\r\n", "x\r\n.\r\n"},
		{"a line of 100,000 octets", strings.Repeat("x", 100_000) + "\r\n", strings.Repeat("x", 100_000) + "\r\n"},
		{"8-bit octets that are no UTF-8", "gr\xfc\xdfe\r\n\x80\xff\r\n", "gr\xfc\xdfe\r\n\x80\xff\r\n"},
		{"no line end at the end gets the one that SMTP needs", "x", "x\r\n"},
		{"an empty body", "", ""},
		{"blank lines at the end", "x\r\n\r\n\r\n", "x\r\n\r\n\r\n"},
		{"two megabytes", strings.Repeat(strings.Repeat("y", 76)+"\r\n", 27_000), strings.Repeat(strings.Repeat("y", 76)+"\r\n", 27_000)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{})
			if o := r.send(t, outgoing(t, tc.body, bob)); o.Verdict != reply.Relayed {
				t.Fatalf("Send = %+v", o)
			}
			if got := r.server.Messages()[0].Data; !bytes.Equal(got, []byte(finalHeader+tc.want)) {
				t.Errorf("%d octets arrived, want %d, or they differ", len(got), len(finalHeader+tc.want))
			}
		})
	}
}

func TestBccFieldNeverLeaves(t *testing.T) {
	r := start(t, Script{})
	out := outgoing(t, plainBody, bob)
	out.Final = []byte("From: erp@contoso.test\r\nBcc: secret@contoso.test,\r\n other@contoso.test\r\nTo: bob@fabrikam.test\r\n\r\n")
	if o := r.send(t, out); o.Verdict != reply.Relayed {
		t.Fatalf("Send = %+v", o)
	}
	if got, want := string(r.server.Messages()[0].Data), "From: erp@contoso.test\r\nTo: bob@fabrikam.test\r\n\r\nHello\r\n"; got != want {
		t.Errorf("data = %q, want %q", got, want)
	}
}

func TestMailParameters(t *testing.T) {
	utf8Header := "From: erp@contoso.test\r\nSubject: Grüße\r\n\r\n"
	for _, tc := range []struct {
		name       string
		extensions []string
		change     func(*message.Outgoing)
		want       string
	}{
		{"a null reverse-path is From's address", []string{},
			func(o *message.Outgoing) { o.Plan.ReversePath = envelope.Address{} }, "MAIL FROM:<erp@contoso.test>"},
		{"SIZE without a limit", []string{"SIZE"}, nil, "MAIL FROM:<erp@contoso.test> SIZE=113"},
		{"8-bit text without 8BITMIME goes as it is", []string{}, func(o *message.Outgoing) { o.Envelope.Body8Bit = true }, "MAIL FROM:<erp@contoso.test>"},
		{"SMTPUTF8 for a recipient", []string{"SMTPUTF8"},
			func(o *message.Outgoing) {
				o.Recipients = append(o.Recipients, mustAddress(t, "jürgen@fabrikam.test"))
			},
			"MAIL FROM:<erp@contoso.test> SMTPUTF8"},
		{"SMTPUTF8 for the reverse-path", []string{"SMTPUTF8"},
			func(o *message.Outgoing) { o.Plan.ReversePath = mustAddress(t, "jürgen@contoso.test") },
			"MAIL FROM:<jürgen@contoso.test> SMTPUTF8"},
		{"SMTPUTF8 for a header, where the application said so", []string{"SMTPUTF8"},
			func(o *message.Outgoing) { o.Envelope.SMTPUTF8, o.Final = true, []byte(utf8Header) },
			"MAIL FROM:<erp@contoso.test> SMTPUTF8"},
		{"no SMTPUTF8 for a raw header of an old application", []string{"SMTPUTF8"},
			func(o *message.Outgoing) { o.Final = []byte(utf8Header) },
			"MAIL FROM:<erp@contoso.test>"},
		{"no SMTPUTF8 because of an international domain", []string{"SMTPUTF8"},
			func(o *message.Outgoing) {
				o.Envelope.SMTPUTF8 = true
				o.Plan.ReversePath = mustAddress(t, "erp@bücher.test")
			},
			"MAIL FROM:<erp@xn--bcher-kva.test>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{Extensions: tc.extensions})
			out := outgoing(t, plainBody, bob)
			if tc.change != nil {
				tc.change(&out)
			}
			if o := r.send(t, out); o.Verdict != reply.Relayed {
				t.Fatalf("Send = %+v", o)
			}
			if got := r.server.Messages()[0].Mail; got != tc.want {
				t.Errorf("said %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAddressesThatCannotGo(t *testing.T) {
	bad := envelope.Address{Local: "bob", Domain: "fabrikam.test> NOTIFY=NEVER"}
	eai := mustAddress(t, "jürgen@fabrikam.test")
	r := start(t, Script{Extensions: []string{}})

	out := outgoing(t, plainBody, bob)
	out.Recipients = append(out.Recipients, bad, eai)
	o := r.send(t, out)
	if o.Verdict != reply.Relayed {
		t.Fatalf("Send = %+v", o)
	}
	for _, a := range []envelope.Address{bad, eai} {
		if got := o.For(a.Key()); got.Verdict != reply.Failed || got.Owner != reply.Recipient || got.Reply.Code == 0 {
			t.Errorf("outcome of %v = %+v; want failed, recipient, with a reply", a, got)
		}
	}

	out = outgoing(t, plainBody, bob)
	out.Plan.ReversePath = bad
	if o := r.send(t, out); o.Verdict != reply.Failed || o.Owner != reply.Message {
		t.Errorf("Send with a bad reverse-path = %+v", o)
	}
	out.Plan.ReversePath = eai
	if o := r.send(t, out); o.Verdict != reply.Failed || o.Owner != reply.Message {
		t.Errorf("Send with a reverse-path that needs SMTPUTF8 = %+v", o)
	}
	if r.server.Said("RCPT TO:<bob@fabrikam.test> ") || r.server.Said("MAIL FROM:<bob") {
		t.Errorf("commands: %q", r.server.Commands())
	}
}

func TestRecipientsFareOnTheirOwn(t *testing.T) {
	refuse := map[string]string{"gone": "550 5.1.1 no such user", "full": "452 4.2.2 mailbox full", "many": "452 4.5.3 Too many recipients",
		"crowd": "550 5.5.3 Too many recipients", "throng": "552 Too many recipients"}
	script := Script{On: func(x Exchange) *Action {
		for name, text := range refuse {
			if x.Step == RCPT && strings.Contains(x.Line, "<"+name) {
				return &Action{Reply: text + "\r\n"}
			}
		}
		return nil
	}}
	for _, tc := range []struct {
		name       string
		recipients []string
		want       []reply.Verdict
		sent       int
	}{
		{"all are taken", []string{"ok@x.test", "ok2@x.test"}, []reply.Verdict{reply.Relayed, reply.Relayed}, 1},
		{"each has its verdict", []string{"gone@x.test", "ok@x.test", "full@x.test"}, []reply.Verdict{reply.Failed, reply.Relayed, reply.Deferred}, 1},
		{"too many, said for good: the rest waits", []string{"ok@x.test", "crowd@x.test", "ok2@x.test"}, []reply.Verdict{reply.Relayed, reply.Deferred, reply.Deferred}, 1},
		{"too many, in an older server's words", []string{"ok@x.test", "throng@x.test", "ok2@x.test"}, []reply.Verdict{reply.Relayed, reply.Deferred, reply.Deferred}, 1},
		{"too many: the rest waits", []string{"ok@x.test", "many@x.test", "ok2@x.test"}, []reply.Verdict{reply.Relayed, reply.Deferred, reply.Deferred}, 1},
		{"none is taken: no DATA", []string{"gone@x.test", "full@x.test"}, []reply.Verdict{reply.Failed, reply.Deferred}, 0},
		{"all are gone", []string{"gone@x.test", "gone2@x.test"}, []reply.Verdict{reply.Failed, reply.Failed}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, script)
			out := outgoing(t, plainBody, tc.recipients...)
			named := map[string]bool{} // by the intent
			out.Intent = func(ctx context.Context) error { return out.IntentBy(ctx, "smtp", out.Recipients) }
			out.IntentBy = func(_ context.Context, by string, those []envelope.Address) error {
				for _, a := range those {
					named[a.Key()] = by == "smtp"
				}
				return nil
			}
			o := r.send(t, out)
			for i, a := range out.Recipients {
				got := o.For(a.Key())
				if named[a.Key()] != (got.Verdict == reply.Relayed) {
					t.Errorf("%v: %v; that the intent names him is %v", a, got.Verdict, named[a.Key()])
				}
				if got.Verdict != tc.want[i] {
					t.Errorf("%v: %v, want %v", a, got.Verdict, tc.want[i])
				}
				if got.Verdict != reply.Relayed && (got.Owner != reply.Recipient || got.Reply.Code == 0) {
					t.Errorf("%v: %+v; want the recipient's, with the reply as proof", a, got)
				}
			}
			if got := len(r.server.Messages()); got != tc.sent {
				t.Errorf("%d messages, want %d", got, tc.sent)
			}
			if tc.sent == 0 && r.server.Said("DATA") {
				t.Error("said DATA without a recipient")
			}
			// The transaction left behind must not spoil the next one.
			if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
				t.Errorf("next message = %+v", o)
			}
			if got := r.server.Connections(); got != 1 {
				t.Errorf("%d connections, want 1", got)
			}
		})
	}
}

func TestIntentComesBeforeTheFinalDot(t *testing.T) {
	var ended atomic.Bool
	r := start(t, Script{On: func(x Exchange) *Action {
		if x.Step == Dot {
			ended.Store(true)
		}
		return nil
	}})
	out := outgoing(t, strings.Repeat("line\r\n", 3000), bob)
	calls := 0
	out.Intent = func(context.Context) error {
		calls++
		if ended.Load() {
			t.Error("the server had the whole message before the intent was committed")
		}
		return nil
	}
	if o := r.send(t, out); o.Verdict != reply.Relayed || calls != 1 {
		t.Errorf("Send = %+v, Intent called %d times", o, calls)
	}
}

func TestOurOwnTroubleSendsNothing(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error // what the outcome's wraps: the queue asks it what the store said
		change func(*message.Outgoing)
	}{
		{"the intent cannot be committed", errStore, func(o *message.Outgoing) { o.Intent = func(context.Context) error { return errStore } }},
		{"the body cannot be opened", errStore, func(o *message.Outgoing) {
			o.Open = func(context.Context) (io.ReadCloser, error) { return nil, errStore }
		}},
		{"the body breaks off with an error", errStore, func(o *message.Outgoing) {
			o.Open = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("Hel"), failingReader{})), nil
			}
		}},
		{"the body is shorter than what was accepted", nil, func(o *message.Outgoing) { o.BodySize++ }},
		{"the body is longer than what was accepted", nil, func(o *message.Outgoing) { o.BodySize-- }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Script{})
			out := outgoing(t, plainBody, bob)
			tc.change(&out)
			if o := r.send(t, out); o.Verdict != reply.Deferred || o.Owner != reply.Process || o.Err == nil || tc.err != nil && !errors.Is(o.Err, tc.err) {
				t.Errorf("Send = %+v; want deferred, process, %v", o, tc.err)
			}
			if o := r.send(t, outgoing(t, plainBody, bob)); o.Verdict != reply.Relayed {
				t.Errorf("next message = %+v", o)
			}
			if got := r.server.Messages(); len(got) != 1 || string(got[0].Data) != finalHeader+plainBody {
				t.Errorf("server has %d messages, want the next one alone", len(got))
			}
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errStore }

func TestCancelWithinTheMessageCloses(t *testing.T) {
	r := start(t, Script{})
	ctx, cancel := context.WithCancel(t.Context())
	out := outgoing(t, plainBody, bob)
	body, feed := io.Pipe()
	out.Open = func(context.Context) (io.ReadCloser, error) { return body, nil }
	go func() {
		feed.Write([]byte("Hel"))
		cancel()
		feed.CloseWithError(context.Canceled)
	}()
	o := r.Send(ctx, out)
	if o.Verdict != reply.Deferred || o.Owner != reply.Process || !errors.Is(o.Err, context.Canceled) {
		t.Errorf("Send = %+v; want deferred, process, cancelled", o)
	}
	r.server.Close() // waits until the connection has ended
	if len(r.server.Messages()) != 0 {
		t.Error("the message arrived")
	}
}

func TestCancelWhileTheServerIsSilent(t *testing.T) {
	for _, tc := range []struct {
		at   Step
		want reply.Verdict
	}{
		{Greeting, reply.Deferred}, {TLS, reply.Deferred}, {EHLO, reply.Deferred}, {Token, reply.Deferred}, {MAIL, reply.Deferred},
		{RCPT, reply.Deferred}, {DATA, reply.Deferred}, {Dot, reply.InDoubt},
	} {
		t.Run("at "+string(tc.at), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			never := make(chan struct{})
			r := start(t, Script{On: func(x Exchange) *Action {
				if x.Step != tc.at {
					return nil
				}
				cancel()
				return &Action{Wait: never}
			}})
			if o := r.Send(ctx, outgoing(t, plainBody, bob)); o.Verdict != tc.want {
				t.Errorf("Send = %+v; want %v", o, tc.want)
			}
		})
	}
}
