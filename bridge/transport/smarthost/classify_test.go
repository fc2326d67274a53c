package smarthost

import (
	"strings"
	"testing"
	"time"

	"postern/auth/diagnosis"
	"postern/bridge/reply"
)

// knownReplies are the lines of Exchange and Gmail and what stands for the rest.
var knownReplies = []struct {
	at      step
	code    int
	text    string
	verdict reply.Verdict
	owner   reply.Owner
}{
	{mail, 530, "5.7.57 Client not authenticated to send mail. [host]", reply.Deferred, reply.Account},
	{auth, 535, "5.7.3 Authentication unsuccessful", reply.Deferred, reply.Account},
	{auth, 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.", reply.Deferred, reply.Account},
	{auth, 535, "5.7.139 Authentication unsuccessful, federated STS service was unreachable.", reply.Deferred, reply.Route},
	{auth, 535, "5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully.", reply.Deferred, reply.Account},
	{auth, 550, "5.7.30 Basic authentication is not supported for Client Submission.", reply.Deferred, reply.Account},
	{dot, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender", reply.Deferred, reply.Sender},
	{dot, 554, "5.2.252 SendAsDenied; a not allowed to send as b; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied;", reply.Deferred, reply.Sender},
	{dot, 554, "5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied;", reply.Deferred, reply.Sender},
	{dot, 550, "5.2.251 Sender throttled due to continuous mailbox full errors.", reply.Deferred, reply.Account},
	{dot, 550, "5.2.252 Sender throttled due to continuous send as denied errors.", reply.Deferred, reply.Account},
	{dot, 550, "5.2.255 Sender throttled due to continuous invalid recipients errors.", reply.Deferred, reply.Account},
	{dot, 432, "4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending", reply.Deferred, reply.Route},
	{dot, 432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", reply.Deferred, reply.Route},
	{dot, 554, "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded", reply.Deferred, reply.Account},
	{dot, 554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", reply.Deferred, reply.Route},
	{dot, 550, "5.2.2 Submission quota exceeded", reply.Deferred, reply.Route},
	{dot, 550, "5.7.232 Your message can't be sent because your tenant has exceeded its daily limit", reply.Deferred, reply.Route},
	{dot, 550, "5.4.5 Daily user sending limit exceeded", reply.Deferred, reply.Route},
	{dot, 554, "5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; WASCL UserAction verdict is not None.", reply.Deferred, reply.Account},
	{dot, 550, "5.1.8 Access denied, bad outbound sender", reply.Deferred, reply.Account},
	{rcpt, 550, "5.1.8 Access denied, bad outbound sender", reply.Deferred, reply.Account},
	{dot, 550, "5.7.501 Access denied, spam abuse detected", reply.Deferred, reply.Account},
	{rcpt, 550, "5.7.503 Access denied, banned sender", reply.Deferred, reply.Account},
	{rcpt, 550, "5.7.504 Recipient address rejected: Access denied", reply.Failed, reply.Recipient},
	{rcpt, 550, "5.7.505 Access denied, banned recipient", reply.Failed, reply.Recipient},
	{dot, 550, "5.7.506 Access denied, bad HELO", reply.Deferred, reply.Account},
	{mail, 550, "5.7.506 Access denied, bad HELO", reply.Deferred, reply.Account},
	{rcpt, 550, "5.7.506 Access denied, bad HELO", reply.Deferred, reply.Account},
	{rcpt, 550, "5.7.508 Access denied, [192.0.2.7] has exceeded permitted limits", reply.Deferred, reply.Route},
	{dot, 550, "5.7.508 Access denied, [192.0.2.7] has exceeded permitted limits", reply.Deferred, reply.Route},
	{dot, 550, "5.7.507 Access denied, rejected by recipient", reply.Failed, reply.Message},
	{dot, 550, "5.7.509 Access denied, sending domain does not pass DMARC", reply.Failed, reply.Message},
	{dot, 550, "5.7.705 Access denied, tenant has exceeded threshold", reply.Deferred, reply.Account},
	{dot, 550, "5.7.708 Access denied, traffic not accepted from this IP", reply.Deferred, reply.Account},
	{dot, 550, "5.7.750 Client blocked from sending from unregistered domain", reply.Deferred, reply.Sender},
	{dot, 550, "5.7.703 Your message can't be delivered", reply.Failed, reply.Message},
	{dot, 451, "4.7.500 Access denied, please try again later", reply.Deferred, reply.Route},
	{mail, 451, "4.7.0 Temporary server error. Please try again later. PRX1", reply.Deferred, reply.Route},
	{rcpt, 451, "4.7.0 Greylisted", reply.Deferred, reply.Recipient},
	{rcpt, 452, "4.5.3 Too many recipients", reply.Deferred, reply.Recipient},
	{rcpt, 550, "5.2.121 The recipient's hourly message receive limit from this sender has been exceeded", reply.Deferred, reply.Recipient},
	{dot, 554, "5.2.122 The recipient's hourly message receive limit has been exceeded", reply.Deferred, reply.Message},
	{rcpt, 550, "5.5.3 Too many recipients", reply.Deferred, reply.Recipient},
	{rcpt, 552, "Too many recipients", reply.Deferred, reply.Recipient},
	{dot, 554, "5.5.3 Too many recipients", reply.Failed, reply.Message},
	{rcpt, 552, "5.2.2 mailbox full", reply.Failed, reply.Recipient},
	{rcpt, 550, "5.7.1 relaying denied", reply.Failed, reply.Recipient},
	{rcpt, 503, "5.5.1 Bad sequence of commands", reply.Deferred, reply.Route},
	{auth, 503, "5.5.2 Send hello first", reply.Deferred, reply.Route},
	{dot, 503, "5.5.2 Need rcpt command", reply.Deferred, reply.Route},
	{mail, 552, "5.3.4 Message size exceeds fixed maximum message size", reply.Failed, reply.Message},
	{dot, 552, "5.3.4 Message size exceeds fixed maximum message size", reply.Failed, reply.Message},
	{mail, 552, "too large", reply.Failed, reply.Message},
	{mail, 553, "5.1.7 sender address rejected", reply.Deferred, reply.Sender},
	{mail, 452, "4.1.9 later", reply.Deferred, reply.Message},
	{mail, 452, "4.3.1 Insufficient system storage", reply.Deferred, reply.Route},
	{mail, 535, "5.7.3 Authentication unsuccessful", reply.Deferred, reply.Account},
	{mail, 501, "5.5.4 Invalid arguments", reply.Deferred, reply.Message},
	{mail, 555, "5.5.4 Unsupported option", reply.Deferred, reply.Message},
	{mail, 550, "5.6.7 the address needs SMTPUTF8", reply.Deferred, reply.Message},
	{mail, 550, "5.0.0 no", reply.Deferred, reply.Message},
	{mail, 503, "5.5.2 Send hello first", reply.Deferred, reply.Route},
	{dot, 550, "5.6.11 bare line feeds", reply.Failed, reply.Message},
	{dot, 550, "5.7.512 message must be RFC 5322 section 3.6.2 compliant", reply.Failed, reply.Message},
	{dot, 554, "no status", reply.Failed, reply.Message},
	{dot, 451, "no status", reply.Deferred, reply.Message},
	{data, 554, "5.5.1 no valid recipients", reply.Deferred, reply.Message},
	{greet, 554, "5.3.2 no service", reply.Deferred, reply.Route},
	{dot, 299, "what", reply.InDoubt, reply.Route},
}

func TestReplies(t *testing.T) {
	for _, tc := range knownReplies {
		t.Run(tc.at.String()+" "+tc.text, func(t *testing.T) {
			u := judge(tc.at, newReply(tc.code, tc.text))
			if u.verdict != tc.verdict || u.owner != tc.owner {
				t.Errorf("judge = %v, %v; want %v, %v", u.verdict, u.owner, tc.verdict, tc.owner)
			}
			row, _ := diagnosis.Find("smtp " + u.means)
			if (u.owner == reply.Account || u.owner == reply.Sender) && row.Remedy == "" {
				t.Error("a person must act, and is not told what to do")
			}
			if u.retryAfter > time.Hour {
				t.Errorf("retryAfter = %v", u.retryAfter)
			}
		})
	}
}

// TestRulesAreExplained: each name that a rule gives a reply has its words.
func TestRulesAreExplained(t *testing.T) {
	for _, u := range rules {
		if u.means == "" && u.owner == reply.Route {
			continue // of the dialogue itself, which passes
		}
		if row, ok := diagnosis.Find("smtp " + u.means); !ok || row.Means == "" {
			t.Errorf("nobody says what %q means: %+v", u.means, u)
		}
	}
}

// TestRemediesCanBePasted: an address chosen by an application never becomes a command.
func TestRemediesCanBePasted(t *testing.T) {
	tr := New(Options{Account: "erp", Address: "smtp.contoso.test:587", Login: login})
	denied := newReply(554, "5.2.252 SendAsDenied; x")
	for _, tc := range []struct{ name, from, want string }{
		{"an ordinary sender", "noreply@contoso.test", "-Identity 'noreply@contoso.test' -Trustee 'svc@contoso.test'"},
		{"a quoted local part", `"a'; Remove-Mailbox x; '"@contoso.test`, "-Identity 'SENDER' -Trustee"},
		{"a typographic quote, which PowerShell takes for a quote", "a\u2019b@contoso.test", "-Identity 'SENDER' -Trustee"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tr.replyTrouble(dot, denied, tc.from).outcome.Remedy; !strings.Contains(got, tc.want) {
				t.Errorf("Remedy = %q; want %q in it", got, tc.want)
			}
		})
	}
}

// FuzzReplyText: whatever a server says, what we keep is one short printable line without the secret.
func FuzzReplyText(f *testing.F) {
	f.Add(250, "2.0.0 OK <a@b> [Hostname=x]")
	f.Add(554, "5.2.252 SendAsDenied\n5.2.252 second\x00\xff")
	f.Add(535, "5.7.3 bad "+canary)
	f.Add(250, "queued as ")
	f.Fuzz(func(t *testing.T, code int, text string) {
		text = redact(text, []string{canary})
		r := newReply(code, text)
		for _, s := range []string{r.Text, accepted(text).Text, accepted(text).ID} {
			if len(s) > reply.MaxText || strings.ContainsAny(s, "\r\n\x00") {
				t.Errorf("%q is no short line", s)
			}
			checkSecrecy(t, s)
		}
		for at := greet; at <= dot; at <<= 1 {
			if u := judge(at, r); u.verdict == reply.Failed && (code < 500 || code > 599) {
				t.Errorf("%d at %v failed for good", code, at)
			}
		}
	})
}
