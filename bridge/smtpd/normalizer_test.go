package smtpd

import (
	"bytes"
	"strings"
	"testing"
)

// normalise is what the desk would read of one text, and what of in is left; done is false where it does not end. It takes
// in in pieces of the given size.
func normalise(in []byte, o Options, piece int) (n *normalizer, out, rest []byte, done bool) {
	n = new(normalizer)
	n.reset(o)
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
	f.Add(strings.Repeat("x", 300)+"\r\n\tx\r\n.\nx\r\n.\r\n", uint8(255))
	f.Add(strings.Repeat("x", 127)+"\nx\x00\r\n.\r\n", uint8(255))
	f.Fuzz(func(t *testing.T, in string, piece uint8) {
		if strings.Contains(in, "\x01") {
			return // the reference's own mark
		}
		n, out, rest, done := normalise([]byte(in), Options{MaxMessage: 1 << 20}, int(piece)+1)
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

// A refused text is read on to its end, which may be 64 MB away: that must cost nothing but the reading.
func TestTheRestOfARefusedTextAllocatesNothing(t *testing.T) {
	for _, tc := range []struct{ name, line string }{
		{"empty lines", "\r\n"}, {"bare LF", "\n"}, {"bare CR", "\r"}, {"NUL", "\x00"}, {"dots", ".\n"}, {"a line without end", "xxxx"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := new(normalizer)
			n.reset(Options{MaxMessage: 10})
			in := []byte(strings.Repeat(tc.line, 1<<20/len(tc.line)))
			n.take([]byte("a message of more than ten octets\r\n"))
			if got := testing.AllocsPerRun(2, func() { n.take(in) }); got > 10 {
				t.Errorf("a megabyte of it makes %.0f allocations", got)
			}
		})
	}
}

// tolerated are texts in which the two switches make a difference.
var tolerated = []struct {
	name, in  string
	bareCR    string // what comes out with bare-cr; "" where it does not end
	crcrlfEnd string // with crcrlf-end; "refused"
	left      string // octets after the end with crcrlf-end
}{
	{"text mode, with its dot", "one\r\r\ntwo\r\r\n.\r\r\nRSET\r\n.\r\n", "one\r\ntwo\r\n..\r\nRSET\r\n.\r\n", "one\r\ntwo\r\n.\r\n", "RSET\r\n.\r\n"},
	{"text mode, with a raw dot", "one\r\r\n\r\n.\r\n", "one\r\n\r\n.\r\n", "one\r\n\r\n.\r\n", ""},
	{"a dot between CR CR LF and CR LF", "one\r\r\n.\r\ntwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", ""},
	{"a dot between CR LF and CR CR LF", "one\r\n.\r\r\ntwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", ""},
	{"a dot between CR CR LF and LF", "one\r\r\n.\ntwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", ""},
	{"a dot with more after it", "one\r\r\n.two\r\n.\r\n", "one\r\n..two\r\n.\r\n", "one\r\n..two\r\n.\r\n", ""},
	{"an old Macintosh", "one\rtwo\r.\rthree\r\n.\r\n", "one\r\ntwo\r\n..\r\nthree\r\n.\r\n", "refused", ""},
	{"a CR in a line", "one\rtwo\r\n.\r\n", "one\r\ntwo\r\n.\r\n", "refused", ""},
	{"two CR", "one\r\rtwo\r\n.\r\n", "one\r\n\r\ntwo\r\n.\r\n", "refused", ""},
	{"three CR before LF", "one\r\r\r\n.\r\n.\r\n", "one\r\n\r\n..\r\n.\r\n", "refused", ""},
	{"a dot after CR CR LF and one CR", "one\r\r\n.\rtwo\r\n.\r\n", "one\r\n..\r\ntwo\r\n.\r\n", "refused", ""},
	{"a dot after CR CR LF and two CR", "one\r\r\n.\r\rtwo\r\n.\r\n", "one\r\n..\r\n\r\ntwo\r\n.\r\n", "refused", ""},
	{"CR before CR LF dot CR LF", "one\r\r\n\r.\r\n.\r\n", "one\r\n\r\n..\r\n.\r\n", "refused", ""},
}

func TestTolerance(t *testing.T) {
	for _, tc := range tolerated {
		t.Run(tc.name, func(t *testing.T) {
			for piece := 1; piece < 4; piece++ {
				n, out, rest, done := normalise([]byte(tc.in), Options{MaxMessage: 1000, BareCR: true}, piece)
				if !done || n.refusal != nil || string(out) != tc.bareCR || len(rest) > 0 {
					t.Errorf("with bare-cr: %q, refused %v, rest %q; want %q", out, n.refusal, rest, tc.bareCR)
				}
				n, out, rest, done = normalise([]byte(tc.in), Options{MaxMessage: 1000, CRCRLFEnd: true}, piece)
				if n.refusal != nil {
					out = []byte("refused")
				}
				if !done || string(out) != tc.crcrlfEnd || string(rest) != tc.left {
					t.Errorf("with crcrlf-end: %q, rest %q; want %q and %q", out, rest, tc.crcrlfEnd, tc.left)
				}
			}
		})
	}
}

// FuzzTolerance holds what the switches must not change: what the library reads has one end, at its end, and no line end
// but CR LF; and the text ends where CR LF . CR LF stands, or with crcrlf-end CR CR LF . CR CR LF, and nowhere else.
func FuzzTolerance(f *testing.F) {
	for _, tc := range tolerated {
		f.Add(tc.in, uint8(2), uint8(3))
	}
	for _, tc := range ends {
		f.Add("one"+tc.end+"two\r\n.\r\nrest", uint8(3), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in string, piece, switches uint8) {
		o := Options{MaxMessage: 1 << 20, BareCR: switches&1 != 0, CRCRLFEnd: switches&2 != 0}
		n, out, rest, done := normalise([]byte(in), o, int(piece)+1)
		if !done {
			return
		}
		taken := "\r\n" + in[:len(in)-len(rest)]
		if !strings.HasSuffix(taken, "\r\n.\r\n") && !(o.CRCRLFEnd && strings.HasSuffix(taken, "\r\r\n.\r\r\n")) {
			t.Fatalf("%q %+v: ends at %q", in, o, taken)
		}
		if i := bytes.Index(append([]byte("\r\n"), out...), []byte("\r\n.\r\n")); i != len(out)-3 {
			t.Fatalf("%q %+v: the library sees an end at %d of %q", in, o, i, out)
		}
		if n.refusal == nil && bytes.ContainsAny(bytes.ReplaceAll(out, []byte("\r\n"), nil), "\r\n\x00") {
			t.Fatalf("%q %+v: gives %q", in, o, out)
		}
		if o.BareCR && n.refusal != nil && !strings.Contains(in, "\x00") && len(in) < maxText {
			t.Fatalf("%q: refused with bare-cr: %v", in, n.refusal)
		}
	})
}
