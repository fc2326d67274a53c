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
	softDot     // "." after CR CR LF, where that may end the text
	softDotCR   // likewise ". CR"
	softDotCRCR // likewise ". CR CR"
)

// lineEnd is what a line ended in. Only CR LF may stand before the final dot.
type lineEnd int

const (
	crlf lineEnd = iota
	bareLF
	crcrlf
	bareCR
)

// normalizer turns the text of DATA into CR LF lines, dots stuffed, so that what the library reads and every server after
// us has one meaning only. Only CR LF . CR LF ends the text. A bare LF, and a CR CR LF, become CR LF, and a dot after one
// is stuffed: it can never end the message (SMTP smuggling). RFC 5321 section 2.3.8. A bare CR and NUL are refused, as are
// a text over the limit and a line without end; then the rest is only looked through for the end.
//
// Two switches of the listener change that for programs that nobody can mend: takeCR makes a line end of a bare CR, and
// takeCRCRLF takes CR CR LF . CR CR LF for the end too.
type normalizer struct {
	takeCR, takeCRCRLF bool

	out      []byte // normalised, to be taken by the caller before the next take
	state    state
	last     lineEnd // of the line before
	outMid   bool    // out stopped inside a line
	octets   int64
	limit    int64
	line     int64   // octets of this line so far
	received int64   // octets taken
	oneDot   bool    // this line is a dot so far
	loneDot  bool    // the last line that was not empty is a dot that ended nothing
	before   lineEnd // of the line before that dot
	refusal  *reply.Error
	discard  bool // nobody reads the rest
}

func (n *normalizer) reset(o Options) {
	*n = normalizer{out: n.out[:0], limit: o.MaxMessage, takeCR: o.BareCR, takeCRCRLF: o.CRCRLFEnd}
}

// take normalises in and returns how much of it is text, and whether the text ends there.
func (n *normalizer) take(in []byte) (used int, done bool) {
	for used < len(in) && !done {
		if run := n.run(in[used:]); run > 0 {
			used += run
			continue
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

// run takes at once what step would take octet by octet: the rest of a line, as far as it is plain, with its CR LF. It
// returns how many octets that were; a dot at the begin of a line is none of them.
func (n *normalizer) run(in []byte) int {
	if in[0] <= '\r' || n.state != inLine && (n.state != lineStart || in[0] == '.') {
		return 0
	}
	run := plainRun(in)
	n.state = inLine
	n.plain(in[:run])
	if bytes.HasPrefix(in[run:], []byte("\r\n")) {
		n.endLine(crlf)
		run += 2
	}
	return run
}

// plainRun returns how many octets at the begin of b are neither CR, LF nor NUL. It looks at a few of them only: in a text
// that is full of LF the next CR may be far, and would be looked for from each line.
func plainRun(b []byte) int {
	b = b[:min(len(b), 128)]
	for _, end := range [...]byte{'\n', '\r', 0} {
		if i := bytes.IndexByte(b, end); i >= 0 {
			b = b[:i]
		}
	}
	return len(b)
}

// step takes one octet; true at the end of the text.
func (n *normalizer) step(c byte) (done bool) {
	switch n.state {
	case lineStart:
		switch {
		case c == '.' && n.last == crlf:
			n.state = dot
		case c == '.' && n.last == crcrlf && n.takeCRCRLF:
			n.state = softDot
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
			n.undoDot(afterCR, c)
		}
	case dotCRCR:
		n.undoDot(afterCRCR, c)
	case softDot, softDotCR, softDotCRCR:
		return n.afterSoftDot(c)
	case inLine:
		n.inText(c)
	case afterCR, afterCRCR:
		n.afterCR(c)
	}
	return false
}

// afterSoftDot takes what follows a dot after CR CR LF, where CR CR LF may end it.
func (n *normalizer) afterSoftDot(c byte) (done bool) {
	switch {
	case n.state == softDot && c == '\r':
		n.state = softDotCR
	case n.state == softDot:
		n.undoDot(inLine, c)
	case n.state == softDotCR && c == '\r':
		n.state = softDotCRCR
	case n.state == softDotCR:
		n.undoDot(afterCR, c)
	case c == '\n':
		return true
	default:
		n.undoDot(afterCRCR, c)
	}
	return false
}

// undoDot takes a dot that might have been the end for text, and goes on with c in the given state.
func (n *normalizer) undoDot(then state, c byte) {
	n.stuffedDot()
	n.state = then
	n.step(c) // neither state can end the text
}

// afterCR takes what follows a CR, or two of them.
func (n *normalizer) afterCR(c byte) {
	two := n.state == afterCRCR
	switch {
	case c == '\n' && two:
		n.endLine(crcrlf)
	case c == '\n':
		n.endLine(crlf)
	case c == '\r' && !two:
		n.state = afterCRCR
	default:
		n.bareCR(two, c)
	}
}

// inText takes an octet that is no dot at the begin of a line.
func (n *normalizer) inText(c byte) {
	n.state = inLine
	switch c {
	case '\r':
		n.state = afterCR
	case '\n':
		n.endLine(bareLF)
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
	if n.line > maxText && n.refusal == nil {
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

func (n *normalizer) endLine(end lineEnd) {
	n.octets += 2
	n.checkSize()
	n.put('\r', '\n')
	if n.line > 0 {
		n.loneDot, n.before = n.oneDot, n.last
	}
	n.state, n.last, n.line, n.oneDot = lineStart, end, 0, false
}

// bareCR refuses a CR, or two, that no LF follows, or makes line ends of them, and goes on with c.
func (n *normalizer) bareCR(two bool, c byte) {
	if n.takeCR {
		n.endLine(bareCR)
		if two && c != '\r' {
			n.endLine(bareCR)
		}
	} else {
		n.refuse("5.6.0", "The message contains a bare CR character")
		n.state, n.last, n.line = lineStart, bareCR, n.line+1 // so that a dot alone is noticed, for the log
	}
	if c == '\r' {
		n.state = afterCRCR // two are open again; CR CR CR LF is no line end that may come before the final dot
		return
	}
	n.step(c) // after a bare CR one octet cannot end the text
}

// unended says why a text that stopped coming has not ended, for the log; "" where nothing points to a cause.
func (n *normalizer) unended() string {
	openCR := n.oneDot && (n.state == afterCR || n.state == afterCRCR) || n.state == dotCR || n.state == dotCRCR
	switch {
	case openCR:
		return "it ends its lines, and so its message, in CR alone; mend the program"
	case !n.loneDot:
		return ""
	case n.before == crcrlf && n.last == crcrlf:
		return `it ends its lines, and so its message, in CR CR LF, as programs in text mode on Windows do; ` +
			`mend the program, or write tolerate = ["crcrlf-end"] at this listener`
	}
	return "it ended its message by a dot whose line ends are not CR LF; mend the program"
}

func (n *normalizer) checkSize() {
	if n.octets > n.limit && n.refusal == nil { // the text is written once, not for each line that still comes
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
	n.outMid = b[len(b)-1] != '\n'
}

// finish puts the end, which the library must see even where the rest was not put. A line that was cut short gets a blank:
// it may be a dot alone.
func (n *normalizer) finish() {
	if n.outMid {
		n.out = append(n.out, " \r\n"...)
	}
	n.out = append(n.out, '.', '\r', '\n')
}
