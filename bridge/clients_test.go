package bridge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/sandbox"
)

// job is one message for a real client to send.
type job struct {
	host, port, user, password string
	from, to, subject, file    string // file is the attachment
}

// env hands the job to a script.
func (j job) env() []string {
	return append(os.Environ(), "HOST="+j.host, "PORT="+j.port, "USER_NAME="+j.user, "PASSWORD="+j.password,
		"FROM="+j.from, "TO="+j.to, "SUBJECT="+j.subject, "ATTACHMENT="+j.file)
}

func (j job) server() string { return net.JoinHostPort(j.host, j.port) }

// eml is the message for clients that send a file as it is.
func (j job) eml() string {
	return "From: " + mime.QEncoding.Encode("utf-8", "Buchhaltung Größe") + " <" + j.from + ">\r\n" +
		"To: " + mime.QEncoding.Encode("utf-8", "Jürgen Müller") + " <" + j.to + ">\r\n" +
		"Subject: " + mime.BEncoding.Encode("utf-8", j.subject) + "\r\n" +
		"X-Odd :  kept   as it is\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße.\r\n.\r\n..\r\n" +
		"--b\r\nContent-Type: application/pdf; name=\"r.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjcK\r\n--b--\r\n"
}

// client is a program that is not ours. command returns it with its standard input set.
type client struct {
	name, needs string
	anonymous   bool
	command     func(t *testing.T, j job) *exec.Cmd
}

var clients = []client{
	{name: "swaks, AUTH PLAIN", needs: "swaks", command: func(_ *testing.T, j job) *exec.Cmd { return swaks(j, "PLAIN") }},
	{name: "swaks, AUTH LOGIN", needs: "swaks", command: func(_ *testing.T, j job) *exec.Cmd { return swaks(j, "LOGIN") }},
	{name: "swaks, no AUTH", needs: "swaks", anonymous: true, command: func(_ *testing.T, j job) *exec.Cmd { return swaks(j, "") }},
	{name: "Python smtplib", needs: "python3", command: func(_ *testing.T, j job) *exec.Cmd {
		return script(j, "python3", "testdata/clients/with_smtplib.py")
	}},
	{name: "msmtp", needs: "msmtp", command: func(t *testing.T, j job) *exec.Cmd {
		secret := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(secret, []byte(j.password), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("msmtp", "--host="+j.host, "--port="+j.port, "--auth=plain", "--tls=off", "--user="+j.user,
			"--passwordeval=cat "+secret, "--from="+j.from, j.to)
		cmd.Stdin = strings.NewReader(j.eml())
		return cmd
	}},
	{name: "s-nail", needs: "s-nail", command: func(_ *testing.T, j job) *exec.Cmd {
		cmd := exec.Command("s-nail", "-:/", "-Sv15-compat", "-Sttycharset=utf-8", "-Ssendcharsets=utf-8", "-Ssendwait",
			"-Smta=smtp://"+url.UserPassword(j.user, j.password).String()+"@"+j.server(), "-Ssmtp-config=-starttls", "-Ssmtp-auth=login",
			"-Sfrom=Buchhaltung Größe <"+j.from+">", "-r", j.from, "-s", j.subject, "-a", j.file, j.to)
		cmd.Stdin = strings.NewReader("Grüße aus der Buchhaltung.\n.\nEine Zeile mit Punkt steht darüber.\n")
		return cmd
	}},
	{name: "mutt", needs: "mutt", command: func(t *testing.T, j job) *exec.Cmd {
		rc := filepath.Join(t.TempDir(), "muttrc") // as an administrator has it: the password is in the file
		text := "set smtp_url=smtp://" + j.user + "@" + j.server() + "/ smtp_pass='" + j.password + "' smtp_authenticators=plain\n" +
			"set ssl_starttls=no ssl_force_tls=no copy=no charset=utf-8 realname='Buchhaltung Größe' from=" + j.from + "\n" +
			"set use_from=yes use_envelope_from=yes envelope_from_address=" + j.from + "\n"
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("mutt", "-n", "-F", rc, "-s", j.subject, "-a", j.file, "--", j.to)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		cmd.Stdin = strings.NewReader("Grüße aus der Buchhaltung.\n.\nEine Zeile mit Punkt steht darüber.\n")
		return cmd
	}},
	{name: "curl", needs: "curl", command: func(_ *testing.T, j job) *exec.Cmd {
		return exec.Command("curl", "--silent", "--show-error", "smtp://"+j.server()+"/client.test", "--user", j.user+":"+j.password,
			"--mail-from", j.from, "--mail-rcpt", j.to,
			"-H", "From: "+mime.QEncoding.Encode("utf-8", "Buchhaltung Größe")+" <"+j.from+">", "-H", "To: "+j.to,
			"-H", "Subject: "+mime.QEncoding.Encode("utf-8", j.subject), "-F", "=Grüße aus der Buchhaltung.;type=text/plain; charset=utf-8",
			"-F", "=@"+j.file+";encoder=base64")
	}},
	{name: "nodemailer", needs: "node", command: func(_ *testing.T, j job) *exec.Cmd {
		cmd := script(j, "node", "testdata/clients/nodemailer.js")
		cmd.Env = append(cmd.Env, "NODE_PATH="+nodeModules())
		return cmd
	}},
	{name: "PHPMailer", needs: "php", command: func(_ *testing.T, j job) *exec.Cmd {
		return script(j, "php", "testdata/clients/phpmailer.php")
	}},
}

func swaks(j job, auth string) *exec.Cmd {
	args := []string{"--server", j.host, "--port", j.port, "--from", j.from, "--to", j.to, "--silent", "2", "--timeout", "30",
		"--h-From", "Buchhaltung Größe <" + j.from + ">", "--h-Subject", j.subject,
		"--body", "Grüße aus der Buchhaltung.\n.\nEine Zeile mit Punkt steht darüber.\n", "--attach-type", "application/pdf", "--attach", "@" + j.file}
	if auth != "" {
		args = append(args, "--auth", auth, "--auth-user", j.user, "--auth-password", j.password)
	}
	return exec.Command("swaks", args...)
}

func script(j job, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = j.env()
	return cmd
}

func nodeModules() string {
	dir := os.Getenv("POSTERN_NODE_MODULES")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "postern-node")
	}
	return filepath.Join(dir, "node_modules")
}

