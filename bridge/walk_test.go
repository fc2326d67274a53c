package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/event"
)

// invoice is what the application of the walk sends.
const invoice = "From: Accounting <accounting@erp.local>\r\nTo: A customer <customer@example.test>\r\n" +
	"Subject: Invoice\r\n  4711\r\nDate: Fri, 20 Nov 2026 10:00:00 +0100\r\nMessage-ID: <4711@erp.local>\r\nx-ODD:kept\r\n\r\n" +
	"Dear customer,\r\n.\r\n..dots\r\nhere is your invoice.\r\n"

// submit hands a message in as an application would, and returns the reply to the final dot.
func (w *world) submit(user string, to []string, text string) error {
	host, _, _ := net.SplitHostPort(w.addr)
	return smtp.SendMail(w.addr, smtp.PlainAuth("", user, w.password, host), "accounting@erp.local", to, []byte(text))
}

// TestWalk follows one message from door to door, by each transport: the substituted sender, the recipients of the
// envelope alone, and every other byte as it was.
func TestWalk(t *testing.T) {
	for _, via := range []string{"graph", "smtp"} {
		t.Run(via, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			if err := w.submit(via, []string{"customer@example.test"}, invoice); err != nil {
				t.Fatal(err)
			}
			r := w.wait(1)[0]
			if diff := differs([]byte(invoice), r.Raw); diff != "" {
				t.Errorf("what arrived is not what was sent: %s", diff)
			}
			m, err := mail.ReadMessage(bytes.NewReader(r.Raw))
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{
				"From": "Contoso <noreply@contoso.test>", "Sender": "", "Message-Id": "<4711@erp.local>", "X-Odd": "kept"} {
				if got := m.Header.Get(name); got != want {
					t.Errorf("%s = %q; want %q", name, got, want)
				}
			}
			if id := m.Header.Get("X-Postern-Id"); len(id) != 16 || !strings.Contains(m.Header.Get("Received"), id) {
				t.Errorf("X-Postern-Id = %q, Received = %q; want the same queue ID in both", id, m.Header.Get("Received"))
			}
			if r.Via != via || len(r.Recipients) != 1 || r.Recipients[0] != "customer@example.test" {
				t.Errorf("it came by %s to %v", r.Via, r.Recipients)
			}
			if via == "smtp" && r.EnvelopeFrom != "noreply@contoso.test" {
				t.Errorf("reverse-path = %q; want that of From", r.EnvelopeFrom)
			}
		})
	}
}

// TestTheEnvelopeDecides: the recipients of RCPT TO get the message and nobody else, whatever the header says.
func TestTheEnvelopeDecides(t *testing.T) {
	for _, via := range []string{"graph", "smtp"} {
		t.Run(via, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			text := "From: a@erp.local\r\nTo: one@example.test, not-asked@example.test\r\nCc: two@example.test\r\nBcc: hidden@example.test\r\nSubject: s\r\n\r\nx\r\n"
			to := []string{"one@example.test", "two@example.test", "hidden@example.test", "unnamed@example.test"}
			if err := w.submit(via, to, text); err != nil {
				t.Fatal(err)
			}
			r := w.wait(1)[0]
			got := map[string]bool{}
			for _, a := range r.Recipients {
				got[a] = true
			}
			for _, a := range to {
				if !got[a] {
					t.Errorf("%s did not get it; recipients: %v", a, r.Recipients)
				}
			}
			if len(r.Recipients) != len(to) {
				t.Errorf("recipients = %v; want %v", r.Recipients, to)
			}
			if s := string(r.Raw); strings.Contains(s, "hidden@") || strings.Contains(s, "unnamed@") {
				t.Errorf("a hidden recipient is disclosed:\n%s", s)
			}
		})
	}
}

// TestAppOnly walks with an application that signs in by its secret, on one account with both transports.
func TestAppOnly(t *testing.T) {
	w := newWorld(t, worldOptions{config: `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"
[[listener]]
address = "127.0.0.1:0"
{CONFIDENTIAL}
[[account]]
name = "g"
provider = "contoso"
mailbox = "erp@contoso.test"
signin = "app-only"
transport = "graph"
default = true
[[account]]
name = "s"
provider = "contoso"
mailbox = "nav@contoso.test"
signin = "app-only"
transport = "smtp"
[[user]]
name = "graph"
password = '{HASH}'
sender = { mode = "account" }
[[user]]
name = "smtp"
password = '{HASH}'
account = "s"
sender = { mode = "account" }
`})
	for i, via := range []string{"graph", "smtp"} {
		if err := w.submit(via, []string{"customer@example.test"}, invoice); err != nil {
			t.Fatal(err)
		}
		r := w.wait(i + 1)[i]
		want := map[string]string{"graph": "erp@contoso.test", "smtp": "nav@contoso.test"}[via]
		if r.Via != via || !strings.Contains(r.From, want) {
			t.Errorf("message %d came by %s from %s; want %s from %s", i, r.Via, r.From, via, want)
		}
	}
}

