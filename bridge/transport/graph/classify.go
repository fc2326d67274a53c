package graph

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"postern/auth/diagnosis"
	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// kind is what an error code proves.
type kind int

const (
	unknown      kind = iota
	badMessage        // this message will never be taken
	badRecipient      // one of its recipients is invalid; Graph does not say which
	badSender         // no right to this From
	badAccount        // the mailbox, its licence or the application's right to it
	badToken          // another token is needed
	throttled         // nothing was done, come back later; also at 503
	weather           // something failed inside; at 5xx nobody knows whether before or after the message was taken
	noPermission      // as badAccount: a permission is missing
	full              // as badAccount: the mailbox is full
	limit             // as badAccount: the day's or hour's limit of the mailbox is used up
	noMailbox         // as badAccount: there is no such mailbox at Exchange Online
	noObject          // what the URL names is not there: the user, or a draft
	noItem            // something in the mailbox is not there: the draft that the URL names, else the mailbox itself
	notGraph          // no code at all: a proxy's page, or what else answers there
)

// kinds are Graph's error codes in lower case, as of November 2026 ("Microsoft Graph error responses" and the
// Exchange list of response codes). A code counts whatever status it comes with, since one code is seen with several;
// but weather is only sure of nothing.
var kinds = map[string]kind{
	"errormessagesizeexceeded":               badMessage,
	"requestentitytoolarge":                  badMessage,
	"errorcontentconversionfailed":           badMessage,
	"errorinvalidrecipients":                 badRecipient,
	"invalidinternetmessageheader":           badMessage,
	"invalidinternetmessageheadercollection": badMessage,

	"errorsendasdenied": badSender,

	"invalidauthenticationtoken": badToken,
	"unauthenticated":            badToken,
	"insufficient_claims":        badToken,

	"erroraccessdenied":           noPermission,
	"accessdenied":                noPermission,
	"authorization_requestdenied": noPermission,

	"errorquotaexceeded": full,
	"quotaexceeded":      full,
	"quotalimitreached":  full,

	"errorexceededmessagelimit":    limit,
	"errorsubmissionquotaexceeded": limit,

	"erroraccountdisabled":          badAccount,
	"erroraccountsuspend":           badAccount,
	"errormessagesubmissionblocked": badAccount,

	"mailboxnotenabledforrestapi":   noMailbox,
	"mailboxnotsupportedforrestapi": noMailbox,
	"errorinvaliduser":              noMailbox,
	"resourcenotfound":              noObject,
	"request_resourcenotfound":      noObject,
	"erroritemnotfound":             noItem,

	"applicationthrottled": throttled,
	"toomanyrequests":      throttled,
	"activitylimitreached": throttled,
	"throttledrequest":     throttled,
	"errorserverbusy":      throttled,
	"servicenotavailable":  throttled,

	"errorinternalservertransienterror":     weather,
	"errorinternalservererror":              weather,
	"generalexception":                      weather,
	"unknownerror":                          weather,
	"errormailboxmoveinprogress":            weather,
	"errormailboxfailover":                  weather,
	"errormailboxstoreunavailable":          weather,
	"errorconnectionfailed":                 weather,
	"errortimeoutexpired":                   weather,
	"erroradunavailable":                    weather,
	"errornorespondingcasindestinationsite": weather,
	"mailboxinfostale":                      weather,
}

// kindOf looks a code up; the ErrorMimeContent family has several members.
func kindOf(code string) kind {
	code = strings.ToLower(code)
	switch {
	case code == "":
		return notGraph
	case strings.HasPrefix(code, "errormimecontent"):
		return badMessage
	}
	return kinds[code]
}

