package smarthost

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/bridge/reply"
)

const (
	echoWindow = 16 // so many octets of a secret in a row are an echo
	echoStep   = 8
)

// replyOf turns the library's error into our word.
func replyOf(e *smtp.SMTPError) reply.Reply {
	if c := e.EnhancedCode; c != (smtp.EnhancedCode{}) {
		return newReply(e.Code, fmt.Sprintf("%d.%d.%d %s", c[0], c[1], c[2], e.Message))
	}
	return newReply(e.Code, e.Message)
}

// newReply takes the enhanced status off a text, where it has one that fits the code (RFC 2034).
func newReply(code int, text string) reply.Reply {
	r := reply.Reply{Code: code, Text: reply.OneLine(text)}
	if status, rest, ok := strings.Cut(r.Text, " "); ok && isStatus(status, code/100) {
		r.Enhanced, r.Text = status, rest
	}
	return r
}

// accepted turns the text of the 250 to the final dot into our word, with the id that the server gave: Exchange's
// "2.0.0 OK <id> [Hostname=...]", where the id is the Message-ID it used, which need not be ours; or "queued as ID".
func accepted(text string) reply.Reply {
	r := newReply(250, text)
	if i := strings.IndexByte(r.Text, '<'); i >= 0 {
		if j := strings.IndexByte(r.Text[i:], '>'); j > 1 {
			r.ID = r.Text[i : i+j+1]
			return r
		}
	}
	const queued = "queued as "
	if i := strings.Index(strings.ToLower(r.Text), queued); i >= 0 {
		if f := strings.Fields(r.Text[i+len(queued):]); len(f) > 0 {
			r.ID = strings.TrimRight(f[0], ".;,")
		}
	}
	return r
}

// isStatus reports whether s is an enhanced status code of that class (RFC 3463).
func isStatus(s string, class int) bool {
	part := strings.Split(s, ".")
	if len(part) != 3 || part[0] != strconv.Itoa(class) {
		return false
	}
	for _, p := range part {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 999 {
			return false
		}
	}
	return true
}

// redact takes every word out of s that quotes one of the secrets. A server may echo the line it did not like, whole or
// in part; an echo of fewer than echoWindow+echoStep octets can remain.
func redact(s string, secrets []string) string {
	if len(secrets) == 0 || len(s) < echoWindow {
		return s
	}
	var b strings.Builder
	for s != "" {
		n := strings.IndexFunc(s, notInSecret)
		if n == 0 {
			n = 1
			b.WriteByte(s[0])
		} else {
			if n < 0 {
				n = len(s)
			}
			if echoes(s[:n], secrets) {
				b.WriteString("[redacted]")
			} else {
				b.WriteString(s[:n])
			}
		}
		s = s[n:]
	}
	return b.String()
}

// notInSecret reports whether r can stand neither in a bearer token (RFC 6750 section 2.1) nor in Base64.
func notInSecret(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/=", r))
}

func echoes(word string, secrets []string) bool {
	for i := 0; i+echoWindow <= len(word); i += echoStep {
		for _, secret := range secrets {
			if strings.Contains(secret, word[i:i+echoWindow]) {
				return true
			}
		}
	}
	// A whole secret that is shorter than a window, but not so short that ordinary words have it.
	for _, secret := range secrets {
		if len(secret) >= echoStep && strings.Contains(word, secret) {
			return true
		}
	}
	return false
}
