package sandbox

import (
	"strconv"
	"strings"
)

// outcome is how the service answers a whole message: its own verdicts and the scripted ones below.
type outcome struct {
	status     int    // Graph: HTTP status; 202 is success
	code, text string // Graph: the error object
	reply      string // SMTP, after the dot; "" is the success reply
	trouble    bool   // passes by itself: only the first attempts of a message meet it
	retryAfter bool   // Graph: with Retry-After
	accept     bool   // the message is taken before the answer
	slow       bool   // waits Switches.SlowDelay first
	cut        bool   // no answer: the connection is cut
	silent     bool   // SMTP: no answer, the connection stays
	html       bool   // Graph: HTML instead of JSON
}

const (
	sendAsText = "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account. Cannot submit message."
	// The real line exceeds the 512 octets of RFC 5321 section 4.5.3.1.5; clients must not choke on it.
	diagnostics = "Failed to process message due to a permanent exception with message [BeginDiagnosticData]Cannot submit message. " +
		"1.84300:04000000, 1.84300:05000000, 1.84300:D3040000, 255.1750:7A000000, 255.31418:0A004E36, 16.55847:EC000000, " +
		"17.43559:0000000094000000000000000000000000000000, 20.52176:140F4D8C1900101000000000, 20.50032:140F4D8C7917101000000000, " +
		"0.35180:0A00C781, 255.23226:7A000000, 255.27962:0A000000, 255.27962:32000000, 255.17082:DC040000, 0.27745:7A000000, " +
		"4.21921:DC040000, 255.27962:FA000000, 255.1494:7A000000, 0.37692:05000780[EndDiagnosticData] [Hostname={host}]"
)