// TestRefusals is what bad input gets.
func TestRefusals(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, tc := range []struct {
		name  string
		lines []string // client lines; the last one's reply is wanted
		want  string
	}{
		{"a wrong password", []string{"EHLO x", authPlain("graph", "wrong")}, "535 5.7.8 Authentication credentials invalid"},
		{"an unknown user, in the same words", []string{"EHLO x", authPlain("nobody", "wrong")}, "535 5.7.8 Authentication credentials invalid"},
		{"mail before login", []string{"EHLO x", "MAIL FROM:<a@b.test>"}, "530 5.7.0 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // a failed login is answered after a second
			if got := dialogue(t, w.addr, tc.lines...); !strings.HasPrefix(got, tc.want) {
				t.Errorf("reply = %q; want %q", got, tc.want)
			}
		})
	}
}

// TestUnsignedAccountWaits: mail for an account without a token is accepted and waits; the administrator reads what to
// do; after the sign-in it flows by itself, also over a restart.
func TestUnsignedAccountWaits(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	for _, via := range []string{"graph", "smtp"} {
		if err := w.submit(via, []string{"customer@example.test"}, invoice); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.AccountParked, 2); err != nil {
		t.Fatalf("no account was parked: %v\n%s", err, w.log())
	}
	list, err := w.b.Accounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if got := a.Trouble + "; " + a.Remedy; got != "needs sign-in; run: postern signin "+a.Name || a.SignedIn || a.Waiting != 1 {
			t.Errorf("account %s: %q, signed in %v, %d waiting", a.Name, got, a.SignedIn, a.Waiting)
		}
	}
	w.stop()
	if n := len(w.box.Received()); n != 0 {
		t.Fatalf("%d messages arrived without a sign-in", n)
	}
	w.start()
	w.signIn()
	w.wait(2)
}

// TestNothingIsHalfStarted: what stops the start is one clear line, and leaves no port and no lock behind.
func TestNothingIsHalfStarted(t *testing.T) {
	w := newWorld(t, worldOptions{})
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), cfg, Options{}); !errors.Is(err, ErrInUse) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a second bridge on the data_dir: %v; want one line about the data_dir in use", err)
	}
	w.stop()
	cfg.Listeners[0].Address = w.box.SMTPAddr()
	if _, err := New(t.Context(), cfg, Options{}); err == nil || !strings.Contains(err.Error(), cfg.Listeners[0].Address) || strings.Contains(err.Error(), "\n") {
		t.Errorf("an address in use: %v; want one line that names it", err)
	}
	cfg.Listeners[0].Address = "127.0.0.1:0"
	b, err := New(t.Context(), cfg, Options{})
	if err != nil {
		t.Fatalf("the data_dir is still held after a start that failed: %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(done); err != nil {
		t.Error(err)
	}
}

// TestARefusedTokenIsRefreshedOnce: a token that Microsoft ended early costs one refresh, and no message waits.
func TestARefusedTokenIsRefreshedOnce(t *testing.T) {
	w := newWorld(t, worldOptions{})
	n := 0
	for range 2 {
		for _, via := range []string{"graph", "smtp"} {
			if err := w.submit(via, []string{"customer@example.test"}, invoice); err != nil {
				t.Fatal(err)
			}
			n++
			w.wait(n)
		}
		w.box.ExpireAccessTokens()
	}
	if parked := w.events.count(event.AccountParked); parked != 0 {
		t.Errorf("%d accounts were parked for a token that a refresh mends\n%s", parked, w.log())
	}
}

// dialogue plays client lines against the listener and returns the last reply's first line.
func dialogue(t *testing.T, addr string, lines ...string) string {
	t.Helper()
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	last := ""
	for _, l := range lines {
		if err := c.PrintfLine("%s", l); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			if last, err = c.ReadLine(); err != nil {
				t.Fatal(err)
			}
			more = len(last) > 3 && last[3] == '-'
		}
	}
	return last
}

// authPlain is the AUTH PLAIN line of a user.
func authPlain(user, password string) string {
	_, blob, _ := smtp.PlainAuth("", user, password, "localhost").Start(&smtp.ServerInfo{Name: "localhost", Auth: []string{"PLAIN"}})
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString(blob)
}
