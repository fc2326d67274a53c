package bridge

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// crcrlfEnd ends a message where crcrlf-end is on; it is looked at where that is off.
const crcrlfEnd = "\r\r\n.\r\r\n"

// dataEnds are ways to write the end of data that some server somewhere takes for one (The-Login/SMTP-Smuggling-Tools,
// CVE-2023-51764 and after, and broken programs), and what each does to text: refused for what it contains, or taken.
var dataEnds = []struct {
	name, end string
	refused   bool // a bare CR or NUL
	tolerated bool // with bare-cr it is not
}{
	{"CR CR LF dot CR CR LF", crcrlfEnd, false, false},
	{"LF dot LF", "\n.\n", false, false},
	{"LF dot CRLF", "\n.\r\n", false, false},
	{"CRLF dot LF", "\r\n.\n", false, false},
	{"LF LF dot CRLF", "\n\n.\r\n", false, false},
	{"CRLF dot dot CRLF", "\r\n..\r\n", false, false},
	{"CR CR LF dot CRLF", "\r\r\n.\r\n", false, false},
	{"CRLF dot CR CR LF", "\r\n.\r\r\n", false, false},
	{"CR CR LF dot LF", "\r\r\n.\n", false, false},
	{"LF dot LF dot CRLF", "\n.\n.\r\n", false, false},
	{"CRLF blank dot CRLF", "\r\n .\r\n", false, false},
	{"CRLF dot blank CRLF", "\r\n. \r\n", false, false},
	{"CR dot CR", "\r.\r", true, true},
	{"CR dot CRLF", "\r.\r\n", true, true},
	{"CRLF dot CR", "\r\n.\r", true, true},
	{"CR dot LF", "\r.\n", true, true},
	{"LF dot CR", "\n.\r", true, true},
	{"CRLF dot CR and more", "\r\n.\rX\r\n", true, true},
	{"CR CR CR LF dot CRLF", "\r\r\r\n.\r\n", true, true},
	{"CR LF CR dot CRLF", "\r\n\r.\r\n", true, true},
	{"CRLF NUL dot CRLF", "\r\n\x00.\r\n", true, false},
	{"CRLF dot NUL CRLF", "\r\n.\x00\r\n", true, false},
}

// TestNoEndOfDataSplitsAMessage puts each variant in at the listener, in one segment with the commands after it and octet by
// octet, and looks at what leaves by each transport: never two messages, nothing but CR LF, and no octet of the smuggled
// envelope as one.
func TestNoEndOfDataSplitsAMessage(t *testing.T) {
	for _, tolerate := range []string{"", `tolerate = ["bare-cr"]`, `tolerate = ["crcrlf-end"]`, `tolerate = ["bare-cr", "crcrlf-end"]`} {
		t.Run("with "+tolerate, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{config: strings.Replace(worldConfig, `auth = "optional"`, `auth = "optional"`+"\n"+tolerate, 1)})
			taken := 0
			for _, e := range dataEnds {
				if e.end == crcrlfEnd && strings.Contains(tolerate, "crcrlf-end") {
					continue
				}
				for _, from := range []string{"127.0.0.2", "127.0.0.3"} { // the user of Graph, and that of SMTP
					for _, segment := range []int{1 << 20, 1} {
						want := "250 2.0.0"
						if e.refused && !(e.tolerated && strings.Contains(tolerate, "bare-cr")) {
							want = "550 5.6.0"
						} else {
							taken++
						}
						if got := w.smuggle(from, e.end, segment); !strings.HasPrefix(got, want) {
							t.Errorf("%s, in segments of %d: the reply is %q; want %q", e.name, segment, got, want)
						}
					}
				}
			}
			list := w.wait(taken)
			if len(list) != taken || w.accepted() != taken {
				t.Errorf("%d messages were accepted and %d arrived; want %d", w.accepted(), len(list), taken)
			}
			for _, r := range list {
				if len(r.Recipients) != 1 || r.Recipients[0] != "customer@example.test" || strings.Contains(r.EnvelopeFrom, "evil") {
					t.Errorf("a message from %q went to %v", r.EnvelopeFrom, r.Recipients)
				}
				if rest := bytes.ReplaceAll(r.Raw, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n\x00") {
					t.Errorf("what left by %s is not CR LF alone: %q", r.Via, r.Raw)
				}
				if !bytes.Contains(r.Raw, []byte("MAIL FROM:<evil@x.test>")) || !bytes.HasSuffix(r.Raw, []byte("\r\nthe end\r\n")) {
					t.Errorf("what left by %s is not whole: %q", r.Via, r.Raw)
				}
			}
		})
	}
}

// smuggle sends a message with a false end and commands after it, in segments of so many octets, and returns the reply to
// the true end. The commands that follow it in the same segments must be answered as commands.
func (w *world) smuggle(from, end string, segment int) string {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewScanner(c)
	for _, say := range []string{"", "HELO x\r\n", "MAIL FROM:<a@erp.local>\r\n", "RCPT TO:<customer@example.test>\r\n", "DATA\r\n"} {
		fmt.Fprint(c, say)
		in.Scan()
	}
	text := "From: a@erp.local\r\nTo: customer@example.test\r\nSubject: x\r\n\r\none" + end +
		"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@x.test>\r\nDATA\r\nSubject: two\r\n\r\nthe end\r\n.\r\nRSET\r\nQUIT\r\n"
	for piece := range slices.Chunk([]byte(text), segment) { // Go's sockets have no delay: each Write is a segment
		c.Write(piece)
	}
	in.Scan()
	reply := in.Text()
	for _, want := range []string{"250 2.0.0 Ok", "221 2.0.0 Bye"} {
		if in.Scan(); in.Text() != want {
			w.t.Errorf("after %q %q is said; want %q", end, in.Text(), want)
		}
	}
	return reply
}