// judge turns one answer into an outcome. It decides by status and code, never by the message's words.
func (t *Transport) judge(a answer, out message.Outgoing) reply.Outcome {
	if a.status == 0 {
		return t.judgeSilence(a)
	}
	f := readFault(a.body)
	code := f.code(func(c string) bool { return kindOf(c) != unknown })
	o := reply.Outcome{Transport: name, Reply: reply.Reply{Code: a.status, Enhanced: oneLine(code, a.secret),
		Text: oneLine(f.Message, a.secret), ID: requestID(a.header, f)}}
	if a.status == http.StatusAccepted {
		o.Verdict, o.Owner = reply.Relayed, reply.Nobody
		o.Reply.Enhanced, o.Reply.Text = "", "accepted by Microsoft Graph"
		return o
	}
	o.RetryAfter = retryAfter(a.header, t.o.Now())
	o.Verdict, o.Owner = rule(a.status, kindOf(code), a.released)
	o.Guessed = o.Owner == reply.Account && guessed(a.status, kindOf(code))
	o.Size = sizeOf(a.status, code)
	foreign := strings.EqualFold(code, "ErrorAccessDenied") && t.foreign(out.Plan.HeaderFrom)
	if foreign {
		o.Owner = reply.Sender
	}
	if o.Reply.Text == "" {
		o.Reply.Text = plainText(a)
	}
	o.Means, o.Remedy = t.explain(a.status, code, out)
	if foreign {
		_, grant := t.explain(http.StatusForbidden, "ErrorSendAsDenied", out)
		o.Remedy = "consent to the permission Mail.Send.Shared, run: postern signin " + t.o.Account + ", and " + grant
	}
	o.Err = fmt.Errorf("account %q: Microsoft Graph answered %s", t.o.Account, o.Reply)
	if o.Owner == reply.Login {
		o.Err = &token.Error{Code: "invalid_token", Person: true, Err: o.Err, // the remedy is the outcome's
			Text: fmt.Sprintf("Microsoft Graph refuses the access token of account %q, also a fresh one", t.o.Account)}
	}
	return o
}

// isNoPermission reports an answer that a permission is missing.
func isNoPermission(a answer) bool { return kindOfAnswer(a) == noPermission }

// isGone reports that the draft which the URL names is not there.
func isGone(a answer) bool {
	k := kindOfAnswer(a)
	return a.status == http.StatusNotFound && k != noMailbox && k != notGraph
}

func kindOfAnswer(a answer) kind {
	return kindOf(readFault(a.body).code(func(c string) bool { return kindOf(c) != unknown }))
}

// foreign reports a From that is neither the account's mailbox nor who signed in. ErrorAccessDenied then speaks of that
// sender (Mail.Send.Shared, Full Access) and must not stop the account's other mail.
func (t *Transport) foreign(from envelope.Address) bool {
	own := func(a envelope.Address) bool { return !a.IsNull() && a.Key() == from.Key() }
	return !t.o.AppOnly && !from.IsNull() && !own(t.o.Mailbox) && !own(t.o.Login)
}

// sizeOf says which limit an answer is about. The request limit has no code of its own: 413, or 200 with nothing sent.
func sizeOf(status int, code string) reply.Size {
	switch code = strings.ToLower(code); {
	case code == "errormessagesizeexceeded":
		return reply.OverMailbox
	case status == http.StatusRequestEntityTooLarge, status == http.StatusOK, code == "requestentitytoolarge":
		return reply.OverRequest
	}
	return reply.Fits
}

// rule is the table of verdicts for everything that is not 202 (design.md section 6, "Whose trouble" and "In doubt").
func rule(status int, k kind, released bool) (reply.Verdict, reply.Owner) {
	switch {
	case status < 300:
		return rule2xx(status)
	case status < 400: // not followed: a captive portal, or a wrong address
		return reply.Deferred, reply.Route
	case k == badMessage:
		return reply.Failed, reply.Message
	case k == badRecipient:
		return reply.Failed, reply.Recipient
	case k == badSender:
		return reply.Deferred, reply.Sender
	case k == badToken || status == http.StatusUnauthorized:
		return reply.Deferred, reply.Login
	case k == badAccount || k == noPermission || k == full || k == limit || k == noMailbox || k == noObject:
		return reply.Deferred, reply.Account
	case status >= 500:
		return rule5xx(status, k, released)
	case k == throttled || k == weather:
		return reply.Deferred, reply.Route
	}
	switch status {
	case http.StatusRequestEntityTooLarge:
		return reply.Failed, reply.Message
	case http.StatusTooManyRequests, http.StatusProxyAuthRequired, http.StatusRequestTimeout:
		return reply.Deferred, reply.Route
	case http.StatusNotFound, http.StatusMethodNotAllowed: // the address is not Graph's, or no mailbox's; judgeStep knows of drafts
		return reply.Deferred, reply.Account
	}
	if k == notGraph { // whoever answers there has read no message
		return reply.Deferred, reply.Account
	}
	return reply.Deferred, reply.Message // unknown is temporary
}

