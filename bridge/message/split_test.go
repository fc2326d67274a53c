package message

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestSplitHeader(t *testing.T) {
	long := strings.Repeat("x", 3*peekSize)
	for _, tc := range []struct{ name, in, header, body string }{
		{"header and body part at the blank line", "Subject: a\r\nTo: b\r\n\r\nbody\r\n\r\nmore\r\n", "Subject: a\r\nTo: b\r\n\r\n", "body\r\n\r\nmore\r\n"},
		{"an empty message has an empty block", "", "\r\n", ""},
		{"a message that begins with a blank line has no header", "\r\nFrom: a@b\r\n", "\r\n", "From: a@b\r\n"},
		{"a header without body gets its blank line", "Subject: a\r\n", "Subject: a\r\n\r\n", ""},
		{"a header cut off within a line gets its line end", "Subject: a", "Subject: a\r\n\r\n", ""},
		{"a text without header is all body", "Hello there\r\nFrom: a@b\r\n", "\r\n", "Hello there\r\nFrom: a@b\r\n"},
		{"a line without colon ends the header and begins the body", "Subject: a\r\nno header here\r\nFrom: b@c\r\n\r\nx", "Subject: a\r\n\r\n", "no header here\r\nFrom: b@c\r\n\r\nx"},
		{"the line that an mbox begins with is dropped", "From root Mon Nov  2 10:00:00 2026\r\nSubject: a\r\n\r\nx", "Subject: a\r\n\r\n", "x"},
		{"a quoted mbox line is dropped", ">From root Mon Nov  2 10:00:00 2026\r\nSubject: a\r\n\r\nx", "Subject: a\r\n\r\n", "x"},
		{"a long mbox line is dropped whole", "From " + long + "\r\nSubject: a\r\n\r\nx", "Subject: a\r\n\r\n", "x"},
		{"a second mbox line is text", "From a\r\nFrom b\r\n", "\r\n", "From b\r\n"},
		{"From with a blank before the colon is a field", "From : a@b\r\n\r\nx", "From : a@b\r\n\r\n", "x"},
		{"From with a tab before the colon is a field", "From\t: a@b\r\n\r\nx", "From\t: a@b\r\n\r\n", "x"},
		{"folding stays", "To: a,\r\n\tb\r\n\r\nx", "To: a,\r\n\tb\r\n\r\n", "x"},
		{"a line of blanks continues its field", "To: a\r\n \r\nFrom: b\r\n\r\nx", "To: a\r\n \r\nFrom: b\r\n\r\n", "x"},
		{"a continuation of nothing is text", " folded\r\nFrom: a@b\r\n", "\r\n", " folded\r\nFrom: a@b\r\n"},
		{"an empty field name is text", "To: a\r\n: b\r\n\r\n", "To: a\r\n\r\n", ": b\r\n\r\n"},
		{"a field name with 8-bit is text", "To: a\r\nFr\xc3\xb6m: b\r\n\r\n", "To: a\r\n\r\n", "Fr\xc3\xb6m: b\r\n\r\n"},
		{"a field name with NUL is text", "To: a\r\nFrom\x00: b\r\n\r\n", "To: a\r\n\r\n", "From\x00: b\r\n\r\n"},
		{"8-bit values stay", "Subject: \xfc\r\n\r\n\xfc", "Subject: \xfc\r\n\r\n", "\xfc"},
		{"lone LF becomes CRLF in the header and stays in the body", "Subject: a\nTo: b\n c\n\nx\ny\n", "Subject: a\r\nTo: b\r\n c\r\n\r\n", "x\ny\n"},
		{"a long line is kept", "Subject: " + long + "\r\n\r\nx", "Subject: " + long + "\r\n\r\n", "x"},
		{"a long first line without colon is body", long + ": a\r\n", "\r\n", long + ": a\r\n"},
		{"controls in the body are the body's business", "A: b\r\n\r\na\x00b\rc", "A: b\r\n\r\n", "a\x00b\rc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in)), iotest.DataErrReader(strings.NewReader(tc.in))} {
				header, body, err := SplitHeader(r, 0)
				if err != nil {
					t.Fatal(err)
				}
				rest, err := io.ReadAll(body)
				if string(header) != tc.header || string(rest) != tc.body || err != nil {
					t.Errorf("SplitHeader = %.200q, %.200q, %v; want %.200q, %.200q", header, rest, err, tc.header, tc.body)
				}
			}
		})
	}
}

