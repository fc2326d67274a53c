package smtpd

import (
	"fmt"
	"strconv"
	"strings"

	"postern/bridge/envelope"
)

// mailParams reads the parameters of MAIL (RFC 1870, 6152, 4954, 6531, 3461) into env, or says how they are refused.
func (g *guard) mailParams(params []param, env *envelope.Envelope) (refusal string) {
	for _, p := range params {
		ok := true
		switch p.name {
		case "SIZE":
			var large bool
			if large, ok = tooLarge(p.value, g.largest()); ok && large {
				return fmt.Sprintf("552 5.3.4 The message is larger than %d octets", g.largest())
			}
		case "BODY":
			env.Body8Bit = strings.EqualFold(p.value, "8BITMIME")
			ok = env.Body8Bit || strings.EqualFold(p.value, "7BIT")
		case "AUTH": // who submitted it first; we know that better (RFC 4954 section 5)
			ok = p.value == "<>" || isXtext(p.value, 500)
		case "SMTPUTF8":
			env.SMTPUTF8 = true
			ok = p.value == ""
		case "RET": // of RFC 3461, as is the next: see rcptParams
			ok = strings.EqualFold(p.value, "FULL") || strings.EqualFold(p.value, "HDRS")
		case "ENVID":
			ok = isXtext(p.value, 100)
		default:
			return "555 5.5.4 Parameter not supported: " + printable(p.name, 40)
		}
		if !ok {
			return "501 5.5.4 Bad value of parameter " + p.name
		}
	}
	return ""
}

// largest is what SIZE says: what could be taken at most, were it for the routes alone or for the listener.
func (g *guard) largest() int64 {
	if g.o.Carries != nil {
		if n := g.o.Carries(); n > 0 {
			return min(n, g.o.MaxMessage)
		}
	}
	return g.o.MaxMessage
}

// rcptParams reads the parameters of RCPT, or says how they are refused. Those of DSN (RFC 3461) are not announced, because
// Graph cannot pass them on and an account may send through it; a client that says them unasked is not refused for that,
// and gets the reports that everybody gets.
func rcptParams(params []param) (refusal string) {
	for _, p := range params {
		ok := true
		switch p.name {
		case "NOTIFY":
			ok = isNotify(p.value)
		case "ORCPT": // address type, semicolon, address
			kind, address, found := strings.Cut(p.value, ";")
			ok = found && isKeyword(strings.ToUpper(kind)) && isXtext(address, 500)
		default:
			return "555 5.5.4 Parameter not supported: " + printable(p.name, 40)
		}
		if !ok {
			return "501 5.5.4 Bad value of parameter " + p.name
		}
	}
	return ""
}

// isNotify checks NEVER, or a list of the others (RFC 3461 section 4.1).
func isNotify(s string) bool {
	if strings.EqualFold(s, "NEVER") {
		return true
	}
	for _, v := range strings.Split(strings.ToUpper(s), ",") {
		if v != "SUCCESS" && v != "FAILURE" && v != "DELAY" {
			return false
		}
	}
	return true
}

// isXtext checks the form of RFC 3461 section 4, and that it encodes printable US-ASCII: "+0D+0A" would be a line end in
// a report or a command.
func isXtext(s string, most int) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8) // two digits are no error
			c, i = byte(n), i+2
		} else if c == '=' || c == ' ' {
			return false
		}
		if c < ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

// tooLarge reads the value of SIZE, of up to 20 digits (RFC 1870 section 4), and compares it with the limit.
func tooLarge(value string, limit int64) (large, ok bool) {
	if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" {
		return false, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return err != nil || n > limit, true // the only error left is a number beyond 64 bits
}
