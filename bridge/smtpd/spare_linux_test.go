package smtpd

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// scratch is a socket that keeps the buffer of the last Read.
type scratch struct {
	net.Conn
	last atomic.Pointer[[]byte]
}

func (s *scratch) Read(b []byte) (int, error) {
	s.last.Store(&b)
	return s.Conn.Read(b)
}

// used counts the octets of that buffer that are not zero.
func (s *scratch) used() int { return len(*s.last.Load()) - bytes.Count(*s.last.Load(), []byte{0}) }

func TestAClientThatRestsUnderTLSGivesItsPagesBack(t *testing.T) {
	inBubble(t, func(o *Options, _ *house) { o.TLS, o.TLSConfig = Implicit, serverTLS() }, func(t *testing.T, b *bubble) {
		mine, theirs := net.Pipe()
		below := &scratch{Conn: &fakeConn{theirs, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}}
		b.l.conns <- below
		conn := tls.Client(mine, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}) // 16 KB a record
		c := &client{t, conn, bufio.NewReader(conn)}
		c.want("", "220")
		c.want("EHLO x", "250")
		c.want("AUTH PLAIN AG5hdgBzZWNyZXQ=", "235")
		text := strings.Repeat("a line of an invoice\r\n", 1950)
		for range 2 {
			c.want("MAIL FROM:<a@b.test>", "250")
			c.want("RCPT TO:<c@d.test>", "250")
			c.want("DATA", "354")
			c.want(text+".", "250 2.0.0")
			if n := below.used(); n < 10_000 {
				t.Errorf("%d octets of the buffer were used; want more than a record's half", n)
			}
			b.rest()
			if n := below.used(); n > 2*os.Getpagesize() {
				t.Errorf("%d octets of the buffer are still in use; want those of its first and last page at most", n)
			}
		}
		for _, m := range b.desk.messages() {
			if m.body != text {
				t.Errorf("kept %d octets; want %d", len(m.body), len(text))
			}
		}
		c.conn.Close()
		b.untilGone()
	})
}

func TestDiscardTakesWholePages(t *testing.T) {
	page := os.Getpagesize()
	all, err := syscall.Mmap(-1, 0, 4*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(all)
	for _, tc := range []struct {
		name     string
		from, to int
		zero     int // pages
	}{
		{"whole pages", 0, 3 * page, 3},
		{"an octet less at each end", 1, 3*page - 1, 1},
		{"nearly two pages, none of them whole", 1, 2*page - 1, 0},
		{"a part of one", 10, 20, 0},
		{"the end of one", 10, page, 0},
		{"nothing", 0, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i := range all {
				all[i] = 'x'
			}
			discard(all[tc.from:tc.to])
			if n := bytes.Count(all, []byte{0}); n != tc.zero*page {
				t.Errorf("%d octets are zero; want %d pages", n, tc.zero)
			}
		})
	}
}
