// Package envelope is the word for who hands what to whom: addresses, the SMTP envelope (RFC 5321 section 2.3.1), the
// session it came in by, and the queue ID. It knows no socket, no header and no policy. What it parses it has checked:
// an Address that exists can be written into a command again.
package envelope

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Envelope is what MAIL FROM and RCPT TO said.
type Envelope struct {
	ReversePath Address   `json:"reverse_path"` // null for "<>"
	Recipients  []Address `json:"recipients"`   // in order, each once (by Key)
	SMTPUTF8    bool      `json:"smtputf8,omitempty"`
	Body8Bit    bool      `json:"body_8bit,omitempty"` // BODY=8BITMIME was said (RFC 6152)
}

// Session says who handed a message in and how. User is never empty: a message without a user is refused before.
type Session struct {
	User     string     `json:"user"`
	Listener string     `json:"listener"` // the listener's address as configured
	Remote   netip.Addr `json:"remote"`   // unmapped
	Helo     string     `json:"helo"`
	Protocol string     `json:"protocol"` // for Received: SMTP, ESMTP, ESMTPA, ESMTPS, ESMTPSA (RFC 3848)
}

// ID names a message in the queue: 16 characters of 0-9 and a-v, sorting by time of acceptance. The application reads
// it in the 250 and the administrator in the log.
type ID string

var encoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// NewID returns a fresh ID: 48 bits of milliseconds and 32 random bits.
func NewID(now time.Time) ID {
	var b [10]byte
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(b[:6], ms[2:])
	rand.Read(b[6:]) // never fails (crypto/rand, Go 1.24)
	id := []byte(encoding.EncodeToString(b[:]))
	for i, c := range id {
		if c >= 'A' {
			id[i] = c + 'a' - 'A'
		}
	}
	return ID(id)
}

// ParseID checks that s has the form of an ID, so that a typing mistake is told from an unknown message.
func ParseID(s string) (ID, error) {
	ok := len(s) == 16
	for _, c := range s {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'v')
	}
	if !ok {
		return "", fmt.Errorf("%.40q is not a queue ID: it has 16 characters of 0-9 and a-v", s)
	}
	return ID(s), nil
}
