package sandbox

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const mimeErp = `From: Contoso ERP <erp@contoso.test>
To: Anna <anna@example.test>
Cc: carl@example.test
Bcc: hidden@example.test
Message-ID: <1@erp.contoso.test>
Subject: =?utf-8?Q?Bestellung_=C3=84?=

.dot at the start
`

func withFrom(from string) string { return strings.Replace(mimeErp, "erp@contoso.test", from, 1) }

func withTo(to string) string { return strings.Replace(mimeErp, "anna@example.test", to, 1) }

const (
	sendScopes   = "Mail.Send"
	sharedScopes = "Mail.Send Mail.Send.Shared"
)

func TestGraphSend(t *testing.T) {
	s := start(t, Options{})
	r := sendRequest(t, s, "/me/sendMail", accessFor(t, s, "erp@contoso.test", sendScopes), mimeErp)
	r.Header.Set("client-request-id", "0f0f0f0f-1111-2222-3333-444444444444")
	a := do(t, r)
	if a.status != 202 || len(a.body) != 0 {
		t.Fatalf("%d %q", a.status, a.body)
	}
	if a.header.Get("request-id") == "" || a.header.Get("client-request-id") != "0f0f0f0f-1111-2222-3333-444444444444" {
		t.Errorf("header %v", a.header)
	}
	m := waitFor(t, s, 1)[0]
	want := []string{"anna@example.test", "carl@example.test", "hidden@example.test"}
	if !slices.Equal(m.Recipients, want) || m.Via != ViaGraph || m.Mailbox != "erp@contoso.test" || m.From != "erp@contoso.test" || m.Sender != "" {
		t.Errorf("received %+v", m)
	}
	if string(m.Sent) != crlf(mimeErp) {
		t.Errorf("Sent Items copy %q", m.Sent)
	}
	if delivered := strings.Replace(crlf(mimeErp), "Bcc: hidden@example.test\r\n", "", 1); string(m.Raw) != delivered {
		t.Errorf("delivered %q, want %q", m.Raw, delivered)
	}
}

func TestGraphKeepsBccWhenSwitchedOn(t *testing.T) {
	s := start(t, Options{Switches: Switches{KeepBcc: true, ReplaceMessageID: true}})
	do(t, sendRequest(t, s, "/me/sendMail", accessFor(t, s, "erp@contoso.test", sendScopes), mimeErp))
	m := waitFor(t, s, 1)[0]
	if !bytes.Contains(m.Raw, []byte("Bcc: hidden@example.test\r\n")) {
		t.Errorf("Bcc is gone: %q", m.Raw)
	}
	if !bytes.Contains(m.Raw, []byte("X-Microsoft-Original-Message-ID: <1@erp.contoso.test>\r\n")) || !strings.HasSuffix(m.MessageID, backendHost+">") {
		t.Errorf("Message-ID was not replaced: %q", m.Raw)
	}
}

