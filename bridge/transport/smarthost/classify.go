package smarthost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/auth/diagnosis"
	"postern/bridge/reply"
)

// step is where in the dialogue a reply came.
type step uint

const (
	greet step = 1 << iota
	hello
	starttls
	auth
	mail
	rcpt
	data
	dot // the reply after the message
)

const anywhere = ^step(0)

// String names the step in the words of RFC 5321.
func (at step) String() string {
	switch at {
	case greet:
		return "connection"
	case hello:
		return "EHLO"
	case starttls:
		return "STARTTLS"
	case auth:
		return "AUTH"
	case mail:
		return "MAIL"
	case rcpt:
		return "RCPT"
	case data:
		return "DATA"
	}
	return "the final dot"
}

// rule says what a reply means. Every condition that is set must hold.
type rule struct {
	at     step
	code   int    // 0: any
	status status // zero: any
	text   string // in lower case, somewhere in the text; "": any

	verdict    reply.Verdict
	owner      reply.Owner
	retryAfter time.Duration
	means      string // its name in auth/diagnosis, without "smtp "; "" where the reply says all
}

// status is an enhanced status code (RFC 3463), or a range of its last number.
type status struct{ class, subject, first, last int }

func exactly(class, subject, detail int) status { return status{class, subject, detail, detail} }

// rules has what Exchange Online and Gmail are known to say, from their documentation and published logs of November 2026;
// none was checked against a live tenant. The first that matches counts. What stands not here is judged by its step and
// its first digit.
var rules = []rule{
	{at: anywhere, text: "smtpclientauthentication is disabled for the tenant", owner: reply.Account, means: "auth-off-tenant"},
	{at: anywhere, text: "smtpclientauthentication is disabled", owner: reply.Account, means: "auth-off-mailbox"},
	{at: anywhere, text: "federated sts service was unreachable", owner: reply.Route, means: "federation"},
	{at: anywhere, status: exactly(5, 7, 139), owner: reply.Account, means: "auth-policy"},
	{at: anywhere, status: exactly(5, 7, 57), owner: reply.Account, means: "not-signed-in"},
	{at: anywhere, code: 530, owner: reply.Account, means: "not-signed-in"},
	{at: mail, code: 535, owner: reply.Account, means: "not-signed-in"},

	{at: anywhere, code: 421, owner: reply.Route, means: "busy"},
	{at: anywhere, code: 432, owner: reply.Route, means: "concurrency"}, // more than three submissions at once
	{at: anywhere, status: exactly(4, 3, 2), owner: reply.Route, means: "busy"},
	// Not at RCPT: there it is one recipient's greylisting.
	{at: anywhere &^ rcpt, status: exactly(4, 2, 1), owner: reply.Route, means: "busy"},
	{at: anywhere &^ rcpt, status: exactly(4, 7, 0), owner: reply.Route, means: "busy"},
	{at: anywhere, status: status{4, 7, 500, 699}, owner: reply.Route, means: "busy"},
	{at: anywhere, status: status{4, 7, 850, 899}, owner: reply.Route, means: "busy"},

	// A window of 24 hours that slides: an hour is the longest wait that a reply may ask for.
	{at: anywhere, text: "submissionquotaexceeded", owner: reply.Route, retryAfter: time.Hour, means: "day-limit"},
	{at: anywhere, text: "submission quota exceeded", owner: reply.Route, retryAfter: time.Hour, means: "day-limit"},
	{at: anywhere, status: exactly(5, 1, 90), owner: reply.Route, retryAfter: time.Hour, means: "day-limit"},
	{at: anywhere, status: status{5, 7, 232, 233}, owner: reply.Route, retryAfter: time.Hour, means: "day-limit"},
	{at: anywhere, text: "external recipient rate limit", owner: reply.Route, retryAfter: time.Hour, means: "day-limit"},
	{at: anywhere, status: exactly(5, 4, 5), text: "sending limit", owner: reply.Route, retryAfter: time.Hour, means: "day-limit"}, // Gmail

	// 5.2.252 means two things: 550 and throttled is the account's, 554 the sender's.
	{at: anywhere, status: status{5, 2, 251, 255}, text: "throttled", owner: reply.Account, means: "throttled-errors"},
	{at: anywhere, text: "sendasdenied", owner: reply.Sender, means: "send-as"},
	{at: anywhere, code: 554, status: exactly(5, 2, 252), owner: reply.Sender, means: "send-as"},
	{at: anywhere, status: status{5, 2, 251, 255}, owner: reply.Account, means: "throttled-errors"},
	{at: anywhere, status: exactly(5, 7, 60), owner: reply.Sender, means: "send-as"},
	{at: mail, code: 553, owner: reply.Sender, means: "send-as"},
	{at: mail, status: exactly(5, 1, 7), owner: reply.Sender, means: "send-as"},
	{at: mail, status: exactly(5, 7, 1), owner: reply.Sender, means: "send-as"},

	{at: anywhere, text: "outboundspamexception", owner: reply.Account, means: "spam"},
	{at: anywhere, status: exactly(5, 1, 8), owner: reply.Account, means: "spam"},
	{at: anywhere, status: status{5, 7, 501, 503}, owner: reply.Account, means: "spam"}, // 504, 505 and 507 are about the recipient
	{at: anywhere, status: exactly(5, 7, 506), owner: reply.Account, means: "helo"},
	{at: anywhere, status: exactly(5, 7, 508), owner: reply.Route, means: "busy"}, // our address has sent too much in a short time
	{at: anywhere, status: exactly(5, 7, 705), owner: reply.Account, means: "spam"},
	{at: anywhere, status: exactly(5, 7, 708), owner: reply.Account, means: "spam"},
	{at: anywhere, status: exactly(5, 7, 750), owner: reply.Sender, means: "domain"}, // other domains go on

	// At RCPT a full mailbox is the recipient's; after the message it is ours, full of sent items.
	{at: data | dot, status: exactly(5, 2, 2), owner: reply.Account, means: "full"},
	{at: data | dot, text: "quotaexceededexception", owner: reply.Account, means: "full"},

	// The rest goes in another transaction.
	{at: rcpt, status: exactly(5, 5, 3), owner: reply.Recipient, means: "too-many"},
	{at: rcpt, code: 552, text: "too many recipients", owner: reply.Recipient, means: "too-many"},

	// What a recipient's mailbox may receive in an hour, of us or of all: later it takes the message.
	{at: rcpt, status: status{5, 2, 121, 122}, owner: reply.Recipient, means: "receive-limit"},
	{at: data | dot, status: status{5, 2, 121, 122}, owner: reply.Message, means: "receive-limit"},

	{at: mail | data | dot, status: exactly(5, 3, 4), verdict: reply.Failed, owner: reply.Message, means: "size"},
	{at: mail | data | dot, status: exactly(5, 2, 3), verdict: reply.Failed, owner: reply.Message, means: "size-unknown"},

	// Out of order: it says something of the dialogue, nothing of a message.
	{at: anywhere, code: 503, owner: reply.Route},
}

