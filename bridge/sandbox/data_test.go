package sandbox

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
)

// FuzzReadData compares the reader with the one sentence of RFC 5321 section 4.1.1.4: data ends at CRLF.CRLF, and a dot
// that begins another line is removed.
func FuzzReadData(f *testing.F) {
	for _, seed := range []string{".\r\n", "\r\n.\r\n", "x\r\n.\r\nQUIT\r\n", "x\n.\n\r\n.\r\n", "..\r\n.x\r\n.\r\n", "\r\r\n.\r\r\n.\r\n", ".\n.\r\n\r\n.\r\n", "x\r\n.\r"} {
		f.Add([]byte(seed))
	}
	client, server := net.Pipe() // only for its deadlines
	f.Cleanup(func() { _, _ = client.Close(), server.Close() })
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &session{s: &Sandbox{step: func(Where) {}}, conn: server, r: bufio.NewReaderSize(bytes.NewReader(in), 16), tx: &transaction{}}
		err := c.readData()
		text, rest, ok := strings.Cut("\r\n"+string(in), "\r\n.\r\n")
		if ok != (err == nil) {
			t.Fatalf("%q: %v, want an end: %v", in, err, ok)
		}
		if !ok {
			return
		}
		// The CRLF that begins the end belongs to the text; the one that was put before it does not.
		want := strings.TrimPrefix(strings.ReplaceAll(text+"\r\n", "\r\n.", "\r\n"), "\r\n")
		if got := c.tx.raw.String(); got != want {
			t.Errorf("%q: text %q, want %q", in, got, want)
		}
		left := new(bytes.Buffer)
		_, _ = left.ReadFrom(c.r) // memory does not fail
		if left.String() != rest {
			t.Errorf("%q: left %q, want %q", in, left, rest)
		}
		bare := strings.ContainsAny(strings.ReplaceAll(want, "\r\n", ""), "\r\n")
		if c.tx.bare != bare {
			t.Errorf("%q: bare %v, want %v", in, c.tx.bare, bare)
		}
	})
}

func FuzzCutPath(f *testing.F) {
	for _, seed := range []string{"FROM:<a@b> SIZE=1", `FROM:<"a>b"@c>`, `from:<"\">"@c> X`, "FROM:<", "FROM:<>", "FROM:<a>b", "FROM: <a>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		path, _, ok := cutPath(arg, "FROM:")
		if ok && !strings.HasPrefix(arg[5:], "<"+path+">") {
			t.Errorf("%q: path %q", arg, path)
		}
	})
}
