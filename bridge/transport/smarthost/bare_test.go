package smarthost

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// What go-smtp v0.25.0's client does alone (reliability.md section 2), shown on the bare client, so that the test of ours
// that is named cannot pass without its guard. The server's rows are in bridge/smtpd.
func TestWhatTheClientDoesAlone(t *testing.T) {
	t.Run("G11: an address may carry parameters (ours: AddressesThatCannotGo)", func(t *testing.T) {
		c, said := bareClient(t)
		c.Mail("a@contoso.test", nil)
		if err := c.Rcpt("bob@fabrikam.test> NOTIFY=NEVER", nil); err != nil {
			t.Errorf("Rcpt = %v; the client refuses by now", err)
		}
		if !strings.Contains(said(), "RCPT TO:<bob@fabrikam.test> NOTIFY=NEVER>\r\n") {
			t.Errorf("said:\n%s", said())
		}
	})
	t.Run("G12: a bare CR leaves as it is (ours: the listener takes none in, TestNoEndOfDataSplitsAMessage)", func(t *testing.T) {
		c, said := bareClient(t)
		c.Mail("a@contoso.test", nil)
		c.Rcpt("b@contoso.test", nil)
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, "one\r.\r\ntwo\r\n")
		w.Close()
		if !strings.Contains(said(), "one\r.\r\ntwo") {
			t.Errorf("said:\n%q", said())
		}
	})
	t.Run("G13: a nil response to the challenge that carries an error is success (ours: RefusedTokens)", func(t *testing.T) {
		c, _ := bareClient(t)
		if err := c.Auth(nilResponse{}); err != nil {
			t.Errorf("Auth = %v; the client says so by now", err)
		}
	})
	t.Run("G17: SendMail fails when QUIT does, after 250 to the dot (ours does not use it: EveryStepsFaults)", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if conn, err := l.Accept(); err == nil {
				answer(conn, nil)
			}
		})
		err = smtp.SendMail(l.Addr().String(), nil, "a@contoso.test", []string{"b@contoso.test"}, strings.NewReader("x\r\n"))
		l.Close()
		wg.Wait()
		if err == nil {
			t.Error("SendMail = nil; it ignores QUIT by now")
		}
	})
}

// nilResponse is a mechanism as one would write XOAUTH2 at first.
type nilResponse struct{}

func (nilResponse) Start() (string, []byte, error) { return "XOAUTH2", []byte("user=x"), nil }
func (nilResponse) Next([]byte) ([]byte, error)    { return nil, nil }

// bareClient returns the library's client before a server that takes everything but AUTH, and what it has said.
func bareClient(t *testing.T) (c *smtp.Client, said func() string) {
	mine, theirs := net.Pipe()
	var mu sync.Mutex
	var all strings.Builder
	var wg sync.WaitGroup
	wg.Go(func() {
		answer(theirs, func(s string) {
			mu.Lock()
			defer mu.Unlock()
			all.WriteString(s)
		})
	})
	t.Cleanup(func() { mine.Close(); wg.Wait() })
	return smtp.NewClient(mine), func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// answer is the server. It answers a QUIT with an error.
func answer(conn net.Conn, hear func(string)) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	text := false
	reply := func(s string) { io.WriteString(conn, s+"\r\n") }
	for reply("220 mx.test"); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if hear != nil {
			hear(line)
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case text && line == ".\r\n":
			text = false
			reply("250 2.0.0 Ok")
		case text:
		case verb == "EHLO":
			reply("250-mx.test\r\n250 AUTH XOAUTH2")
		case verb == "AUTH":
			reply("334 eyJzdGF0dXMiOiI0MDEifQ==")
		case verb == "DATA":
			text = true
			reply("354 go on")
		case verb == "QUIT":
			reply("421 4.3.2 going down")
			return
		default:
			reply("250 2.0.0 Ok")
		}
	}
}
