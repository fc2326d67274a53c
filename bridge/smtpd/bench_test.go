package smtpd

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/bridge/envelope"
)

// BenchmarkMessage compares messages of 10 KB through the guard with the bare library, one connection per worker.
func BenchmarkMessage(b *testing.B) {
	b.Run("guarded", func(b *testing.B) {
		h := open(b, func(o *Options, h *house) {
			o.Desk = sink{}
			h.users.at = netip.MustParsePrefix("127.0.0.1/32")
		})
		send(b, h.address)
	})
	b.Run("bare", func(b *testing.B) {
		s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return bareSession{}, nil }))
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(l) }()
		send(b, l.Addr().String())
		s.Close()
		<-done
		s.Shutdown(context.Background())
	})
}

func send(b *testing.B, address string) {
	text := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 128) + ".\r\n"
	b.SetBytes(int64(len(text)))
	b.SetParallelism(10) // 20 sessions on 2 processors, as smtp-source -s 20
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		say := func(s, want string) bool {
			io.WriteString(c, s)
			for {
				l, err := in.ReadString('\n')
				if err != nil || l[:3] != want {
					b.Errorf("after %.20q: %q, %v", s, l, err)
					return false
				}
				if l[3] == ' ' {
					return true
				}
			}
		}
		if !say("", "220") || !say("EHLO x\r\n", "250") {
			return
		}
		for pb.Next() {
			if !say("MAIL FROM:<a@b.test>\r\n", "250") || !say("RCPT TO:<c@d.test>\r\n", "250") || !say("DATA\r\n", "354") || !say(text, "250") {
				return
			}
		}
		say("QUIT\r\n", "221")
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkLargeMessage streams 100 MB through the guard.
func BenchmarkLargeMessage(b *testing.B) {
	h := open(b, func(o *Options, h *house) {
		o.Desk, o.MaxMessage = sink{}, 200_000_000
		h.users.at = netip.MustParsePrefix("127.0.0.1/32")
	})
	piece := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1000))
	b.ReportAllocs()
	b.SetBytes(int64(len(piece)) * 1300)
	for b.Loop() {
		c := h.dial()
		c.want("", "220")
		c.send("HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
		for range 4 {
			c.reply()
		}
		for range 1300 {
			if _, err := c.conn.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
		c.want(".", "250 2.0.0")
		c.want("QUIT", "221")
	}
}

// sink is a desk that reads and keeps nothing.
type sink struct{}

func (sink) Submit(_ context.Context, _ envelope.Session, _ envelope.Envelope, data io.Reader) (envelope.ID, error) {
	_, err := io.Copy(io.Discard, data)
	return "0123456789abcdef", err
}

type bareSession struct{}

func (bareSession) Reset()                               {}
func (bareSession) Logout() error                        { return nil }
func (bareSession) Mail(string, *smtp.MailOptions) error { return nil }
func (bareSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (bareSession) Data(r io.Reader) error               { _, err := io.Copy(io.Discard, r); return err }
