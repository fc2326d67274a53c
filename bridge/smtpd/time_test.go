package smtpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/event"
)

// pipes is a net.Listener of net.Pipe, whose deadlines follow the clock of a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// bubble is a house inside a synctest bubble.
type bubble struct {
	*house
	l *pipes
}

func inBubble(t *testing.T, opts option, f func(t *testing.T, b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, desk: &fakeDesk{enter: make(chan struct{}, 1), leave: make(chan struct{})}, users: &fakeUsers{}, events: &events{}, served: make(chan error, 1)}
		o := Options{Address: "listener", Hostname: "bridge.contoso.test", Users: h.users, Desk: h.desk, Events: event.NewBus(h.events)}
		if opts != nil {
			opts(&o, h)
		}
		var err error
		if h.s, err = New(o); err != nil {
			t.Fatal(err)
		}
		b := &bubble{h, &pipes{make(chan net.Conn), make(chan struct{})}}
		go func() { h.served <- h.s.Serve(b.l) }()
		f(t, b)
		h.s.Shutdown(t.Context())
		if err := <-h.served; err != nil {
			t.Errorf("Serve = %v; want nil after Shutdown", err)
		}
	})
}

func (b *bubble) connect() *client { return b.connectFrom("127.0.0.1:9") }

func (b *bubble) connectFrom(remote string) *client {
	mine, theirs := net.Pipe()
	b.t.Cleanup(func() { mine.Close() })
	b.l.conns <- &fakeConn{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))}
	return &client{b.t, mine, bufio.NewReader(mine)}
}

func (b *bubble) start(rcpt string) *client {
	b.t.Helper()
	c := b.connect()
	c.want("", "220")
	c.want("EHLO x", "250")
	c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235")
	c.want("MAIL FROM:<a@b.test>", "250")
	c.want("RCPT TO:<"+rcpt+">", "250")
	return c
}

func TestAnIdleClientIsToldAndClosed(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.connect()
		c.want("", "220")
		start := time.Now()
		c.want("", "421 4.4.2 ")
		if d := time.Since(start); d != 5*time.Minute {
			t.Errorf("after %v; want 5 minutes", d)
		}
		c.closed()
	})
}

func TestOneOctetAMinuteGainsNothing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.connect()
		c.want("", "220")
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			for range 20 {
				time.Sleep(time.Minute)
				if _, err := io.WriteString(c.conn, "N"); err != nil {
					return
				}
			}
		}()
		defer func() { <-dripped }()
		start := time.Now()
		c.want("", "421 4.4.2 ")
		if d := time.Since(start); d != 5*time.Minute {
			t.Errorf("after %v; want 5 minutes", d)
		}
	})
}

func TestAHandshakeThatDoesNotComeEnds(t *testing.T) {
	for _, tc := range []struct {
		name, remote string
		mode         Mode
	}{
		{"TLS from the first octet", "127.0.0.1:9", Implicit},
		{"TLS after STARTTLS", "127.0.0.1:9", StartTLS},
		{"of a client that is to be told that it is refused", "203.0.113.7:1", Implicit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(o *Options, _ *house) { o.TLS, o.TLSConfig = tc.mode, serverTLS() }, func(t *testing.T, b *bubble) {
				c := b.connectFrom(tc.remote)
				if tc.mode == StartTLS {
					c.want("", "220")
					c.want("STARTTLS", "220")
				}
				start := time.Now()
				c.closed()
				if d := time.Since(start); d != 30*time.Second {
					t.Errorf("after %v; want HandshakeTimeout", d)
				}
			})
		})
	}
}

// A client that says NOOP for ever holds a connection for an hour, and one that sends as long as it likes.
func TestAClientThatSendsNothingIsClosed(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.start("b@d.test")
		start := time.Now()
		for range 50 {
			time.Sleep(time.Minute)
			c.want("NOOP", "250")
		}
		c.want("DATA", "354")
		c.want("x\r\n.", "250")
		for range 59 {
			time.Sleep(time.Minute)
			c.want("NOOP", "250")
		}
		c.want("", "421 4.4.2 ")
		c.closed()
		if d := time.Since(start); d != 50*time.Minute+time.Hour {
			t.Errorf("after %v; want an hour after the last message", d)
		}
	})
}

