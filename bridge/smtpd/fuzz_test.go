package smtpd

import (
	"encoding/base64"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/bridge/envelope"
)

var (
	replyForm   = regexp.MustCompile(`^([2345])[0-9][0-9][ -]`)
	statusForm  = regexp.MustCompile(`^[0-9]{3} ([245])\.[0-9]{1,3}\.[0-9]{1,3} [ -~]*$`)
	withoutCode = regexp.MustCompile(`^(220 bridge\.contoso\.test ESMTP Postern|250[ -](bridge\.contoso\.test|PIPELINING|SIZE \d+|STARTTLS|AUTH[ =][A-Z ]+|ENHANCEDSTATUSCODES|8BITMIME|SMTPUTF8)|354 End data with <CR><LF>\.<CR><LF>|334 [A-Za-z0-9+/=]*|501 Syntax: (HELO|EHLO) hostname)$`)
)

// converse plays in to a server and returns what the server said and what the desk kept.
func converse(h *house, in string) (out string, kept []message) {
	return converseIn(h, strings.NewReader(in))
}

// converseIn is converse with a client that sends in pieces: what a Read of in gives came in one segment.
func converseIn(h *house, in io.Reader) (out string, kept []message) {
	h.desk.mu.Lock()
	h.desk.kept, h.desk.seen = nil, nil
	h.desk.mu.Unlock()
	conn := &deadConn{alive: true, in: in}
	l := newLink(h.s, h.s.o.Load(), conn, netip.MustParseAddr("127.0.0.1"))
	if !h.s.feed.push(newGuard(l, false)) {
		h.t.Fatal("the server is closed")
	}
	<-l.gone
	return conn.out.String(), h.desk.messages()
}

// checkReplies holds what is true of every dialogue: each line of the server is a reply of ours with an enhanced status
// of its class, and library and guard never disagree.
func checkReplies(t *testing.T, in, out string) {
	t.Helper()
	if !strings.HasSuffix(out, "\r\n") {
		t.Fatalf("%q: the last line has no end: %q", in, out)
	}
	for _, l := range strings.Split(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		code := replyForm.FindStringSubmatch(l)
		if code == nil {
			t.Fatalf("%q: no reply: %q", in, l)
		}
		if status := statusForm.FindStringSubmatch(l); !withoutCode.MatchString(l) && (status == nil || status[1] != code[1]) {
			t.Fatalf("%q: no enhanced status: %q", in, l)
		}
		if strings.Contains(l, "Internal error") {
			t.Fatalf("%q: library and guard disagree: %q", in, out)
		}
	}
}

func FuzzConnection(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.dialogue")
	for _, name := range files {
		if in, ok := clientSide(name); ok {
			f.Add(in, false)
			f.Add(in, true)
		}
	}
	for _, tc := range ends {
		f.Add("HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\none"+tc.end+second+"two\r\n.\r\nQUIT\r\n", true)
	}
	f.Add("EHLO x\r\nSTARTTLS\r\n\x80none\r\n", true)
	small := func(o *Options, h *house) {
		h.users.at = netip.MustParsePrefix("127.0.0.1/32")
		o.MaxMessage, o.MaxRecipients, o.LoginTimeout = 500, 5, time.Millisecond
	}
	strict := open(f, small)
	tolerant := open(f, small, func(o *Options, _ *house) {
		o.BareCR, o.CRCRLFEnd, o.PlaintextAuth, o.TLS, o.TLSConfig = true, true, true, StartTLS, serverTLS()
		o.restAfter = time.Nanosecond // before each command
	})
	f.Fuzz(func(t *testing.T, in string, tolerate bool) {
		if strings.Contains(in, "wait") {
			return // the desk would
		}
		var out string
		var kept []message
		if lines := (&lineReader{left: in}); tolerate {
			if out, kept = converseIn(tolerant, lines); !lines.rested {
				t.Fatalf("%q: the client has not rested", in)
			}
			const ready = "220 2.0.0 Ready to start TLS\r\n"
			if i := strings.Index(out, ready+"\x15\x03"); i >= 0 { // an alert, as the next line is no TLS
				out = out[:i+len(ready)]
			}
		} else {
			out, kept = converse(strict, in)
		}
		if out == "" {
			t.Fatalf("%q: no greeting", in)
		}
		checkReplies(t, in, out)
		ends := strings.Count("\r\n"+in, "\r\n.\r\n")
		if tolerate {
			ends += strings.Count(in, "\r\r\n.\r\r\n")
		}
		if len(kept) > ends {
			t.Fatalf("%q: %d messages of %d ends of data", in, len(kept), ends)
		}
		for _, m := range kept {
			checkMessage(t, in, m)
		}
	})
}

// lineReader is a client that waits for the answer to each line, and rests before it sends the next one.
type lineReader struct {
	left   string
	rested bool // a guard has waited in rest
}

