package smtpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"
)

// injected is text of a message that would be a second message if it were commands.
const injected = "MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@x.test>\r\nDATA\r\nSubject: injected\r\n\r\nx\r\n.\r\n"

// probes are the defects of go-smtp v0.25.0 that were measured, each as a dialogue that shows it. A probe returns how a
// listener misbehaved, or "". Each must find the bare library guilty, so that it can fail, and us not. Rows: G of
// reliability.md section 2, S of libraries.md table 1.1, N of build-notes.md 12; rows_test.go lists them all and where those
// are that stand elsewhere. harmless marks what both do right.
var probes = []struct {
	row, name string
	knobs     knobs
	harmless  bool
	probe     func(b *lab) string
}{
	{"G1 S1", "a timeout inside DATA makes commands of the text", knobs{timeout: time.Minute}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		w.send("Subject: one\r\n\r\n")
		time.Sleep(2 * time.Minute)
		w.send("more text\r\n" + injected)
		w.listen()
		return b.victim()
	}},
	{"G2 S2", "a refused BDAT makes commands of its chunk", knobs{}, false, func(b *lab) string {
		w := b.hello()
		w.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<refused refused@d.test>\r\nBDAT " + fmt.Sprint(len(injected)) + " LAST\r\n" + injected)
		w.listen()
		return b.victim()
	}},
	{"G3", "a message that BDAT cut short is taken as whole", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.send("BDAT 100 LAST\r\nhalf of it")
		w.hangUp()
		if list := b.kept(); len(list) > 0 {
			return fmt.Sprintf("kept %q", list[0].body)
		}
		return ""
	}},
	{"G4", "between chunks a line has no limit", knobs{maxBytes: 1 << 20}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.send("BDAT 1\r\nx")
		for range 16 << 4 {
			w.send(strings.Repeat("A", 1<<16))
		}
		if w.listen() && len(w.out) == 0 {
			return "16 MB of one line were read"
		}
		return ""
	}},
	{"G5", "a timeout inside BDAT makes commands of the text", knobs{timeout: time.Minute}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.send("BDAT 1000 LAST\r\nSubject: one\r\n\r\n")
		time.Sleep(2 * time.Minute)
		w.send("more\r\n" + injected)
		w.listen()
		return b.victim()
	}},
	{"G6 S1", "a steady upload fails after one timeout in all", knobs{timeout: time.Minute}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		for range 10 {
			time.Sleep(30 * time.Second)
			w.send(strings.Repeat("steady\r\n", 1000))
		}
		return b.want(w.say("."), "250")
	}},
	{"G7 S8", "a line of 2,500 octets is refused for good", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		w.send(strings.Repeat("x", 2500) + "\r\n")
		return b.want(w.say("."), "250")
	}},
	{"G8", "an error of ours reaches the client, and is permanent", knobs{}, false, func(b *lab) string {
		w := b.open("broken@d.test")
		w.say("DATA")
		return b.want(w.say("x\r\n."), "451 4.3.0 The message cannot be taken now")
	}},
	{"G9 S11", "failed logins have no limit", knobs{}, false, func(b *lab) string {
		w := b.hello()
		for range 20 {
			if got := w.say("AUTH PLAIN AG5hdgB3cm9uZw=="); !strings.HasPrefix(got, "535 ") {
				return ""
			}
		}
		return "20 logins failed on one connection"
	}},
	{"G9 S11", "AUTH inside a message", knobs{}, false, func(b *lab) string {
		return b.want(b.open("c@d.test").say("AUTH PLAIN AG5hdgBzZWNyZXQ="), "503 5.5.1")
	}},
	{"G9 S10", "a second MAIL keeps the first one's recipients", knobs{}, false, func(b *lab) string {
		return b.want(b.open("c@d.test").say("MAIL FROM:<other@b.test>"), "503 5.5.1")
	}},
	{"G10 S13", "a quoted local part loses its quotes", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say(`RCPT TO:<"a@evil.example> X=1,<b"@x.test>`)
		w.say("DATA")
		w.say("x\r\n.")
		for _, m := range b.kept() {
			for _, to := range m.to {
				if strings.Contains(to, ">") && !strings.HasPrefix(to, `"`) {
					return "the recipient is now " + to
				}
			}
		}
		return ""
	}},
	{"G10", "controls stand in a domain", knobs{}, false, func(b *lab) string {
		return b.want(b.open("c@d.test").say("RCPT TO:<a@b\x00\xff.test>"), "50")
	}},
	{"G10", "two at signs", knobs{}, false, func(b *lab) string {
		return b.want(b.open("c@d.test").say("RCPT TO:<a@b@c.test>"), "501 5.1.3")
	}},
	{"S13", "postmaster is refused", knobs{}, false, func(b *lab) string {
		return b.want(b.open("c@d.test").say("RCPT TO:<postmaster>"), "250")
	}},
	{"G14 S3", "an idle connection survives the shutdown", knobs{}, false, func(b *lab) string {
		w := b.hello()
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		b.shutdown(ctx)
		synctest.Wait()
		if w.listen() {
			return "the connection is still open"
		}
		return ""
	}},
	{"S4", "a shutdown ends while a message is being kept", knobs{}, false, func(b *lab) string {
		w := b.open("wait@d.test")
		w.say("DATA")
		w.send("x\r\n.\r\n")
		<-b.entered
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		b.shutdown(ctx)
		synctest.Wait()
		before := len(b.kept())
		close(b.leave)
		synctest.Wait()
		if len(b.kept()) > before {
			return "a message was kept after the shutdown had ended"
		}
		return ""
	}},
	{"S5", "a bare CR and NUL reach the queue", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		w.say("one\rtwo\x00\r\n.")
		return b.onlyCRLF()
	}},
	{"S5 G12", "a bare LF reaches the queue", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		w.say("one\ntwo\r\n.")
		return b.onlyCRLF()
	}},
	{"S6", "a message that ends in CR CR LF hangs without a word", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		w.send("one\r\r\n.\r\r\n")
		if got := w.recv(); !strings.HasPrefix(got, "421 4.4.2") {
			return got
		}
		return b.says("crcrlf-end")
	}},
	{"S7 G15", "a dot and a CR at the begin of a line vanish", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		w.say("one\r\n.\rX\r\n.")
		for _, m := range b.kept() {
			return fmt.Sprintf("kept %q", m.body)
		}
		return ""
	}},
	{"G15", "STARTTLSjunk is STARTTLS", knobs{tls: true}, false, func(b *lab) string {
		return b.want(b.hello().say("STARTTLSjunk"), "500")
	}},
	{"G15", "a bare LF ends a command", knobs{}, false, func(b *lab) string {
		w := b.dial()
		w.recv()
		w.send("HELO x\n")
		return b.want(w.recv(), "500 5.5.2")
	}},
	{"G15", "a browser is answered", knobs{}, false, func(b *lab) string {
		w := b.dial()
		w.recv()
		w.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nHELO x\r\n" + injected)
		w.listen()
		return b.victim()
	}},
	{"G16 S16", "an idle client stays for ever", knobs{}, false, func(b *lab) string {
		w := b.hello()
		if got := w.recv(); got == "silence" {
			return "after a day it is still connected"
		}
		return ""
	}},
	{"G16 S16", "connections have no limit", knobs{}, false, func(b *lab) string {
		for range 250 {
			if got := b.dial().recv(); !strings.HasPrefix(got, "220") {
				return ""
			}
		}
		return "250 clients were greeted"
	}},
	{"G16", "a message has no limit", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		for range 40 {
			w.send(strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1000))
		}
		return b.want(w.say("."), "552 5.3.4")
	}},
	{"S9", "CHUNKING is announced", knobs{}, false, func(b *lab) string {
		w := b.dial()
		w.recv()
		if got := w.say("EHLO x"); strings.Contains(got, "CHUNKING") {
			return got
		}
		return ""
	}},
	{"S12", "an error of ours at AUTH reaches the client", knobs{}, false, func(b *lab) string {
		return b.want(b.hello().say("AUTH PLAIN AHVucmVhY2hhYmxlAHB3"), "454 4.7.0 Temporary authentication failure")
	}},
	{"S12", "bad base64 is a temporary failure", knobs{}, false, func(b *lab) string {
		return b.want(b.hello().say("AUTH PLAIN !!!"), "501 5.5.2")
	}},
	{"S14", "a size beyond 32 bits is a syntax error", knobs{maxBytes: 1 << 40}, false, func(b *lab) string {
		return b.want(b.hello().say("MAIL FROM:<a@b.test> SIZE=5000000000"), "250")
	}},
	{"S18", "250 does not say as what a message is queued", knobs{}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		return b.want(w.say("x\r\n."), "250 2.0.0 Ok: queued as 0123456789abcdef")
	}},
	{"N (f)", "a message of exactly the limit is refused", knobs{maxBytes: 20}, false, func(b *lab) string {
		w := b.open("c@d.test")
		w.say("DATA")
		return b.want(w.say(strings.Repeat("x", 18)+"\r\n."), "250")
	}},
	{"G10", "a recipient that is not ASCII needs no SMTPUTF8", knobs{}, false, func(b *lab) string {
		return b.want(b.open("c@d.test").say("RCPT TO:<j\u00fcrgen@d.test>"), "553 5.6.7")
	}},
	{"S13", "a sender without a domain is refused", knobs{}, false, func(b *lab) string {
		return b.want(b.hello().say("MAIL FROM:<root>"), "250")
	}},
	{"S8", "without a limit for text a command has none either", knobs{anyLine: true}, false, func(b *lab) string {
		w := b.hello()
		for range 16 << 4 {
			w.send(strings.Repeat("A", 1<<16))
		}
		if w.listen() && len(w.out) == 0 {
			return "16 MB of one command were read"
		}
		return ""
	}},
	{"S11", "who has not logged in may send", knobs{login: true}, false, func(b *lab) string {
		return b.want(b.hello().say("MAIL FROM:<a@b.test>"), "530 5.7.0")
	}},
	{"G16", "recipients have no limit", knobs{}, false, func(b *lab) string {
		w := b.open("0@d.test")
		for i := range 1001 {
			if got := w.say(fmt.Sprintf("RCPT TO:<%d@d.test>", i+1)); !strings.HasPrefix(got, "250") {
				return ""
			}
		}
		return "1,002 recipients were taken"
	}},
	{"S19", "errors have no limit", knobs{}, true, func(b *lab) string {
		w := b.hello()
		for range 20 {
			if w.say("NONSENSE") == "closed" {
				return ""
			}
		}
		return "20 commands were nonsense on one connection"
	}},
	{"ok", "a panic behind a command ends more than its connection", knobs{}, true, func(b *lab) string {
		w := b.open("panic@d.test")
		w.say("DATA")
		w.say("x\r\n.")
		return b.want(b.hello().say("NOOP"), "250")
	}},
	{"N", "QUIT with a blank after it is refused", knobs{}, false, func(b *lab) string {
		return b.want(b.hello().say("QUIT "), "221")
	}},
	{"ok", "the ends of data that are none", knobs{}, true, func(b *lab) string {
		for _, e := range ends {
			w := b.open("c@d.test")
			w.say("DATA")
			w.send("one" + e.end + injected[:len(injected)-len(".\r\n")])
			w.say(".")
			if v := b.victim(); v != "" {
				return e.name + ": " + v
			}
		}
		return ""
	}},
	{"ok S20", "commands in clear text with STARTTLS", knobs{tls: true}, true, func(b *lab) string {
		w := b.hello()
		w.send("STARTTLS\r\nEHLO x\r\n" + injected)
		w.recv()
		w.secure()
		w.listen()
		return b.victim()
	}},
}