func TestRoomIsKeptForAddressesThatWorked(t *testing.T) {
	inBubble(t, func(o *Options, h *house) {
		o.MaxConnections, o.PlaintextAuth, o.Networks = 10, true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		o.Auth, h.users.at = Optional, netip.MustParsePrefix("192.0.2.2/32")
	}, func(t *testing.T, b *bubble) {
		logsIn, sends, stranger := "192.0.2.1:1", "192.0.2.2:1", "192.0.2.66:1"
		c := b.connectFrom(logsIn)
		c.want("", "220")
		c.want("EHLO x", "250")
		c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235")
		c = b.connectFrom(sends)
		for _, l := range []string{"", "HELO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>"} {
			c.want(l, "2")
		}
		c.want("DATA", "354")
		c.want(".", "250")
		for range 6 {
			b.connectFrom(stranger).want("", "220")
		}
		b.connectFrom(stranger).want("", "421 4.3.2")
		b.connectFrom(logsIn).want("", "220")
		b.connectFrom(sends).want("", "220")
		b.connectFrom(sends).want("", "421 4.3.2") // the very last
		if !strings.Contains(b.events.String(), "key=max_connections") {
			t.Errorf("the log does not name the key:\n%s", b.events)
		}
	})
	t.Run("for a day", func(t *testing.T) {
		inBubble(t, func(o *Options, _ *house) { o.MaxConnections = 5 }, func(t *testing.T, b *bubble) {
			b.s.worked(netip.MustParseAddr("127.0.0.1"))
			time.Sleep(knownFor + time.Second)
			for range 4 {
				b.connect().want("", "220")
			}
			b.connect().want("", "421 4.3.2")
		})
	})
}

func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		for range 3 {
			for range 100 {
				b.connectFrom("203.0.113.7:1").want("", "554 5.7.1")
				synctest.Wait() // or it is one of too many that are being told
			}
			b.connectFrom("203.0.113.8:1").want("", "554 5.7.1")
			time.Sleep(time.Minute)
		}
		log := b.events.String()
		for part, want := range map[string]int{"remote=203.0.113.7 ": 3, "key=networks more=99": 2, "remote=203.0.113.8 ": 3} {
			if got := strings.Count(log, part); got != want {
				t.Errorf("%q stands %d times in the log; want %d:\n%s", part, got, want, log)
			}
		}
	})
}

// exhausted is a listener without open files for a while.
type exhausted struct {
	*pipes
	failures int
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.failures > 0 {
		e.failures--
		return nil, &net.OpError{Op: "accept", Err: errors.New("too many open files")}
	}
	return e.pipes.Accept()
}