func (r *lineReader) Read(b []byte) (int, error) {
	r.rested = r.rested || calledBy("smtpd.(*guard).rest")
	if r.left == "" {
		return 0, io.EOF
	}
	n := copy(b, r.left[:strings.IndexByte(r.left, '\n')+1])
	if n == 0 { // no line end follows
		n = copy(b, r.left)
	}
	r.left = r.left[n:]
	return n, nil
}

// calledBy says whether the function whose name ends so is among the callers.
func calledBy(name string) bool {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, name) || !more {
			return strings.HasSuffix(f.Function, name)
		}
	}
}

// checkMessage holds what is true of every message that the desk keeps.
func checkMessage(t *testing.T, in string, m message) {
	t.Helper()
	rest := strings.ReplaceAll(m.body, "\r\n", "")
	if strings.ContainsAny(rest, "\r\n\x00") || rest != "" && m.body[len(m.body)-2:] != "\r\n" {
		t.Fatalf("%q: the message is no CR LF lines: %q", in, m.body)
	}
	for _, a := range append([]envelope.Address{m.env.ReversePath}, m.env.Recipients...) {
		again, err := envelope.ParseAddress(a.String())
		if !a.IsNull() && (err != nil || again != a) {
			t.Fatalf("%q: address %q cannot be written again: %v", in, a, err)
		}
		if !isASCII(a.String()) && !m.env.SMTPUTF8 {
			t.Fatalf("%q: address %q without SMTPUTF8", in, a)
		}
	}
	if safeHelo(m.s.Helo) != m.s.Helo || m.s.User == "" {
		t.Fatalf("%q: helo %q, user %q", in, m.s.Helo, m.s.User)
	}
}

// clientSide returns what the client says in a transcript.
func clientSide(file string) (in string, ok bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for _, l := range strings.Split(string(b), "\n") {
		kind, arg, _ := strings.Cut(l, ":")
		arg = strings.TrimPrefix(arg, " ")
		switch kind {
		case "C":
			in += arg + "\r\n"
		case "B":
			in += base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(arg, `\0`, "\x00"))) + "\r\n"
		case "R":
			s, _ := strconv.Unquote(arg)
			in += s
		}
	}
	return in, true
}

func FuzzSASL(f *testing.F) {
	f.Add("PLAIN", "AG5hdgBzZWNyZXQ=", "")
	f.Add("plain", "", "AG5hdgBzZWNyZXQ=")
	f.Add("LOGIN", "bmF2", "c2VjcmV0")
	f.Add("LOGIN", "", "bmF2\r\nc2VjcmV0")
	f.Add("LOGIN", "=", "*")
	f.Add("PLAIN", "=", "=")
	f.Add("LOGIN", "bmF2", "c2\rVjcmV0")
	h := open(f, func(o *Options, _ *house) { o.LoginTimeout = time.Millisecond })
	f.Fuzz(func(t *testing.T, mech, initial, responses string) {
		in := "HELO x\r\nAUTH " + mech + " " + initial + "\r\n" + responses + "\r\nMAIL FROM:<a@b.test>\r\n"
		out, _ := converse(h, in)
		checkReplies(t, in, out)
		plain := mech + initial + responses
		for _, l := range strings.Fields(initial + " " + responses) {
			b, _ := base64.StdEncoding.DecodeString(l)
			plain += string(b)
		}
		if strings.Contains(out, "235 ") && !strings.Contains(plain, "secret") {
			t.Fatalf("%q: let in without the password: %q", in, out)
		}
		if strings.Contains(out, "\n250 2.1.0") && !strings.Contains(out, "\n235 ") {
			t.Fatalf("%q: MAIL without a login: %q", in, out)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"FROM:<a@b>", "from : a@b SIZE=1", `FROM:<"a> X=1,<b"@x> BODY=7BIT`, "FROM:<@a,@b:c@d>", "FROM:<>", "FROM:<a@b", `FROM:"\`, "FROM:<\"\\\"@b>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		path, params, err := parseCommand(in, "FROM")
		if err != nil {
			return
		}
		for _, p := range params {
			if !isKeyword(p.name) || strings.ContainsAny(p.value, " \t") {
				t.Errorf("%q: parameter %q", in, p)
			}
		}
		a, err := envelope.ParseAddress(path)
		if err != nil {
			return
		}
		// What was taken means the same when it is written as the standard has it.
		again, rest, err := parseCommand("FROM:<"+a.String()+"> SIZE=1", "FROM")
		if b, err2 := envelope.ParseAddress(again); err != nil || err2 != nil || a != b || len(rest) != 1 {
			t.Errorf("%q: %v is read again as %q %v (%v, %v)", in, a, again, rest, err, err2)
		}
	})
}
