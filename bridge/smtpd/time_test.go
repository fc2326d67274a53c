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

func (b *bubble) connect() *client {
	mine, theirs := net.Pipe()
	b.t.Cleanup(func() { mine.Close() })
	b.l.conns <- &fakeConn{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:9"))}
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
	for _, tc := range []struct{ name, end string }{
		{"LF", "\n.\n"}, {"CR CR LF", "\r\r\n.\r\r\n"}, {"LF before CRLF", "\n.\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, b *bubble) {
				c := b.start("b@d.test")
				c.want("DATA", "354")
				c.send("x" + tc.end)
				c.want("", "421 4.4.2 The message did not end in CR LF . CR LF")
				c.closed()
				synctest.Wait()
				if !strings.Contains(b.events.String(), "whose line ends are not CR LF") {
					t.Errorf("the log does not name the cause:\n%s", b.events)
				}
			})
		})
	}
}

func TestFailedLoginsSlowDown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, b *bubble) {
		c := b.connect()
		c.want("", "220")
		c.want("EHLO x", "250")
		for i := range 4 {
			start := time.Now()
			c.want("AUTH PLAIN AG5hdgB3cm9uZw==", "535 5.7.8")
			if d := time.Since(start); d != time.Duration(i+1)*time.Second {
				t.Errorf("failure %d is told after %v; want %d s", i+1, d, i+1)
			}
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
	t.Run("what comes later is not served", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, b *bubble) {
			b.s.Shutdown(t.Context())
			if err := b.s.Serve(&pipes{make(chan net.Conn), make(chan struct{})}); err != nil {
				t.Errorf("Serve after Shutdown = %v", err)
			}
		})
	})
}
