package smtpd

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"postern/bridge/envelope"
)

// placeholder is the only address that the library ever parses: its parser drops the quotes of a quoted local part and
// lets controls through.
const placeholder = "<p@guard.invalid>"

// command judges one line. It answers by itself and returns "", or returns a line for the library.
func (g *guard) command(line string) string {
	if strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
		return g.bad("500 5.5.2 Control character in a command")
	}
	verb, arg := cutBlank(line)
	verb = strings.ToUpper(verb)
	if v, rest, ok := strings.Cut(verb, ":"); ok && rest == "" && (v == "HELO" || v == "EHLO") {
		verb = v // some scanners
	}
	afterRefusedData := g.dataRefused
	g.dataRefused = false
	switch verb {
	case "HELO", "EHLO":
		return g.onHello(verb, arg)
	case "MAIL":
		return g.onMail(arg)
	case "RCPT":
		return g.onRcpt(arg)
	case "DATA":
		return g.onData(arg)
	case "AUTH":
		return g.onAuth(arg)
	case "STARTTLS":
		return g.onStartTLS(arg)
	case "RSET":
		return g.pass("RSET", 250, "250 2.0.0 Ok")
	case "QUIT":
		g.mode = ended
		return g.pass("QUIT", 221, "221 2.0.0 Bye")
	case "NOOP":
		g.say("250 2.0.0 Ok")
	case "VRFY":
		g.say("252 2.5.2 Cannot verify the address, but will take mail for it")
	case "HELP":
		g.say("214 2.0.0 RFC 5321")
	case "EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML":
		g.say("502 5.5.1 Command not implemented")
	default:
		return g.onUnknown(verb, afterRefusedData)
	}
	return ""
}

func (g *guard) onUnknown(verb string, afterRefusedData bool) string {
	switch {
	case verb == "BDAT":
		// Its octets follow without a line of their own and would be taken as commands.
		g.linger = true
		g.end("502 5.5.1 BDAT is not offered, closing the connection", errors.New("the client said BDAT, which is not offered"))
	case isHTTP(verb):
		g.linger = true
		g.end("421 4.7.0 This is no web server", errors.New("the client speaks HTTP"))
	case afterRefusedData:
		// A client that did not wait for the reply to DATA goes on with its text, which must not become commands.
		g.linger = true
		g.end("421 4.7.0 Text after a refused DATA, closing the connection", errors.New("text after a refused DATA"))
	default:
		return g.bad("500 5.5.1 Command not recognized")
	}
	return ""
}

// isHTTP tells a web browser that was made to talk to a mail port (cross-protocol request forgery).
func isHTTP(verb string) bool {
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "DELETE", "CONNECT", "OPTIONS", "PATCH", "TRACE", "PRI", "HOST:", "USER-AGENT:":
		return true
	}
	return false
}

func (g *guard) onHello(verb, arg string) string {
	name, _ := cutBlank(arg)
	if name == "" {
		g.say("501 Syntax: " + verb + " hostname")
		return ""
	}
	g.helo, g.extended = safeHelo(name), verb == "EHLO"
	host := g.o.Hostname
	if !g.extended {
		return g.pass("HELO guard.invalid", 250, "250 "+host)
	}
	lines := []string{host, "PIPELINING", fmt.Sprintf("SIZE %d", g.largest())}
	if g.o.TLS == StartTLS && !g.secure {
		lines = append(lines, "STARTTLS")
	}
	if g.offersAuth() {
		// Old Outlook Express and the programs made after it look for the form with the equals sign.
		lines = append(lines, "AUTH PLAIN LOGIN", "AUTH=LOGIN PLAIN")
	}
	lines = append(lines, "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8")
	last := len(lines) - 1
	return g.pass("EHLO guard.invalid", 250, "250-"+strings.Join(lines[:last], "\r\n250-")+"\r\n250 "+lines[last])
}

// safeHelo makes what the client calls itself fit for a Received field. Windows machines have underscores and umlauts.
func safeHelo(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r) {
			return r
		}
		return '?'
	}, name)
	return name[:min(len(name), 255)]
}

