package graph

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postern/auth/token"
	"postern/bridge/reply"
)

const (
	maxRetryWait = time.Hour   // whatever the server says: beyond it we look for ourselves
	minRetryWait = time.Second // "Retry-After: 0" is no invitation to hammer
	maxNesting   = 16          // of innerError
)

// fault is Graph's error object. The SDK's model of it (models/odataerrors) is not used: its InnerError has neither code
// nor innerError, which is where the most specific code stands, and it does not know the spelling "innererror".
// encoding/json finds both spellings.
type fault struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	RequestID  string `json:"request-id"`
	InnerError *fault `json:"innerError"`
}

// readFault parses an error body; of one that is no Graph error (a proxy's page, half a JSON text) nothing is known.
// A member of the wrong type is skipped.
func readFault(b []byte) fault {
	var envelope struct {
		Error fault `json:"error"`
	}
	_ = json.Unmarshal(b, &envelope)
	return envelope.Error
}

// code returns the most specific code that known knows ("Microsoft Graph error responses", November 2026), else the
// outermost one.
func (f fault) code(known func(string) bool) string {
	best := f.Code
	inner := f.InnerError
	for range maxNesting {
		if inner == nil {
			break
		}
		if inner.Code != "" && known(inner.Code) {
			best = inner.Code
		}
		inner = inner.InnerError
	}
	return best
}

// requestID is what the vendor's support asks for: the header, else what the error body says.
func requestID(h http.Header, f fault) string {
	id := h.Get("request-id")
	if id == "" && f.InnerError != nil {
		id = f.InnerError.RequestID
	}
	return oneLine(id, "")
}

// oneLine makes text of a server fit to be logged and reported, without the secret, should the server quote it.
func oneLine(s string, secret token.Secret) string {
	if secret != "" {
		s = strings.ReplaceAll(s, secret.Reveal(), secret.String())
	}
	return reply.OneLine(s)
}

// retryAfter reads a Retry-After field: seconds, which Graph also gives as a fraction ("2.128"), or a date, counted from
// the server's own Date where it gave one. 0 means that there was none that can be understood; else the value lies
// between a second and an hour. RFC 9110 section 10.2.3.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if strings.Trim(v, "0123456789.") == "" {
		seconds, err := strconv.ParseFloat(v, 64)
		if err != nil && !math.IsInf(seconds, 1) {
			return 0
		}
		if seconds >= maxRetryWait.Seconds() {
			return maxRetryWait
		}
		return max(time.Duration(math.Round(seconds*float64(time.Second))), minRetryWait)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), minRetryWait), maxRetryWait)
}