func TestSplitHeaderRefuses(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name  string
		in    io.Reader
		limit int
		want  error
	}{
		{"a block over the limit", strings.NewReader("A: b\r\nC: d\r\n\r\n"), 11, ErrHeaderTooLong},
		{"one line over the limit", strings.NewReader("A: " + strings.Repeat("x", HeaderLimit)), 0, ErrHeaderTooLong},
		{"a lone CR that hides a field", strings.NewReader("X: a\rBcc: z@z\r\n\r\n"), 0, ErrHeaderControl},
		{"CR CR LF", strings.NewReader("X: a\r\r\n\r\n"), 0, ErrHeaderControl},
		{"NUL in a value", strings.NewReader("From: a\x00@b\r\n\r\n"), 0, ErrHeaderControl},
		{"a reader that fails at once", iotest.ErrReader(broken), 0, broken},
		{"a reader that fails within a long line", io.MultiReader(strings.NewReader("A: "+strings.Repeat("x", peekSize)), iotest.ErrReader(broken)), 0, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if header, _, err := SplitHeader(tc.in, tc.limit); !errors.Is(err, tc.want) || header != nil {
				t.Errorf("SplitHeader = %q, %v; want %v", header, err, tc.want)
			}
		})
	}
	if _, _, err := SplitHeader(strings.NewReader("A: b\r\nC: d\r\n\r\n"), 12); err != nil {
		t.Errorf("a block at the limit is refused: %v", err)
	}
}

// hostile seeds the fuzz targets with what attackers and old applications write.
var hostile = []string{
	"", "\r\n", "From: a@b\r\n\r\n", "From : a@b\r\nFROM: c@d\r\n\r\nx", "From x\r\nA: b\r\n\r\n", " a\r\nb: c\r\n\r\n",
	"To: Team: a@x, \"b, c\" <d@x>;, e@x (f \\) (g))\r\nCc: =?utf-8?q?a=2Cb?= <h@x>,\r\n\ti@x; j@x\r\nBcc: k@x\r\n \r\n\r\n",
	"To: <@route.test:a@x>, a @ x, \"a\\\"b\"@x, a@[192.0.2.1], a@x <a@x>, undisclosed:;\r\n\r\n",
	"To: \"open <a@x>\r\nCc: (open a@x\r\nBcc: <a@x\r\nTo: a:b:c;;\r\n\r\n", "To: \xfc <a@x>, J. Doe <b@x>, [I] <c@x>\r\n\r\n",
	"To:\r\n a@x,\r\n b@x\r\nTo : c@x\r\nResent-Bcc: d@x\r\n\r\n", "A: b\r\n\r\rC", "A: b\nC: d\n\ne",
}

func FuzzHeader(f *testing.F) {
	for _, s := range hostile {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		header, body, err := SplitHeader(strings.NewReader(string(in)), 0)
		if err != nil {
			return
		}
		rest, err := io.ReadAll(body)
		if err != nil || !strings.HasSuffix(string(in), string(rest)) {
			t.Fatalf("the body %q is no end of the message: %v", rest, err)
		}
		h, err := ParseHeader(header)
		if err != nil {
			t.Fatalf("ParseHeader refuses what SplitHeader made: %v: %q", err, header)
		}
		if got := string(h.Bytes()); got != string(header) {
			t.Fatalf("the fields together are %q, the block %q", got, header)
		}
		for _, f := range h.Fields {
			if strings.ContainsAny(f.Value(), "\r\n\x00") || f.Name == "" || !f.Is(strings.ToUpper(f.Name)) {
				t.Fatalf("field %q has value %q", f.Name, f.Value())
			}
		}
	})
}
