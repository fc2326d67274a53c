package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"postern/auth/diagnosis"
	"postern/bridge/reply"
	"postern/bridge/transport/graph/graphtest"
)

// nested is an error body whose inner errors carry these codes, the outermost first.
func nested(codes ...string) string {
	inner := `{"request-id":"r"}`
	for i := len(codes) - 1; i > 0; i-- {
		inner = fmt.Sprintf(`{"code":%q,"innerError":%s}`, codes[i], inner)
	}
	return fmt.Sprintf(`{"error":{"code":%q,"message":"m","innerError":%s}}`, codes[0], inner)
}

func TestFaultTable(t *testing.T) {
	code := func(status int, code string) graphtest.Answer { return graphtest.Fault(status, code, "text of "+code) }
	body := func(status int, b string) graphtest.Answer { return graphtest.Answer{Status: status, Body: b} }
	html := "<html><title>502 Bad Gateway</title></html>"
	for _, tc := range []struct {
		name    string
		answer  graphtest.Answer
		verdict reply.Verdict
		owner   reply.Owner
		code    string // Reply.Enhanced
		remedy  string // a part of it; "": none at all
	}{
		{"202 is final", graphtest.Answer{}, reply.Relayed, reply.Nobody, "", ""},
		{"202 with Retry-After is final", graphtest.Answer{Header: map[string]string{"Retry-After": "60"}}, reply.Relayed, reply.Nobody, "", ""},
		{"202 with an error body is final", body(202, nested("ErrorServerBusy")), reply.Relayed, reply.Nobody, "", ""},
		{"202 that breaks off is final", graphtest.Answer{Cut: true}, reply.Relayed, reply.Nobody, "", ""},
		{"202 with a gigabyte behind it is final", graphtest.Answer{Fill: 1 << 30}, reply.Relayed, reply.Nobody, "", ""},
		{"200 means too large or not sent", body(200, ""), reply.Failed, reply.Message, "", ""},
		{"200 with a page means too large or not sent", body(200, html), reply.Failed, reply.Message, "", ""},
		{"another 2xx is in doubt", body(201, "{}"), reply.InDoubt, reply.Route, "", ""},
		{"204 is in doubt", body(204, ""), reply.InDoubt, reply.Route, "", ""},

		{"a From without the right waits for the grant", code(403, "ErrorSendAsDenied"), reply.Deferred, reply.Sender, "ErrorSendAsDenied",
			"Add-RecipientPermission -Identity 'noreply@contoso.test' -Trustee 'svc@contoso.test' -AccessRights SendAs"},
		{"access denied to another's From is that sender's", code(403, "ErrorAccessDenied"), reply.Deferred, reply.Sender, "ErrorAccessDenied", "Mail.Send.Shared"},
		{"too few privileges are the account's", code(403, "Authorization_RequestDenied"), reply.Deferred, reply.Account, "Authorization_RequestDenied", "Mail.Send"},
		{"accessDenied is the account's", code(403, "accessDenied"), reply.Deferred, reply.Account, "accessDenied", "Mail.Send"},
		{"a disabled account is the account's", code(403, "ErrorAccountDisabled"), reply.Deferred, reply.Account, "ErrorAccountDisabled", "enable the account"},
		{"a suspended account is the account's", code(403, "ErrorAccountSuspend"), reply.Deferred, reply.Account, "ErrorAccountSuspend", "enable the account"},
		{"a blocked submission is the account's", code(403, "ErrorMessageSubmissionBlocked"), reply.Deferred, reply.Account, "ErrorMessageSubmissionBlocked", "enable the account"},
		{"a suspension at 429 is no throttling", code(429, "ErrorAccountSuspend"), reply.Deferred, reply.Account, "ErrorAccountSuspend", "enable the account"},
		{"a full mailbox at 403 is the account's", code(403, "ErrorQuotaExceeded"), reply.Deferred, reply.Account, "ErrorQuotaExceeded", "make room"},
		{"a full mailbox at 507 is the account's", code(507, "QuotaExceeded"), reply.Deferred, reply.Account, "QuotaExceeded", "make room"},
		{"507 without a code is a full mailbox", body(507, ""), reply.Deferred, reply.Account, "", "make room"},
		{"the day's limit at 403 is the account's", code(403, "ErrorExceededMessageLimit"), reply.Deferred, reply.Account, "ErrorExceededMessageLimit", "limit"},
		{"the day's limit at 400 is the account's", code(400, "ErrorExceededMessageLimit"), reply.Deferred, reply.Account, "ErrorExceededMessageLimit", "limit"},
		{"the day's limit at 429 is the account's", code(429, "ErrorExceededMessageLimit"), reply.Deferred, reply.Account, "ErrorExceededMessageLimit", "limit"},
		{"the recipient rate limit is the account's", code(429, "ErrorSubmissionQuotaExceeded"), reply.Deferred, reply.Account, "ErrorSubmissionQuotaExceeded", "limit"},
		{"a mailbox on premises is the account's", code(404, "MailboxNotEnabledForRESTAPI"), reply.Deferred, reply.Account, "MailboxNotEnabledForRESTAPI", "licence"},
		{"a mailbox not supported is the account's", code(404, "MailboxNotSupportedForRESTAPI"), reply.Deferred, reply.Account, "MailboxNotSupportedForRESTAPI", "licence"},
		{"an unknown user is the account's", code(404, "ErrorInvalidUser"), reply.Deferred, reply.Account, "ErrorInvalidUser", "licence"},
		{"404 without a code is a wrong address", body(404, html), reply.Deferred, reply.Account, "", "graph address"},
		{"403 without a code is a proxy's", body(403, html), reply.Deferred, reply.Account, "", "the proxy"},
		{"451 without a code is a proxy's", body(451, html), reply.Deferred, reply.Account, "", "the proxy"},
		{"where no draft is named, what is not there is the mailbox", code(404, "ErrorItemNotFound"), reply.Deferred, reply.Account, "ErrorItemNotFound", "licence"},
		{"405 without a code is a wrong address", body(405, ""), reply.Deferred, reply.Account, "", "graph address"},

		{"a message over the mailbox's limit fails", code(400, "ErrorMessageSizeExceeded"), reply.Failed, reply.Message, "ErrorMessageSizeExceeded", ""},
		{"a message over the mailbox's limit fails at 413 too", code(413, "ErrorMessageSizeExceeded"), reply.Failed, reply.Message, "ErrorMessageSizeExceeded", ""},
		{"413 fails without a code", body(413, html), reply.Failed, reply.Message, "", ""},
		{"RequestEntityTooLarge fails at 400", code(400, "RequestEntityTooLarge"), reply.Failed, reply.Message, "RequestEntityTooLarge", ""},
		{"broken MIME fails", code(400, "ErrorMimeContentInvalid"), reply.Failed, reply.Message, "ErrorMimeContentInvalid", ""},
		{"MIME that cannot be converted fails", code(400, "ErrorMimeContentConversionFailed"), reply.Failed, reply.Message, "ErrorMimeContentConversionFailed", ""},
		{"base64 that Graph cannot read fails", code(400, "ErrorMimeContentInvalidBase64String"), reply.Failed, reply.Message, "ErrorMimeContentInvalidBase64String", ""},
		{"content that cannot be converted fails", code(400, "ErrorContentConversionFailed"), reply.Failed, reply.Message, "ErrorContentConversionFailed", ""},
		{"invalid recipients fail", code(400, "ErrorInvalidRecipients"), reply.Failed, reply.Recipient, "ErrorInvalidRecipients", ""},
		{"too many X- fields fail", code(400, "InvalidInternetMessageHeaderCollection"), reply.Failed, reply.Message, "InvalidInternetMessageHeaderCollection", ""},
		{"a known refusal with status 500 is a refusal", code(500, "ErrorMessageSizeExceeded"), reply.Failed, reply.Message, "ErrorMessageSizeExceeded", ""},
		{"the code's case does not matter", code(403, "errorsendasdenied"), reply.Deferred, reply.Sender, "errorsendasdenied", "Add-RecipientPermission"},

		{"concurrency over the limit pauses", code(429, "ApplicationThrottled"), reply.Deferred, reply.Route, "ApplicationThrottled", ""},
		{"too many requests pause", code(429, "TooManyRequests"), reply.Deferred, reply.Route, "TooManyRequests", ""},
		{"activityLimitReached pauses", code(429, "activityLimitReached"), reply.Deferred, reply.Route, "activityLimitReached", ""},
		{"429 without a code pauses", body(429, ""), reply.Deferred, reply.Route, "", ""},
		{"429 with a code nobody knows pauses", code(429, "Brandnew"), reply.Deferred, reply.Route, "Brandnew", ""},
		{"a busy server at 429 pauses", code(429, "ErrorServerBusy"), reply.Deferred, reply.Route, "ErrorServerBusy", ""},
		{"a busy server at 503 pauses", code(503, "ErrorServerBusy"), reply.Deferred, reply.Route, "ErrorServerBusy", ""},
		{"an overloaded service at 503 pauses", code(503, "serviceNotAvailable"), reply.Deferred, reply.Route, "serviceNotAvailable", ""},
		{"throttling at 503 pauses", code(503, "ApplicationThrottled"), reply.Deferred, reply.Route, "ApplicationThrottled", ""},
		{"bandwidth used up pauses", body(509, ""), reply.Deferred, reply.Route, "", ""},
		{"a proxy that wants a password pauses", body(407, html), reply.Deferred, reply.Route, "", "proxy"},
		{"a request timeout pauses", body(408, ""), reply.Deferred, reply.Route, "", ""},
		{"a moving mailbox at 4xx pauses", code(409, "ErrorMailboxMoveInProgress"), reply.Deferred, reply.Route, "ErrorMailboxMoveInProgress", ""},

		{"500 is in doubt", code(500, "ErrorInternalServerError"), reply.InDoubt, reply.Route, "ErrorInternalServerError", ""},
		{"500 said to be transient is in doubt", code(500, "ErrorInternalServerTransientError"), reply.InDoubt, reply.Route, "ErrorInternalServerTransientError", ""},
		{"500 with a page is in doubt", body(500, html), reply.InDoubt, reply.Route, "", ""},
		{"a busy server at 500 is in doubt", code(500, "ErrorServerBusy"), reply.InDoubt, reply.Route, "ErrorServerBusy", ""},
		{"502 is in doubt", body(502, html), reply.InDoubt, reply.Route, "", ""},
		{"503 without a code is in doubt", body(503, ""), reply.InDoubt, reply.Route, "", ""},
		{"503 with a moving mailbox is in doubt", code(503, "ErrorMailboxMoveInProgress"), reply.InDoubt, reply.Route, "ErrorMailboxMoveInProgress", ""},
		{"504 is in doubt", code(504, "UnknownError"), reply.InDoubt, reply.Route, "UnknownError", ""},
		{"a busy server at 504 is in doubt", code(504, "ErrorServerBusy"), reply.InDoubt, reply.Route, "ErrorServerBusy", ""},

		{"an unknown 400 is tried again", code(400, "Brandnew"), reply.Deferred, reply.Message, "Brandnew", ""},
		{"an unknown 403 is tried again", code(403, "Brandnew"), reply.Deferred, reply.Message, "Brandnew", ""},
		{"400 with half a JSON text is nobody's message", body(400, `{"error":{"code":"ErrorMimeCon`), reply.Deferred, reply.Account, "", "the proxy"},
		{"400 with a page is nobody's message", body(400, html), reply.Deferred, reply.Account, "", "the proxy"},
		{"400 with a body that breaks off is nobody's message", graphtest.Answer{Status: 400, Body: `{"error":`, Cut: true}, reply.Deferred, reply.Account, "", "the proxy"},
		{"400 with a megabyte of nothing is nobody's message", graphtest.Answer{Status: 400, Fill: 1 << 20}, reply.Deferred, reply.Account, "", "the proxy"},
		{"a conflict is tried again", code(409, "ErrorIrresolvableConflict"), reply.Deferred, reply.Message, "ErrorIrresolvableConflict", ""},
		{"415 is nobody's message", body(415, ""), reply.Deferred, reply.Account, "", "the proxy"},

		{"the inner code is more specific", body(403, nested("accessDenied", "ErrorSendAsDenied")), reply.Deferred, reply.Sender, "ErrorSendAsDenied", "Add-RecipientPermission"},
		{"the innermost known code counts", body(400, nested("BadRequest", "ErrorQuotaExceeded", "ErrorInvalidRecipients")), reply.Failed, reply.Recipient, "ErrorInvalidRecipients", ""},
		{"an inner code that nobody knows does not hide the outer", body(429, nested("TooManyRequests", "429")), reply.Deferred, reply.Route, "TooManyRequests", ""},
		{"innererror is innerError", body(403, `{"error":{"code":"x","innererror":{"code":"ErrorSendAsDenied"}}}`), reply.Deferred, reply.Sender, "ErrorSendAsDenied", "Add-RecipientPermission"},
		{"members of the wrong type are skipped", body(403, `{"error":{"code":"ErrorSendAsDenied","message":7,"innerError":[1]}}`), reply.Deferred, reply.Sender, "ErrorSendAsDenied", "Add-RecipientPermission"},
		{"an error that is a word is no error object", body(400, `{"error":"invalid_request"}`), reply.Deferred, reply.Account, "", "the proxy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t, tc.answer)
			b := newBench(t, s.URL, nil)
			m := mail(t, "hi\r\n")
			o := b.Send(context.Background(), m.Outgoing)
			if o.Verdict != tc.verdict || o.Owner != tc.owner || o.Transport != "graph" {
				t.Errorf("Send = %v of %v by %q (%+v); want %v of %v", o.Verdict, o.Owner, o.Transport, o, tc.verdict, tc.owner)
			}
			status := tc.answer.Status
			if status == 0 {
				status = 202
			}
			if o.Reply.Code != status || o.Reply.Enhanced != tc.code || o.Reply.Text == "" || strings.ContainsAny(o.Reply.Text, "\r\n<>") {
				t.Errorf("Reply = %+v; want %d %q and a text", o.Reply, status, tc.code)
			}
			if !strings.Contains(o.Remedy, tc.remedy) || tc.remedy == "" && o.Remedy != "" {
				t.Errorf("Remedy = %q; want %q", o.Remedy, tc.remedy)
			}
			if (o.Err == nil) != (o.Verdict == reply.Relayed) {
				t.Errorf("Err = %v", o.Err)
			}
			if n := len(s.Requests()); n != 1 || m.intents != 1 {
				t.Errorf("%d requests, %d intents; want one each", n, m.intents)
			}
			b.noEvidence(t, o)
		})
	}
}