// guessed reports whether an answer that is judged as the account's does not say so itself.
func guessed(status int, k kind) bool {
	switch k {
	case noPermission, noItem, notGraph, unknown:
		return status != http.StatusInsufficientStorage
	}
	return false
}

// rule2xx: 200 was seen for messages too large, which were not sent. What another 2xx stands for nobody knows.
func rule2xx(status int) (reply.Verdict, reply.Owner) {
	if status == http.StatusOK {
		return reply.Failed, reply.Message
	}
	return reply.InDoubt, reply.Route
}

// rule5xx: the message may have been taken before the server failed, unless it says that it did nothing, or cannot have
// had the whole message.
func rule5xx(status int, k kind, released bool) (reply.Verdict, reply.Owner) {
	refused := k == throttled && status == http.StatusServiceUnavailable
	switch {
	case status == http.StatusInsufficientStorage:
		return reply.Deferred, reply.Account
	case refused, !released, status == 509: // 509: bandwidth limit
		return reply.Deferred, reply.Route
	}
	return reply.InDoubt, reply.Route
}

// judgeSilence is the outcome where no answer came.
func (t *Transport) judgeSilence(a answer) reply.Outcome {
	o := reply.Outcome{Verdict: reply.Deferred, Owner: reply.Route, Transport: name,
		Err: fmt.Errorf("account %q: %w", t.o.Account, a.err)}
	switch {
	case fromSource(a.err):
		return t.ours("the message could not be read or noted down", a.err)
	case a.stopped:
		o.Owner = reply.Process
		o.Reply.Text = "stopped before the whole message had left"
	case errors.Is(a.err, context.DeadlineExceeded):
		o.Reply.Text = "Microsoft Graph did not answer in time"
	default:
		o.Reply.Text = "no connection to Microsoft Graph"
		var mend interface{ Remedy() string } // the hall's, of a proxy that refuses
		if errors.As(a.err, &mend) {
			o.Remedy = mend.Remedy()
		}
	}
	if a.released {
		o.Verdict = reply.InDoubt
		o.Reply.Text = "no answer from Microsoft Graph after the whole message may have left"
	}
	return o
}

// plainText stands for a message that the answer does not have.
func plainText(a answer) string {
	switch {
	case a.status == http.StatusOK:
		return "200 instead of 202: too large for Graph as MIME, or not sent; to take the large route, no retry"
	case a.status >= 300 && a.status < 400:
		return "a redirect, not followed: a proxy or portal in between, or a wrong Graph address"
	}
	text := http.StatusText(a.status)
	if text == "" {
		text = fmt.Sprintf("HTTP status %d", a.status)
	}
	if len(a.body) > 0 && readFault(a.body) == (fault{}) {
		text += ", and the answer is no error of Graph's"
	}
	return text
}

// explain says what an answer means and what a person can do. It decides nothing.
func (t *Transport) explain(status int, code string, out message.Outgoing) (means, remedy string) {
	sign := fmt.Sprintf("graph %d", status)
	if status >= 300 && status < 400 {
		sign = "graph redirect"
	} else if _, owner := rule(status, notGraph, false); code == "" && status < 500 && owner == reply.Account {
		sign = "graph page"
	}
	row, _ := diagnosis.Find(diagnosis.GraphCode(code), sign)
	limited := t.limited(out).String()
	row = row.Fill("account", t.o.Account, "login", limited, "mailbox", t.urlMailbox(out).String(), "from", out.Plan.HeaderFrom.String())
	return row.Means, row.For(t.o.AppOnly)
}

// limited is the mailbox whose limits and rights count: that of the URL, or of who signed in.
func (t *Transport) limited(out message.Outgoing) envelope.Address {
	if t.o.AppOnly || t.o.Login.IsNull() {
		return t.urlMailbox(out)
	}
	return t.o.Login
}
