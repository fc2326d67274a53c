package config

import (
	"net/netip"
	"time"
)

// Provider is one [[provider]]: an OAuth app registration and where its services are.
type Provider struct {
	// Name is what accounts call it: letters, digits, ".", "_" and "-". Required.
	Name string

	// Type is microsoft. (google and generic come later.) Default: microsoft.
	Type string

	// Cloud is global (GCC too), usgov (GCC High), usgov-dod or china, and sets the endpoints. Default: global.
	Cloud string

	// Tenant is the tenant's GUID or one of its domains; organizations, common or consumers for delegated sign-in only.
	// Required.
	Tenant string

	// ClientID is the application (client) ID of the app registration, a GUID. Required.
	ClientID string

	// ClientSecret refers to the client secret. Default: none, a public client.
	ClientSecret SecretRef

	// Certificates are PEM or PFX files with certificate and RSA key, instead of a secret. Several, also in one PEM file, are
	// for the time of a roll-over: the one that is valid longest is tried first. Re-read for each sign-in. Default: none.
	Certificates []string

	// ClientSecretExpires is the day the secret ends, at midnight UTC, so that it can be warned of. Zero: not known.
	ClientSecretExpires time.Time

	// Authority is the sign-in service without tenant, and Graph the Graph root with its version; URLs without a final
	// slash. Default: the cloud's. To be set for other clouds and for the sandbox.
	Authority, Graph string

	// SMTP is the smarthost as host:port. Default: the cloud's; "" where none is known (usgov-dod), and then Graph is the
	// only transport.
	SMTP string

	// SMTPTLS is starttls or implicit. Default: starttls.
	SMTPTLS string

	// CAFile is a PEM file with the authorities that sign these endpoints. Default: "", the system's.
	CAFile string

	// AllowHTTP lets Authority and Graph be http:// on loopback. Default: false. For the sandbox only: tokens travel there.
	AllowHTTP bool

	// GraphResource, SMTPScopeHost and SMTPScopeHostAppOnly are what OAuth scopes begin with, for Graph, for SMTP with
	// delegated sign-in and for SMTP with app-only sign-in; without a final slash. From the cloud, not from the file.
	GraphResource, SMTPScopeHost, SMTPScopeHostAppOnly string

	// UploadHosts are where files of large messages may go. From the cloud, not from the file.
	UploadHosts []string
}

// SecretRef says where a secret is kept. The zero value is no secret.
type SecretRef struct {
	Kind string // vault, env, file or ""
	Name string // the vault's entry, the variable, or the absolute path
}

// Account is one [[account]]: a mailbox that Postern sends through.
type Account struct {
	// Name is what users and commands call it: letters, digits, ".", "_" and "-". Required.
	Name string

	// Provider names the [[provider]]. Required.
	Provider string

	// Mailbox is the address that mail leaves through; may be a shared mailbox. With SignIn app-only also "*@domain": the
	// mailbox of the From that leaves, with limits of its own. Required.
	Mailbox string

	// Login is who signs in. Default: Mailbox. A shared mailbox has no sign-in of its own and needs one.
	Login string

	// SignIn is delegated (a person signs in once) or app-only (the app registration by itself). Default: delegated.
	SignIn string

	// Transport is graph, smtp or auto (what the sign-in permits and the message needs). Default: auto.
	Transport string

	// Drafts is auto, always or never: make a draft, then send it (no copies, large mail). auto: where Mail.ReadWrite was
	// granted. Default: auto.
	Drafts string

	// Default makes it the account of users that name none. A single account is the default by itself. Default: false.
	Default bool

	// MaxMessage is the mailbox's own limit in bytes, as encoded, 150 MiB at most. Default: 35 MB.
	MaxMessage int64

	// RatePerMinute is how many messages a minute leave; 0 is no limit. Default: 30, as Exchange Online allows. Accounts of
	// one login share it.
	RatePerMinute int

	// Concurrency is how many leave at a time. Default: 3, as Exchange Online allows for SMTP.
	Concurrency int

	// RecipientsPerDay is counted and warned of; 0 is no limit. Default: 10,000, as Exchange Online allows.
	RecipientsPerDay int

	// OnDoubt is resend or hold, for when nobody can tell whether a message went out. Default: resend: at most two copies
	// rather than none. hold where a second invoice is worse than a late one.
	OnDoubt string

	// DoubtWait is how long the message is looked for before that. Default: 10 minutes.
	DoubtWait time.Duration
}