func TestGraphSenderRights(t *testing.T) {
	for _, tc := range []struct {
		name                string
		login, scope        string
		path                string
		mime                string
		status              int
		code                string
		mailbox, from, send string
	}{
		{"the own address", "erp@contoso.test", sendScopes, "/me/sendMail", mimeErp, 202, "", "erp@contoso.test", "erp@contoso.test", ""},
		{"the own mailbox by its address", "erp@contoso.test", sendScopes, "/users/ERP@contoso.test/sendMail", mimeErp, 202, "", "erp@contoso.test", "erp@contoso.test", ""},
		{"Send As leaves no trace of who sent", "erp@contoso.test", sharedScopes, "/me/sendMail", withFrom("noreply@contoso.test"), 202, "", "erp@contoso.test", "noreply@contoso.test", ""},
		{"Send on Behalf names the sender", "erp@contoso.test", sharedScopes, "/me/sendMail", withFrom("buyer@contoso.test"), 202, "", "erp@contoso.test", "buyer@contoso.test", "erp@contoso.test"},
		{"another's From without the Shared scope", "erp@contoso.test", sendScopes, "/me/sendMail", withFrom("noreply@contoso.test"), 403, "ErrorAccessDenied", "", "", ""},
		{"a From without right", "erp@contoso.test", sharedScopes, "/me/sendMail", withFrom("sales@contoso.test"), 403, "ErrorSendAsDenied", "", "", ""},
		{"a From outside the tenant", "erp@contoso.test", sharedScopes, "/me/sendMail", withFrom("boss@fabrikam.test"), 403, "ErrorSendAsDenied", "", "", ""},
		{"a Sender without right", "erp@contoso.test", sharedScopes, "/me/sendMail", "Sender: sales@contoso.test\n" + mimeErp, 403, "ErrorSendAsDenied", "", "", ""},
		{"the own address as Sender of another's From", "erp@contoso.test", sharedScopes, "/me/sendMail", "Sender: erp@contoso.test\n" + withFrom("noreply@contoso.test"), 202, "", "erp@contoso.test", "noreply@contoso.test", "erp@contoso.test"},
		{"another's mailbox with full access", "svc@contoso.test", sharedScopes, "/users/noreply@contoso.test/sendMail", withFrom("noreply@contoso.test"), 202, "", "noreply@contoso.test", "noreply@contoso.test", ""},
		{"another's mailbox without full access", "erp@contoso.test", sharedScopes, "/users/noreply@contoso.test/sendMail", withFrom("noreply@contoso.test"), 403, "ErrorAccessDenied", "", "", ""},
		{"another's mailbox without the Shared scope", "svc@contoso.test", sendScopes, "/users/noreply@contoso.test/sendMail", withFrom("noreply@contoso.test"), 403, "ErrorAccessDenied", "", "", ""},
		{"a mailbox that does not exist", "erp@contoso.test", sharedScopes, "/users/nobody@contoso.test/sendMail", mimeErp, 404, "ErrorInvalidUser", "", "", ""},
		{"no From at all means the mailbox", "erp@contoso.test", sendScopes, "/me/sendMail", "To: a@example.test\n\nhi\n", 202, "", "erp@contoso.test", "erp@contoso.test", ""},
		{"two From addresses", "erp@contoso.test", sendScopes, "/me/sendMail", withFrom("a@contoso.test>, <erp@contoso.test"), 400, "ErrorMimeContentInvalid", "", "", ""},
		{"two From fields", "erp@contoso.test", sendScopes, "/me/sendMail", "From: erp@contoso.test\n" + mimeErp, 400, "ErrorMimeContentInvalid", "", "", ""},
		{"no recipient", "erp@contoso.test", sendScopes, "/me/sendMail", "From: erp@contoso.test\nTo: undisclosed-recipients:;\n\nhi\n", 400, "ErrorInvalidRecipients", "", "", ""},
		{"a recipient without domain", "erp@contoso.test", sendScopes, "/me/sendMail", "From: erp@contoso.test\nTo: root\n\nhi\n", 400, "ErrorInvalidRecipients", "", "", ""},
		{"a token without Mail.Send", "erp@contoso.test", "User.Read", "/me/sendMail", mimeErp, 403, "ErrorAccessDenied", "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, Options{})
			a := do(t, sendRequest(t, s, tc.path, accessFor(t, s, tc.login, tc.scope), tc.mime))
			if a.status != tc.status {
				t.Fatalf("%d %s, want %d", a.status, a.body, tc.status)
			}
			if tc.code != "" {
				if got := a.errorCode(t); got != tc.code || len(s.Received()) != 0 {
					t.Errorf("code %q, want %q; %d received", got, tc.code, len(s.Received()))
				}
				return
			}
			m := waitFor(t, s, 1)[0]
			if m.Mailbox != tc.mailbox || m.From != tc.from || m.Sender != tc.send {
				t.Errorf("mailbox %q, From %q, Sender %q; want %q, %q, %q", m.Mailbox, m.From, m.Sender, tc.mailbox, tc.from, tc.send)
			}
			if got := parseMail(m.Raw).first("Sender"); got != tc.send {
				t.Errorf("Sender field %q, want %q", got, tc.send)
			}
		})
	}
}

func TestGraphSendAsDeniedText(t *testing.T) {
	s := start(t, Options{})
	a := do(t, sendRequest(t, s, "/me/sendMail", accessFor(t, s, "erp@contoso.test", sharedScopes), withFrom("sales@contoso.test")))
	e, _ := a.json(t)["error"].(map[string]any)
	if e["message"] != "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account. Cannot submit message." {
		t.Errorf("message %q", e["message"])
	}
	inner, _ := e["innerError"].(map[string]any)
	for _, k := range []string{"date", "request-id", "client-request-id"} {
		if v, _ := inner[k].(string); v == "" {
			t.Errorf("innerError without %s: %v", k, inner)
		}
	}
}

