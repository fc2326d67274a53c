package smtpd

import (
	"bytes"
	"io"
	"strings"
	"testing"
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

// normalise is what the desk would read of one text, and what of in is left; done is false where it does not end. It takes
// in in pieces of the given size.
func normalise(in []byte, limit int64, piece int) (n *normalizer, out, rest []byte, done bool) {
	n = new(normalizer)
	n.reset(limit)
	for len(in) > 0 && !done {
		var used int
		n.out = n.out[:0]
		used, done = n.take(in[:min(piece, len(in))])
		out, in = append(out, n.out...), in[used:]
	}
	return n, out, in, done
}

// reference says by other means what take must do: it cuts at the first end and judges lines.
func reference(in string) (out string, refused, done bool) {
	in = "\r\n" + in
	from := 0
	for {
		i := strings.Index(in[from:], "\r\n.\r\n")
		if i < 0 {
			return "", false, false
		}
		from += i
		if from == 0 || in[from-1] != '\r' {
			break
		}
		from++ // the CR LF before this dot is a CR CR LF
	}
	text := in[2:max(from+2, 2)]
	if strings.Contains(text, "\x00") {
		return "", true, true
	}
	const soft = "\x00\n" // marks a line end that was none
	text = strings.ReplaceAll(text, "\r\n", "\x01")
	text = strings.ReplaceAll(text, "\r\x01", soft)
	text = strings.ReplaceAll(text, "\n", soft)
	text = strings.ReplaceAll(text, "\x00"+soft, soft)
	if strings.Contains(text, "\r") {
		return "", true, true
	}
	text = strings.ReplaceAll(text, soft+".", soft+"..")
	text = strings.ReplaceAll(text, "\x01."+soft, "\x01.."+soft)
	if strings.HasPrefix(text, "."+soft) {
		text = "." + text
	}
	text = strings.ReplaceAll(text, soft, "\r\n")
	return strings.ReplaceAll(text, "\x01", "\r\n") + ".\r\n", false, true
}

func FuzzNormalizer(f *testing.F) {
	for _, tc := range ends {
		f.Add("one"+tc.end+"two\r\n.\r\nrest", uint8(3))
	}
	f.Add(".\r\n", uint8(1))
	f.Add("..\r\n.\r\n", uint8(1))
	f.Add(".\n\r\n.\r\n", uint8(2))
	f.Fuzz(func(t *testing.T, in string, piece uint8) {
		if strings.Contains(in, "\x01") {
			return // the reference's own mark
		}
		n, out, rest, done := normalise([]byte(in), 1<<20, int(piece)+1)
		want, refused, ends := reference(in)
		if done != ends {
			t.Fatalf("%q: ends %v; want %v", in, done, ends)
		}
		if !done {
			return
		}
		if (n.refusal != nil) != refused {
			t.Fatalf("%q: refused %v; want %v", in, n.refusal, refused)
		}
		if !strings.HasSuffix(in[:len(in)-len(rest)], ".\r\n") {
			t.Fatalf("%q: took up to %q", in, rest)
		}
		if !refused && string(out) != want {
			t.Fatalf("%q: gives %q; want %q", in, out, want)
		}
		if i := bytes.Index(append([]byte("\r\n"), out...), []byte("\r\n.\r\n")); i != len(out)-3 {
			t.Fatalf("%q: the library sees an end at %d of %q", in, i, out)
		}
	})
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

func TestAReadAfterTheAnswerFails(t *testing.T) {
	d := &dataReader{r: strings.NewReader("x"), g: &guard{norm: new(normalizer)}}
	d.close()
	if n, err := d.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read = %d, %v; want an error that is no end", n, err)
	}
}
