package sandbox

import (
	"time"
)

// Duration is a time.Duration that JSON writes as "5s".
type Duration struct{ time.Duration }

// MarshalText writes "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

// The symptoms of a Graph request over the cap, all seen in the field (facts B3).
const (
	TooLarge413  = "413"  // JSON
	TooLarge400  = "400"  // BadRequest "The maximum request length supported is 4MB."
	TooLargeHTML = "html" // a bare HTML 500
	TooLarge200  = "200"  // HTTP 200, and nothing sent
)

// Switches are behaviours that are unknown, differ between providers or tenants, or are wanted for a test. The zero
// value is Microsoft's behaviour as far as known.
type Switches struct {
	// Entra
	RevokeOnUse       bool     `json:"revoke_on_use"`        // a used refresh token is dead; Entra keeps it
	NoNewRefreshToken bool     `json:"no_new_refresh_token"` // like Google
	ExpiresInString   bool     `json:"expires_in_string"`
	FirstScopeWins    bool     `json:"first_scope_wins"`    // two resources in one refresh give the first one's token, as one page says; else AADSTS28000
	OldTrailer        bool     `json:"old_trailer"`         // error_description with line ends instead of blanks
	PKCEOptional      bool     `json:"pkce_optional"`       // as at Entra: plain and none are taken too; else S256 is demanded
	DeviceOneResource bool     `json:"device_one_resource"` // a device code is for one resource's scopes; no fact says which
	DeviceInterval    Duration `json:"device_interval"`     // between two polls, whole seconds; default 5s
	TokenLifetime     Duration `json:"token_lifetime"`      // 0 is random, 60 to 90 minutes

	// Graph
	TooLarge         string   `json:"too_large"`         // symptom over the cap; default TooLarge413
	RequestCap       int64    `json:"request_cap"`       // octets of a request body; default 4 MiB
	GraphConcurrency int      `json:"graph_concurrency"` // requests at once per app and mailbox; default 4
	KeepBcc          bool     `json:"keep_bcc"`          // Bcc stays on the delivered copy
	SentLag          int      `json:"sent_lag"`          // so many reads after /send still see a draft
	UploadLifetime   Duration `json:"upload_lifetime"`   // of an upload session; default an hour

	// SMTP
	SMTPConcurrency   int  `json:"smtp_concurrency"`    // transactions at once per mailbox; default 3
	SharedUser        bool `json:"shared_user"`         // user= may be a shared mailbox that the user has full access to
	BareChallenge     bool `json:"bare_challenge"`      // "334" without the blank, as Microsoft's page prints it
	ErrorChallenge    bool `json:"error_challenge"`     // a failed XOAUTH2 gets Gmail's 334 with JSON before the 535
	TenantSMTPOff     bool `json:"tenant_smtp_off"`     // SmtpClientAuthentication is disabled for the tenant
	NullReversePath   bool `json:"null_reverse_path"`   // MAIL FROM:<> is not refused after the dot
	RefuseDuplicates  bool `json:"refuse_duplicates"`   // a Message-ID seen before from the mailbox: MapiExceptionDuplicateDelivery
	KeepBareLinefeeds bool `json:"keep_bare_linefeeds"` // take bare LF and CR in DATA; else 550 5.6.11

	// Both
	ReplaceMessageID bool     `json:"replace_message_id"` // as for consumer mailboxes (facts C5)
	MaxRecipients    int      `json:"max_recipients"`     // of one message; default 500
	RetryAfter       string   `json:"retry_after"`        // header of 429 and 503: seconds, also fractional, or a date; default "1"; "none" leaves it away
	SlowDelay        Duration `json:"slow_delay"`         // how long slow@ waits; default 5s
}

// filled puts defaults where nothing was said.
func (w Switches) filled() Switches {
	if w.TooLarge == "" {
		w.TooLarge = TooLarge413
	}
	if w.RequestCap == 0 {
		w.RequestCap = 4 << 20
	}
	if w.GraphConcurrency == 0 {
		w.GraphConcurrency = 4
	}
	if w.UploadLifetime.Duration == 0 {
		w.UploadLifetime.Duration = time.Hour
	}
	if w.SMTPConcurrency == 0 {
		w.SMTPConcurrency = 3
	}
	if w.DeviceInterval.Duration == 0 {
		w.DeviceInterval.Duration = deviceInterval
	}
	if w.MaxRecipients == 0 {
		w.MaxRecipients = 500
	}
	if w.RetryAfter == "" {
		w.RetryAfter = "1"
	}
	if w.SlowDelay.Duration == 0 {
		w.SlowDelay.Duration = 5 * time.Second
	}
	return w
}