// User is one [[user]]: a local application.
type User struct {
	// Name is what the application logs in with, compared without regard to case. Required.
	Name string

	// Passwords are one or two argon2id hashes (two while the password is being changed), made by `postern passwd`.
	// Default: none, and then it cannot log in.
	Passwords []string

	// Networks are the addresses whose clients act as this user without logging in; the longest prefix of all users wins.
	// None wider than /16 (IPv4) or /48 (IPv6). Default: none. Everybody on such an address is this user.
	Networks []netip.Prefix

	// Account names the [[account]]. Default: the default account's name, filled in by Load.
	Account string

	// Address is the user's own address, for the sender mode current-user. Default: none.
	Address string

	// MaySendAs are patterns for the sender that leaves. Default: the account's mailbox, Address, and the address of
	// Sender, filled in by Load.
	MaySendAs []string

	// DefaultSenders says that MaySendAs is the default; under a scenario that is the scenario's account, Address, and the
	// address of the scenario's Sender.
	DefaultSenders bool

	// MaySendTo are patterns for recipients. Default: "*", everybody; to be set for users that do not log in.
	MaySendTo []string

	// Sender says how the sender is rewritten. Default: nil, kept as the application wrote it.
	Sender *Sender

	// RatePerMinute paces the user: over it mail is queued and waits. Default: 0, no limit.
	RatePerMinute int

	// MaxQueued is how many messages of the user may wait in the queue before more are refused for the time being. Default: 0, no limit.
	MaxQueued int
	// MaxQueuedSize is how many octets of the user's mail may wait in the queue, as they came, before more is refused for the
	// time being. Default: 0, no limit.
	MaxQueuedSize int64

	// MaxRecipients is the number of recipients of one message. Default: 0, no limit but the listener's.
	MaxRecipients int

	// MaxMessage is the size of one message in bytes. Default: 0, the account's.
	MaxMessage int64
}

// Sender is a sender table, of a user or of a scenario.
type Sender struct {
	// Mode is keep (as the application wrote it), account (the account's mailbox), send-as (Address), on-behalf (From is
	// Address or the application's own, Sender the account) or current-user (the header From, else the user's address).
	// Required.
	Mode string

	// Address is the From of send-as, which requires it, and of on-behalf. The other modes refuse it.
	Address string

	// Name is the display name. Default: "", it stays.
	Name string

	// ReplyTo is original (the application's From, where there is no Reply-To), none (a Reply-To is removed), or an
	// address. Default: "", the field stays as it is.
	ReplyTo string

	// Otherwise says what happens to a sender that MaySendAs does not allow: refuse, or account: replaced by the account's
	// mailbox, the original kept as Reply-To (devices and cron write garbage). Default: refuse.
	Otherwise string
}

// Scenario is one [[scenario]]: mail that goes another way. The first whose Match holds wins.
type Scenario struct {
	Name       string // required
	Match      Match
	Account    string   // names the [[account]]; default: the user's
	Sender     *Sender  // before the user's
	Attach     []string // absolute paths of files that are attached
	Bcc        []string // addresses that also get it, in no header
	FooterText string   // absolute path of a text file; "" is none
	FooterHTML string   // absolute path of an HTML file; "" is none
	ReplyTo    string   // an address; "" leaves it alone
	SaveToSent bool     // default: true; false where the transport can
	Hold       bool     // waits for `queue release`; default: false

	// At is where the table stands, without a text: for mistakes in the files that it names, which only the hall reads.
	At Mistake
}

// Match is what a scenario looks for; everything in it must hold, and of a list any one. Globs, without regard to case.
type Match struct {
	User, Listener, From, To, Subject []string
	Header                            map[string][]string // field name -> globs
	Larger, Smaller                   int64               // ">1MB", "<1MB" in bytes; 0 is no limit
}

func defaultProvider() Provider {
	return Provider{Type: "microsoft", Cloud: "global", SMTPTLS: "starttls"}
}

func defaultAccount() Account {
	return Account{
		SignIn: "delegated", Transport: "auto", Drafts: "auto", MaxMessage: 35 * megabyte, RatePerMinute: 30,
		Concurrency: 3, RecipientsPerDay: 10_000, OnDoubt: "resend", DoubtWait: 10 * time.Minute,
	}
}

func defaultUser() User { return User{MaySendTo: []string{"*"}} }

func defaultSender() Sender { return Sender{Otherwise: "refuse"} }

func defaultScenario() Scenario { return Scenario{SaveToSent: true} }