// needs skips on a contributor's machine where a program is missing, and fails in CI.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing; .ci/install installs it", program)
	}
	t.Skipf("%s is missing; .ci/install installs it", program)
}

// TestClients lets programs that are not ours deliver a message with an attachment and non-ASCII header fields through
// each transport. What arrives is byte for byte what they wrote on the wire, but for the header fields that policy names.
func TestClients(t *testing.T) {
	w := newWorld(t, worldOptions{})
	file := filepath.Join(t.TempDir(), "rechnung.pdf")
	if err := os.WriteFile(file, bytes.Repeat([]byte("%PDF-1.7\x00\xff\r\n.\r\n"), 600), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	rows := map[string]map[string]string{}
	for _, c := range clients {
		rows[c.name] = map[string]string{}
		for _, via := range []string{"graph", "smtp"} {
			t.Run(c.name+" by "+via, func(t *testing.T) {
				needs(t, c.needs)
				tap := newTap(t, w.addr, map[string]string{"graph": "127.0.0.2", "smtp": "127.0.0.3"}[via])
				host, port, _ := net.SplitHostPort(tap.addr)
				j := job{host: host, port: port, user: via, password: w.password, from: "nav@contoso.test",
					to: "kunde@example.test", subject: "Rechnung für Grüße, " + c.name + " " + via, file: file}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				seen := len(w.box.Received())
				if out, err := c.command(t, j).CombinedOutput(); err != nil {
					t.Fatalf("the client ended with %v:\n%s\nit wrote:\n%.2000s", err, out, tap.sent())
				}
				got, err := w.box.Wait(ctx, seen+1)
				if err != nil {
					t.Fatalf("nothing arrived: %v\n%s", err, w.log())
				}
				arrived := got[len(got)-1]
				checkArrived(t, j, via, arrived, tap.data(t))
				mu.Lock()
				rows[c.name][via] = fmt.Sprintf("exact, %d bytes", len(arrived.Raw))
				mu.Unlock()
			})
		}
	}
	t.Logf("%-20s | %-20s | %-20s", "client", "by Graph", "by SMTP XOAUTH2")
	for _, c := range clients {
		t.Logf("%-20s | %-20s | %-20s", c.name, rows[c.name]["graph"], rows[c.name]["smtp"])
	}
}

func checkArrived(t *testing.T, j job, via string, r sandbox.Received, sent []byte) {
	t.Helper()
	if r.Via != via {
		t.Errorf("it came by %s; want %s", r.Via, via)
	}
	if len(r.Recipients) != 1 || r.Recipients[0] != j.to {
		t.Errorf("recipients = %v; want %s alone", r.Recipients, j.to)
	}
	m, err := mail.ReadMessage(bytes.NewReader(r.Raw))
	if err != nil {
		t.Fatalf("what arrived is no message: %v", err)
	}
	if from := m.Header.Get("From"); from != `Contoso <noreply@contoso.test>` {
		t.Errorf("From = %q; want the substituted one", from)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(strings.ReplaceAll(m.Header.Get("Subject"), "\r\n", ""))
	if err != nil || subject != j.subject {
		t.Errorf("Subject = %q, %v; want %q", subject, err, j.subject)
	}
	if diff := differs(sent, r.Raw); diff != "" {
		t.Errorf("what arrived is not what was sent: %s\nsent:\n%.1500s\narrived:\n%.1500s", diff, sent, r.Raw)
	}
}

// differs compares two messages but for the header fields that policy names; "" when they are equal.
func differs(sent, arrived []byte) string {
	sh, sb := cutHeader(sent)
	ah, ab := cutHeader(arrived)
	// Added where they were missing, never changed where they stood.
	for _, name := range []string{"date", "message-id"} {
		if !strings.Contains("\n"+strings.ToLower(sh), "\n"+name+":") {
			ah = without(ah, name)
		}
	}
	for _, name := range []string{"received", "x-postern-id", "from", "sender", "reply-to", "bcc"} {
		sh, ah = without(sh, name), without(ah, name)
	}
	if sh != ah {
		return fmt.Sprintf("header\n%q\nbecame\n%q", sh, ah)
	}
	if !bytes.Equal(sb, ab) {
		return fmt.Sprintf("a body of %d bytes became %d", len(sb), len(ab))
	}
	return ""
}

func cutHeader(b []byte) (header string, body []byte) {
	h, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	return string(h) + "\r\n", body
}

// without removes the fields of that name, with their continuation lines.
func without(header, name string) string {
	var out strings.Builder
	drop := false
	for line := range strings.Lines(header) {
		if line[0] != ' ' && line[0] != '\t' {
			field, _, _ := strings.Cut(line, ":")
			drop = strings.EqualFold(strings.TrimSpace(field), name)
		}
		if !drop {
			out.WriteString(line)
		}
	}
	return out.String()
}

// tap stands between a client and the listener and keeps what the client wrote: the witness that is not ours to forge.
type tap struct {
	addr string
	mu   sync.Mutex
	buf  bytes.Buffer
}

// newTap forwards to addr from the given local address, so that the listener sees the client there.
func newTap(t *testing.T, addr, local string) *tap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.forward(c, addr, local) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return p
}

func (p *tap) forward(c net.Conn, addr, local string) {
	defer c.Close()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	s, err := d.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer s.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(s, io.TeeReader(c, p))
		s.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, s)
	c.Close()
	<-done
}

