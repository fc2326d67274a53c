package bridge

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// dataEnds are ways to write the end of data that some server somewhere takes for one (The-Login/SMTP-Smuggling-Tools,
// CVE-2023-51764 and after, and broken programs), and what each does to text: refused for what it contains, or taken.
var dataEnds = []struct {
	name, end string
	refused   bool // a bare CR or NUL
	tolerated bool // with bare-cr it is not
}{
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

// TestNoEndOfDataSplitsAMessage puts each variant in at the listener and looks at what leaves by each transport: never two
// messages, nothing but CR LF, and no octet of the smuggled envelope as one.
func TestNoEndOfDataSplitsAMessage(t *testing.T) {
	for _, tolerate := range []string{"", `tolerate = ["bare-cr", "crcrlf-end"]`} {
		t.Run("with "+tolerate, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: strings.Replace(worldConfig, `auth = "optional"`, `auth = "optional"`+"\n"+tolerate, 1)})
			taken := 0
			for _, from := range []string{"127.0.0.2", "127.0.0.3"} { // the user of Graph, and that of SMTP
				for _, e := range dataEnds {
					want := "250 2.0.0"
					if e.refused && !(e.tolerated && tolerate != "") {
						want = "550 5.6.0"
					} else {
						taken++
					}
					if got := w.smuggle(from, e.end); !strings.HasPrefix(got, want) {
						t.Errorf("%s: the reply is %q; want %q", e.name, got, want)
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

// smuggle sends a message with a false end and commands after it, and returns the reply to the true end. The connection
// must be at a command then.
func (w *world) smuggle(from, end string) string {
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
	fmt.Fprint(c, "From: a@erp.local\r\nTo: customer@example.test\r\nSubject: x\r\n\r\none"+end+
		"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@x.test>\r\nDATA\r\nSubject: two\r\n\r\nthe end\r\n.\r\n")
	in.Scan()
	reply := in.Text()
	fmt.Fprint(c, "QUIT\r\n")
	if in.Scan(); !strings.HasPrefix(in.Text(), "221 ") {
		w.t.Errorf("after %q QUIT is answered %q", end, in.Text())
	}
	return reply
}
