// Package config reads the administrator's TOML file and turns it into a Config: strict keys, defaults, and every
// mistake at once, each with its place and its remedy. It opens the configuration files and nothing else, changes
// nothing, and must not know what the rooms do with the values: the hall (package bridge) alone reads a Config and
// hands each room its own Options. A wrong file is a *Mistakes; anything else is the system's refusal to give the file.
//
// The field comments are the manual of the keys; config.example.toml says the same to administrators, and a test holds
// its values equal to the defaults here. Wherever a list of addresses takes patterns, these are an address, "*@domain"
// (not its sub-domains) and "*".
package config

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Config is a configuration without mistakes. It is never changed after Load.
type Config struct {
	Path      string // of the main file, as it was given to Load
	Bridge    Bridge
	Log       Log
	Listeners []Listener // at least one
	Providers []Provider
	Accounts  []Account // at least one; each of a provider in Providers
	Users     []User
	Scenarios []Scenario // in order, those of included files after those of the main file
	Queue     Queue
	Notify    Notify
	Warnings  []Mistake // what works but should be looked at; sorted by file and line
}

// Bridge is the table [bridge]: what concerns the whole of Postern.
type Bridge struct {
	// Hostname stands in the greeting, in Received fields and in the Message-ID of messages that have none. Default: the
	// machine's name. Set it where that name is not one that others may see.
	Hostname string

	// DataDir is the folder of queue, tokens and secrets, mode 0700. Default: /var/lib/postern, on Windows
	// %ProgramData%\Postern. It belongs on a local disk that honours fsync, never on a network share.
	DataDir string

	// DefaultDomain is added to a sender or recipient without a domain ("root", "scanner"). Default: none, such an
	// address is refused. DSNs also go to addresses of this domain.
	DefaultDomain string

	// Proxy is the HTTP proxy for Graph and sign-in, "http://proxy:3128". Default: the variables HTTPS_PROXY and NO_PROXY.
	// A proxy with a password is set by those, because the password must not stand in the file.
	Proxy string

	// SendmailUser names the [[user]] that `postern sendmail` submits as. Default: none, and then it refuses to.
	SendmailUser string
}

// Log is the table [log]: how much is written, how and where.
type Log struct {
	// Level is the least that is written: debug, info, warn or error. Default: info. debug adds the SMTP dialogues.
	Level slog.Level

	// Format is text or json. Default: text.
	Format string

	// To is auto, stderr, file or eventlog. Default: auto: stderr, and as a Windows service the event log and the file.
	To string

	// File is where the log goes with To = file. Default: postern.log in DataDir.
	File string

	// MaxSize is the size in bytes at which the file is put aside and a new one begun. Default: 20 MB.
	MaxSize int64

	// Keep is how many old files stay. Default: 10. 0 keeps all.
	Keep int
}

// Listener is one [[listener]]: an address where applications hand in mail.
type Listener struct {
	// Address is host:port; the host is an IP address, localhost, or empty for every address of the machine. Required.
	// Beyond loopback a listener needs TLS and Auth = required, or Networks in the file.
	Address string

	// TLS is none, starttls or implicit (TLS from the first octet, port 465). Default: none.
	TLS string

	// TLSCert and TLSKey are files in PEM, the certificate with its chain; or TLSCert alone is a PFX file. Re-read when
	// they change. Required with starttls and implicit.
	TLSCert, TLSKey string

	// MinTLS is the oldest TLS that is spoken: 1.2 or 1.3; 1.0 and 1.1 only with old-tls in Tolerate. Default: 1.2, and
	// 1.0 with old-tls.
	MinTLS string

	// Auth says whether clients must log in before they hand in mail: required, optional or none. Default: required.
	// optional and none serve clients that cannot, as the user whose Networks hold their address.
	Auth string

	// Networks says who may connect, as addresses or prefixes. Default: 127.0.0.0/8 and ::1/128. It does not let anybody
	// send without a login; a user's networks do.
	Networks []netip.Prefix

	// Tolerate switches on what old clients need and what costs safety: plaintext-auth (passwords without TLS from other
	// machines), old-tls (TLS before 1.2, RSA key exchange and AES-CBC), bare-cr (a lone CR in a message ends a line),
	// crcrlf-end (CR CR LF . CR CR LF ends a message too). Default: none.
	Tolerate []string

	// MaxConnections is the number of clients at a time, and MaxConnectionsPerAddress how many of them may come from one
	// address; loopback has no limit of its own. A fifth of MaxConnections is kept for addresses that have logged in or
	// handed in mail within a day. Default: 200 and 50.
	MaxConnections, MaxConnectionsPerAddress int

	// At is where the table stands, without a text: for mistakes in the files that it names, which only the hall reads.
	At Mistake
}

// Queue is the table [queue]: how long mail is tried and kept.
type Queue struct {
	// GiveUpAfter is the age at which a message that was deferred again and again fails, with a DSN. The time that its
	// account was parked does not count, nor what it waited for its user's RatePerMinute. Default: 5 days.
	GiveUpAfter time.Duration

	// WarnAfter is the age at which the sender gets a delay notice. Default: 4 hours.
	WarnAfter time.Duration

	// ParkLimit is how long mail of a parked account waits before it is held. Default: 30 days. It never fails for it.
	ParkLimit time.Duration

	// KeepHistory is how long the envelope and the fate of finished messages can be looked up. Default: 30 days.
	KeepHistory time.Duration

	// KeepFailed is how long failed messages are kept whole, so that they can be sent again. Default: 14 days.
	KeepFailed time.Duration

	// KeepBodies keeps relayed messages whole as well, as long as KeepHistory. Default: false.
	KeepBodies bool

	// MinFreeDisk is the free space in bytes on the disk of DataDir below which mail is refused for the time being.
	// Default: 1 GB.
	MinFreeDisk int64

	// StopGrace is how long a stop waits for messages that are being relayed. Default: 30 seconds.
	StopGrace time.Duration
}

// Notify is the table [notify]: whom Postern tells.
type Notify struct {
	// To are the addresses that hear of failures, parked accounts and what is about to expire. Default: none; the log has
	// it all the same.
	To []string
}

// Default returns the defaults of the plain tables and no listener, provider, account or user, as an empty file means
// them. Load fills in Bridge.Hostname.
func Default() Config {
	return Config{
		Bridge: Bridge{DataDir: defaultDataDir()},
		Log:    Log{Level: slog.LevelInfo, Format: "text", To: "auto", File: "postern.log", MaxSize: 20 * megabyte, Keep: 10},
		Queue: Queue{
			GiveUpAfter: 5 * day, WarnAfter: 4 * time.Hour, ParkLimit: 30 * day, KeepHistory: 30 * day, KeepFailed: 14 * day,
			MinFreeDisk: 1000 * megabyte, StopGrace: 30 * time.Second,
		},
	}
}

const (
	day      = 24 * time.Hour
	megabyte = 1_000_000
)

// defaultDataDir follows %ProgramData% only where there is one: it is Windows' own variable.
func defaultDataDir() string {
	if d := os.Getenv("ProgramData"); d != "" && filepath.Separator == '\\' {
		return filepath.Join(d, "Postern")
	}
	if filepath.Separator == '\\' {
		return `C:\ProgramData\Postern`
	}
	return "/var/lib/postern"
}

func defaultListener() Listener {
	return Listener{
		TLS: "none", MinTLS: "1.2", Auth: "required",
		Networks:       []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Tolerate:       []string{},
		MaxConnections: 200, MaxConnectionsPerAddress: 50,
	}
}
