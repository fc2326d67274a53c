package smtpd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What go-smtp v0.25.0 does without a guard stands in bare_test.go, where each defect is shown on the bare library and
// absent from ours; the tests here and the transcripts of testdata go further into each.

func TestAPanicEndsOneConnection(t *testing.T) {
	for _, tc := range []struct{ name, command string }{
		{"inside the library, which recovers it", "AUTH PLAIN AHBhbmljAHB3"},
		{"inside a read of the guard", "MAIL FROM:<a@b.test>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := open(t, func(_ *Options, h *house) { h.users.panics = true })
			other, c := h.dial(), h.dial()
			other.want("", "220")
			c.want("", "220")
			c.want("HELO x", "250")
			c.want(tc.command, "421 4.3.0 Internal error")
			c.closed()
			h.untilLinks(1)
			other.sure()
			h.close() // the library tells the log after it has closed
			if !strings.Contains(h.events.String(), "broke") {
				t.Errorf("the log does not say so:\n%s", h.events)
			}
		})
	}
}

func TestSizeBeyond32BitsIsANumber(t *testing.T) {
	h := open(t, func(o *Options, h *house) {
		o.MaxMessage, h.users.at = 1<<40, netip.MustParsePrefix("127.0.0.1/32")
	})
	c := h.dial()
	c.want("", "220")
	c.want("HELO x", "250")
	c.want("MAIL FROM:<a@b.test> SIZE=5000000000", "250 2.1.0")
}

func TestSizeFollowsTheRoutes(t *testing.T) {
	var carries atomic.Int64
	h := open(t, func(o *Options, h *house) {
		o.MaxMessage, o.Carries, h.users.at = 1000, carries.Load, netip.MustParsePrefix("127.0.0.1/32")
	})
	c := h.dial()
	c.want("", "220")
	for _, tc := range []struct{ carries, want int64 }{{0, 1000}, {300, 300}, {5000, 1000}} {
		carries.Store(tc.carries)
		c.send("EHLO x\r\n")
		said := false
		for l := c.line(); strings.HasPrefix(l, "250"); l = c.line() {
			said = said || l == fmt.Sprintf("250-SIZE %d", tc.want)
			if l[3] == ' ' {
				break
			}
		}
		if !said {
			t.Errorf("a route carries %d: EHLO does not say SIZE %d", tc.carries, tc.want)
		}
		c.want(fmt.Sprintf("MAIL FROM:<a@b.test> SIZE=%d", tc.want+1), "552 5.3.4")
		c.want(fmt.Sprintf("MAIL FROM:<a@b.test> SIZE=%d", tc.want), "250")
	}
}

func TestTheLibraryHasNoLimitOfItsOwn(t *testing.T) {
	h := open(t)
	if l := h.s.lib; l.MaxLineLength != 0 || l.MaxMessageBytes != 0 || l.MaxRecipients != 0 || l.ReadTimeout != 0 ||
		l.WriteTimeout != 0 || l.Debug != nil || l.EnableBINARYMIME || l.EnableDSN || l.TLSConfig != nil {
		t.Errorf("the library's own limits and extensions are on: %+v", l)
	}
}