func TestAcceptSurvivesAShortageOfFiles(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		synctest.Wait() // the bubble's own listener is served
		l := &exhausted{&pipes{make(chan net.Conn), make(chan struct{})}, 300}
		served := make(chan error, 1)
		go func() { served <- b.s.Serve(l) }()
		b.l = l.pipes
		start := time.Now()
		b.connect().want("", "220")
		if d := time.Since(start); d < 4*time.Minute {
			t.Errorf("300 failures took %v only", d)
		}
		if n := strings.Count(b.events.String(), "too many open files"); n != 5 {
			t.Errorf("%d lines in the log; want 5", n)
		}
		b.s.Shutdown(t.Context())
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

func TestEarlyTalkersAreClosedOffLoopback(t *testing.T) {
	off := func(o *Options, _ *house) { o.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	for _, tc := range []struct {
		name, says string
		after      time.Duration
		want, log  string
	}{
		{"at once", "EHLO spam.test\r\n", 0, "554 5.5.0 You spoke before the greeting", "talks before the greeting"},
		{"a little later", "E", 40 * time.Millisecond, "554 5.5.0", "talks before the greeting"},
		{"a browser", "GET / HTTP/1.1\r\n\r\n", 0, "554 5.5.0", "talks before the greeting"},
		{"TLS", "\x16\x03\x01", 0, "", "tls = \"implicit\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, off, func(t *testing.T, b *bubble) {
				c := b.connectFrom("192.0.2.1:9")
				time.Sleep(tc.after)
				c.send(tc.says[:1])
				if len(tc.says) > 1 {
					go io.WriteString(c.conn, tc.says[1:])
				}
				c.want("", tc.want)
				c.conn.Close()
				b.untilGone()
				if !strings.Contains(b.events.String(), tc.log) {
					t.Errorf("the log does not say why:\n%s", b.events)
				}
			})
		})
	}
	t.Run("who waits is greeted", func(t *testing.T) {
		inBubble(t, off, func(t *testing.T, b *bubble) {
			c := b.connectFrom("192.0.2.1:9")
			start := time.Now()
			c.want("", "220")
			if d := time.Since(start); d != 50*time.Millisecond {
				t.Errorf("after %v; want EarlyWait", d)
			}
			c.want("NOOP", "250")
		})
	})
	t.Run("printf into nc, on this machine", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			c := b.connect()
			go io.WriteString(c.conn, "HELO x\r\nNOOP\r\n")
			c.want("", "220")
			c.want("", "250")
		})
	})
}

// The library answers 554, keeps the connection and takes the rest of the text for commands.
func TestATimeoutInsideDataClosesAndNothingIsKept(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.start("b@d.test")
		c.want("DATA", "354")
		c.send("Subject: x\r\n\r\n")
		c.want("", "421 4.4.2 Timeout inside DATA")
		if _, err := io.WriteString(c.conn, second); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("text after the timeout is read: %v", err)
		}
		c.closed()
		if len(b.desk.kept) != 0 || len(b.desk.seen) != 1 || b.desk.seen[0].err == nil {
			t.Errorf("kept %v, seen %v", b.desk.kept, b.desk.seen)
		}
	})
}

// The library's read timeout is one deadline for the whole of DATA.
func TestASteadyUploadMayTakeLong(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.start("b@d.test")
		c.want("DATA", "354")
		for range 60 {
			time.Sleep(time.Minute)
			c.send(strings.Repeat(strings.Repeat("x", 126)+"\r\n", 100))
		}
		c.want(".", "250 2.0.0")
	})
}

func TestAMessageMayNotTakeForEver(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.start("b@d.test")
		c.want("DATA", "354")
		start := time.Now()
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			for {
				time.Sleep(time.Minute)
				if _, err := io.WriteString(c.conn, strings.Repeat("not too slowly\r\n", 1000)); err != nil {
					return
				}
			}
		}()
		defer func() { <-dripped }()
		c.want("", "421 4.4.2")
		if d := time.Since(start); d < 5*time.Hour || d > 6*time.Hour+time.Minute {
			t.Errorf("after %v; want MessageTimeout", d)
		}
		if len(b.desk.kept) != 0 {
			t.Error("kept")
		}
	})
}

func TestADripIsCutOff(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.start("b@d.test")
		c.want("DATA", "354")
		start := time.Now()
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			for {
				time.Sleep(time.Minute - time.Second)
				if _, err := io.WriteString(c.conn, "x"); err != nil {
					return
				}
			}
		}()
		defer func() { <-dripped }()
		c.want("", "421 4.4.2")
		if d := time.Since(start); d < 5*time.Minute || d > 6*time.Minute {
			t.Errorf("after %v; want DataGrace", d)
		}
		if len(b.desk.kept) != 0 {
			t.Error("kept")
		}
	})
}

func TestAMessageThatEndsInBareLFIsNamed(t *testing.T) {
	for _, tc := range []struct{ name, end, log string }{
		{"LF", "\n.\n", "whose line ends are not CR LF"},
		{"LF before CRLF", "\n.\r\n", "whose line ends are not CR LF"},
		{"CR CR LF", "\r\r\n.\r\r\n", `tolerate = ["crcrlf-end"]`},
		{"CR", "\r.\r", "in CR alone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, b *bubble) {
				c := b.start("b@d.test")
				c.want("DATA", "354")
				c.send("x" + tc.end)
				c.want("", "421 4.4.2 The message did not end in CR LF . CR LF")
				c.closed()
				synctest.Wait()
				if !strings.Contains(b.events.String(), tc.log) {
					t.Errorf("the log does not name the cause:\n%s", b.events)
				}
			})
		})
	}
}

