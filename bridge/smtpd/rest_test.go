package smtpd

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// atWork is how many connections the library has.
func (b *bubble) atWork() int {
	synctest.Wait()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("smtp.(*Server).handleConn("))
}

// rest lets the client be silent until the library is let go.
func (b *bubble) rest() {
	b.t.Helper()
	time.Sleep(restAfter)
	if n := b.atWork(); n != 0 {
		b.t.Errorf("the library has %d connections while the client rests", n)
	}
}

func TestAClientThatRestsGoesOnWhereItWas(t *testing.T) {
	local := func(o *Options, h *house) {
		o.Auth, h.users.at = Optional, netip.MustParsePrefix("127.0.0.1/32")
	}
	cases := []struct {
		name string
		opts option
		talk func(b *bubble, c *client)
	}{
		{"before it has said who it is", nil, func(b *bubble, c *client) {
			b.rest()
			c.want("MAIL FROM:<a@b.test>", "503 5.5.1 Say HELO")
			c.want("EHLO x", "250")
		}},
		{"logged in, and after each message", nil, func(b *bubble, c *client) {
			c.want("EHLO x", "250")
			b.rest()
			c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235")
			for range 2 {
				b.rest()
				c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "503 5.5.1 Already")
				c.want("MAIL FROM:<a@b.test>", "250")
				c.want("RCPT TO:<c@d.test>", "250")
				c.want("DATA", "354")
				c.want("Subject: x\r\n\r\n..\r\n.", "250 2.0.0")
			}
			for _, m := range b.desk.messages() {
				const want = `<a@b.test> -> <c@d.test> user=nav ESMTPA helo=x "Subject: x\r\n\r\n.\r\n"`
				if m.String() != want {
					b.t.Errorf("kept %s; want %s", m, want)
				}
			}
			if n := len(b.desk.messages()); n != 2 {
				b.t.Errorf("kept %d messages", n)
			}
		}},
		{"after HELO it is no ESMTP", local, func(b *bubble, c *client) {
			c.want("HELO old", "250")
			b.rest()
			c.want("MAIL FROM:<a@b.test>", "250")
			c.want("RCPT TO:<c@d.test>", "250")
			c.want("DATA", "354")
			c.want("x\r\n.", "250 2.0.0")
			if m := b.desk.messages()[0]; m.s.Protocol != "SMTP" || m.s.Helo != "old" {
				b.t.Errorf("kept %s", m)
			}
		}},
		{"who could not log in is not anonymous", local, func(b *bubble, c *client) {
			c.want("EHLO x", "250")
			c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "535 5.7.8")
			b.rest()
			c.want("MAIL FROM:<a@b.test>", "530 5.7.0")
		}},
		{"the text after a refused DATA is no command", nil, func(b *bubble, c *client) {
			c.want("EHLO x", "250")
			c.want("DATA", "503")
			b.rest()
			c.want("Subject: x", "421 4.7.0 Text after")
			c.closed()
		}},
		{"half a command waits for the other half", nil, func(b *bubble, c *client) {
			c.want("EHLO x", "250")
			b.rest()
			c.send("NO")
			time.Sleep(2 * restAfter)
			c.want("OP", "250 2.0.0")
		}},
		{"under TLS", func(o *Options, _ *house) { o.TLS, o.TLSConfig = StartTLS, serverTLS() }, func(b *bubble, c *client) {
			c.want("EHLO x", "250")
			b.rest()
			c.want("STARTTLS", "220")
			c.secure()
			b.rest()
			c.want("STARTTLS", "503 5.5.1 TLS is already up")
			c.want("MAIL FROM:<a@b.test>", "503 5.5.1 Say HELO")
			c.want("EHLO x", "250")
			b.rest()
			c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235")
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.opts, func(t *testing.T, b *bubble) {
				c := b.connect()
				c.want("", "220")
				tc.talk(b, c)
				c.conn.Close()
				b.untilGone()
			})
		})
	}
}

func TestNobodyRestsInsideAMessageOrALogin(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		inMail, inText, inLogin := b.start("b@d.test"), b.start("b@d.test"), b.connect()
		inText.want("DATA", "354")
		inLogin.want("", "220")
		inLogin.want("EHLO x", "250")
		inLogin.want("AUTH LOGIN", "334")
		time.Sleep(time.Minute)
		if n := b.atWork(); n != 3 {
			t.Errorf("the library has %d connections; want 3", n)
		}
		inMail.want("RCPT TO:<c@d.test>", "250")
		inText.want("x\r\n.", "250 2.0.0")
		inLogin.want("bmF2", "334")
		inLogin.want("c2VjcmV0", "235")
		for _, c := range []*client{inMail, inText, inLogin} {
			c.conn.Close()
		}
	})
}

func TestTheEndOfARest(t *testing.T) {
	t.Run("the client goes", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			c := b.connect()
			c.want("", "220")
			b.rest()
			start := time.Now()
			c.conn.Close()
			b.untilGone()
			if d := time.Since(start); d != 0 {
				t.Errorf("noticed after %v", d)
			}
		})
	})
	t.Run("the service stops", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			c := b.connect()
			c.want("", "220")
			b.rest()
			start := time.Now()
			go b.s.Shutdown(t.Context())
			c.want("", "421 4.3.2 ")
			c.closed()
			if d := time.Since(start); d != 0 {
				t.Errorf("told after %v", d)
			}
		})
	})
	t.Run("the time is over, though it rested and spoke in between", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			c := b.connect()
			c.want("", "220")
			time.Sleep(time.Minute)
			start := time.Now()
			c.want("NOOP", "250")
			c.want("", "421 4.4.2 ")
			if d := time.Since(start); d != 5*time.Minute {
				t.Errorf("after %v; want 5 minutes", d)
			}
			c.closed()
		})
	})
}
