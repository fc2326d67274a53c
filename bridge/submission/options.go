package submission

import (
	"context"
	"io"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
)

// Enqueuer keeps accepted mail. The queue is one.
type Enqueuer interface {
	// Enqueue reads body to its end and commits the message before it returns nil. When body fails it keeps nothing
	// and returns an error that wraps what body gave. A *reply.Error in its chain is what the application hears.
	Enqueue(ctx context.Context, m message.Message, body io.Reader) error
}

// Account is a mailbox that mail leaves through.
type Account struct {
	Name string

	// Mailbox is the account's own address. A local part "*" is an account for the mailbox of each final From in that
	// domain.
	Mailbox envelope.Address

	Login      envelope.Address // who signs in; null where that is the mailbox, or the application itself (app-only)
	MaxMessage int64            // octets as they come in DATA; 0 is no limit
}

// User is a local application.
type User struct {
	Name    string
	Account string           // "" is Options.Default
	Address envelope.Address // his own; may be null

	// MaySendAs and MaySendTo are lists of "*", "*@example.test" (not its sub-domains) and whole addresses. Without
	// MaySendAs (nil) it is the account's mailbox, Address and the address of Sender; without MaySendTo everybody.
	// An empty list that is not nil allows nobody.
	MaySendAs []string
	MaySendTo []string

	Sender        *Sender // nil is mode Keep
	MaxMessage    int64   // octets; 0 is the account's alone
	MaxRecipients int     // of one message; 0 is no limit
	RatePerMinute int     // more is taken, and leaves later; 0 is no limit
}

// Sender says how the sender is rewritten.
type Sender struct {
	Mode      Mode             // "" is Keep
	Address   envelope.Address // of SendAs, and of OnBehalf where it is not the application's own
	Name      string           // display name of From; "" leaves the application's
	ReplyTo   string           // "" leaves the field, "original", "none", or an address
	Otherwise Otherwise        // "" is Refuse
}

// Mode is a way of choosing the sender (design.md section 5).
type Mode string

const (
	Keep        Mode = "keep"         // as the application wrote it
	AsAccount   Mode = "account"      // the account's mailbox
	SendAs      Mode = "send-as"      // the given address
	OnBehalf    Mode = "on-behalf"    // the given or the application's own address, with the account as Sender
	CurrentUser Mode = "current-user" // the application's own address, else the user's
)

// Otherwise says what becomes of a sender that is not allowed, or that is none.
type Otherwise string

const (
	Refuse     Otherwise = "refuse"  // 550 5.7.1
	UseAccount Otherwise = "account" // the account's mailbox, the original kept as Reply-To
)

// The words of Sender.ReplyTo.
const (
	replyToOriginal = "original"
	replyToNone     = "none"
)

// Options is what a Desk needs.
type Options struct {
	Hostname      string // in Received and in a Message-ID that we make
	DefaultDomain string // for a From without one; "" where there is none
	Accounts      []Account
	Default       string // name of the account of users that name none; "" where a single account is the default
	Users         []User
	Scenarios     []Scenario // in order; the first that holds decides
	Pacer         *Pacer     // nil is one of the Desk's own
	SpoolDir      string     // where a large message waits until a scenario has seen its size; "" is the system's folder
	// Room refuses so many octets more in SpoolDir, with a *reply.Error, where its disk has too little room. nil: nobody knows.
	Room    func(ctx context.Context, octets int) error
	Full    func(error) bool // whether a write to SpoolDir found none; nil: nobody knows
	Queue   Enqueuer
	Carrier Carrier          // nil: every route carries everything
	Events  *event.Bus       // may be nil
	Now     func() time.Time // nil is time.Now; its zone is the zone of Date and Received
}
