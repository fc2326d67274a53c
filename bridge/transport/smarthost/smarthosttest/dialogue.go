package smarthosttest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// errEnded ends a connection.
var errEnded = errors.New("connection has ended")

// dialogue is one connection.
type dialogue struct {
	v      *Server
	number int
	conn   net.Conn
	r      *bufio.Reader
	tls    bool
	login  string // "" before AUTH
	mail   string // "" outside a transaction
	rcpt   []string
	said   []byte // of the transaction that is at its dot
}

// serve takes a connection over.
func (v *Server) serve(c net.Conn) {
	v.mu.Lock()
	if v.ctx.Err() != nil {
		v.mu.Unlock()
		c.Close()
		return
	}
	v.opened++
	d := &dialogue{v: v, number: v.opened, conn: c, r: bufio.NewReader(c)}
	v.conns[c] = true
	v.wg.Add(1)
	v.mu.Unlock()
	go func() {
		defer v.wg.Done()
		d.run() // an error is the client's: it left
		c.Close()
		v.mu.Lock()
		delete(v.conns, c)
		v.mu.Unlock()
	}()
}

func (d *dialogue) run() error {
	if d.v.script.Implicit {
		if err := d.handshake(); err != nil {
			return err
		}
	}
	if err := d.answer(Greeting, "", "220 smarthost.test Microsoft ESMTP MAIL Service ready\r\n"); err != nil {
		return err
	}
	for {
		line, err := d.readLine()
		if err != nil {
			return err
		}
		if err := d.command(line); err != nil {
			return err
		}
	}
}

func (d *dialogue) readLine() (string, error) {
	line, err := d.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func (d *dialogue) log(s string) {
	d.v.mu.Lock()
	defer d.v.mu.Unlock()
	d.v.commands = append(d.v.commands, s)
}

func (d *dialogue) command(line string) error {
	verb, _, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if verb == "AUTH" {
		return d.auth(line)
	}
	d.log(line)
	switch verb {
	case "EHLO":
		at := EHLO
		if d.tls {
			at = EHLOTLS
		}
		return d.answer(at, line, d.extensions())
	case "STARTTLS":
		if err := d.answer(STARTTLS, line, "220 2.0.0 SMTP server ready\r\n"); err != nil {
			return err
		}
		return d.handshake()
	case "MAIL":
		return d.mailFrom(line)
	case "RCPT":
		good, err := d.reply(RCPT, line, "250 2.1.5 Recipient OK\r\n")
		if good {
			d.rcpt = append(d.rcpt, line)
		}
		return err
	case "DATA":
		return d.data(line)
	case "RSET":
		d.mail, d.rcpt = "", nil
		return d.answer(RSET, line, "250 2.0.0 Resetting\r\n")
	case "QUIT":
		if err := d.answer(QUIT, line, "221 2.0.0 Service closing transmission channel\r\n"); err != nil {
			return err
		}
		return errEnded
	}
	return d.send("500 5.3.3 Unrecognized command\r\n")
}

func (d *dialogue) extensions() string {
	s := d.v.script
	lines := []string{"smarthost.test Hello"}
	if s.Extensions == nil {
		lines = append(lines, "SIZE 157286400", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8")
	}
	lines = append(lines, s.Extensions...)
	switch {
	case !d.tls && !s.NoSTARTTLS:
		lines = append(lines, "STARTTLS")
	case d.tls && s.Mechanisms == nil:
		lines = append(lines, "AUTH LOGIN XOAUTH2")
	case d.tls && len(s.Mechanisms) > 0:
		lines = append(lines, "AUTH "+strings.Join(s.Mechanisms, " "))
	}
	var b strings.Builder
	for i, l := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		fmt.Fprintf(&b, "250%s%s\r\n", separator, l)
	}
	return b.String()
}

func (d *dialogue) handshake() error {
	if a := d.ask(TLS, ""); a != nil {
		if a.Wait != nil {
			d.wait(a)
		}
		if a.Drop {
			return errEnded
		}
	}
	c := tls.Server(d.conn, d.v.config)
	if err := c.HandshakeContext(d.v.ctx); err != nil {
		return err
	}
	d.conn, d.r, d.tls = c, bufio.NewReader(c), true
	return nil
}

func (d *dialogue) auth(line string) error {
	f := strings.Fields(line)
	if len(f) != 2 { // a token on the AUTH line is never logged
		d.log("AUTH with an initial response")
		return d.send("501 5.5.4 Two steps, please\r\n")
	}
	d.log(line)
	if good, err := d.reply(AUTH, line, "334 \r\n"); err != nil || !good {
		return err
	}
	blob, err := d.readLine()
	if err != nil {
		return err
	}
	d.log("(token)")
	login, tok := bearer(blob)
	d.v.mu.Lock()
	d.v.tokens = append(d.v.tokens, tok)
	d.v.mu.Unlock()
	const refusal = "535 5.7.3 Authentication unsuccessful [smarthost.test]\r\n"
	if tok == "" || d.v.script.Accept != nil && !d.v.script.Accept(login, tok) {
		if d.v.script.ErrorChallenge {
			json := `{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}`
			if err := d.send("334 " + base64.StdEncoding.EncodeToString([]byte(json)) + "\r\n"); err != nil {
				return err
			}
			answer, err := d.readLine()
			if err != nil {
				return err
			}
			d.log("dismissal:" + answer)
			return d.answer(Dismissal, answer, refusal)
		}
		return d.answer(Token, "", refusal)
	}
	good, err := d.reply(Token, "", "235 2.7.0 Authentication successful\r\n")
	if good {
		d.login = login
	}
	return err
}

// bearer takes login and token out of either mechanism's response; "" where it is neither.
func bearer(blob string) (login, token string) {
	b, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return "", ""
	}
	for _, f := range strings.Split(string(b), "\x01") {
		if s, ok := strings.CutPrefix(f, "user="); ok {
			login = s
		}
		if s, ok := strings.CutPrefix(f, "n,a="); ok {
			login = strings.TrimSuffix(s, ",")
		}
		if s, ok := strings.CutPrefix(f, "auth=Bearer "); ok {
			token = s
		}
	}
	return login, token
}

