package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"postern/bridge/envelope"
)

// transaction is one MAIL until its end (RFC 5321 section 3.3).
type transaction struct {
	from       string // "" for the null reverse-path
	recipients []string
	utf8, bit8 bool
	binary     bool // BODY=BINARYMIME: only with BDAT (RFC 3030)
	bdat       bool // a BDAT was seen: DATA may not follow
	over       bool // more came than maxSize; the rest was dropped
	bare       bool // DATA had a bare CR or LF
	raw        bytes.Buffer
	fits       bool // within the mailbox's concurrency when it began
}

// busyKey counts transactions per mailbox. A connection that rests between messages does not count.
func (c *session) busyKey() string { return "smtp " + c.who.mailbox.Address }

// reset ends a transaction.
func (c *session) reset() {
	if c.tx != nil {
		c.s.leave(c.busyKey())
		c.tx = nil
	}
}

func (c *session) mail(arg string) {
	switch {
	case c.helo == "":
		c.reply("503 5.5.2 Send hello first")
		return
	case c.who == nil:
		c.reply("530 5.7.57 Client not authenticated to send mail. %s", c.stamp())
		return
	case c.tx != nil:
		c.reply("503 5.5.2 Sender already specified")
		return
	}
	path, params, ok := cutPath(arg, "FROM:")
	if !ok {
		c.reply("501 5.5.4 Invalid arguments")
		return
	}
	tx := &transaction{}
	if answer := tx.mailParams(params); answer != "" {
		c.reply("%s", answer)
		return
	}
	if path != "" {
		if answer := tx.check(path); answer != "" {
			c.reply("%s", answer)
			return
		}
	}
	if c.struck(AtMail) {
		return
	}
	tx.from = path
	c.tx = tx
	tx.fits = c.s.enter(c.busyKey(), func(w Switches) int { return w.SMTPConcurrency })
	c.reply("250 2.1.0 Sender OK")
}

// cutPath splits "FROM:<path> params"; no blank may stand after the colon, and the brackets must (RFC 5321 section 3.3).
func cutPath(arg, word string) (path string, params []string, ok bool) {
	if len(arg) < len(word)+2 || !strings.EqualFold(arg[:len(word)], word) || arg[len(word)] != '<' {
		return "", nil, false
	}
	rest := arg[len(word)+1:]
	end, quoted := -1, false
	for i := 0; i < len(rest) && end < 0; i++ {
		switch {
		case rest[i] == '\\' && quoted:
			i++
		case rest[i] == '"':
			quoted = !quoted
		case rest[i] == '>' && !quoted:
			end = i
		}
	}
	if end < 0 || len(rest) > end+1 && rest[end+1] != ' ' {
		return "", nil, false
	}
	return rest[:end], strings.Fields(rest[end+1:]), true
}

// mailParams takes the parameters of MAIL; a reply when one is bad.
func (tx *transaction) mailParams(params []string) string {
	seen := map[string]bool{}
	for _, p := range params {
		name, value, _ := strings.Cut(strings.ToUpper(p), "=")
		if seen[name] {
			return "501 5.5.4 Invalid arguments"
		}
		seen[name] = true
		switch {
		case name == "SIZE":
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return "501 5.5.4 Invalid arguments"
			}
			if n > maxSize {
				return "552 5.3.4 Message size exceeds fixed maximum message size"
			}
		case name == "BODY" && (value == "7BIT" || value == "8BITMIME" || value == "BINARYMIME"):
			tx.bit8, tx.binary = value != "7BIT", value == "BINARYMIME"
		case name == "SMTPUTF8" && value == "":
			tx.utf8, tx.bit8 = true, true // RFC 6531 section 3.1: implies 8BITMIME
		case name == "RET" && (value == "FULL" || value == "HDRS"), name == "ENVID" && value != "", name == "AUTH" && value != "":
		default:
			return "501 5.5.4 Unrecognized parameter"
		}
	}
	return ""
}

