package dsn

import (
	"fmt"
	"strings"

	"postern/bridge/envelope"
)

// forPrograms is the second part, message/delivery-status (RFC 3464 section 2).
func (r *Report) forPrograms() string {
	var b strings.Builder
	b.WriteString(fold("Reporting-MTA", "dns; "+atom(r.Hostname)))
	b.WriteString(fold("X-Postern-Queue-ID", atom(string(r.Original.ID))))
	if !r.Original.ReversePath.IsNull() {
		b.WriteString(fold("X-Postern-Reverse-Path", addressType(r.Original.ReversePath)))
	}
	if !r.Original.Accepted.IsZero() {
		b.WriteString(fold("Arrival-Date", formatDate(r.Original.Accepted)))
	}
	for _, rc := range r.Recipients {
		b.WriteString("\r\n")
		b.WriteString(fold("Final-Recipient", addressType(rc.Address)))
		b.WriteString(fold("Action", string(rc.Action)))
		b.WriteString(fold("Status", rc.status()))
		if rc.RemoteMTA != "" {
			b.WriteString(fold("Remote-MTA", "dns; "+atom(rc.RemoteMTA)))
		}
		if d := rc.diagnostic(); d != "" {
			b.WriteString(fold("Diagnostic-Code", d))
		}
		if !rc.LastAttempt.IsZero() {
			b.WriteString(fold("Last-Attempt-Date", formatDate(rc.LastAttempt)))
		}
		if rc.Action == Delayed && !r.RetryUntil.IsZero() {
			b.WriteString(fold("Will-Retry-Until", formatDate(r.RetryUntil)))
		}
	}
	return b.String()
}

// status is the enhanced status that fits the action: a failed recipient has one of class 5, though the last reply may
// have been a temporary one that lasted too long (RFC 3464 section 2.3.4: 4.4.7 there would say "delayed").
func (rc *Recipient) status() string {
	class := "5"
	if rc.Action == Delayed {
		class = "4"
	}
	said := rc.Reply.Enhanced
	if !isStatus(said) {
		if rc.Action == Failed && (rc.Reply.Code == 0 || temporary(rc.Reply.Code)) {
			return "5.4.7" // delivery time expired
		}
		return class + ".0.0"
	}
	if rc.Action == Failed && said[0] == '4' {
		return "5.4.7"
	}
	return class + said[1:]
}

func temporary(code int) bool { return code >= 400 && code < 500 && code != 400 && code != 413 }

// isStatus reports whether s has the form of RFC 3463 section 2; Graph's error codes have not.
func isStatus(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != "2" && parts[0] != "4" && parts[0] != "5" {
		return false
	}
	for _, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// diagnostic is what the server said, with its type: smtp, or X-Graph for an HTTP status with an error code.
func (rc *Recipient) diagnostic() string {
	said := printable(oneLine(rc.Reply.String()))
	switch {
	case said == "":
		return ""
	case rc.Reply.Code >= 200 && rc.Reply.Code < 600 && (rc.Reply.Enhanced == "" || isStatus(rc.Reply.Enhanced)):
		return "smtp; " + said
	}
	return "X-Graph; " + said
}

// addressType writes an address with its type: rfc822, or utf-8 in the form that fits into US-ASCII (RFC 6533 section 3).
func addressType(a envelope.Address) string {
	if a.ASCII() {
		return "rfc822; " + a.Wire()
	}
	var b strings.Builder
	b.WriteString("utf-8; ")
	for _, c := range a.Wire() {
		if c <= ' ' || c == '\\' || c == '+' || c == '=' || c > '~' {
			fmt.Fprintf(&b, `\x{%02X}`, c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// atom keeps what may stand in a host name or an ID.
func atom(s string) string {
	return strings.Map(func(c rune) rune {
		if c > ' ' && c < 0x7f && c != ';' && c != '(' && c != ')' {
			return c
		}
		return -1
	}, s)
}
