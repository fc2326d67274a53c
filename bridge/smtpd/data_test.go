package smtpd

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// ends are ways to write the end of data that some server somewhere takes for one. In each, text follows that would be a
// second message; only CR LF . CR LF may end the first (facts: The-Login/SMTP-Smuggling-Tools, CVE-2023-51764 and after).
var ends = []struct {
	name, end string
	body      string // what the message then holds between "one" and "two"; "" where it is refused
}{
	{"LF dot LF", "\n.\n", "\r\n.\r\n"},
	{"LF dot CRLF", "\n.\r\n", "\r\n.\r\n"},
	{"CRLF dot LF", "\r\n.\n", "\r\n.\r\n"},
	{"LF LF dot CRLF", "\n\n.\r\n", "\r\n\r\n.\r\n"},
	{"CRLF dot dot CRLF", "\r\n..\r\n", "\r\n.\r\n"},
	{"CR CR LF dot CRLF", "\r\r\n.\r\n", "\r\n.\r\n"},
	{"CRLF dot CR CR LF", "\r\n.\r\r\n", "\r\n.\r\n"},
	{"CR CR LF dot CR CR LF", "\r\r\n.\r\r\n", "\r\n.\r\n"},
	{"LF dot LF dot CRLF", "\n.\n.\r\n", "\r\n.\r\n.\r\n"},
	{"CRLF blank dot CRLF", "\r\n .\r\n", "\r\n .\r\n"},
	{"CRLF dot blank CRLF", "\r\n. \r\n", "\r\n \r\n"},
	{"CR dot CR", "\r.\r", ""},
	{"CR dot CRLF", "\r.\r\n", ""},
	{"CRLF dot CR", "\r\n.\r", ""},
	{"CR dot LF", "\r.\n", ""},
	{"LF dot CR", "\n.\r", ""},
	{"CRLF dot CR and more", "\r\n.\rX\r\n", ""},
	{"CR CR CR LF dot CRLF", "\r\r\r\n.\r\n", ""},
	{"CRLF NUL dot CRLF", "\r\n\x00.\r\n", ""},
	{"CRLF dot NUL CRLF", "\r\n.\x00\r\n", ""},
}

const second = "MAIL FROM:<evil@x.test>\r\nRCPT TO:<v@x.test>\r\nDATA\r\n"

func TestNothingButCRLFDotCRLFEndsData(t *testing.T) {
	for _, tc := range ends {
		t.Run(tc.name, func(t *testing.T) {
			h := open(t)
			c := h.begin("b@fabrikam.test")
			c.want("DATA", "354")
			c.send("one" + tc.end + second + "two\r\n.\r\n")
			if tc.body == "" {
				c.want("", "550 5.6.0 The message contains a ")
			} else {
				c.want("", "250 2.0.0")
			}
			c.sure()
			m := h.desk.messages()
			if tc.body == "" {
				if len(m) != 0 {
					t.Errorf("kept: %v", m)
				}
				return
			}
			if want := "one" + tc.body + second + "two\r\n"; len(m) != 1 || m[0].body != want {
				t.Errorf("kept %v; want one message %q", m, want)
			}
		})
	}
}

// TestSegmentsChangeNothing: whatever the segments in which a text and the commands after it come, it is the same
// messages and the same replies, with each combination of the switches.
func TestSegmentsChangeNothing(t *testing.T) {
	for _, switches := range []string{"", "bare-cr", "crcrlf-end", "bare-cr crcrlf-end"} {
		t.Run("with "+switches, func(t *testing.T) {
			h := open(t, dialogueOptions(t, "at=127.0.0.1/32 "+switches))
			for _, e := range ends {
				head := "HELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\none"
				tail := e.end + second + "two\r\n.\r\n"
				rest := "RSET\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nlast\r\n.\r\nQUIT\r\n"
				in := head + tail + rest
				out, kept := converse(h, in)
				ended := e.end == "\r\r\n.\r\r\n" && strings.Contains(switches, "crcrlf-end") // what follows are commands
				for _, m := range kept {
					checkMessage(t, in, m)
					if m.env.ReversePath.Local == "evil" && !ended {
						t.Errorf("%s: the text became a message of its own", e.name)
					}
				}
				if n := len(kept); n == 0 || kept[n-1].body != "last\r\n" || n > 2 && !ended || !strings.HasSuffix(out, "\r\n221 2.0.0 Bye\r\n") {
					t.Errorf("%s: kept %v, said %q", e.name, kept, out)
				}
				same := func(how string, r io.Reader) {
					if again, list := converseIn(h, r); again != out || fmt.Sprint(list) != fmt.Sprint(kept) {
						t.Errorf("%s, %s: kept %v, said %q; in one segment %v, %q", e.name, how, list, again, kept, out)
					}
				}
				same("octet by octet", iotest.OneByteReader(strings.NewReader(in)))
				for i := len(head) - 1; i <= len(head)+len(tail); i++ {
					same(fmt.Sprintf("cut before octet %d", i), io.MultiReader(strings.NewReader(in[:i]), strings.NewReader(in[i:])))
				}
			}
		})
	}
}

func TestALineOfAMegabyteIsTakenAndNoLonger(t *testing.T) {
	for _, tc := range []struct {
		name   string
		length int
		want   string
	}{
		{"2,500 octets, which the library refuses", 2500, "250 2.0.0"},
		{"a megabyte", maxText, "250 2.0.0"},
		{"one octet more", maxText + 1, "550 5.6.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := open(t, func(o *Options, _ *house) { o.MaxMessage = 4 << 20 })
			c := h.begin("b@fabrikam.test")
			c.want("DATA", "354")
			go c.send(strings.Repeat("x", tc.length) + "\r\n.\r\n")
			c.want("", tc.want)
			c.sure()
		})
	}
}

func TestAMessageOverTheLimitIsReadToItsEnd(t *testing.T) {
	h := open(t, func(o *Options, _ *house) { o.MaxMessage = 1000 })
	c := h.begin("b@fabrikam.test")
	c.want("DATA", "354")
	go c.send(strings.Repeat("MAIL FROM:<evil@x.test>\r\n", 100_000) + ".\r\n")
	c.want("", "552 5.3.4")
	c.sure()
	if len(h.desk.messages()) != 0 {
		t.Error("the desk kept it")
	}
}

func TestAMessageWithoutEndIsCutOff(t *testing.T) {
	h := open(t, func(o *Options, _ *house) { o.MaxMessage = 1000 })
	c := h.begin("b@fabrikam.test")
	c.want("DATA", "354")
	sent := make(chan int64)
	go func() {
		n, _ := io.Copy(c.conn, endless{})
		sent <- n
	}()
	c.want("", "552 5.3.4 The message is larger than 1000 octets")
	c.conn.Close()
	if n := <-sent; n < maxDiscard {
		t.Errorf("cut off after %d octets; want %d", n, maxDiscard)
	}
	if len(h.desk.messages()) != 0 {
		t.Error("the desk kept it")
	}
}

func TestAReadAfterTheAnswerFails(t *testing.T) {
	d := &dataReader{text: text{g: &guard{norm: new(normalizer)}, lines: []byte("x")}}
	d.close()
	if n, err := d.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read = %d, %v; want an error that is no end", n, err)
	}
}