// check judges the syntax of an address; "" is fine.
func (tx *transaction) check(path string) string {
	a, err := envelope.ParseAddress(path)
	switch {
	case err != nil:
		return "501 5.1.7 Invalid address"
	case !tx.utf8 && (!a.ASCII() || !isASCII(a.Domain)): // RFC 6531 section 3.5
		return "553 5.6.7 Non-ASCII addresses need SMTPUTF8"
	}
	return ""
}

func isASCII(v string) bool {
	return strings.IndexFunc(v, func(r rune) bool { return r >= 0x80 }) < 0
}

// rcpt answers 250 whoever the recipient is, as Exchange does (facts C1); only refused@ and later@ order otherwise.
func (c *session) rcpt(arg string) {
	if c.tx == nil {
		c.reply("503 5.5.2 Need mail command")
		return
	}
	path, params, ok := cutPath(arg, "TO:")
	if !ok || path == "" {
		c.reply("501 5.5.4 Invalid arguments")
		return
	}
	for _, p := range params {
		if name, value, _ := strings.Cut(strings.ToUpper(p), "="); name != "NOTIFY" && name != "ORCPT" || value == "" {
			c.reply("501 5.5.4 Unrecognized parameter")
			return
		}
	}
	if answer := c.tx.check(path); answer != "" && !strings.EqualFold(path, "postmaster") {
		c.reply("%s", answer)
		return
	}
	if c.struck(AtRcpt) {
		return
	}
	if answer := c.scriptedRcpt(path); answer != "" {
		c.reply("%s", answer)
		return
	}
	if len(c.tx.recipients) >= c.s.settings().MaxRecipients {
		c.reply("452 4.5.3 Too many recipients")
		return
	}
	if !has(c.tx.recipients, path) {
		c.tx.recipients = append(c.tx.recipients, path)
	}
	c.reply("250 2.1.5 Recipient OK")
}

// scriptedRcpt is for the two recipients that are refused at RCPT.
func (c *session) scriptedRcpt(path string) string {
	name, times := scripted(path)
	switch name {
	case "refused":
		return "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient " + path + " not found by SMTP address lookup"
	case "later":
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		key := strings.ToLower(path) + " at RCPT"
		if times < 0 || c.s.attempts[key] < times {
			c.s.attempts[key]++
			return "450 4.2.1 The recipient's mailbox is busy; try again later"
		}
	}
	return ""
}

func (c *session) data(arg string) {
	switch {
	case c.tx == nil:
		c.reply("503 5.5.2 Need mail command")
		return
	case len(c.tx.recipients) == 0:
		c.reply("503 5.5.2 Need rcpt command")
		return
	case c.tx.bdat || c.tx.binary: // RFC 3030 section 2
		c.reply("503 5.5.2 DATA cannot be used with BDAT or BINARYMIME")
		return
	case arg != "":
		c.reply("501 5.5.4 Invalid arguments")
		return
	case c.r.Buffered() > 0: // message text that did not wait for 354 (RFC 2920 section 3.1): refuse it before it is taken for commands
		c.reply("503 5.5.2 Nothing may follow DATA before its reply")
		c.ending = true
		return
	}
	if c.struck(AtData) {
		return
	}
	c.reply("354 Start mail input; end with <CRLF>.<CRLF>")
	if c.w.Flush() != nil || c.readData() != nil {
		c.ending = true // the client left before the end: nothing was sent
		return
	}
	c.finish()
}

// readData reads until CRLF.CRLF and nothing else, and removes the dots that were stuffed (RFC 5321 section 4.5.2).
func (c *session) readData() error {
	atStart, last := true, byte('\n') // atStart: the octets before were CRLF, or there were none
	for {
		_ = c.conn.SetDeadline(time.Now().Add(idleTimeout)) // fails only on a closed connection, and then so does the read
		piece, err := c.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if atStart && string(piece) == ".\r\n" {
			return nil
		}
		if atStart && piece[0] == '.' {
			last = '.' // for a piece of this one octet
			piece = piece[1:]
		}
		atStart = false
		for _, b := range piece {
			c.tx.bare = c.tx.bare || (last == '\r') != (b == '\n')
			atStart, last = last == '\r' && b == '\n', b
		}
		if c.tx.raw.Len() == 0 {
			c.s.step(InBody)
		}
		c.tx.add(piece)
		if string(piece) == EndOfText {
			c.s.step(AtEnd)
		}
	}
}