func TestFailedLoginsSlowDown(t *testing.T) {
	inBubble(t, func(_ *Options, h *house) { h.users.wait = 7 * time.Second }, func(t *testing.T, b *bubble) {
		c := b.connect()
		c.want("", "220")
		c.want("EHLO x", "250")
		start := time.Now()
		c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "535 5.7.8")
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("the failure is told after %v; want what the users ask for", d)
		}
		c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235 2.7.0")
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("the good login takes %v", d-7*time.Second)
		}
	})
}

func TestALoginThatTakesTooLongIsTemporary(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.connect()
		c.want("", "220")
		c.want("EHLO x", "250")
		c.want("AUTH LOGIN c2xvdw==", "334")
		start := time.Now()
		c.want("cHc=", "454 4.7.0 Temporary authentication failure")
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after %v; want LoginTimeout", d)
		}
	})
}

func TestAClientThatDoesNotReadIsClosed(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.connect()
		start := time.Now()
		b.untilGone()
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after %v; want WriteTimeout", d)
		}
		c.conn.Close()
	})
}

// untilGone waits until no connection is left.
func (b *bubble) untilGone() {
	synctest.Wait()
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for l := range b.s.links {
		b.s.mu.Unlock()
		<-l.gone
		b.s.mu.Lock()
	}
}

func TestShutdown(t *testing.T) {
	t.Run("an idle client is told at once", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			c := b.connect()
			c.want("", "220")
			synctest.Wait()
			start := time.Now()
			go b.s.Shutdown(t.Context())
			c.want("", "421 4.3.2 ")
			c.closed()
			if d := time.Since(start); d != 0 {
				t.Errorf("after %v", d)
			}
		})
	})
	t.Run("a session inside DATA may end", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			c := b.start("b@d.test")
			c.want("DATA", "354")
			done := make(chan error)
			go func() { done <- b.s.Shutdown(t.Context()) }()
			synctest.Wait()
			c.send("x\r\n")
			c.want(".", "250 2.0.0")
			c.want("", "421 4.3.2 ")
			if err := <-done; err != nil {
				t.Errorf("Shutdown = %v", err)
			}
			if len(b.desk.kept) != 1 {
				t.Error("the message is not kept")
			}
		})
	})
	t.Run("force closes what is left, and ends the desk's context", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			idle, stuck, waiting := b.connect(), b.start("b@d.test"), b.start("wait@d.test")
			idle.want("", "220")
			stuck.want("DATA", "354")
			waiting.want("DATA", "354")
			waiting.send("x\r\n.\r\n")
			<-b.desk.enter
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			start := time.Now()
			go io.Copy(io.Discard, idle.conn)
			if err := b.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown = %v; want the context's error", err)
			}
			if d := time.Since(start); d != 30*time.Second {
				t.Errorf("Shutdown took %v", d)
			}
			if len(b.desk.kept) != 0 {
				t.Errorf("kept %v", b.desk.kept)
			}
		})
	})
	t.Run("who is being refused and says nothing holds nothing up", func(t *testing.T) {
		inBubble(t, func(o *Options, _ *house) { o.TLS, o.TLSConfig = Implicit, serverTLS() }, func(t *testing.T, b *bubble) {
			b.connectFrom("203.0.113.7:1")
			synctest.Wait()
			start := time.Now()
			if err := b.s.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("Shutdown took %v", d)
			}
		})
	})
	t.Run("what comes later is not served", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			b.s.Shutdown(t.Context())
			if err := b.s.Serve(&pipes{make(chan net.Conn), make(chan struct{})}); err != nil {
				t.Errorf("Serve after Shutdown = %v", err)
			}
		})
	})
}
