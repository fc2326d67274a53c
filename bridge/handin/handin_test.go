package handin

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postern/bridge/certificate/certificatetest"
)

// What a transcript begins with. Lines of a transcript:
//
//	S: text  the listener says the line
//	C: text  the client says it, exactly
//	T: name  the client brings TLS up, and asks for that name
//	E:       the client's context ends
//	X:       the listener hangs up
//
// After the last the client says nothing, and hangs up.
const (
	greeted   = "S: 220 mail.contoso.test ESMTP\n"
	hello     = "C: EHLO localhost\nS: 250-mail.contoso.test\nS: 250 AUTH PLAIN\n"
	login     = "C: AUTH PLAIN AG5hdgBzZWNyZXQ=\n"
	entered   = greeted + hello + login + "S: 235 2.7.0 welcome\n"
	addressed = entered + "C: MAIL FROM:<nav@contoso.test>\nS: 250 ok\nC: RCPT TO:<a@example.test>\nS: 250 ok\n"
	dotted    = addressed + "C: DATA\nS: 354 go on\nC: Subject: s\nC: \nC: x\nC: .\n"
	parted    = "C: QUIT\nS: 221 bye\n"
)

// hand is a message, and the listener that it is handed in to.
type hand struct {
	tls    string
	from   string   // "": nav@contoso.test
	to     []string // none: a@example.test
	text   io.Reader
	script string
}

// in plays the script and hands the message in. The listener's address is ADDRESS in the error's text.
func (h hand) in(t *testing.T) (reply, said string, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, end := context.WithTimeout(t.Context(), time.Minute) // a net under a script that does not end
	defer end()
	config := serverTLS(t)
	played := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = play(conn, h.script, config, end)
		}
		played <- err
	}()
	d := Door{Address: l.Addr().String(), TLS: h.tls, Hostname: "mail.contoso.test", User: "nav", Password: "secret"}
	if h.from == "" {
		h.from = "nav@contoso.test"
	}
	if h.to == nil {
		h.to = []string{"a@example.test"}
	}
	if h.text == nil {
		h.text = strings.NewReader("Subject: s\r\n\r\nx\r\n")
	}
	reply, err = d.HandIn(ctx, h.from, h.to, h.text)
	l.Close()
	if wrong := <-played; wrong != nil {
		t.Errorf("the listener: %v\nthe client: %q, %v", wrong, reply, err)
	}
	if err != nil {
		said = strings.ReplaceAll(err.Error(), d.Address, "ADDRESS")
	}
	return reply, said, err
}

// play is the listener of one connection.
func play(conn net.Conn, script string, config *tls.Config, end func()) error {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for line := range strings.Lines(script) {
		kind, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		text = strings.TrimPrefix(text, " ")
		switch kind {
		case "S":
			if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
				return err
			}
		case "C":
			if got, err := r.ReadString('\n'); got != text+"\r\n" {
				return fmt.Errorf("heard %q (%v); want %q", got, err, text)
			}
		case "T":
			secured := tls.Server(conn, config)
			if err := secured.Handshake(); err != nil {
				return err
			}
			if got := secured.ConnectionState().ServerName; got != text {
				return fmt.Errorf("asked for %q; want %q", got, text)
			}
			conn, r = secured, bufio.NewReader(secured)
		case "E":
			end()
		case "X":
			return nil
		default:
			return fmt.Errorf("no such line: %q", line)
		}
	}
	if got, err := r.ReadString('\n'); got != "" || err == nil {
		return fmt.Errorf("the client goes on: %q", got)
	}
	return nil
}

// serverTLS has a certificate that nobody would trust, for another host.
func serverTLS(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{
		Certificate: [][]byte{certificatetest.Certificate(t, key, 1).Raw}, PrivateKey: key}}}
}