// judge finds what a reply means: the first rule that matches, or the step's own.
func judge(at step, r reply.Reply) rule {
	for _, u := range rules {
		if u.matches(at, r) {
			return u
		}
	}
	if r.Code < 400 || r.Code > 599 { // not what was asked for, and no refusal: the dialogue is broken
		if at == dot {
			return rule{verdict: reply.InDoubt, owner: reply.Route}
		}
		return rule{owner: reply.Route}
	}
	if r.Code < 500 {
		return judgeTemporary(at, r)
	}
	return judgePermanent(at, r)
}

// judgeTemporary: unknown failures are the message's own from MAIL on, and the route's before.
func judgeTemporary(at step, r reply.Reply) rule {
	switch {
	case at == rcpt:
		return rule{owner: reply.Recipient}
	case at&(mail|data|dot) == 0, strings.HasPrefix(r.Enhanced, "4.3."): // X.3.X is the mail system (RFC 3463 section 3.4)
		return rule{owner: reply.Route}
	}
	return rule{owner: reply.Message}
}

// judgePermanent: only what the server says of a recipient at RCPT, or of the message after it, is proof. DATA's own 5yz
// is about a message that nobody has read, and MAIL's may be about the address and its parameters alone (501 5.5.4, 555,
// 550 5.6.7), which other messages have not.
func judgePermanent(at step, r reply.Reply) rule {
	switch at {
	case auth:
		return rule{owner: reply.Account, means: "not-signed-in"}
	case mail:
		if r.Code == 552 && r.Enhanced == "" { // the answer to SIZE= (RFC 1870 section 6.1)
			return rule{verdict: reply.Failed, owner: reply.Message, means: "size-unknown"}
		}
		return rule{owner: reply.Message}
	case rcpt:
		return rule{verdict: reply.Failed, owner: reply.Recipient}
	case data:
		return rule{owner: reply.Message}
	case dot:
		return rule{verdict: reply.Failed, owner: reply.Message}
	}
	return rule{owner: reply.Route}
}