func TestWhatTheLibraryDoesAlone(t *testing.T) {
	for _, p := range probes {
		t.Run(strings.ReplaceAll(p.row, " ", ",")+" "+p.name, func(t *testing.T) {
			bare(t, p.knobs, func(b *lab) {
				if got := p.probe(b); (got == "") != p.harmless {
					b.t.Errorf("the bare library misbehaves: %q; want misbehaviour: %v. Either the library has changed or the probe sees nothing", got, !p.harmless)
				}
			})
		})
	}
}

func TestWhatTheGuardMends(t *testing.T) {
	for _, p := range probes {
		t.Run(strings.ReplaceAll(p.row, " ", ",")+" "+p.name, func(t *testing.T) {
			ours(t, p.knobs, func(b *lab) {
				if got := p.probe(b); got != "" {
					b.t.Errorf("%s\n%s", got, b.log())
				}
			})
		})
	}
}

// victim says whether the message that stood in a text was kept as one of its own.
func (b *lab) victim() string {
	for _, m := range b.kept() {
		if m.from == "evil@x.test" || strings.Contains(strings.Join(m.to, " "), "victim@") {
			return fmt.Sprintf("the text became a message from %s to %v", m.from, m.to)
		}
	}
	return ""
}

func (b *lab) want(got, prefix string) string {
	if strings.HasPrefix(got, prefix) {
		return ""
	}
	return fmt.Sprintf("the reply is %q; want %q", got, prefix)
}