func TestHandIn(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hand  hand
		reply string
	}{
		{"the reply to the final dot comes back without its code", hand{script: dotted + "S: 250 2.0.0 queued as 7K\n" + parted}, "2.0.0 queued as 7K"},
		{"the lines of a longer reply come back as lines", hand{script: dotted + "S: 250-2.0.0 taken\nS: 250 queued as 7K\n" + parted}, "2.0.0 taken\nqueued as 7K"},
		{"what is taken stays so where the listener hangs up then", hand{script: dotted + "S: 250 ok\nC: QUIT\nX:\n"}, "ok"},
		{"dots at line starts are stuffed, and a bare LF becomes CRLF",
			hand{text: strings.NewReader("Subject: s\n\n.\n..\r\n.x\r\nx.\r\n."),
				script: addressed + "C: DATA\nS: 354 go on\nC: Subject: s\nC: \nC: ..\nC: ...\nC: ..x\nC: x.\nC: ..\nC: .\nS: 250 ok\n" + parted}, "ok"},
		{"each recipient is said", hand{to: []string{"a@example.test", "b"},
			script: addressed + "C: RCPT TO:<b>\nS: 250 ok\nC: DATA\nS: 354 go on\nC: Subject: s\nC: \nC: x\nC: .\nS: 250 ok\n" + parted}, "ok"},
		{"STARTTLS comes before the login, and another EHLO between them", hand{tls: "starttls",
			script: greeted + hello + "C: STARTTLS\nS: 220 go on\nT: mail.contoso.test\n" + strings.TrimPrefix(dotted, greeted) + "S: 250 ok\n" + parted}, "ok"},
		{"implicit TLS comes before the greeting", hand{tls: "implicit", script: "T: mail.contoso.test\n" + dotted + "S: 250 ok\n" + parted}, "ok"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if reply, _, err := tc.hand.in(t); reply != tc.reply || err != nil {
				t.Errorf("HandIn = %q, %v; want %q", reply, err, tc.reply)
			}
		})
	}
}

func TestHandInIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		hand hand
		code int
		says string
	}{
		{"a login, which net/smtp breaks off and parts after", hand{script: greeted + hello + login + "S: 535 5.7.8 wrong password\nC: *\nS: 501 broken off\n" + parted},
			535, "535 5.7.8 wrong password"},
		{"STARTTLS", hand{tls: "starttls", script: greeted + hello + "C: STARTTLS\nS: 454 4.7.0 no certificate\n"}, 454, "454 4.7.0 no certificate"},
		{"the reverse-path", hand{from: "x y", script: entered + "C: MAIL FROM:<x y>\nS: 501 5.1.7 bad sender\n"}, 501, "501 5.1.7 bad sender"},
		{"a recipient, which is named, and nobody gets the message", hand{to: []string{"a@example.test", "b@example.test"},
			script: addressed + "C: RCPT TO:<b@example.test>\nS: 550 5.1.1 unknown\n"}, 550, "recipient b@example.test: 550 5.1.1 unknown"},
		{"a recipient, in lines that come to stand behind one another",
			hand{script: strings.TrimSuffix(addressed, "S: 250 ok\n") + "S: 450-4.2.1 not now;\nS: 450 4.2.1 later\n"},
			450, "recipient a@example.test: 450 4.2.1 not now; 4.2.1 later"},
		{"DATA", hand{script: addressed + "C: DATA\nS: 452 4.3.1 full\n"}, 452, "452 4.3.1 full"},
		{"DATA, which is answered by another code than 354", hand{script: addressed + "C: DATA\nS: 250 ok\n"}, 250, "250 ok"},
		{"the message, which is answered by another code than 250", hand{script: dotted + "S: 252 perhaps\n"}, 252, "252 perhaps"},
		{"the message, for now", hand{script: dotted + "S: 451 4.3.0 try again\n"}, 451, "451 4.3.0 try again"},
		{"the message, for good", hand{script: dotted + "S: 554-5.6.0 not\nS: 554 5.6.0 this one\n"}, 554, "554 5.6.0 not 5.6.0 this one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reply, said, err := tc.hand.in(t)
			var refused *Refusal
			if reply != "" || !errors.As(err, &refused) || refused.Code != tc.code || said != tc.says {
				t.Errorf("HandIn = %q, %v; want %d, as %q", reply, err, tc.code, tc.says)
			}
			if errors.Is(err, ErrUnreachable) {
				t.Errorf("HandIn = %v, which is ErrUnreachable though the listener has greeted", err)
			}
		})
	}
}