func TestNoLimitOfOursCanBeSwitchedOff(t *testing.T) {
	o, err := Options{Hostname: "x", Users: &fakeUsers{}, Desk: &fakeDesk{}, CommandTimeout: -1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]int64{
		"MaxMessage": o.MaxMessage, "MaxRecipients": int64(o.MaxRecipients), "MaxConnections": int64(o.MaxConnections),
		"MaxConnectionsPerAddress": int64(o.MaxConnectionsPerAddress), "CommandTimeout": int64(o.CommandTimeout),
		"DataTimeout": int64(o.DataTimeout), "DataGrace": int64(o.DataGrace), "MinDataRate": o.MinDataRate, "MessageTimeout": int64(o.MessageTimeout),
		"WriteTimeout": int64(o.WriteTimeout), "HandshakeTimeout": int64(o.HandshakeTimeout),
		"LoginTimeout": int64(o.LoginTimeout), "SessionTimeout": int64(o.SessionTimeout), "EarlyWait": int64(o.EarlyWait), "Networks": int64(len(o.Networks)),
	} {
		if v <= 0 {
			t.Errorf("%s = %d by default", name, v)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := Options{Hostname: "x", Users: &fakeUsers{}, Desk: &fakeDesk{}}
	for _, tc := range []struct {
		name string
		f    func(*Options)
	}{
		{"no desk", func(o *Options) { o.Desk = nil }},
		{"no users", func(o *Options) { o.Users = nil }},
		{"no host name", func(o *Options) { o.Hostname = "" }},
		{"TLS without a certificate", func(o *Options) { o.TLS = StartTLS }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := good
			tc.f(&o)
			if _, err := New(o); err == nil {
				t.Error("New took it")
			}
		})
	}
}

func TestACommandLineHasALimit(t *testing.T) {
	h := open(t)
	c := h.dial()
	c.want("", "220")
	c.want("HELO x", "250")
	c.want("NOOP "+strings.Repeat("x", maxCommand-7), "250 2.0.0")
	c.want("NOOP "+strings.Repeat("x", maxCommand-6), "500 5.5.2 Line too long")
	c.want("NOOP "+strings.Repeat("x", 20_000), "500 5.5.2 Line too long")
	c.want("AUTH PLAIN "+strings.Repeat("A", 12_288), "501 5.5.2 Malformed") // as long as RFC 4954 wants
	c.want("AUTH PLAIN "+strings.Repeat("A", 15_000), "500 5.5.2 Line too long")
	c.want("AUTH LOGIN", "334")
	c.want(strings.Repeat("A", 12_284), "334")
	c.want(strings.Repeat("A", 12_288), "500 5.5.6")
	c.sure()
}

func TestALineWithoutEndIsNotKept(t *testing.T) {
	h := open(t)
	c := h.dial()
	c.want("", "220")
	go io.Copy(c.conn, io.LimitReader(endless{}, 100<<20))
	c.want("", "500 5.5.2 Line too long, closing")
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'A'
	}
	return len(b), nil
}

func TestAHeloIsSafeToPrint(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"a Windows machine", "OFFICE_PC", "OFFICE_PC"},
		{"an address", "[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"},
		{"what would end a comment or a field", "a)(b;c\r\n\x00\u00fc", "a??b?c????"},
		{"a name without end", strings.Repeat("x", 2000), strings.Repeat("x", 255)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := safeHelo(tc.in); got != tc.want {
				t.Errorf("safeHelo(%q) = %q; want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestTooManyErrorsClose(t *testing.T) {
	h := open(t)
	c := h.dial()
	c.want("", "220")
	for range 9 {
		c.want("FOO", "500 5.5.1")
	}
	c.send("FOO\r\n")
	c.want("", "500 5.5.1")
	c.want("", "421 4.7.0")
	c.closed()
}

func TestFiveFailedLoginsClose(t *testing.T) {
	h := open(t)
	c := h.dial()
	c.want("", "220")
	c.want("EHLO x", "250")
	for range 4 {
		c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "535 5.7.8")
	}
	c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "421 4.7.0")
	c.closed()
	if n := strings.Count(h.events.String(), "WARN auth failed"); n != 5 {
		t.Errorf("%d events of failed logins; want 5:\n%s", n, h.events)
	}
	if strings.Contains(h.events.String(), "wrong") {
		t.Error("the password is in the log")
	}
}

// A block covers AUTH, not mail that needs none.
func TestWhoIsBlockedMaySendWithoutALogin(t *testing.T) {
	h := open(t, func(_ *Options, h *house) { h.users.at = netip.MustParsePrefix("127.0.0.1/32") })
	c := h.dial()
	c.want("", "220")
	c.want("EHLO x", "250")
	c.want("AUTH PLAIN AGJsb2NrZWQAcHc=", "454 4.7.0 Too many failed logins, try again later")
	c.want("MAIL FROM:<a@b.test>", "530") // on this connection he is who he said he was, or nobody
	for range 3 {
		c.want("AUTH PLAIN AGJsb2NrZWQAcHc=", "454 4.7.0")
	}
	c.want("AUTH PLAIN AGJsb2NrZWQAcHc=", "421 4.7.0")
	c = h.dial()
	c.want("", "220")
	c.want("HELO x", "250")
	c.want("MAIL FROM:<a@b.test>", "250")
	if !strings.Contains(h.events.String(), "WARN auth failed remote=127.0.0.1 listener=listener user=blocked err=454 4.7.0 Too many failed logins, try again later: 30 failed logins") {
		t.Errorf("the log does not say so:\n%s", h.events)
	}
}

