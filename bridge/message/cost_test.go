package message

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"postern/bridge/envelope"
)

// dear are inputs that make a careless parser do again and again what it has done, and what reads them. make returns one
// of about n octets.
var dear = []struct {
	name string
	make func(n int) string
	read func(string)
}{
	{"fields", of("a:\r\n"), readHeader},
	{"continuations", of(" \r\n"), func(s string) { readHeader("a:\r\n" + s) }},
	{"lone LF", of("\n "), func(s string) { readHeader("a:" + s) }},
	{"one line", of("x"), func(s string) { readHeader("a:" + s) }},
	{"addresses", of("a@b.c,"), readList},
	{"empty elements", of(",;"), readList},
	{"comments that do not end", of("("), readList},
	{"comments", of("(x)"), readList},
	{"angles that do not end", of("<("), readList},
	{"quoted strings", of(`"a" `), readList},
	{"groups", of("g:a@b.c,;,"), readList},
	{"groups that do not end", of("g:"), readList},
	{"literals that do not end", of("[,"), readList},
	{"dots", of("a."), readList},
	{"encoded words that are none", of("=?a?b? "), func(s string) { decodeWords(s + "?=") }},
	{"encoded words that do not end", of("=?utf-8?q?"), func(s string) { decodeWords(s) }},
	{"encoded words", of("=?utf-8?q?a?= "), func(s string) { decodeWords(s) }},
	{"octets that are no UTF-8", of("\xfc"), func(s string) { decodeName(s) }},
	{"To fields", of("To:a@b.c\r\n"), reconcile},
	{"To fields after others", of("X:\r\nTo:a@b.c\r\n"), reconcile},
	{"a To field that names many", of("a@b.c,\r\n "), func(s string) { reconcile("To:" + s + "a@b.c\r\n") }},
	{"Bcc fields", of("Bcc:a\r\n"), func(s string) { RemoveBcc([]byte(s)) }},
	{"From fields that are replaced", of("From:a\r\n"), func(s string) {
		Apply([]byte(s+"\r\n"), []Edit{{Set, "From", "x"}, {Prepend, "A", "b"}, {Remove, "C", ""}})
	}},
	{"words to fold", of("a "), func(s string) { newField("Subject", s) }},
	{"parameters", of(`a="b";`), func(s string) { parameter(";"+s, "filename") }},
	{"pieces of a parameter", numbered("filename*%d=a;"), func(s string) { parameter(";"+s, "filename") }},
	{"pieces of a Content-Type", numbered("; a*%d=b"), func(s string) { rebuild("Content-Type: text/plain"+s+"\r\n\r\n", "") }},
	{"pieces of many parameters", numbered("; a%d*0=b"), func(s string) { rebuild("Content-Type: text/plain"+s+"\r\n\r\n", "") }},
	{"X- fields", of("X-a: b\r\n"), func(s string) { rebuild(s+"\r\n", "") }},
	{"delimiters", of("--b\r\n"), func(s string) { rebuild("Content-Type: multipart/mixed; boundary=b\r\n\r\n", s) }},
	{"lines like delimiters", of("--\r\n"), func(s string) { rebuild("Content-Type: multipart/mixed; boundary=b\r\n\r\n", s) }},
	{"parts in parts", func(n int) string {
		var b strings.Builder
		for i := range n / 60 {
			fmt.Fprintf(&b, "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
		}
		return b.String()
	}, func(s string) { rebuild("Content-Type: multipart/mixed; boundary=b0\r\n\r\n", s) }},
	{"soft line ends", of("=\r\n"), func(s string) { rebuild("Content-Transfer-Encoding: quoted-printable\r\n\r\n", s) }},
	{"blanks at the end of a line", of(" "), func(s string) { rebuild("Content-Transfer-Encoding: quoted-printable\r\n\r\n", s) }},
	{"what is no base64", of("!!!!!!!A"), func(s string) { rebuild("Content-Transfer-Encoding: base64\r\n\r\n", s) }},
	{"escapes of ISO-2022", of("\x1b$B"), func(s string) { rebuild("Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n", s) }},
}

// of repeats a piece.
func of(piece string) func(int) string {
	return func(n int) string { return strings.Repeat(piece, n/len(piece)) }
}

// numbered repeats a piece with a number in it.
func numbered(format string) func(int) string {
	return func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
}

func readHeader(s string) {
	if header, _, err := SplitHeader(strings.NewReader(s), 8<<20); err == nil {
		ParseHeader(header)
	}
}

func readList(s string) {
	l := parseAddressList([]byte(s))
	l.Filter(func(e Entry) bool { return e.Err == nil })
}

func reconcile(s string) {
	ReconcileRecipients([]byte(s+"\r\n"), []envelope.Address{{Local: "a", Domain: "b.c"}})
}

func rebuild(header, body string) {
	Rebuild([]byte(header), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil })
}

// TestHostileInputCostsNoMoreThanItsLength counts what is allocated, which time is not fit for: four times the input may
// allocate little more than four times as much. BenchmarkHostileInput shows the rest.
func TestHostileInputCostsNoMoreThanItsLength(t *testing.T) {
	allocated := func(read func(string), in string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		read(in)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for _, tc := range dear {
		t.Run(tc.name, func(t *testing.T) {
			one, four := allocated(tc.read, tc.make(32<<10)), allocated(tc.read, tc.make(128<<10))
			if four > 6*one+256<<10 {
				t.Errorf("32 KB of it allocate %d octets, 128 KB %d: it grows faster than the input", one, four)
			}
		})
	}
}

// BenchmarkHostileInput reads a megabyte of each; what takes much longer than its neighbours is to be looked at.
func BenchmarkHostileInput(b *testing.B) {
	for _, tc := range dear {
		in := tc.make(1 << 20)
		b.Run(tc.name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				tc.read(in)
			}
		})
	}
}

// Each version of the text is read from the begin of the body, so that a thousand of them would cost a thousand bodies.
func TestAMessageWithAThousandTextsIsNotReadAThousandTimes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		texts  int
		footer bool
	}{{"as mail programs write it", 2, true}, {"as nobody writes it", maxTexts + 1, false}, {"a thousand", maxParts - 1, false}} {
		t.Run(tc.name, func(t *testing.T) {
			c := cabinet{}
			footer := c.part("the footer\r\n", "", "")
			o := outgoing(t, "Content-Type: multipart/alternative; boundary=b\n\n"+strings.Repeat("--b\n\nx\n", tc.texts)+"--b--\n", Additions{FooterText: &footer})
			opened := 0
			body := o.Open
			o.Open = func(ctx context.Context) (io.ReadCloser, error) { opened++; return body(ctx) }
			o, err := o.Extend(t.Context(), c.open)
			if err != nil {
				t.Fatal(err)
			}
			if opened > 2*maxTexts {
				t.Errorf("the body was opened %d times", opened)
			}
			if got := strings.Contains(read(t, o), "the footer"); got != tc.footer {
				t.Errorf("it has the footer: %v; want %v", got, tc.footer)
			}
		})
	}
}
