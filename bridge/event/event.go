// Package event is the word for what happened to a message, an account or a connection, and the fan-out to whoever
// listens (the log today; metrics, notices and a console later). It knows no sink and no room. A sink that fails keeps
// that to itself: an event never stops mail.
package event

import (
	"context"
	"log/slog"
	"time"
)

// Kind is an event's constant message, as it stands in the log.
type Kind string

const (
	ConnectionOpened  Kind = "connection opened"
	ConnectionRefused Kind = "connection refused"
	ConnectionClosed  Kind = "connection closed"
	AuthSucceeded     Kind = "auth succeeded"
	AuthFailed        Kind = "auth failed"

	MessageAccepted Kind = "message accepted"
	MessageRefused  Kind = "message refused"
	MessageRelayed  Kind = "message relayed"
	MessageDeferred Kind = "message deferred"
	MessageInDoubt  Kind = "message in doubt"
	MessageFailed   Kind = "message failed"
	MessageHeld     Kind = "message held"
	MessageLeft     Kind = "message left behind" // a draft of it, mostly, at the next server; it is not sent any more
	QueueFailed     Kind = "queue failed"        // the store could not be read or written
	DiskShort       Kind = "disk short"          // mail is refused until there is room
	DiskEnough      Kind = "disk has room again"
	QueueSalvaged   Kind = "queue salvaged" // the store was damaged, and what could be saved was
	QueueChanged    Kind = "queue changed"  // a person did; the audit line
	QueueHeld       Kind = "queue held"     // all of it, at the start: it is a copy, or has one
	QueueTried      Kind = "queue tried"    // what was in flight when the process died, one message at a time
	BackupWritten   Kind = "backup written"
	ReportQueued    Kind = "report queued"
	NoticeQueued    Kind = "notice queued"
	NoticeFailed    Kind = "notice failed"

	AccountParked    Kind = "account parked"
	AccountPaused    Kind = "account paused"
	AccountResumed   Kind = "account resumed"
	AccountLimited   Kind = "account limited"              // its mailbox sends less than max_message says
	AccountNearLimit Kind = "account near its daily limit" // of recipients
	SenderParked     Kind = "sender parked"                // a pair of account and From
	SenderResumed    Kind = "sender resumed"
	AccountSignedIn  Kind = "account signed in"
	AccountSignedOut Kind = "account signed out"
	TokenRefreshed   Kind = "token refreshed"
	TokenFailed      Kind = "token failed"
	TokenNotStored   Kind = "token not stored"
	TokenStored      Kind = "token stored"
	SecretStored     Kind = "secret stored"
	SecretRemoved    Kind = "secret removed"
	VaultRekeyed     Kind = "vault rekeyed"
	ExpiryNear       Kind = "expiry near" // a secret, a certificate or an unused sign-in ends soon, or has ended
	SmarthostOpened  Kind = "smarthost connected"
	SmarthostFailed  Kind = "smarthost failed"
	GraphCalled      Kind = "graph called"
	GraphFailed      Kind = "graph failed"
	ListenerStarted  Kind = "listener started"
	ListenerStopped  Kind = "listener stopped"
	ServiceStarted   Kind = "service started"
	ServiceStopped   Kind = "service stopped"
	ServiceHangs     Kind = "service hangs"
	ConfigurationBad Kind = "configuration refused"

	ConfigurationReloaded Kind = "configuration reloaded"
	ConfigurationWarning  Kind = "configuration warning"
	LogDropped            Kind = "log lines dropped"
)

// Audit reports whether the event says what a person did to mail, accounts or secrets. The log has those at every level.
func (k Kind) Audit() bool {
	switch k {
	case QueueChanged, BackupWritten, AccountSignedIn, AccountSignedOut, SecretStored, SecretRemoved, VaultRekeyed:
		return true
	}
	return false
}

// Event is one thing that happened. Attrs use the keys of the log (queue_id, message_id, user, account, ...), never a
// secret, a subject or a body.
type Event struct {
	Kind  Kind
	At    time.Time
	Level slog.Level
	Attrs []slog.Attr
}

// Sink receives events. Handle must not block for long, must not keep e.Attrs, and is safe for concurrent use.
type Sink interface {
	Handle(ctx context.Context, e Event)
}

// Bus hands each event to every sink, in order. The zero value drops events. Safe for concurrent use once made.
type Bus struct{ sinks []Sink }

// NewBus returns a bus to these sinks.
func NewBus(sinks ...Sink) *Bus { return &Bus{sinks: sinks} }

// Emit stamps the event and hands it on. A nil Bus drops it, so that a room works without one in a test.
func (b *Bus) Emit(ctx context.Context, level slog.Level, kind Kind, attrs ...slog.Attr) {
	if b == nil {
		return
	}
	e := Event{Kind: kind, At: time.Now(), Level: level, Attrs: attrs}
	for _, s := range b.sinks {
		s.Handle(ctx, e)
	}
}
