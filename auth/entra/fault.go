package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"

	"postern/auth/diagnosis"
	"postern/auth/token"
)

// signInRemedy is what to do where a person must sign in; the key cabinet puts the account's name in.
const signInRemedy = "run: postern signin " + token.AnyAccount

// class is what kind of failure it is, and so who must act.
type class int

const (
	passing       class = iota // nobody: the same request may succeed later
	signIn                     // a person must sign in
	credential                 // the client secret must be replaced
	configuration              // the app registration or our file must be corrected
)

// classify decides on HTTP status and OAuth error alone ("Microsoft identity platform error codes": react on the error,
// numbers and texts may change). What is not known is temporary.
func classify(status int, code string) class {
	if status >= 500 || status == http.StatusTooManyRequests {
		return passing
	}
	switch code {
	case "invalid_grant", "interaction_required", "consent_required", "login_required",
		"authorization_declined", "expired_token", "bad_verification_code": // the last three: device code
		return signIn
	case "invalid_client":
		return credential
	case "unauthorized_client", "invalid_scope", "invalid_resource", "invalid_request", "unsupported_grant_type",
		"unsupported_response_type", "access_denied":
		return configuration
	}
	return passing
}

// fault turns what x/oauth2 returned into ours. Its RetrieveError prints the whole body and a url.Error the whole URL, so
// neither is kept.
func (c *Client) fault(err error, q request, p proof) *token.Error {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		return c.refusal(answer, q, p)
	}
	if errors.Is(err, errNotJSON) {
		return c.unusable(errNotJSON)
	}
	var network *url.Error
	if errors.As(err, &network) {
		e := &token.Error{
			Text: "provider " + c.config.Provider + ": the token endpoint cannot be reached",
			Err:  fmt.Errorf("token endpoint: %w", network.Err),
		}
		// What the way there knows of itself, such as a proxy that refuses.
		var mend interface{ Remedy() string }
		if errors.As(network.Err, &mend) {
			e.Text += ": " + network.Err.Error()
			e.Remedy = mend.Remedy()
		}
		return e
	}
	return c.unusable(errors.New("it is cut short, too large, or not what a token endpoint sends"))
}

func (c *Client) unusable(err error) *token.Error {
	return &token.Error{
		Text: "provider " + c.config.Provider + ": the token endpoint's reply cannot be used: " + err.Error(),
		Err:  err,
	}
}

func (c *Client) refusal(answer *oauth2.RetrieveError, q request, p proof) *token.Error {
	status := answer.Response.StatusCode
	code := answer.ErrorCode
	if !plainCode.MatchString(code) {
		code = ""
	}
	detail := readDetail(answer)
	e := &token.Error{
		Code:       code,
		Number:     detail.number,
		RetryAfter: retryAfter(answer.Response.Header, c.config.Now()),
		Err:        fmt.Errorf("token endpoint: HTTP %d %s trace %s", status, code, detail.trace),
	}
	kind := classify(status, code)
	e.Person = kind != passing
	row, _ := diagnosis.Find(diagnosis.AADSTS(detail.number), code)
	known := detail.number != 0 && slices.Contains(row.Signs, diagnosis.AADSTS(detail.number))
	row = c.fill(row, p)
	switch {
	case known:
		e.Text = fmt.Sprintf("%s (AADSTS%d)", row.Means, detail.number)
	case status >= 300 && status <= 399:
		e.Text = fmt.Sprintf("the token endpoint answered with a redirect (HTTP %d), which is not followed", status)
	default:
		said := cleanDescription(hide(hide(answer.ErrorDescription, q.refresh, p.value), q.hidden...))
		e.Text = strings.TrimRight(fmt.Sprintf("the token endpoint answered HTTP %d %s: %s", status, code, said), " :")
	}
	e.Text = "provider " + c.config.Provider + ": " + e.Text
	if e.Person {
		e.Remedy = row.For(q.refresh == "" && q.form == nil)
	}
	return e
}

// fill puts this app registration into a row's texts.
func (c *Client) fill(r diagnosis.Row, p proof) diagnosis.Row {
	credential := c.config.SecretRemedy
	certificate := certificateRemedy(c.config.Provider, p)
	switch {
	case p.assertion:
		credential = certificate
	case c.config.Secret == nil && c.config.Certificates == nil:
		credential = "give provider " + c.config.Provider + " a client_secret, or set \"Allow public client flows\" to Yes at the app registration"
	}
	return r.Fill("provider", c.config.Provider, "client_id", c.config.ClientID, "tenant", c.config.Tenant, "account", token.AnyAccount,
		"secret", c.config.SecretRemedy, "certificate", certificate, "credential", credential)
}

var (
	plainCode = regexp.MustCompile(`^[a-z_]{1,40}$`)
	number    = regexp.MustCompile(`^AADSTS([0-9]{4,9})\b:?\s*`)
	trailer   = regexp.MustCompile(`\s*\b(Trace ID|Correlation ID|Timestamp):`)
	plainID   = regexp.MustCompile(`^[0-9A-Fa-f-]{8,64}$`)
)

// detail is what only explains.
type detail struct {
	number int
	trace  string // for Microsoft's support
}

func readDetail(answer *oauth2.RetrieveError) detail {
	var body struct {
		Codes []int  `json:"error_codes"`
		Trace string `json:"trace_id"`
	}
	d := detail{trace: "none"}
	if json.Unmarshal(answer.Body, &body) == nil && plainID.MatchString(body.Trace) {
		d.trace = body.Trace
	}
	if len(body.Codes) > 0 {
		d.number = body.Codes[0]
	} else if m := number.FindStringSubmatch(answer.ErrorDescription); m != nil {
		d.number, _ = strconv.Atoi(m[1])
	}
	return d
}

// cleanDescription returns one printable line of an error_description: without the number, and without the trailer, which
// older replies set off by line ends and newer ones by blanks.
func cleanDescription(s string) string {
	if at := trailer.FindStringIndex(s); at != nil {
		s = s[:at[0]]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, s)
	const maxRunes = 300
	if runes := []rune(s); len(runes) > maxRunes {
		s = string(runes[:maxRunes])
	}
	return strings.Join(strings.Fields(s), " ")
}

// hide takes our own secrets out of a text of the server's, which may quote the request.
func hide(text string, secrets ...token.Secret) string {
	for _, s := range secrets {
		if s == "" {
			continue
		}
		text = strings.ReplaceAll(text, s.Reveal(), s.String())
		text = strings.ReplaceAll(text, url.QueryEscape(s.Reveal()), s.String())
	}
	return text
}

// retryAfter reads Retry-After as seconds, with or without a fraction, or as a date (RFC 9110 section 10.2.3), and 0 where
// there is none. A date is measured by the server's own Date, so that a wrong clock here does not matter.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	const longest = 24 * time.Hour
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(f) || f <= 0 {
			return 0
		}
		return time.Duration(min(f, longest.Seconds()) * float64(time.Second))
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), longest)
}