// offersAuth reports whether a password may be sent here: never in clear text over a network, unless the configuration
// says so.
func (g *guard) offersAuth() bool {
	return g.o.Auth != NoAuth && (g.secure || g.remote.IsLoopback() || g.o.PlaintextAuth)
}

func (g *guard) onStartTLS(arg string) string {
	switch {
	case arg != "":
		g.say("501 5.5.4 Syntax: STARTTLS")
	case g.secure:
		g.say("503 5.5.1 TLS is already up")
	case g.o.TLS != StartTLS:
		g.say("502 5.5.1 STARTTLS is not offered")
	case g.in.Buffered() > 0:
		// Commands sent in clear text with it would be taken as sent under TLS (RFC 3207, CVE-2011-0411).
		g.linger = true
		g.end("503 5.5.1 Commands after STARTTLS, closing the connection", errors.New("commands in clear text after STARTTLS"))
	default:
		g.say("220 2.0.0 Ready to start TLS")
		g.flush()
		if g.err != nil || g.handshake() != nil {
			g.end("", g.err)
			return ""
		}
		// The library's connection ends here, and with it helo, login and transaction.
		g.mode, g.handed = ended, true
		next := newGuard(g.link, true)
		next.loginFailed = g.loginFailed
		if !g.s.feed.push(next) {
			next.Close()
		}
	}
	return ""
}

func (g *guard) onMail(arg string) string {
	switch {
	case g.helo == "":
		g.say("503 5.5.1 Say HELO or EHLO first")
		return ""
	case g.tx.active:
		g.say("503 5.5.1 A message is under way already")
		return ""
	}
	user, refusal := g.sender()
	if refusal != "" {
		g.say(refusal)
		return ""
	}
	path, params, err := parseCommand(arg, "FROM")
	if err != nil {
		g.say("501 5.5.4 Syntax: MAIL FROM:<address>")
		return ""
	}
	tx := transaction{active: true, user: user, known: map[string]bool{}}
	if refusal := g.mailParams(params, &tx.env); refusal != "" {
		g.say(refusal)
		return ""
	}
	if path != "" {
		if !isASCII(path) && !tx.env.SMTPUTF8 {
			g.say("550 5.6.7 A sender that is not ASCII needs SMTPUTF8")
			return ""
		}
		if tx.env.ReversePath, err = envelope.ParseAddressIn(path, cmp.Or(g.o.DefaultDomain, g.o.Hostname)); err != nil {
			g.say(badAddress("501 5.1.7 Bad sender address", path, err))
			return ""
		}
	}
	g.proposed = tx
	return g.pass("MAIL FROM:"+placeholder, 250, "250 2.1.0 Ok")
}

// sender says which user a MAIL is from, or how it is refused.
func (g *guard) sender() (user, refusal string) {
	if g.user != "" {
		return g.user, ""
	}
	if g.o.Auth != Required && !g.loginFailed { // who tried to log in and could not is not anonymous: he would send as somebody else
		if user, ok := g.o.Users.At(g.remote); ok && user != "" {
			return user, ""
		}
	}
	switch {
	case g.o.Auth == NoAuth:
		return "", "550 5.7.1 Your address may not send mail here"
	case !g.offersAuth() && g.o.TLS == StartTLS:
		return "", "530 5.7.0 Authentication required; use STARTTLS first"
	}
	return "", "530 5.7.0 Authentication required"
}

func (g *guard) onRcpt(arg string) string {
	if !g.tx.active {
		g.say("503 5.5.1 Say MAIL first")
		return ""
	}
	path, params, err := parseCommand(arg, "TO")
	switch {
	case err != nil:
		g.say("501 5.5.4 Syntax: RCPT TO:<address>")
		return ""
	case rcptParams(params) != "":
		g.say(rcptParams(params))
		return ""
	case !isASCII(path) && !g.tx.env.SMTPUTF8:
		g.say("553 5.6.7 A recipient that is not ASCII needs SMTPUTF8")
		return ""
	}
	if g.rcpt, err = g.address(path); err != nil {
		g.say(badAddress("501 5.1.3 Bad recipient address", path, err))
		return ""
	}
	switch {
	case g.tx.known[g.rcpt.Key()]:
		g.say("250 2.1.5 Ok") // one copy is enough
		return ""
	case len(g.tx.env.Recipients) >= g.o.MaxRecipients:
		g.say("452 4.5.3 Too many recipients")
		return ""
	}
	return g.pass("RCPT TO:"+placeholder, 250, "250 2.1.5 Ok")
}

