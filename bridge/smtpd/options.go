package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

// Mode is how a listener speaks TLS.
type Mode int

const (
	None     Mode = iota // clear text
	StartTLS             // clear text until the client says STARTTLS (RFC 3207)
	Implicit             // TLS from the first octet (RFC 8314)
)

// AuthMode says whether a listener asks its clients to log in.
type AuthMode int

const (
	// Required offers AUTH; without it only a client from a user's networks may send.
	Required AuthMode = iota
	// Optional is Required, said where clients without AUTH are expected.
	Optional
	// NoAuth does not offer AUTH: every client must come from a user's networks.
	NoAuth
)

// Authenticator knows the local users. Safe for concurrent use.
type Authenticator interface {
	// Login checks a password and returns the user as configured. A *reply.Error is what the client reads (535 5.7.8 for
	// bad credentials); any other error is temporary.
	Login(ctx context.Context, name, password string) (user string, err error)
	// At returns the user that a client without AUTH from addr acts as.
	At(addr netip.Addr) (user string, ok bool)
}

// Desk takes what the listener has received. Safe for concurrent use.
type Desk interface {
	// Submit takes one message. data yields CRLF lines, dots unstuffed; it fails with a *reply.Error where the client broke
	// off or sent what is refused, and then nothing may be kept. It is read to its end before Submit returns nil, and not
	// after Submit has returned. After a nil error the message is kept. ctx ends only when the listener is closed by force:
	// once the final dot has been read, the client's going away changes nothing.
	Submit(ctx context.Context, s envelope.Session, env envelope.Envelope, data io.Reader) (envelope.ID, error)
}

// Options is what the hall hands over. Zero limits and timeouts become the defaults; none can be switched off, because
// the library's own default for each is "without end".
type Options struct {
	Address       string // as configured; for the log and Session.Listener
	Hostname      string // greeting and EHLO
	DefaultDomain string // for a sender or recipient without one; "" refuses those

	TLS           Mode
	TLSConfig     *tls.Config // for StartTLS and Implicit
	Auth          AuthMode
	Networks      []netip.Prefix // who may connect; default loopback
	PlaintextAuth bool           // offer AUTH in clear text off loopback

	MaxMessage               int64 // octets, as CRLF lines without dot-stuffing; default 35 MB
	MaxRecipients            int   // of one message; default 1,000
	MaxConnections           int   // default 200
	MaxConnectionsPerAddress int   // default 50; loopback has none

	CommandTimeout   time.Duration // for one whole command line; default 5 min (RFC 5321 section 4.5.3.2.7)
	DataTimeout      time.Duration // between two blocks of text; default 3 min (RFC 5321 section 4.5.3.2.5)
	DataGrace        time.Duration // waiting for text that MinDataRate forgives; default 5 min
	MinDataRate      int64         // octets a second beyond DataGrace; default 200
	WriteTimeout     time.Duration // for a block of replies; default 1 min
	HandshakeTimeout time.Duration // for TLS; default 30 s
	LoginTimeout     time.Duration // for Users.Login; default 1 min
	LoginDelay       time.Duration // before the reply to a failed login, times the failures so far; default 1 s

	Users  Authenticator
	Desk   Desk
	Events *event.Bus // may be nil
}

// withDefaults checks o and returns it with every limit set.
func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Users == nil || o.Desk == nil:
		return o, errors.New("a listener needs users and a desk")
	case o.Hostname == "":
		return o, errors.New("a listener needs a host name")
	case o.TLS != None && o.TLSConfig == nil:
		return o, fmt.Errorf("listener %s has TLS and no certificate", o.Address)
	}
	if len(o.Networks) == 0 {
		o.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	atLeast(&o.MaxMessage, 35_000_000)
	atLeast(&o.MaxRecipients, 1000)
	atLeast(&o.MaxConnections, 200)
	atLeast(&o.MaxConnectionsPerAddress, 50)
	atLeast(&o.CommandTimeout, 5*time.Minute)
	atLeast(&o.DataTimeout, 3*time.Minute)
	atLeast(&o.DataGrace, 5*time.Minute)
	atLeast(&o.MinDataRate, 200)
	atLeast(&o.WriteTimeout, time.Minute)
	atLeast(&o.HandshakeTimeout, 30*time.Second)
	atLeast(&o.LoginTimeout, time.Minute)
	atLeast(&o.LoginDelay, time.Second)
	return o, nil
}

// atLeast sets a limit that is not positive to its default.
func atLeast[T int | int64 | time.Duration](limit *T, def T) {
	if *limit <= 0 {
		*limit = def
	}
}