// Write keeps what the client wrote.
func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *tap) sent() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

var dataCommand = regexp.MustCompile(`(?i)\r\nDATA\r\n`)

// data returns the message that the client wrote after DATA, with its dots unstuffed (RFC 5321 section 4.5.2).
func (p *tap) data(t *testing.T) []byte {
	t.Helper()
	s := p.sent()
	at := dataCommand.FindStringIndex(s) // Python's smtplib writes it in lower case
	if at == nil {
		t.Fatalf("the client sent no DATA:\n%s", s)
	}
	rest := s[at[1]:]
	text, _, ok := strings.Cut(rest, "\r\n.\r\n")
	if !ok {
		t.Fatalf("the client did not end its data:\n%s", rest)
	}
	text = strings.ReplaceAll("\r\n"+text+"\r\n", "\r\n.", "\r\n")
	return []byte(strings.TrimPrefix(text, "\r\n"))
}

// TestSMTPSource lets Postfix's load generator run through the listener: 20 sessions, 2,000 messages of 10 KB, without
// disconnecting between messages.
func TestSMTPSource(t *testing.T) {
	needs(t, "smtp-source")
	w := newWorld(t, worldOptions{})
	count := 2000
	if testing.Short() || raceEnabled {
		count = 200
	}
	tap := newTap(t, w.addr, "127.0.0.3")
	out, err := exec.Command("smtp-source", "-s", "20", "-m", fmt.Sprint(count), "-l", "10240", "-d",
		"-f", "nav@contoso.test", "-t", "kunde@example.test", tap.addr).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("smtp-source ended with %v:\n%s", err, out)
	}
	if n := w.accepted(); n != count {
		t.Errorf("%d messages were accepted; want %d", n, count)
	}
}