// outcomes is the table. The local part of a recipient address orders one: throttled@anything. Those marked "first" pass:
// they meet the first attempt of a message (found by its Message-ID), throttled+3@ the first three, throttled+always@ all.
//
//	throttled    first: 429 ApplicationThrottled                432 4.3.2
//	busy         first: 503 ErrorServerBusy                     421 4.3.2 and the connection ends
//	error        first: 500 ErrorInternalServerError, not taken 451 4.7.0
//	gateway      first: 504, not taken                          451 4.7.0
//	doubt        first: taken, then 504                         taken, then no reply at all
//	drop-before  first: connection cut, not taken               the same
//	drop-after   first: taken, then connection cut              the same
//	html         first: 500 with an HTML page, not taken        451 4.7.0
//	ok200        first: 200, not taken (facts B3)               taken
//	slow         taken after Switches.SlowDelay                 the same
//	denied       403 ErrorSendAsDenied                          554 5.2.252 SendAsDenied
//	full         403 ErrorQuotaExceeded                         554 5.2.2 mailbox full
//	quota        429 ErrorSubmissionQuotaExceeded               554 5.2.0 SubmissionQuotaExceededException
//	spam         403 WASCL verdict                              554 5.2.0 OutboundSpamException
//	blocked      403 ErrorAccountSuspend                        550 5.1.8 bad outbound sender
//	invalid      400 ErrorInvalidRecipients                     550 5.1.1
//	toolarge     400 ErrorMessageSizeExceeded                   552 5.3.4
//	duplicate    taken (Graph has no such check)                554 5.2.0 MapiExceptionDuplicateDelivery
//	refused      400 ErrorInvalidRecipients                     550 5.1.10 to RCPT (other smarthosts; Exchange never)
//	later        503 ErrorServerBusy, first                     450 4.2.1 to RCPT, first
var outcomes = map[string]outcome{
	"throttled":   {status: 429, code: "ApplicationThrottled", text: "Application is over its MailboxConcurrency limit.", trouble: true, retryAfter: true, reply: "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [Hostname={host}]"},
	"busy":        {status: 503, code: "ErrorServerBusy", text: "The server cannot service this request right now. Try again later.", trouble: true, retryAfter: true, reply: "421 4.3.2 Service not available, closing transmission channel"},
	"error":       {status: 500, code: "ErrorInternalServerError", text: "An internal server error occurred. The operation failed.", trouble: true, reply: temporary},
	"gateway":     {status: 504, code: "UnknownError", text: "", trouble: true, reply: temporary},
	"doubt":       {status: 504, code: "UnknownError", text: "", trouble: true, accept: true, silent: true},
	"drop-before": {trouble: true, cut: true},
	"drop-after":  {trouble: true, cut: true, accept: true},
	"html":        {status: 500, trouble: true, html: true, reply: temporary},
	"ok200":       {status: 200, trouble: true},
	"slow":        {status: 202, slow: true, accept: true},
	"denied":      {status: 403, code: "ErrorSendAsDenied", text: sendAsText, reply: "554 5.2.252 SendAsDenied; {user} not allowed to send as {from}; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; " + diagnostics},
	"full":        {status: 403, code: "ErrorQuotaExceeded", text: "The mailbox quota has been exceeded.", reply: "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded; " + diagnostics},
	"quota":       {status: 429, code: "ErrorSubmissionQuotaExceeded", text: "The message can't be submitted because the sender's submission quota was exceeded.", reply: "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; " + diagnostics},
	"spam":        {status: 403, code: "ErrorMessageSubmissionBlocked", text: "Cannot send mail. WASCL UserAction verdict is not None. Actual verdict is RefuseQuota, ShowTierUpgrade.", reply: "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message due to a permanent exception with message [BeginDiagnosticData]WASCL UserAction verdict is not None. Actual verdict is RefuseQuota, ShowTierUpgrade. OutboundSpamException: WASCL UserAction verdict is not None.[EndDiagnosticData] [Hostname={host}]"},
	"blocked":     {status: 403, code: "ErrorAccountSuspend", text: "Account suspended. Follow the instructions in your Inbox to verify your account.", reply: "550 5.1.8 Access denied, bad outbound sender {user}"},
	"invalid":     {status: 400, code: "ErrorInvalidRecipients", text: "At least one recipient isn't valid., A message can't be sent because it contains no recipients.", reply: "550 5.1.1 Recipient address rejected: user unknown [Hostname={host}]"},
	"toolarge":    {status: 400, code: "ErrorMessageSizeExceeded", text: "The message exceeds the maximum supported size., Cannot save changes made to an item to store.", reply: "552 5.3.4 Message size exceeds fixed maximum message size"},
	"duplicate":   {status: 202, accept: true, reply: "554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException.MapiExceptionDuplicateDelivery; " + diagnostics},
	"refused":     {status: 400, code: "ErrorInvalidRecipients", text: "At least one recipient isn't valid., A message can't be sent because it contains no recipients."},
	"later":       {status: 503, code: "ErrorServerBusy", text: "The server cannot service this request right now. Try again later.", trouble: true, retryAfter: true},

	// The service's own, which no local part orders.
	"+ok":         {status: 202, accept: true},
	"+mime":       {status: 400, code: "ErrorMimeContentInvalid", text: "The MIME content is invalid.", reply: "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant, sender {from}"},
	"+twofrom":    {status: 400, code: "ErrorMimeContentInvalid", text: "The MIME content is invalid.", reply: "550 5.1.20 Multiple From addresses are not allowed without Sender address"},
	"+linefeeds":  {reply: "550 5.6.11 SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds or carriage returns, which cannot be sent via DATA"},
	"+recipients": {status: 400, code: "ErrorInvalidRecipients", text: "The number of recipients exceeds the limit.", reply: "452 4.5.3 Too many recipients"},
	"+shared":     {status: 403, code: "ErrorAccessDenied", text: "Access is denied. Check credentials and try again."},
}

const temporary = "451 4.7.0 Temporary server error. Please try again later. PRX5 [Hostname={host}]"

// scripted reads a recipient's local part: the outcome's name and how many attempts meet it (-1 all).
func scripted(recipient string) (name string, times int) {
	local, _, _ := strings.Cut(strings.ToLower(recipient), "@")
	name, count, _ := strings.Cut(local, "+")
	o, ok := outcomes[name]
	if !ok {
		return "", 0
	}
	if !o.trouble || count == "always" {
		return name, -1
	}
	if n, err := strconv.Atoi(count); err == nil && n > 0 {
		return name, n
	}
	return name, 1
}

// script finds what the recipients order for this attempt of a message, and counts the attempt; "" is nothing. At the
// first recipient that orders something the search ends. key names the message. Sandbox.mu is held.
func (s *Sandbox) script(recipients []string, key string) string {
	for _, recipient := range recipients {
		name, times := scripted(recipient)
		if name == "" {
			continue
		}
		k := strings.ToLower(recipient) + " " + key
		if times < 0 || s.attempts[k] < times {
			s.attempts[k]++
			return name
		}
	}
	return ""
}

// fill puts the facts of one message into a reply's placeholders.
func fill(text, user, from string) string {
	return strings.NewReplacer("{user}", user, "{from}", from, "{host}", backendHost).Replace(text)
}