func (d *dialogue) mailFrom(line string) error {
	switch {
	case d.login == "":
		return d.answer(MAIL, line, "530 5.7.57 Client not authenticated to send mail.\r\n")
	case d.mail != "":
		return d.send("503 5.5.1 Nested MAIL command\r\n")
	}
	good, err := d.reply(MAIL, line, "250 2.1.0 Sender OK\r\n")
	if good {
		d.mail = line
	}
	return err
}

func (d *dialogue) data(line string) error {
	if len(d.rcpt) == 0 {
		return d.send("503 5.5.1 Bad sequence of commands\r\n")
	}
	if good, err := d.reply(DATA, line, "354 Start mail input; end with <CRLF>.<CRLF>\r\n"); err != nil || !good {
		return err
	}
	text, err := d.text()
	if err != nil {
		return err
	}
	m := Message{Connection: d.number, Login: d.login, Mail: d.mail, Rcpt: d.rcpt, Data: text}
	d.mail, d.rcpt, d.said = "", nil, text
	id := d.v.script.ID
	if id == "" {
		id = "<1@smarthost.test>"
	}
	a, good := d.choose(Dot, "", "250 2.0.0 OK "+id+" [Hostname=SMARTHOST.TEST]\r\n")
	if good { // before the client can know
		d.v.mu.Lock()
		d.v.messages = append(d.v.messages, m)
		d.v.mu.Unlock()
	}
	return d.act(a)
}

// text reads the message up to the final dot: only CRLF.CRLF ends it (RFC 5321 section 4.1.1.4).
func (d *dialogue) text() ([]byte, error) {
	if _, err := d.r.Peek(1); err != nil {
		return nil, err
	}
	if a := d.ask(Body, ""); a != nil {
		if err := d.act(a); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	start := true // after CRLF
	for {
		line, err := d.r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if start && string(line) == ".\r\n" {
			return b.Bytes(), nil
		}
		if start && line[0] == '.' {
			line = line[1:]
		}
		b.Write(line)
		start = bytes.HasSuffix(line, []byte("\r\n"))
	}
}

// ask finds the script's action for a step.
func (d *dialogue) ask(at Step, line string) *Action {
	d.v.mu.Lock()
	d.v.counts[at]++
	x := Exchange{Step: at, Connection: d.number, Count: d.v.counts[at], Line: line}
	if at == Dot {
		x.Data = d.said
	}
	d.v.mu.Unlock()
	if d.v.script.On == nil {
		return nil
	}
	return d.v.script.On(x)
}

// answer is reply where it does not matter which.
func (d *dialogue) answer(at Step, line, good string) error {
	_, err := d.reply(at, line, good)
	return err
}

// reply sends the script's reply, or the good one; good says whether the one that was sent accepts.
func (d *dialogue) reply(at Step, line, text string) (good bool, err error) {
	a, good := d.choose(at, line, text)
	return good, d.act(a)
}

// choose returns what to do at a step, and whether that accepts.
func (d *dialogue) choose(at Step, line, text string) (a *Action, good bool) {
	var b Action
	if a := d.ask(at, line); a != nil {
		b = *a
	}
	if b.Reply == "" && !b.Drop && !b.Endless {
		b.Reply = text
	}
	return &b, strings.HasPrefix(b.Reply, "2") || strings.HasPrefix(b.Reply, "3")
}

// act does what the script wants. An error ends the connection.
func (d *dialogue) act(a *Action) error {
	if a.Wait != nil {
		d.wait(a)
	}
	if a.Reply != "" {
		if err := d.send(a.Reply); err != nil {
			return err
		}
	}
	for a.Endless {
		if err := d.send("250-and more\r\n"); err != nil {
			return err
		}
	}
	if a.Drop {
		return errEnded
	}
	return nil
}

func (d *dialogue) wait(a *Action) {
	select {
	case <-a.Wait:
	case <-d.v.ctx.Done():
	}
}

func (d *dialogue) send(s string) error {
	_, err := io.WriteString(d.conn, s)
	return err
}