// TestWhatIsGuessed: what one message may have caused is told apart from what its code says of the mailbox.
func TestWhatIsGuessed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer graphtest.Answer
		want   bool
	}{
		{"a page with 403", graphtest.Answer{Status: 403, Body: "<html>blocked</html>"}, true},
		{"a page with 404", graphtest.Answer{Status: 404, Body: "<html>not here</html>"}, true},
		{"a right that is missing", graphtest.Fault(403, "accessDenied", "m"), true},
		{"a full mailbox", graphtest.Fault(403, "ErrorQuotaExceeded", "m"), false},
		{"a full mailbox without a code", graphtest.Answer{Status: 507}, false},
		{"the day's limit", graphtest.Fault(403, "ErrorExceededMessageLimit", "m"), false},
		{"the limit of recipients", graphtest.Fault(429, "ErrorSubmissionQuotaExceeded", "m"), false},
		{"a disabled account", graphtest.Fault(403, "ErrorAccountDisabled", "m"), false},
		{"no mailbox", graphtest.Fault(404, "MailboxNotEnabledForRESTAPI", "m"), false},
		{"no such user", graphtest.Fault(404, "Request_ResourceNotFound", "m"), false},
		{"another's trouble", graphtest.Fault(429, "TooManyRequests", "m"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := graphtest.New(t, tc.answer)
			b := newBench(t, s.URL, nil)
			o := b.Send(context.Background(), mail(t, "hi\r\n").Outgoing)
			if o.Guessed != tc.want {
				t.Errorf("%+v; want Guessed %v", o, tc.want)
			}
		})
	}
}