func (b *lab) says(text string) string {
	synctest.Wait()
	if strings.Contains(b.log(), text) {
		return ""
	}
	return "the log does not say " + text
}

func (b *lab) onlyCRLF() string {
	for _, m := range b.kept() {
		if strings.ContainsAny(strings.ReplaceAll(m.body, "\r\n", ""), "\r\n\x00") {
			return fmt.Sprintf("kept %q", m.body)
		}
	}
	return ""
}

// listen reads whatever is said for half a minute, and reports whether the connection is still open then.
func (w *wire) listen() bool {
	w.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		if _, err := w.in.ReadString('\n'); err != nil {
			return isTimeout(err)
		}
	}
}

// N (e): write errors are ignored, so that the library goes on with what a client has sent that never saw a reply.
func TestAWriteErrorEndsTheSessionOfOursAlone(t *testing.T) {
	in := "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\ntext\r\n.\r\n"
	l := &pipes{make(chan net.Conn, 1), make(chan struct{})}
	be := &plainBackend{}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &plainSession{be: be}, nil }))
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	l.conns <- &deadConn{in: strings.NewReader(in)}
	for len(be.messages()) == 0 { // at once, or the test runs into its limit
		runtime.Gosched()
	}
	s.Shutdown(t.Context()) // waits for its goroutines, which Close does not
	<-done

	h := open(t, func(_ *Options, h *house) { h.users.at = netip.MustParsePrefix("127.0.0.1/32") })
	link := newLink(h.s, h.s.o.Load(), &deadConn{in: strings.NewReader(in)}, netip.MustParseAddr("127.0.0.1"))
	h.s.feed.push(newGuard(link, false))
	<-link.gone
	if m := h.desk.messages(); len(m) != 0 {
		t.Errorf("a client that never saw a reply has sent %v", m)
	}
}