// add keeps what fits.
func (tx *transaction) add(b []byte) {
	if tx.over = tx.over || tx.raw.Len()+len(b) > maxSize; !tx.over {
		tx.raw.Write(b)
	}
}

// bdat is RFC 3030: the octets of a refused chunk are read all the same, so that they never become commands.
func (c *session) bdat(arg string) {
	size, last, _ := strings.Cut(arg, " ")
	n, err := strconv.ParseUint(size, 10, 62)
	if err != nil || last != "" && !strings.EqualFold(last, "LAST") {
		c.reply("501 5.5.4 Invalid arguments")
		c.ending = true // where the chunk ends is unknown
		return
	}
	tx := c.tx
	if tx == nil || len(tx.recipients) == 0 {
		tx = &transaction{over: true} // swallows
	}
	if err := c.w.Flush(); err != nil {
		c.ending = true
		return
	}
	for left := int64(n); left > 0; {
		_ = c.conn.SetDeadline(time.Now().Add(idleTimeout)) // fails only on a closed connection, and then so does the read
		piece := make([]byte, min(left, 32<<10))
		if _, err := io.ReadFull(c.r, piece); err != nil {
			c.ending = true
			return
		}
		tx.add(piece)
		left -= int64(len(piece))
	}
	switch {
	case tx != c.tx:
		c.reply("503 5.5.2 Need rcpt command")
	case last == "":
		tx.bdat = true
		c.reply("250 2.0.0 %d octets received", n)
	default:
		c.finish()
	}
}

// finish gives the verdict on a whole message. Exchange checks sender, recipients and concurrency only here (facts C1).
func (c *session) finish() {
	tx := c.tx
	defer c.reset()
	l := &letter{
		Received: Received{Via: ViaSMTP, ClientID: c.who.clientID, Login: c.who.login, EnvelopeFrom: tx.from,
			Recipients: tx.recipients, Raw: tx.raw.Bytes(), SMTPUTF8: tx.utf8, Body8Bit: tx.bit8},
		mailbox: c.who.mailbox, own: c.who.mailbox, id: c.who.id,
	}
	l.text = parseMail(l.Raw)
	c.s.mu.Lock()
	if now, ok := c.s.world.mailbox(l.mailbox.Address); ok { // rights and limits may have changed since AUTH
		l.mailbox, l.own = now, now
	}
	keepBare := c.s.switches.KeepBareLinefeeds
	c.s.mu.Unlock()
	switch {
	case tx.over:
		l.checked = "toolarge"
	case !tx.fits:
		l.checked = "throttled"
	case tx.bare && !keepBare:
		l.checked = "+linefeeds"
	}
	o, err := c.s.judge(l)
	switch {
	case err != nil:
		c.s.logf("smtp: %v", err)
		c.reply("%s", fill(temporary, "", ""))
	case o.cut:
		c.ending = true
		_ = c.conn.Close()
	case o.silent:
		c.ending = true
		c.stayDumb()
	case o.reply != "":
		c.reply("%s", fill(o.reply, c.who.mailbox.Address, l.From))
		c.ending = strings.HasPrefix(o.reply, "421")
	default:
		c.reply("250 2.0.0 OK %s [Hostname=%s]", l.MessageID, backendHost)
	}
}

// stayDumb says nothing more until the client leaves or Close cuts the connection.
func (c *session) stayDumb() {
	_ = c.conn.SetDeadline(time.Time{}) // as long as the client has patience
	_, _ = io.Copy(io.Discard, c.r)     // ends with the connection
}