func TestGraphTokens(t *testing.T) {
	c := newClock()
	s := start(t, Options{Now: c.now})
	good := accessFor(t, s, "erp@contoso.test", sendScopes)
	for _, tc := range []struct{ name, bearer string }{
		{"no token", ""},
		{"not a token", "opaque"},
		{"an unknown token", "a.b.c"},
		{"a token for SMTP", accessFor(t, s, "erp@contoso.test", askSMTP)},
		{"an app-only token for SMTP", appAccess(t, s, outlook365)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := do(t, sendRequest(t, s, "/me/sendMail", tc.bearer, mimeErp))
			if a.status != 401 || a.errorCode(t) != "InvalidAuthenticationToken" || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	c.add(90 * time.Minute)
	if a := do(t, sendRequest(t, s, "/me/sendMail", good, mimeErp)); a.status != 401 {
		t.Errorf("an expired token: %d %s", a.status, a.body)
	}
	good = accessFor(t, s, "erp@contoso.test", sendScopes)
	s.ExpireAccessTokens()
	if a := do(t, sendRequest(t, s, "/me/sendMail", good, mimeErp)); a.status != 401 {
		t.Errorf("after ExpireAccessTokens: %d %s", a.status, a.body)
	}
	if len(s.Received()) != 0 {
		t.Error("something was sent")
	}
}

func TestGraphAppOnly(t *testing.T) {
	s := start(t, Options{})
	at := appAccess(t, s, graphResource)
	if a := do(t, sendRequest(t, s, "/me/sendMail", at, mimeErp)); a.status != 400 {
		t.Errorf("/me app-only: %d %s", a.status, a.body)
	}
	if a := do(t, sendRequest(t, s, "/users/erp@contoso.test/sendMail", at, mimeErp)); a.status != 202 {
		t.Errorf("the mailbox: %d %s", a.status, a.body)
	}
	if m := waitFor(t, s, 1)[0]; m.Login != "" || m.ClientID != ConfidentialClientID || m.Mailbox != "erp@contoso.test" {
		t.Errorf("received %+v", m)
	}
	if a := do(t, sendRequest(t, s, "/users/nav@contoso.test/sendMail", at, withFrom("noreply@contoso.test"))); a.errorCode(t) != "ErrorSendAsDenied" {
		t.Errorf("a From that the mailbox may not use: %d %s", a.status, a.body)
	}
	s.SetApp(App{ClientID: ConfidentialClientID, Secret: ConfidentialSecret, Roles: []string{graphResource + "/Mail.Send"}, RestrictTo: []string{"svc@contoso.test"}})
	a := do(t, sendRequest(t, s, "/users/erp@contoso.test/sendMail", at, mimeErp))
	if a.status != 403 || !strings.Contains(string(a.body), "Access to OData is disabled.") {
		t.Errorf("outside the access policy: %d %s", a.status, a.body)
	}
	s.SetApp(App{ClientID: ConfidentialClientID, Secret: ConfidentialSecret})
	// Entra gives a token without roles; Graph refuses it.
	if a := do(t, sendRequest(t, s, "/users/erp@contoso.test/sendMail", appAccess(t, s, graphResource), mimeErp)); a.errorCode(t) != "ErrorAccessDenied" {
		t.Errorf("without roles: %d %s", a.status, a.body)
	}
}

func TestGraphBodies(t *testing.T) {
	s := start(t, Options{})
	at := accessFor(t, s, "erp@contoso.test", sendScopes)
	for _, tc := range []struct {
		name, kind, body string
		status           int
		code             string
	}{
		{"not base64", "text/plain", "From: erp@contoso.test", 400, "ErrorMimeContentInvalidBase64String"},
		{"base64 and more", "text/plain", "aGk=!", 400, "ErrorMimeContentInvalidBase64String"},
		{"base64 without its padding", "text/plain", "aGk", 400, "ErrorMimeContentInvalidBase64String"},
		{"base64 with bits after the end", "text/plain", "aGl=", 400, "ErrorMimeContentInvalidBase64String"},
		{"base64 for URLs", "text/plain", "-_-_", 400, "ErrorMimeContentInvalidBase64String"},
		{"nothing", "text/plain", "", 400, "ErrorMimeContentInvalidBase64String"},
		{"another type", "message/rfc822", "aGk=", 415, "UnsupportedMediaType"},
		{"JSON with a property that the sandbox does not know", "application/json", `{"message":{"unknown":1}}`, 400, "RequestBodyRead"},
		{"JSON without recipients", "application/json", `{"message":{"subject":"s"}}`, 400, "ErrorInvalidRecipients"},
		{"wrapped base64 is fine", "text/plain; charset=utf-8", "RnJvbTogZXJwQGNvbnRvc28u\r\ndGVzdApUbzogYUBleGFtcGxlLnRlc3QKCmhpCg==\r\n", 202, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(t, "POST", s.GraphURL()+"/me/sendMail", tc.kind, tc.body)
			r.Header.Set("Authorization", "Bearer "+at)
			a := do(t, r)
			if a.status != tc.status || tc.code != "" && a.errorCode(t) != tc.code {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestGraphRequestCap(t *testing.T) {
	s := start(t, Options{})
	at := accessFor(t, s, "erp@contoso.test", sendScopes)
	big := mimeErp + strings.Repeat("0123456789abcde\n", 3<<20/16)
	for _, tc := range []struct {
		symptom string
		status  int
		body    string
	}{
		{TooLarge413, 413, `"RequestEntityTooLarge"`},
		{TooLarge400, 400, "The maximum request length supported is 4MB."},
		{TooLargeHTML, 500, "<html>"},
		{TooLarge200, 200, ""},
	} {
		t.Run("symptom "+tc.symptom, func(t *testing.T) {
			s.Switch(func(w *Switches) { w.TooLarge = tc.symptom })
			a := do(t, sendRequest(t, s, "/me/sendMail", at, big))
			if a.status != tc.status || !strings.Contains(string(a.body), tc.body) || tc.body == "" && len(a.body) != 0 {
				t.Errorf("%d %q", a.status, a.body)
			}
		})
	}
	if len(s.Received()) != 0 {
		t.Error("an oversize request was sent")
	}
	if a := do(t, sendRequest(t, s, "/me/sendMail", at, big[:2900000])); a.status != 202 {
		t.Errorf("2.9 MB: %d %s", a.status, a.body)
	}
	s.SetMailbox(Mailbox{Address: "erp@contoso.test", MaxMessage: 1000})
	if a := do(t, sendRequest(t, s, "/me/sendMail", at, big[:2000])); a.errorCode(t) != "ErrorMessageSizeExceeded" {
		t.Errorf("over the mailbox's limit: %d %s", a.status, a.body)
	}
}

func TestGraphConcurrency(t *testing.T) {
	logf, judged := counter()
	s := start(t, Options{Logf: logf, Switches: Switches{SlowDelay: Duration{time.Hour}, RetryAfter: "2.128"}})
	at := accessFor(t, s, "erp@contoso.test", sendScopes)
	for range 4 {
		r := sendRequest(t, s, "/me/sendMail", at, withTo("slow@example.test"))
		s.wg.Go(func() { _, _ = try(r) }) // Close cuts them, and waits
	}
	for range 4 {
		<-judged
	}
	a := do(t, sendRequest(t, s, "/me/sendMail", at, mimeErp))
	if a.status != 429 || a.header.Get("Retry-After") != "2.128" || !strings.Contains(string(a.body), "Application is over its MailboxConcurrency limit.") {
		t.Errorf("the fifth: %d %s", a.status, a.body)
	}
	if a := do(t, sendRequest(t, s, "/me/sendMail", accessFor(t, s, "svc@contoso.test", sendScopes), withFrom("svc@contoso.test"))); a.status != 202 {
		t.Errorf("another mailbox: %d %s", a.status, a.body)
	}
}

func TestGraphScriptedRecipients(t *testing.T) {
	for _, tc := range []struct {
		to       string
		statuses []int // one per attempt; 0 is a cut connection
		code     string
		received int
	}{
		{"throttled@example.test", []int{429, 202}, "ApplicationThrottled", 1},
		{"throttled+2@example.test", []int{429, 429, 202}, "ApplicationThrottled", 1},
		{"busy@example.test", []int{503, 202}, "ErrorServerBusy", 1},
		{"busy+always@example.test", []int{503, 503, 503}, "ErrorServerBusy", 0},
		{"error@example.test", []int{500, 202}, "ErrorInternalServerError", 1},
		{"gateway@example.test", []int{504, 202}, "UnknownError", 1},
		{"doubt@example.test", []int{504, 202}, "UnknownError", 2},
		{"drop-before@example.test", []int{0, 202}, "", 1},
		{"drop-after@example.test", []int{0, 202}, "", 2},
		{"html@example.test", []int{500, 202}, "", 1},
		{"ok200@example.test", []int{200, 202}, "", 1},
		{"denied@example.test", []int{403, 403}, "ErrorSendAsDenied", 0},
		{"full@example.test", []int{403, 403}, "ErrorQuotaExceeded", 0},
		{"invalid@example.test", []int{400, 400}, "ErrorInvalidRecipients", 0},
		{"toolarge@example.test", []int{400, 400}, "ErrorMessageSizeExceeded", 0},
		{"slow@example.test", []int{202}, "", 1},
	} {
		t.Run(tc.to, func(t *testing.T) {
			s := start(t, Options{Switches: Switches{SlowDelay: Duration{time.Millisecond}}})
			at := accessFor(t, s, "erp@contoso.test", sendScopes)
			for i, want := range tc.statuses {
				a, err := try(sendRequest(t, s, "/me/sendMail", at, withTo(tc.to)))
				if (err != nil) != (want == 0) || a.status != want {
					t.Fatalf("attempt %d: %d %v, want %d", i+1, a.status, err, want)
				}
				if want >= 300 && tc.code != "" && a.errorCode(t) != tc.code {
					t.Errorf("attempt %d: %s, want %s", i+1, a.body, tc.code)
				}
			}
			if n := len(s.Received()); n != tc.received {
				t.Errorf("%d received, want %d", n, tc.received)
			}
		})
	}
}

func TestGraphFaults(t *testing.T) {
	s := start(t, Options{})
	at := accessFor(t, s, "erp@contoso.test", sendScopes)
	for _, f := range []Fault{
		{Where: AtGraph, Status: 429, Code: "TooManyRequests", Text: "Please retry again later.", RetryAfter: "Fri, 20 Nov 2026 10:00:00 GMT", Login: "erp@contoso.test"},
		{Where: AtGraph, Status: 502}, {Where: AtDot, Outcome: "spam"}, {Where: AtDot, Drop: true}, {Where: AtGraph, Login: "svc@contoso.test", Status: 500},
	} {
		if err := s.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []int
	for range 5 {
		a, _ := try(sendRequest(t, s, "/me/sendMail", at, mimeErp)) // one of them is cut
		got = append(got, a.status)
	}
	if !slices.Equal(got, []int{429, 502, 403, 0, 202}) {
		t.Errorf("statuses %v", got)
	}
}

func TestGraphMe(t *testing.T) {
	s := start(t, Options{})
	get := func(path, bearer string) answer {
		r := request(t, http.MethodGet, s.GraphURL()+path, "", "")
		r.Header.Set("Authorization", "Bearer "+bearer)
		return do(t, r)
	}
	m := get("/me", accessFor(t, s, "sales@contoso.test", "User.Read")).json(t)
	if m["userPrincipalName"] != "sales@contoso.test" || m["mail"] != "sales@contoso.test" || m["proxyAddresses"] != nil {
		t.Errorf("me %v", m)
	}
	if id, _ := m["id"].(string); !guidForm.MatchString(id) {
		t.Errorf("id %q", id)
	}
	m = get("/me?$select=userPrincipalName,proxyAddresses", accessFor(t, s, "sales@contoso.test", "User.Read")).json(t)
	if list, _ := m["proxyAddresses"].([]any); len(list) != 2 || m["mail"] != nil {
		t.Errorf("me with $select %v", m)
	}
	if a := get("/me", accessFor(t, s, "sales@contoso.test", sendScopes)); a.status != 403 {
		t.Errorf("without User.Read: %d %s", a.status, a.body)
	}
	if a := get("/me/contacts", accessFor(t, s, "sales@contoso.test", sendScopes)); a.status != 400 {
		t.Errorf("a segment that is not built: %d %s", a.status, a.body)
	}
	if a := get("/me/sendMail", accessFor(t, s, "sales@contoso.test", sendScopes)); a.status != 405 {
		t.Errorf("GET sendMail: %d %s", a.status, a.body)
	}
}