// address parses a recipient with the default domain. Postmaster needs no domain anywhere (RFC 5321 section 4.5.1).
func (g *guard) address(path string) (envelope.Address, error) {
	domain := g.o.DefaultDomain
	if domain == "" && strings.EqualFold(path, "postmaster") {
		domain = g.o.Hostname
	}
	return envelope.ParseAddressIn(path, domain)
}

// badAddress names the address and what is wrong with it.
func badAddress(answer, path string, err error) string {
	return fmt.Sprintf("%s %q: %s", answer, printable(path, 80), printable(err.Error(), 120))
}

func (g *guard) onData(arg string) string {
	refusal := ""
	switch {
	case arg != "":
		refusal = "501 5.5.4 Syntax: DATA"
	case !g.tx.active:
		refusal = "503 5.5.1 Say MAIL first"
	case len(g.tx.env.Recipients) == 0:
		refusal = "554 5.5.1 No valid recipients"
	}
	if refusal == "" {
		g.norm = g.s.buffers.Get().(*normalizer)
		g.norm.reset(*g.o)
		g.widen()
		g.mode, g.waited, g.broken = inText, 0, nil
		return g.pass("DATA", 354, "354 End data with <CR><LF>.<CR><LF>")
	}
	g.dataRefused = true
	if g.in.Buffered() > 0 { // DATA must be the last of a group (RFC 2920): this is text already
		g.linger = true
		g.end(refusal, errors.New("text after a refused DATA"))
		return ""
	}
	g.say(refusal)
	return ""
}

func (g *guard) onAuth(arg string) string {
	mech, initial := cutBlank(arg)
	mech = strings.ToUpper(mech)
	refusal := ""
	switch {
	case g.helo == "":
		refusal = "503 5.5.1 Say HELO or EHLO first"
	case g.o.Auth == NoAuth:
		refusal = "502 5.5.1 AUTH is not offered"
	case g.user != "":
		refusal = "503 5.5.1 Already authenticated"
	case g.tx.active:
		refusal = "503 5.5.1 AUTH is not allowed inside a message"
	case !g.offersAuth():
		refusal = "538 5.7.11 Encryption is required for authentication"
	case mech == "":
		refusal = "501 5.5.4 Syntax: AUTH mechanism"
	case mech != "PLAIN" && mech != "LOGIN":
		refusal = "504 5.5.4 Mechanism not supported, use PLAIN or LOGIN"
	case !isBase64(initial):
		refusal = "501 5.5.2 Not base64"
	}
	if refusal != "" {
		g.say(refusal)
		return ""
	}
	// The code is the mechanism's to say, in Next.
	return g.pass(strings.TrimRight("AUTH "+mech+" "+initial, " "), 0, "")
}

// readResponse reads a response of the client inside AUTH. What cannot be one reaches the library as a cancel.
func (g *guard) readResponse() string {
	line, err := g.readLine(maxAuth)
	line = strings.TrimSpace(line)
	refusal := ""
	switch {
	case err == errTooLong:
		refusal = "500 5.5.6 Line too long"
	case err != nil:
		g.stopReading(err)
		return ""
	case line == "*":
		refusal = "501 5.7.0 Authentication cancelled"
	case !isBase64(line):
		refusal = "501 5.5.2 Not base64"
	default:
		g.expect(0, "")
		if line == "" {
			return "=" // an empty response; an empty line would be none
		}
		return line
	}
	g.mode = commands
	return g.pass("*", 501, refusal)
}

// isBase64 reports whether s is a response of AUTH (RFC 4954 section 4). The decoder skips line ends within it.
func isBase64(s string) bool {
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil && strings.IndexByte(s, '\r') < 0 || s == "="
}

// isASCII reports whether s has no octet above 127; one that is no UTF-8 is refused later.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
