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
	// Required lets nobody send who has not logged in.
	Required AuthMode = iota
	// Optional offers AUTH; without it a client from a user's networks may send.
	Optional
	// NoAuth does not offer AUTH: every client must come from a user's networks.
	NoAuth
)

// Authenticator knows the local users. Safe for concurrent use.
type Authenticator interface {
	// LoginFrom checks a password that a client at remote has said, and returns the user as configured. A *reply.Error is
	// what the client reads (535 5.7.8 for bad credentials, 454 4.7.0 for a block after too many of them); any other error
	// is temporary. The answer to a failure is held back for wait.
	LoginFrom(ctx context.Context, remote netip.Addr, name, password string) (user string, wait time.Duration, err error)
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
	BareCR        bool           // a lone CR in the text of a message is a line end, instead of refused
	CRCRLFEnd     bool           // CR CR LF . CR CR LF ends the text too

	MaxMessage               int64 // octets, as CRLF lines without dot-stuffing; default 35 MB
	MaxRecipients            int   // of one message; default 1,000
	MaxConnections           int   // default 200; a fifth of it is kept for addresses that have worked within a day
	MaxConnectionsPerAddress int   // default 50; loopback has none

	CommandTimeout   time.Duration // for one whole command line; default 5 min (RFC 5321 section 4.5.3.2.7)
	DataTimeout      time.Duration // between two blocks of text; default 3 min (RFC 5321 section 4.5.3.2.5)
	DataGrace        time.Duration // waiting for text that MinDataRate forgives; default 5 min
	MinDataRate      int64         // octets a second beyond DataGrace; default 200
	MessageTimeout   time.Duration // waiting for the text of one message in all; default 6 h
	WriteTimeout     time.Duration // for a block of replies; default 1 min
	HandshakeTimeout time.Duration // for TLS; default 30 s
	LoginTimeout     time.Duration // for Users.LoginFrom; default 1 min
	SessionTimeout   time.Duration // without a message that was taken, whatever else is said; default 1 h
	EarlyWait        time.Duration // before the greeting, for clients off loopback that talk first; default 50 ms
	restAfter        time.Duration // see rests; tests have every client rest

	// Carries returns the largest message that any route carries now, for SIZE; 0, or a nil function, is MaxMessage.
	Carries func() int64

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
	atLeast(&o.MessageTimeout, 6*time.Hour)
	atLeast(&o.WriteTimeout, time.Minute)
	atLeast(&o.HandshakeTimeout, 30*time.Second)
	atLeast(&o.LoginTimeout, time.Minute)
	atLeast(&o.SessionTimeout, time.Hour)
	atLeast(&o.EarlyWait, 50*time.Millisecond)
	atLeast(&o.restAfter, restAfter)
	return o, nil
}

// atLeast sets a limit that is not positive to its default.
func atLeast[T int | int64 | time.Duration](limit *T, def T) {
	if *limit <= 0 {
		*limit = def
	}
}
