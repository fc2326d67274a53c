// Package token is the word for credentials: an access token with its expiry, a secret that never prints itself, and an
// error that says who must do what. It knows no HTTP, no vendor and no mail; the key cabinet (package auth) makes tokens
// and the transports spend them. Nothing in it fails.
package token

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Resource names the service an access token is for. A token for one is refused by the other.
type Resource string

const (
	Graph Resource = "graph" // Microsoft Graph
	SMTP  Resource = "smtp"  // SMTP AUTH XOAUTH2 at the smarthost
)

// redacted is what every way of printing a Secret gives.
const redacted = "[redacted]"

// Secret is a token, a password or a client secret. However it is printed, logged or encoded, it gives "[redacted]";
// only Reveal gives the value, so that a search for Reveal finds every place where a secret leaves the program. It is no
// map key: encoding/json writes keys of string type as they are.
type Secret string

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format prints "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue makes slog print "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON encodes "[redacted]"; the vault encodes secrets by Reveal.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText encodes "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Token is an access token for one resource.
type Token struct {
	Access  Secret
	Expiry  time.Time // when the issuer said it ends; never zero
	Scopes  []string  // what was granted, as the issuer spelled it
	Fetched time.Time
}

// Grant is what a token endpoint gave for one request.
type Grant struct {
	Token
	Refresh   Secret        // the new refresh token; "" where none came, and then the one that was used stays good
	RefreshIn time.Duration // when the issuer wishes the access token to be refreshed, from Fetched; 0 where it did not say
	User      string        // who signed in, as the id token says (unverified, for people to read); "" where it does not
}

// AnyAccount stands in a Remedy for the name of the account, which a provider does not know; Error.For puts it there.
const AnyAccount = "ACCOUNT"

// Error says why no token can be had and who must act. errors.As finds it in what package auth returns.
type Error struct {
	Code       string        // OAuth error (RFC 6749 section 5.2), for example invalid_grant; "" where the server sent none
	Number     int           // AADSTS number, 0 where there is none; for explanations only, never for decisions
	Person     bool          // true: a person must act, waiting does not help; false: it may pass by itself
	RetryAfter time.Duration // what the server asked for, 0 where it did not
	Text       string        // what happened, in an administrator's words, without secrets
	Remedy     string        // what to do, for example "run: postern signin erp"; "" where nothing need be done
	Err        error
}

// Error returns Text and the remedy.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + "; " + e.Remedy
}

// For returns a copy whose remedy names the account.
func (e *Error) For(account string) *Error {
	c := *e
	c.Remedy = strings.ReplaceAll(e.Remedy, AnyAccount, account)
	return &c
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
