package smtpd

import (
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// TestTextUndoesDotStuffing lets a client write each text in pieces of every size, and the desk read it likewise.
func TestTextUndoesDotStuffing(t *testing.T) {
	for _, tc := range []struct{ name, wire, want string }{
		{"nothing", ".\r\n", ""},
		{"an empty line", "\r\n.\r\n", "\r\n"},
		{"no dots", "a\r\nb\r\n.\r\n", "a\r\nb\r\n"},
		{"a line that is a dot", "..\r\n.\r\n", ".\r\n"},
		{"dots at the begin, in the middle and at the end of lines", "..a.\r\nb.c\r\n...\r\n.\r\n", ".a.\r\nb.c\r\n..\r\n"},
		{"a dot that nobody stuffed", ".a\r\n.\r\n", "a\r\n"},
		{"a dot after a bare LF is the message's", "a\n.b\r\n.\r\n", "a\r\n.b\r\n"},
		{"a dot alone between bare LFs ends nothing", "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for size := 1; size <= len(tc.wire); size++ {
				for _, how := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, func(r io.Reader) io.Reader { return r }} {
					g, got := readWire(t, tc.wire, size, how)
					if got != tc.want {
						t.Fatalf("in pieces of %d: %q; want %q", size, got, tc.want)
					}
					if string(g.toLib) != endOfText || g.mode != commands || !g.awaiting {
						t.Fatalf("the library reads %q in mode %d; want the end alone", g.toLib, g.mode)
					}
				}
			}
		})
	}
}

// TestTextIsWhatANaiveReaderReads compares with the plainest way to do it.
func TestTextIsWhatANaiveReaderReads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var b strings.Builder
		for range random.IntN(30) {
			b.WriteString([]string{"a", ".", "..", "\r\n", "\r\n.", "bcd"}[random.IntN(6)])
		}
		message := b.String() + "\r\n"
		wire := strings.ReplaceAll("\r\n"+message, "\r\n.", "\r\n..")[2:] + ".\r\n"
		if _, got := readWire(t, wire, 1+random.IntN(len(wire)), iotest.HalfReader); got != message {
			t.Fatalf("%q is read as %q; want %q", wire, got, message)
		}
	}
}

// readWire hands a guard what a client writes, so many octets at a time.
func readWire(t *testing.T, wire string, size int, how func(io.Reader) io.Reader) (*guard, string) {
	t.Helper()
	h := &Server{}
	o, err := Options{Hostname: "x", Users: &fakeUsers{}, Desk: &fakeDesk{}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := net.Pipe()
	defer mine.Close()
	defer theirs.Close()
	go func() {
		for s := wire; s != ""; s = s[min(size, len(s)):] {
			if _, err := io.WriteString(mine, s[:min(size, len(s))]); err != nil {
				return
			}
		}
	}()
	g := newGuard(newLink(h, &o, theirs, netip.MustParseAddr("127.0.0.1")), false)
	g.norm, g.mode = new(normalizer), inText
	g.norm.reset(o)
	got, err := io.ReadAll(how(&text{g: g}))
	if err != nil {
		t.Fatal(err)
	}
	return g, string(got)
}

func TestABrokenGuardEndsNoText(t *testing.T) {
	in := &text{g: &guard{link: &link{o: &Options{}}, mode: inText}} // without a normalizer it panics
	if b, err := io.ReadAll(in); err == nil || len(b) > 0 {
		t.Errorf("read %q, %v; want an error that is no end", b, err)
	}
}