// An answer that comes before the whole message left leaves no doubt, whatever it says.
func TestServerErrorBeforeTheLastOctetIsNoDoubt(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		if v, o := rule(status, unknown, false); v != reply.Deferred || o != reply.Route {
			t.Errorf("%d, unreleased: %v of %v; want it deferred for the route", status, v, o)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, value string
		date        string
		want        time.Duration
	}{
		{"seconds", "17", "", 17 * time.Second},
		{"a fraction, as Microsoft's own sample has it", "2.128", "", 2128 * time.Millisecond},
		{"blanks around", " 17 ", "", 17 * time.Second},
		{"absent", "", "", 0},
		{"zero is a second", "0", "", time.Second},
		{"less than a second is a second", "0.2", "", time.Second},
		{"an hour", "3600", "", time.Hour},
		{"ten years are an hour", "315360000", "", time.Hour},
		{"a number beyond all numbers is an hour", strings.Repeat("9", 400), "", time.Hour},
		{"negative", "-5", "", 0},
		{"garbage", "soon", "", 0},
		{"two dots", "1.2.3", "", 0},
		{"a dot", ".", "", 0},
		{"an exponent", "1e3", "", 0},
		{"not a number", "NaN", "", 0},
		{"infinity", "Inf", "", 0},
		{"hexadecimal", "0x10", "", 0},
		{"a date", "Fri, 20 Nov 2026 10:01:30 GMT", "", 90 * time.Second},
		{"a date of RFC 850", "Friday, 20-Nov-26 10:01:30 GMT", "", 90 * time.Second},
		{"a date of asctime", "Fri Nov 20 10:01:30 2026", "", 90 * time.Second},
		{"a date in the past is a second", "Fri, 20 Nov 2026 09:00:00 GMT", "", time.Second},
		{"a date in ten years is an hour", "Fri, 20 Nov 2036 10:00:00 GMT", "", time.Hour},
		{"a date counts from the server's clock", "Fri, 20 Nov 2026 12:01:30 GMT", "Fri, 20 Nov 2026 12:01:00 GMT", 30 * time.Second},
		{"a date without its zone is garbage", "2026-11-20 10:01:30", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{}
			h.Set("Retry-After", tc.value)
			if tc.date != "" {
				h.Set("Date", tc.date)
			}
			if got := retryAfter(h, now); got != tc.want {
				t.Errorf("retryAfter(%q) = %v; want %v", tc.value, got, tc.want)
			}
		})
	}
}