// S17: Debug writes what a client says, passwords too. Ours leaves it nil: TheLibraryHasNoLimitOfItsOwn.
func TestDebugOfTheBareLibraryPrintsPasswords(t *testing.T) {
	var said strings.Builder
	l := &pipes{make(chan net.Conn, 1), make(chan struct{})}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &plainSession{}, nil }))
	s.Debug, s.AllowInsecureAuth, s.ErrorLog = &said, true, log.New(io.Discard, "", 0)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	mine, theirs := net.Pipe()
	l.conns <- theirs
	c := wire{conn: mine, in: bufio.NewReader(mine), out: make(chan string, 10)}
	c.recv()
	for _, l := range []string{"EHLO x", "AUTH PLAIN AG5hdgBzZWNyZXQ="} {
		fmt.Fprint(mine, l+"\r\n")
		c.recv()
	}
	mine.Close()
	s.Shutdown(t.Context()) // waits for its goroutines, which Close does not
	<-done
	if !strings.Contains(said.String(), "AG5hdgBzZWNyZXQ=") {
		t.Errorf("it prints %q", &said)
	}
}

// S15: Logout is called outside of any recover. The bare library would take the whole process down, so that it is tried
// in one of its own; our Logout does nothing.
func TestAPanicInLogoutEndsTheProcessOfTheBareLibrary(t *testing.T) {
	const name = "POSTERN_LOGOUT_PANICS"
	if os.Getenv(name) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), name+"=1")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), "panic: logout") {
			t.Errorf("the process ended with %v:\n%s", err, out)
		}
		return
	}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return panicsAtLogout{}, nil }))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "HELO x\r\nQUIT\r\n")
	select {} // until the process ends
}

type panicsAtLogout struct{ bareSession }

func (panicsAtLogout) Logout() error { panic("logout") }