func TestHandInCannotReach(t *testing.T) {
	for _, tc := range []struct {
		name string
		hand hand
		is   error // beyond ErrUnreachable
		says string
	}{
		{"a listener that hangs up without a greeting", hand{script: "X:\n"}, io.EOF, ": EOF"},
		{"a listener that greets with a refusal", hand{script: "S: 421-4.3.2 too many\nS: 421 4.3.2 sessions\n"}, nil, ": 421 4.3.2 too many 4.3.2 sessions"},
		{"a listener that breaks off where TLS comes first", hand{tls: "implicit", script: "X:\n"}, nil, ""},
		{"a listener that does not greet before the context ends", hand{tls: "implicit", script: "T: mail.contoso.test\nE:\n"}, os.ErrDeadlineExceeded, "i/o timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, said, err := tc.hand.in(t)
			if !errors.Is(err, ErrUnreachable) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("HandIn = %v; want ErrUnreachable and %v", err, tc.is)
			}
			if !strings.HasPrefix(said, "the listener on ADDRESS cannot be reached: ") || !strings.HasSuffix(said, tc.says) {
				t.Errorf("HandIn = %v; want %q at its end", err, tc.says)
			}
		})
	}
	t.Run("a listener that is not there", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = Door{Address: l.Addr().String()}.HandIn(t.Context(), "a@example.test", []string{"b@example.test"}, strings.NewReader(""))
		if want := "the listener on " + l.Addr().String() + " cannot be reached: dial tcp "; !errors.Is(err, ErrUnreachable) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("HandIn = %v; want ErrUnreachable and %q", err, want)
		}
	})
}

// TestHandInBreaksOff: none of these is a refusal, and none a listener that is not there.
func TestHandInBreaksOff(t *testing.T) {
	torn := errors.New("torn")
	for _, tc := range []struct {
		name string
		hand hand
		is   error
		says string
	}{
		{"a context that ends before the login is answered", hand{script: greeted + hello + login + "E:\n"}, os.ErrDeadlineExceeded, "i/o timeout"},
		{"a context that ends before the final dot is answered", hand{script: dotted + "E:\n"}, os.ErrDeadlineExceeded, "i/o timeout"},
		{"a context that ends behind TLS", hand{tls: "implicit", script: "T: mail.contoso.test\n" + dotted + "E:\n"}, os.ErrDeadlineExceeded, "i/o timeout"},
		{"a listener that hangs up", hand{script: entered + "C: MAIL FROM:<nav@contoso.test>\nX:\n"}, io.EOF, "EOF"},
		{"a text that cannot be read to its end gets no final dot",
			hand{text: io.MultiReader(strings.NewReader("Subject: s\r\n\r\nhalf\r\n"), iotest.ErrReader(torn)), script: addressed + "C: DATA\nS: 354 go on\n"}, torn, "torn"},
		{"a listener that asks for more than a password", hand{script: greeted + hello + login + "S: 334 \nC: *\nS: 501 broken off\n" + parted},
			nil, "the listener asks for more than a password"},
		{"a reverse-path that would be a command too is not said", hand{from: "a@example.test>\r\nRCPT TO:<b@example.test", script: entered},
			nil, "smtp: A line must not contain CR or LF"},
		{"a recipient that would be a command too is not said", hand{to: []string{"a@example.test", "b\nDATA"}, script: addressed},
			nil, "recipient b\nDATA: smtp: A line must not contain CR or LF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reply, said, err := tc.hand.in(t)
			if reply != "" || err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.HasSuffix(said, tc.says) {
				t.Fatalf("HandIn = %q, %v; want %q at its end", reply, err, tc.says)
			}
			var refused *Refusal
			if errors.As(err, &refused) || errors.Is(err, ErrUnreachable) {
				t.Errorf("HandIn = %v, which is a refusal or ErrUnreachable", err)
			}
			if strings.Contains(said, "secret") || strings.Contains(said, "AG5hdgBzZWNyZXQ=") {
				t.Errorf("the error has the password in it: %v", err)
			}
		})
	}
}