func TestFailedLoginsCountAcrossStartTLS(t *testing.T) {
	h := open(t, func(o *Options, h *house) {
		o.TLS, o.TLSConfig = StartTLS, serverTLS()
		h.users.at = netip.MustParsePrefix("127.0.0.1/32")
	})
	c := h.dial()
	c.want("", "220")
	c.want("EHLO x", "250")
	for range 4 {
		c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "535 5.7.8")
	}
	c.want("STARTTLS", "220")
	c.secure()
	c.want("EHLO x", "250")
	c.want("MAIL FROM:<a@b.test>", "530 5.7.0")
	c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "421 4.7.0")
	c.closed()
}

func TestAConnectionThatBreaksInsideDataKeepsNothing(t *testing.T) {
	h := open(t)
	c := h.begin("b@fabrikam.test")
	c.want("DATA", "354")
	c.send("half a message\r\n.")
	c.conn.Close()
	h.close()
	if len(h.desk.kept) != 0 || len(h.desk.seen) != 1 || !strings.HasPrefix(h.desk.seen[0].err.Error(), "451 4.4.2") {
		t.Errorf("kept %v, seen %v; want an error of the reader and nothing kept", h.desk.kept, h.desk.seen)
	}
	if !strings.Contains(h.events.String(), "WARN connection closed") {
		t.Errorf("no event:\n%s", h.events)
	}
}

func TestWhatTheClientDoesAfterTheDotChangesNothing(t *testing.T) {
	h := open(t)
	c := h.begin("wait@fabrikam.test")
	c.want("DATA", "354")
	c.send("a whole message\r\n.\r\n")
	<-h.desk.enter
	c.conn.Close()
	close(h.desk.leave)
	h.close()
	if len(h.desk.kept) != 1 {
		t.Errorf("kept %v; want the message", h.desk.kept)
	}
}

func TestErrorsOfOursDoNotReachTheClientButTheLog(t *testing.T) {
	h := open(t)
	c := h.begin("broken@d.test")
	c.want("DATA", "354")
	c.want("x\r\n.", "451 4.3.0 The message cannot be taken now")
	c.want("MAIL FROM:<a@b.test>", "250")
	c.want("RCPT TO:<panic@d.test>", "250")
	c.want("DATA", "354")
	c.want("x\r\n.", "451 4.3.0 The message cannot be taken now")
	c.want("QUIT", "221")
	c.closed()
	for _, want := range []string{"ERROR message refused remote=127.0.0.1 listener=listener user=nav", "disk I/O error", "panic in the desk: the desk broke"} {
		if !strings.Contains(h.events.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, h.events)
		}
	}
}

// A write error ends reading. The library would go on, and take as commands what the client meant as text.
func TestAWriteErrorEndsReading(t *testing.T) {
	h := open(t)
	l := newLink(h.s, h.s.o.Load(), &deadConn{in: strings.NewReader("HELO x\r\nNOOP\r\nHELO y\r\n")}, netip.MustParseAddr("127.0.0.1"))
	l.say("220 x")
	if s, err := l.readLine(maxCommand); err == nil {
		t.Errorf("after a write error a line was read: %q", s)
	}
}

