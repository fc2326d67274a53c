// Package signin is what a person's sign-in needs on the person's side: the state and the PKCE verifier of one attempt, a
// loopback address that the browser comes back to, the reading of an address that was pasted, and the pace of polling.
// It must not know accounts, the vault, secrets of the app, scopes or mail, and it speaks to no provider: what comes back
// is redeemed by the key cabinet (package auth), which has all that. The command line calls it. What the provider refused
// is a *Refusal; what did not come in time, or was no answer to this attempt, is an error with the remedy.
package signin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"postern/auth/token"
)

// Attempt is one authorization request. Its state is known to nobody else, so that no other page's answer is taken
// (RFC 6749 section 10.12), and its verifier to nobody but us, so that a code which somebody else saw is worth nothing
// (RFC 7636).
type Attempt struct {
	Verifier    token.Secret
	RedirectURI string

	state string
}

// NewAttempt begins one that will be answered at redirectURI.
func NewAttempt(redirectURI string) *Attempt {
	b := make([]byte, 32) // 43 characters, the least that RFC 7636 section 4.1 allows, and 256 bits
	rand.Read(b)          // never fails
	return &Attempt{Verifier: token.Secret(base64.RawURLEncoding.EncodeToString(b)), RedirectURI: redirectURI, state: rand.Text()}
}

// URL completes an authorization URL.
func (a *Attempt) URL(authorize string) (string, error) {
	u, err := url.Parse(authorize)
	if err != nil || u.Host == "" {
		return "", errors.New("the authorization endpoint is no URL; check authority of the provider")
	}
	sum := sha256.Sum256([]byte(a.Verifier.Reveal()))
	q := u.Query()
	q.Set("redirect_uri", a.RedirectURI)
	q.Set("state", a.state)
	q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
	q.Set("code_challenge_method", "S256")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Refusal is what the authorization endpoint answered instead of a code (RFC 6749 section 4.1.2.1).
type Refusal struct {
	Code   string // OAuth error, for example access_denied
	Number int    // AADSTS number, 0 where there is none; for explanations only
	Said   string // the description, made fit for a terminal; "" where there is none
}

// Error returns code and description.
func (r *Refusal) Error() string {
	text := "the sign-in was refused: " + r.Code
	if r.Said != "" {
		text += ": " + r.Said
	}
	return text
}

// errOther says that an answer does not belong to the attempt.
var errOther = errors.New("it belongs to another sign-in, or was changed on the way; start again")

// read takes the answer out of the parameters that the browser came back with. Parameters that are there twice are no
// answer (RFC 6749 section 3.1).
func (a *Attempt) read(q url.Values) (token.Secret, error) {
	for _, name := range []string{"state", "code", "error", "error_description"} {
		if len(q[name]) > 1 {
			return "", errors.New("it has " + name + " twice")
		}
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.state)) != 1:
		return "", errOther
	case q.Get("error") != "":
		return "", newRefusal(q.Get("error"), q.Get("error_description"))
	case q.Get("code") == "":
		return "", errors.New("it has no code")
	}
	return token.Secret(q.Get("code")), nil
}

var (
	plainCode = regexp.MustCompile(`^[a-z_]{1,40}$`)
	number    = regexp.MustCompile(`^AADSTS([0-9]{4,9})\b:?\s*`)
	trailer   = regexp.MustCompile(`\s*\b(Trace ID|Correlation ID|Timestamp):`)
)

// newRefusal makes an attacker's or a server's text fit to print: one line, printable, of a bounded length.
func newRefusal(code, description string) *Refusal {
	r := &Refusal{Code: code}
	if !plainCode.MatchString(code) {
		r.Code = "an error without a usable name"
	}
	if m := number.FindStringSubmatch(description); m != nil {
		r.Number, _ = strconv.Atoi(m[1])
	}
	if at := trailer.FindStringIndex(description); at != nil {
		description = description[:at[0]]
	}
	description = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) && c != unicode.ReplacementChar {
			return c
		}
		return ' '
	}, description)
	const maxRunes = 300
	if runes := []rune(description); len(runes) > maxRunes {
		description = string(runes[:maxRunes])
	}
	r.Said = strings.Join(strings.Fields(description), " ")
	return r
}

// Pasted takes the code out of what a person pasted: the address at which the browser ended, its query alone, or the bare
// code. Only an address can show that it belongs to this attempt by its state; a bare code shows it when it is redeemed,
// by PKCE.
func (a *Attempt) Pasted(text string) (token.Secret, error) {
	text = strings.Trim(strings.TrimSpace(text), `"'<>`)
	query := ""
	switch u, err := url.Parse(text); {
	case text == "":
		return "", errors.New("nothing was pasted")
	case err == nil && u.Host != "":
		query = u.RawQuery
		if query == "" {
			query = u.Fragment
		}
	case strings.Contains(text, "code=") || strings.Contains(text, "error="):
		query = strings.TrimLeft(text, "?#/")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("this is neither an address nor a code; copy the whole address at which the browser ended")
	default:
		return token.Secret(text), nil
	}
	q, err := url.ParseQuery(query)
	if err == nil && q.Has("response_type") {
		return "", errors.New("this is the address that was to be opened; paste the one at which the browser ended")
	}
	if err == nil && !q.Has("code") && !q.Has("error") {
		return "", errors.New("this address has no code; copy the whole address at which the browser ended")
	}
	if err != nil {
		return "", errors.New("this address cannot be read; copy it whole")
	}
	code, err := a.read(q)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		return "", fmt.Errorf("this address is no answer to this sign-in: %w", err)
	}
	return code, err
}
