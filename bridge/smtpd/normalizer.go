package smtpd

import (
	"bytes"
	"fmt"

	"postern/bridge/reply"
)

// state is where the normalizer stands in the text.
type state int

const (
	lineStart state = iota
	dot             // "." after CR LF
	dotCR           // ". CR"
	dotCRCR         // ". CR CR"
	inLine
	afterCR
	afterCRCR
)

// normalizer turns the text of DATA into CR LF lines, dots stuffed, so that what the library reads and every server after
// us has one meaning only. Only CR LF . CR LF ends the text. A bare LF, and a CR CR LF, become CR LF, and a dot after one
// is stuffed: it can never end the message (SMTP smuggling). RFC 5321 section 2.3.8. A bare CR and NUL are refused, as are
// a text over the limit and a line without end; then the rest is only looked through for the end.
type normalizer struct {
	out      []byte // normalised, to be taken by the caller before the next take
	state    state
	soft     bool // the line before ended in a bare LF or CR CR LF
	outMid   bool // out stopped inside a line
	octets   int64
	limit    int64
	line     int64 // octets of this line so far
	received int64 // octets taken
	oneDot   bool  // this line is a dot so far
	loneDot  bool  // the last line that was not empty is a dot that ended nothing
	refusal  *reply.Error
	discard  bool // nobody reads the rest
}

func (n *normalizer) reset(limit int64) {
	*n = normalizer{out: n.out[:0], limit: limit}
}

// take normalises in and returns how much of it is text, and whether the text ends there.
func (n *normalizer) take(in []byte) (used int, done bool) {
	for used < len(in) && !done {
		if n.state == inLine {
			if run := plainRun(in[used:]); run > 0 {
				n.plain(in[used : used+run])
				used += run
				continue
			}
		}
		done = n.step(in[used])
		used++
	}
	n.received += int64(used)
	if done {
		n.finish()
	}
	return used, done
}

// plainRun returns how many octets at the begin of b are neither CR, LF nor NUL.
func plainRun(b []byte) int {
	for i, c := range b {
		if c == '\n' || c == '\r' || c == 0 {
			return i
		}
	}
	return len(b)
}

// step takes one octet; true at the end of the text.
func (n *normalizer) step(c byte) (done bool) {
	switch n.state {
	case lineStart:
		switch {
		case c == '.' && !n.soft:
			n.state = dot
		case c == '.':
			n.stuffedDot()
		default:
			n.inText(c)
		}
	case dot:
		if c == '\r' {
			n.state = dotCR
			return false
		}
		if c == '\n' {
			n.stuffedDot()
		} else {
			n.put('.') // stuffed by the client; the library takes it away
			n.state = inLine
		}
		n.inText(c)
	case dotCR:
		switch c {
		case '\n':
			return true
		case '\r':
			n.state = dotCRCR
		default:
			n.bareCR(c)
		}
	case dotCRCR:
		if c != '\n' {
			n.bareCR(c)
			break
		}
		n.stuffedDot()
		n.endLine(true)
	case inLine:
		n.inText(c)
	case afterCR:
		switch c {
		case '\n':
			n.endLine(false)
		case '\r':
			n.state = afterCRCR
		default:
			n.bareCR(c)
		}
	case afterCRCR:
		if c == '\n' {
			n.endLine(true)
		} else {
			n.bareCR(c)
		}
	}
	return false
}

// inText takes an octet that is no dot at the begin of a line.
func (n *normalizer) inText(c byte) {
	n.state = inLine
	switch c {
	case '\r':
		n.state = afterCR
	case '\n':
		n.endLine(true)
	case 0:
		n.refuse("5.6.0", "The message contains a NUL character")
	default:
		n.plain([]byte{c})
	}
}

// plain puts octets of a line.
func (n *normalizer) plain(b []byte) {
	n.oneDot = false
	n.line += int64(len(b))
	n.octets += int64(len(b))
	if n.line > maxText {
		n.refuse("5.6.0", fmt.Sprintf("The message contains a line of more than %d octets", maxText))
	}
	n.checkSize()
	n.put(b...)
}

// stuffedDot puts a dot of the message at the begin of a line.
func (n *normalizer) stuffedDot() {
	n.put('.')
	n.plain([]byte{'.'})
	n.state, n.oneDot = inLine, true
}

func (n *normalizer) endLine(soft bool) {
	n.octets += 2
	n.checkSize()
	n.put('\r', '\n')
	if n.line > 0 {
		n.loneDot = n.oneDot
	}
	n.state, n.soft, n.line, n.oneDot = lineStart, soft, 0, false
}

// bareCR refuses a CR that no LF follows, and goes on with c.
func (n *normalizer) bareCR(c byte) {
	n.refuse("5.6.0", "The message contains a bare CR character")
	n.state, n.line = inLine, n.line+1
	if c == '\r' {
		n.state = afterCRCR // CR CR CR LF is no line end that may come before the final dot
	} else {
		n.inText(c)
	}
}

func (n *normalizer) checkSize() {
	if n.octets > n.limit {
		n.refuse("5.3.4", fmt.Sprintf("The message is larger than %d octets", n.limit))
	}
}

func (n *normalizer) refuse(enhanced, text string) {
	if n.refusal != nil {
		return
	}
	code := 550
	if enhanced == "5.3.4" {
		code = 552
	}
	n.refusal = &reply.Error{Code: code, Enhanced: enhanced, Text: text}
}

func (n *normalizer) put(b ...byte) {
	if n.refusal != nil || n.discard {
		return
	}
	n.out = append(n.out, b...)
	n.outMid = !bytes.HasSuffix(b, []byte{'\n'})
}

// finish puts the end, which the library must see even where the rest was not put. A line that was cut short gets a blank:
// it may be a dot alone.
func (n *normalizer) finish() {
	if n.outMid {
		n.out = append(n.out, " \r\n"...)
	}
	n.out = append(n.out, '.', '\r', '\n')
}