func TestLibraryAndGuardThatDisagreeEnd(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    func(g *guard)
	}{
		{"a reply that was not asked for", func(g *guard) { g.Write([]byte("250 2.0.0 Surprise\r\n")) }},
		{"another code than expected", func(g *guard) { g.pass("RSET", 250, "250 Ok"); g.Write([]byte("500 5.0.0 No\r\n")) }},
		{"a read before the reply", func(g *guard) { g.pass("RSET", 250, "250 Ok"); g.Read(make([]byte, 10)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := open(t)
			out := &deadConn{alive: true, in: strings.NewReader("")}
			g := newGuard(newLink(h.s, h.s.o.Load(), out, netip.MustParseAddr("127.0.0.1")), false)
			g.mode = commands
			tc.f(g)
			if _, err := g.Read(make([]byte, 10)); err != io.EOF {
				t.Errorf("Read = %v; want the end", err)
			}
			if got := out.out.String(); got != "421 4.3.0 Internal error, closing the connection\r\n" {
				t.Errorf("the client reads %q", got)
			}
		})
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Run("in total", func(t *testing.T) {
		h := open(t, func(o *Options, _ *house) { o.MaxConnections = 2 })
		a, b := h.dial(), h.dial()
		a.want("", "220")
		b.want("", "220")
		c := h.dial()
		c.want("", "421 4.3.2")
		c.closed()
		a.want("QUIT", "221")
		a.closed()
		h.untilLinks(1)
		h.dial().want("", "220")
	})
	t.Run("per address", func(t *testing.T) {
		h := open(t, func(o *Options, h *house) {
			o.MaxConnectionsPerAddress, h.remote = 1, "192.0.2.1:1"
			o.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		})
		h.dial().want("", "220")
		h.dial().want("", "421 4.7.0")
		if want := "WARN connection refused remote=192.0.2.1 listener=listener err=too many connections from this address key=max_connections_per_address"; !strings.Contains(h.events.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, h.events)
		}
	})
	t.Run("per network of IPv6", func(t *testing.T) {
		for a, want := range map[string]string{
			"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "192.0.2.1": "192.0.2.1", "::1": "::1", "fe80::1": "fe80::",
		} {
			if got := network(netip.MustParseAddr(a)); got.String() != want {
				t.Errorf("network(%s) = %s; want %s", a, got, want)
			}
		}
	})
	t.Run("not per address on loopback", func(t *testing.T) {
		h := open(t, func(o *Options, _ *house) { o.MaxConnectionsPerAddress = 1 })
		h.dial().want("", "220")
		h.dial().want("", "220")
	})
}

// untilLinks waits until the server has so many connections.
func (h *house) untilLinks(n int) {
	for {
		h.s.mu.Lock()
		have := len(h.s.links)
		h.s.mu.Unlock()
		if have <= n {
			return
		}
		runtime.Gosched()
	}
}

func TestARefusedConnectionNamesTheKey(t *testing.T) {
	h := open(t, func(_ *Options, h *house) { h.remote = "[2001:db8::1%eth0]:1" })
	c := h.dial()
	c.want("", "554 5.7.1")
	c.closed()
	if want := "WARN connection refused remote=2001:db8::1 listener=listener err=the address is not within the listener's networks key=networks"; !strings.Contains(h.events.String(), want) {
		t.Errorf("no %q in the log:\n%s", want, h.events)
	}
}

func TestRefusalsOverImplicitTLSAreReadable(t *testing.T) {
	h := open(t, func(o *Options, h *house) {
		o.TLS, o.TLSConfig, h.remote = Implicit, serverTLS(), "203.0.113.1:1"
	})
	c := h.dial()
	c.secure()
	c.want("", "554 5.7.1")
	c.closed()
}

func TestTenThousandRecipients(t *testing.T) {
	h := open(t)
	c := h.begin("0@d.test")
	go func() {
		for i := 1; i < 10_000; i++ {
			fmt.Fprintf(c.conn, "RCPT TO:<%d@d.test>\r\n", i)
		}
	}()
	for i := 1; i < 10_000; i++ {
		want := "250 2.1.5"
		if i >= 1000 {
			want = "452 4.5.3"
		}
		c.want("", want)
	}
	c.want("DATA", "354")
	c.want(".", "250 2.0.0")
	if m := h.desk.messages(); len(m[0].env.Recipients) != 1000 {
		t.Errorf("%d recipients; want 1000", len(m[0].env.Recipients))
	}
}

// deadConn is a net.Conn whose writes fail unless it is alive. Its client is silent until the deadline when it is past already.
type deadConn struct {
	in    io.Reader
	out   strings.Builder
	alive bool
	until atomic.Pointer[time.Time] // the deadline for reading
}

func (c *deadConn) Read(b []byte) (int, error) {
	if t := c.until.Load(); t != nil && !t.IsZero() && !time.Now().Before(*t) {
		return 0, os.ErrDeadlineExceeded
	}
	return c.in.Read(b)
}
func (c *deadConn) Write(b []byte) (int, error) {
	if !c.alive {
		return 0, io.ErrClosedPipe
	}
	return c.out.Write(b)
}
func (c *deadConn) Close() error                  { return nil }
func (c *deadConn) LocalAddr() net.Addr           { return &net.TCPAddr{} }
func (c *deadConn) RemoteAddr() net.Addr          { return &net.TCPAddr{} }
func (c *deadConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
func (c *deadConn) SetReadDeadline(t time.Time) error {
	c.until.Store(&t)
	return nil
}
func (c *deadConn) SetWriteDeadline(time.Time) error { return nil }