func TestRetryAfterReachesTheOutcome(t *testing.T) {
	a := graphtest.Fault(429, "ApplicationThrottled", "over its limit")
	a.Header["Retry-After"] = "2.128"
	s := graphtest.New(t, a)
	o := newBench(t, s.URL, nil).Send(context.Background(), mail(t, "hi\r\n").Outgoing)
	if o.RetryAfter != 2128*time.Millisecond || o.Reply.ID != "11111111-2222-3333-4444-555555555555" {
		t.Errorf("RetryAfter %v, ID %q", o.RetryAfter, o.Reply.ID)
	}
}

func TestTheTokenIsTakenOutOfTexts(t *testing.T) {
	if got, want := oneLine("Bearer "+canary+"\r\nrefused", canary), "Bearer [redacted] refused"; got != want {
		t.Errorf("oneLine = %q; want %q", got, want)
	}
}

// TestCodesAreExplained: what is decided on is also said in words, and what waits for a person says what to do.
func TestCodesAreExplained(t *testing.T) {
	for code, k := range kinds {
		row, ok := diagnosis.Find(diagnosis.GraphCode(code))
		if !ok || row.Means == "" {
			t.Errorf("nobody says what %s means", code)
		}
		_, owner := rule(http.StatusNotFound, k, true)
		person := owner == reply.Account || owner == reply.Sender || owner == reply.Login
		if person != (row.Remedy != "") {
			t.Errorf("%s is the trouble of %v and its remedy is %q", code, owner, row.Remedy)
		}
	}
}

// Every code that the facts list is in the table, in the form in which it is looked up.
func TestCodesAreLowerCase(t *testing.T) {
	for code := range kinds {
		if code != strings.ToLower(code) {
			t.Errorf("%q would never be found", code)
		}
	}
}

func FuzzReadFault(f *testing.F) {
	for _, s := range []string{nested("a", "b", "c"), `{"error":{"code":7}}`, `{`, `[]`, `{"error":{"innererror":{"CODE":"ErrorSendAsDenied"}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fault := readFault(b)
		code := fault.code(func(string) bool { return true })
		text := oneLine(code+" "+fault.Message, canary)
		if len(text) > reply.MaxText || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") || strings.Contains(text, canary) {
			t.Errorf("text %q", text)
		}
		if !json.Valid(b) && (fault.Code != "" || fault.Message != "") {
			t.Errorf("half a JSON text gave %+v", fault)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "2.128", "-1", "Fri, 20 Nov 2026 10:01:30 GMT", "9e99", ""} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, v string) {
		got := retryAfter(http.Header{"Retry-After": {v}}, now)
		if got != 0 && (got < minRetryWait || got > maxRetryWait) {
			t.Errorf("retryAfter(%q) = %v", v, got)
		}
	})
}