func (u rule) matches(at step, r reply.Reply) bool {
	return u.at&at != 0 &&
		(u.code == 0 || u.code == r.Code) &&
		(u.status == status{} || u.status.has(r.Enhanced)) &&
		strings.Contains(strings.ToLower(r.Text), u.text)
}

func (s status) has(enhanced string) bool {
	detail, ok := strings.CutPrefix(enhanced, fmt.Sprintf("%d.%d.", s.class, s.subject))
	if !ok {
		return false
	}
	n, err := strconv.Atoi(detail)
	return err == nil && n >= s.first && n <= s.last
}

// trouble is a step that failed.
type trouble struct {
	outcome  reply.Outcome // with Transport and Err
	badToken bool          // 535: a fresh token may help
}

func deferred(owner reply.Owner, err error) *trouble {
	return &trouble{outcome: reply.Outcome{Verdict: reply.Deferred, Owner: owner, Transport: transportName, Err: err}}
}

// interrupted is a connection or a wait that ended: by our being stopped, or by the route.
func interrupted(ctx context.Context, err error) *trouble {
	if errors.Is(ctx.Err(), context.Canceled) {
		return deferred(reply.Process, fmt.Errorf("attempt was cancelled: %w", err))
	}
	return deferred(reply.Route, err)
}

// stepTrouble turns what the library returned at a step before the message into a trouble.
func (t *Transport) stepTrouble(ctx context.Context, at step, err error) *trouble {
	r, ok := answerIn(err)
	if !ok {
		return interrupted(ctx, fmt.Errorf("smarthost at %v: %w", at, err))
	}
	return t.replyTrouble(at, r, "")
}

// answerIn finds the server's refusal in an error.
func answerIn(err error) (reply.Reply, bool) {
	var refusal *smtp.SMTPError
	if errors.As(err, &refusal) {
		return replyOf(refusal), true
	}
	var plain *textproto.Error // before TLS we read without the library
	if errors.As(err, &plain) {
		return newReply(plain.Code, plain.Msg), true
	}
	return reply.Reply{}, false
}

// replyTrouble turns a refusal into a trouble; from is the header From of the message, "" where there is none.
func (t *Transport) replyTrouble(at step, r reply.Reply, from string) *trouble {
	u := judge(at, r)
	tr := deferred(u.owner, fmt.Errorf("smarthost answered %v: %v", at, r))
	tr.outcome.Verdict = u.verdict
	tr.outcome.Reply = r
	tr.outcome.RetryAfter = u.retryAfter
	tr.outcome.Means, tr.outcome.Remedy = t.explain(u, from)
	// 5.7.139 names its cause: no token helps.
	tr.badToken = at == auth && r.Code == 535 && !exactly(5, 7, 139).has(r.Enhanced)
	return tr
}

// explain says what a reply means and what a person can do. It decides nothing.
func (t *Transport) explain(u rule, from string) (means, remedy string) {
	row, _ := diagnosis.Find("smtp " + u.means)
	login := pasteable(t.o.Login, "LOGIN")
	row = row.Fill("account", t.o.Account, "login", login, "mailbox", login, "from", pasteable(from, "SENDER"))
	return row.Means, row.For(t.o.AppOnly)
}

// pasteable returns s where it may stand in a command line that an administrator pastes into PowerShell, or the
// placeholder: an address may hold quotes, and the application chose it.
func pasteable(s, placeholder string) string {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@.-_+", r))
	}
	if s == "" || s[0] == '-' || strings.ContainsFunc(s, bad) {
		return placeholder
	}
	return s
}

// tlsRemedy says what may help against a failed handshake; "" where we do not know.
func tlsRemedy(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "check this machine's clock; if it is right, the smarthost's certificate has expired"
	case errors.As(err, &name):
		return "give the smarthost by the name that stands in its certificate, not by an address"
	case errors.As(err, &unknown):
		return "if a proxy of yours inspects TLS, name its certificate authority in ca_file"
	case errors.As(err, &record):
		return `the port does not begin with TLS: set smtp_tls = "starttls"`
	}
	return ""
}
