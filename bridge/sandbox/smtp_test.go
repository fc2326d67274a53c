package sandbox

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const ehloBefore = `250-SB0P282CA0001.outlook.sandbox.test Hello [127.0.0.1]
250-SIZE 157286400
250-PIPELINING
250-DSN
250-ENHANCEDSTATUSCODES
250-STARTTLS
250-8BITMIME
250-BINARYMIME
250-CHUNKING
250 SMTPUTF8`

func TestSMTPGreetingIsExchanges(t *testing.T) {
	s := start(t, Options{Now: newClock().now})
	c := dialSMTP(t, s)
	banner := regexp.MustCompile(`^220 SB0P282CA0001\.outlook\.sandbox\.test Microsoft ESMTP MAIL Service ready at Fri, 20 Nov 2026 09:30:00 \+0000 \[[0-9A-F]{16}\]$`)
	if got := c.read(); !banner.MatchString(got) {
		t.Errorf("banner %q", got)
	}
	if got := c.cmd("EHLO client.test"); got != ehloBefore {
		t.Errorf("EHLO\n%s", got)
	}
	c.want("AUTH XOAUTH2", "504 5.7.4 ")
	c.want("MAIL FROM:<erp@contoso.test>", "530 5.7.57 ")
	c.startTLS()
	if got := c.cmd("ehlo client.test"); got != strings.Replace(ehloBefore, "STARTTLS", "AUTH LOGIN XOAUTH2", 1) {
		t.Errorf("EHLO after TLS\n%s", got)
	}
	c.want("STARTTLS", "503 ")
	c.want("MAIL FROM:<erp@contoso.test>", "530 5.7.57 Client not authenticated to send mail. [")
	c.want("NOOP", "250 2.0.0 ")
	c.want("XYZZY", "500 5.3.3 ")
	c.want("QUIT", "221 2.0.0 Service closing transmission channel")
	if c.read() != "" {
		t.Error("the connection stays open after QUIT")
	}
}

func TestSMTPSend(t *testing.T) {
	s := start(t, Options{})
	c := signedIn(t, s, "erp@contoso.test")
	text := "From: erp@contoso.test\nTo: anna@example.test\nBcc: kept@example.test\nMessage-ID: <7@erp.contoso.test>\n\n..\n.x\n\xc3\x84\n"
	c.want("MAIL FROM:<erp@contoso.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x", "250 2.1.0 ")
	c.want("RCPT TO:<anna@example.test> NOTIFY=NEVER", "250 2.1.5 ")
	c.want("RCPT TO:<\"a b\"@example.test>", "250 2.1.5 ")
	c.want("RCPT TO:<ANNA@example.test>", "250 2.1.5 ")
	c.want("DATA", "354 ")
	stuffed := strings.ReplaceAll(crlf(text), "\r\n.", "\r\n..")
	if got := c.cmd(stuffed + "."); got != "250 2.0.0 OK <7@erp.contoso.test> [Hostname="+backendHost+"]" {
		t.Fatalf("reply %q", got)
	}
	m := waitFor(t, s, 1)[0]
	if string(m.Raw) != crlf(text) || string(m.Sent) != crlf(text) {
		t.Errorf("stored %q, want %q", m.Raw, crlf(text))
	}
	if !slices.Equal(m.Recipients, []string{"anna@example.test", `"a b"@example.test`}) || m.EnvelopeFrom != "erp@contoso.test" ||
		m.Via != ViaSMTP || m.Login != "erp@contoso.test" || m.Mailbox != "erp@contoso.test" || !m.Body8Bit || m.SMTPUTF8 {
		t.Errorf("received %+v", m)
	}
	// The connection takes the next message.
	if got := c.submit("erp@contoso.test", "From: erp@contoso.test\n\nagain\n", "anna@example.test"); !strings.HasPrefix(got, "250 2.0.0 OK <") {
		t.Errorf("second message: %q", got)
	}
	waitFor(t, s, 2)
}

func TestSMTPRefusalsAfterTheDot(t *testing.T) {
	for _, tc := range []struct {
		name, from, text string
		want             string
	}{
		{"Send As by header and reverse-path", "noreply@contoso.test", "From: noreply@contoso.test\n\nx\n", "250 2.0.0 OK "},
		{"on behalf", "erp@contoso.test", "From: buyer@contoso.test\nSender: erp@contoso.test\n\nx\n", "250 2.0.0 OK "},
		{"a header From without right", "erp@contoso.test", "From: sales@contoso.test\n\nx\n", "554 5.2.252 SendAsDenied; erp@contoso.test not allowed to send as sales@contoso.test; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; "},
		{"a reverse-path without right", "sales@contoso.test", "From: erp@contoso.test\n\nx\n", "554 5.2.252 SendAsDenied; erp@contoso.test not allowed to send as sales@contoso.test; "},
		{"a null reverse-path", "", "From: erp@contoso.test\n\nx\n", "554 5.2.252 "},
		{"no From", "erp@contoso.test", "Subject: x\n\nx\n", "550 5.7.512 "},
		{"two From fields", "erp@contoso.test", "From: erp@contoso.test\nFrom: sales@contoso.test\n\nx\n", "550 5.1.20 "},
		{"over the mailbox's limit", "erp@contoso.test", "From: erp@contoso.test\n\n" + strings.Repeat("x\n", 600), "552 5.3.4 Message size exceeds fixed maximum message size"},
		{"a bare line feed", "erp@contoso.test", "From: erp@contoso.test\n\nx\v\n", "550 5.6.11 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, Options{Mailboxes: []Mailbox{
				{Address: "erp@contoso.test", MaxMessage: 1000},
				{Address: "noreply@contoso.test", Shared: true, SendAs: []string{"erp@contoso.test"}},
				{Address: "buyer@contoso.test", SendOnBehalf: []string{"erp@contoso.test"}}, {Address: "sales@contoso.test"},
			}})
			c := signedIn(t, s, "erp@contoso.test")
			c.want("MAIL FROM:<"+tc.from+">", "250 2.1.0 ")
			c.want("RCPT TO:<anna@example.test>", "250 2.1.5 ")
			c.want("DATA", "354 ")
			got := c.cmd(strings.ReplaceAll(crlf(tc.text), "\v\r\n", "\n") + "\r\n.")
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if tc.name == "a header From without right" && len(got) <= 512 {
				t.Errorf("the 554 has %d octets; the real one exceeds 512", len(got))
			}
			if n := len(s.Received()); n != 0 != strings.HasPrefix(tc.want, "250") {
				t.Errorf("%d received", n)
			}
			c.want("NOOP", "250 ") // the session goes on
		})
	}
}

func TestSMTPSequence(t *testing.T) {
	s := start(t, Options{})
	c := dialSMTP(t, s)
	c.read()
	for _, step := range [][2]string{
		{"MAIL FROM:<erp@contoso.test>", "503 5.5.2 Send hello first"}, {"STARTTLS", "503 "}, {"EHLO", "501 "}, {"HELO x", "250 SB0P282CA0001.outlook.sandbox.test Hello [127.0.0.1]"},
		{"DATA", "503 "}, {"RCPT TO:<a@example.test>", "503 "}, {"BDAT 0 LAST", "503 "}, {"BDAT x", "501 "},
	} {
		c.want(step[0], step[1])
	}
	c = signedIn(t, s, "erp@contoso.test")
	for _, step := range [][2]string{
		{"MAIL FROM:erp@contoso.test", "501 5.5.4 "}, {"MAIL FROM: <erp@contoso.test>", "501 "}, {"MAIL FROM:<erp@contoso.test>x", "501 "},
		{"MAIL FROM:<erp@contoso.test> SIZE=157286401", "552 5.3.4 "}, {"MAIL FROM:<erp@contoso.test> SIZE=1 SIZE=2", "501 "}, {"MAIL FROM:<erp@contoso.test> X=Y", "501 5.5.4 "},
		{"MAIL FROM:<\xc3\xa4@contoso.test>", "553 5.6.7 "}, {"MAIL FROM:<a b@contoso.test>", "501 5.1.7 "}, {"DATA", "503 "},
		{"MAIL FROM:<\xc3\xa4@contoso.test> SMTPUTF8", "250 "}, {"MAIL FROM:<erp@contoso.test>", "503 "}, {"DATA", "503 5.5.2 Need rcpt"},
		{"RCPT TO:<\xc3\xa4@example.test>", "250 "}, {"RCPT TO:<>", "501 "}, {"RCPT TO:<a@example.test> X=Y", "501 "}, {"RCPT TO:<postmaster>", "250 "}, {"DATA now", "501 "},
		{"RSET", "250 2.0.0 "}, {"DATA", "503 "}, {"MAIL FROM:<erp@contoso.test> BODY=BINARYMIME", "250 "}, {"RCPT TO:<a@example.test>", "250 "}, {"DATA", "503 "},
		{"VRFY a", "252 "},
	} {
		c.want(step[0], step[1])
	}
	for _, bad := range []string{"NOOP\n", "NOOP\rNOOP\r\n", "NOOP " + strings.Repeat("x", maxLine) + "\r\n"} {
		c := dialSMTP(t, s)
		c.read()
		c.write(bad)
		if got := c.read(); !strings.HasPrefix(got, "500 5.5.2 ") {
			t.Errorf("%.20q answered %q", bad, got)
		}
	}
}

func TestSMTPNothingHidesBehindSTARTTLSOrDATA(t *testing.T) {
	s := start(t, Options{})
	c := dialSMTP(t, s)
	c.read()
	c.want("EHLO x", "250")
	c.write("STARTTLS\r\nNOOP\r\n")
	if got := c.read(); !strings.HasPrefix(got, "503 ") {
		t.Errorf("a command after STARTTLS: %q", got)
	}
	c = signedIn(t, s, "erp@contoso.test")
	c.write("MAIL FROM:<erp@contoso.test>\r\nRCPT TO:<a@example.test>\r\nDATA\r\nFrom: erp@contoso.test\r\n\r\n.\r\n")
	c.read()
	c.read()
	if got := c.read(); !strings.HasPrefix(got, "503 ") || c.read() != "" {
		t.Errorf("text before 354: %q", got)
	}
}

// What is not CRLF.CRLF does not end data (SMTP smuggling).
func TestSMTPEndOfData(t *testing.T) {
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\r\n.\r\r\n", "\r\n\x00.\r\n"} {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			s := start(t, Options{Switches: Switches{KeepBareLinefeeds: true}})
			c := signedIn(t, s, "erp@contoso.test")
			text := "From: erp@contoso.test\r\n\r\nx" + end + "MAIL FROM:<svc@contoso.test>\r\n"
			c.want("MAIL FROM:<erp@contoso.test>", "250 ")
			c.want("RCPT TO:<a@example.test>", "250 ")
			c.want("DATA", "354 ")
			c.want(text+".", "250 2.0.0 OK")
			want := strings.Replace(text, "\r\n.", "\r\n", 1) // a dot at the start of a line is stuffing
			if got := waitFor(t, s, 1)[0].Raw; string(got) != want {
				t.Errorf("stored %q, want %q", got, want)
			}
		})
	}
}

func TestSMTPLongLines(t *testing.T) {
	s := start(t, Options{})
	c := signedIn(t, s, "erp@contoso.test")
	// Around the reader's buffer: a CR at its end, a dot at its start.
	var text strings.Builder
	text.WriteString("From: erp@contoso.test\n\n")
	for n := maxLine - 40; n < maxLine+3; n++ {
		text.WriteString(strings.Repeat("x", n) + "\n.y\n")
	}
	c.want("MAIL FROM:<erp@contoso.test>", "250 ")
	c.want("RCPT TO:<a@example.test>", "250 ")
	c.want("DATA", "354 ")
	c.want(strings.ReplaceAll(crlf(text.String()), "\r\n.", "\r\n..")+".", "250 ")
	if !bytes.Equal(waitFor(t, s, 1)[0].Raw, []byte(crlf(text.String()))) {
		t.Error("long lines changed")
	}
}

func TestSMTPBdat(t *testing.T) {
	s := start(t, Options{})
	c := signedIn(t, s, "erp@contoso.test")
	c.write("BDAT 6\r\nQUIT\r\n") // the octets of a refused chunk are no commands
	if got := c.read(); !strings.HasPrefix(got, "503 ") {
		t.Errorf("a chunk without a transaction: %q", got)
	}
	c.want("MAIL FROM:<erp@contoso.test> BODY=BINARYMIME", "250 ")
	c.want("RCPT TO:<a@example.test>", "250 ")
	first := "From: erp@contoso.test\r\n\r\n"
	c.write(fmt.Sprintf("BDAT %d\r\n%s", len(first), first))
	if got := c.read(); got != fmt.Sprintf("250 2.0.0 %d octets received", len(first)) {
		t.Errorf("first chunk %q", got)
	}
	c.want("DATA", "503 ")
	c.write("BDAT 6 LAST\r\n.\r\nx\n\x00")
	if got := c.read(); !strings.HasPrefix(got, "250 2.0.0 OK ") {
		t.Errorf("last chunk %q", got)
	}
	if got := waitFor(t, s, 1)[0].Raw; string(got) != first+".\r\nx\n\x00" {
		t.Errorf("stored %q", got)
	}
}

func TestSMTPScriptedRecipients(t *testing.T) {
	for _, tc := range []struct {
		to       string
		replies  []string // one per attempt; "" is no reply
		received int
	}{
		{"throttled@example.test", []string{"432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [Hostname=", "250 "}, 1},
		{"busy@example.test", []string{"421 4.3.2 ", "250 "}, 1},
		{"error+2@example.test", []string{"451 4.7.0 ", "451 4.7.0 ", "250 "}, 1},
		{"drop-before@example.test", []string{"", "250 "}, 1},
		{"drop-after@example.test", []string{"", "250 "}, 2},
		{"ok200@example.test", []string{"250 "}, 1},
		{"slow@example.test", []string{"250 "}, 1},
		{"denied@example.test", []string{"554 5.2.252 SendAsDenied; ", "554 "}, 0},
		{"full@example.test", []string{"554 5.2.2 mailbox full; ", "554 "}, 0},
		{"quota@example.test", []string{"554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException"}, 0},
		{"spam@example.test", []string{"554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException"}, 0},
		{"blocked@example.test", []string{"550 5.1.8 "}, 0},
		{"invalid@example.test", []string{"550 5.1.1 "}, 0},
		{"toolarge@example.test", []string{"552 5.3.4 "}, 0},
		{"duplicate@example.test", []string{"554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException.MapiExceptionDuplicateDelivery; "}, 0},
	} {
		t.Run(tc.to, func(t *testing.T) {
			s := start(t, Options{Switches: Switches{SlowDelay: Duration{time.Millisecond}}})
			for i, want := range tc.replies {
				c := signedIn(t, s, "erp@contoso.test")
				got := c.submit("erp@contoso.test", "From: erp@contoso.test\nMessage-ID: <1@x>\n\nx\n", tc.to)
				if !strings.HasPrefix(got, want) || want == "" && got != "" {
					t.Fatalf("attempt %d: %q, want %q", i+1, got, want)
				}
				if strings.HasPrefix(want, "421") && c.read() != "" {
					t.Error("421 left the connection open")
				}
			}
			if n := len(s.Received()); n != tc.received {
				t.Errorf("%d received, want %d", n, tc.received)
			}
		})
	}
}

func TestSMTPScriptedAtRcpt(t *testing.T) {
	c := signedIn(t, start(t, Options{}), "erp@contoso.test")
	c.want("MAIL FROM:<erp@contoso.test>", "250 ")
	c.want("RCPT TO:<refused@example.test>", "550 5.1.10 ")
	c.want("RCPT TO:<later@example.test>", "450 4.2.1 ")
	c.want("RCPT TO:<later@example.test>", "250 ")
}

func TestSMTPDoubtIsTakenAndNeverAnswered(t *testing.T) {
	s := start(t, Options{})
	c := signedIn(t, s, "erp@contoso.test")
	c.want("MAIL FROM:<erp@contoso.test>", "250 ")
	c.want("RCPT TO:<doubt@example.test>", "250 ")
	c.want("DATA", "354 ")
	c.write("From: erp@contoso.test\r\n\r\nx\r\n.\r\n")
	waitFor(t, s, 1)
	if err := s.Close(); err != nil { // cuts it
		t.Fatal(err)
	}
	if got := c.read(); got != "" {
		t.Errorf("reply %q", got)
	}
}

func TestSMTPDuplicates(t *testing.T) {
	s := start(t, Options{Switches: Switches{RefuseDuplicates: true, NullReversePath: true}})
	c := signedIn(t, s, "erp@contoso.test")
	text := "From: erp@contoso.test\nMessage-ID: <1@x>\n\nx\n"
	for _, want := range []string{"250 2.0.0 OK <1@x>", "554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException.MapiExceptionDuplicateDelivery;"} {
		if got := c.submit("", text, "a@example.test"); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSMTPConcurrency(t *testing.T) {
	s := start(t, Options{})
	var open []*client
	for range 3 {
		c := signedIn(t, s, "erp@contoso.test")
		c.want("MAIL FROM:<erp@contoso.test>", "250 ")
		open = append(open, c)
	}
	fourth := signedIn(t, s, "erp@contoso.test")
	text := "From: erp@contoso.test\n\nx\n"
	if got := fourth.submit("erp@contoso.test", text, "a@example.test"); !strings.HasPrefix(got, "432 4.3.2 ") {
		t.Errorf("the fourth transaction: %q", got)
	}
	open[0].want("RSET", "250 ")
	// A resting connection does not count.
	if got := fourth.submit("erp@contoso.test", text, "a@example.test"); !strings.HasPrefix(got, "250 ") {
		t.Errorf("after one ended: %q", got)
	}
}

func TestSMTPFaults(t *testing.T) {
	s := start(t, Options{})
	order := func(f Fault) {
		t.Helper()
		if err := s.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	order(Fault{Where: AtGreeting, Reply: "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel"})
	if c := dialSMTP(t, s); !strings.HasPrefix(c.read(), "421 4.3.2 ") || c.read() != "" {
		t.Error("no 421 instead of the greeting")
	}
	order(Fault{Where: AtGreeting, Drop: true})
	if c := dialSMTP(t, s); c.read() != "" {
		t.Error("a greeting on a dropped connection")
	}
	order(Fault{Where: AtSTARTTLS, Reply: "454 4.7.0 TLS not available"})
	c := dialSMTP(t, s)
	c.read()
	c.want("EHLO x", "250")
	c.want("STARTTLS", "454 ")
	c.startTLS()
	order(Fault{Where: AtAuth, Reply: "535 5.7.3 Authentication unsuccessful"})
	auth := "AUTH XOAUTH2 " + blob("erp@contoso.test", accessFor(t, s, "erp@contoso.test", askSMTP))
	c.want(auth, "535 5.7.3 ")
	c.want(auth, "235 ")
	order(Fault{Where: AtMail, Reply: "451 4.7.500 Access denied, please try again later"})
	c.want("MAIL FROM:<erp@contoso.test>", "451 4.7.500 ")
	order(Fault{Where: AtMail, Login: "svc@contoso.test", Reply: "550 5.7.1 no"})
	c.want("MAIL FROM:<erp@contoso.test>", "250 ")
	order(Fault{Where: AtRcpt, Reply: "452 4.5.3 Too many recipients"})
	c.want("RCPT TO:<a@example.test>", "452 ")
	c.want("RCPT TO:<a@example.test>", "250 ")
	order(Fault{Where: AtData, Reply: "421 4.4.2 Connection dropped"})
	c.want("DATA", "421 ")
	if c.read() != "" {
		t.Error("the connection lives after 421")
	}
}

func TestImplicitTLS(t *testing.T) {
	s := start(t, Options{SMTPS: "127.0.0.1:0"})
	conn, err := net.Dial("tcp", s.SMTPSAddr())
	if err != nil {
		t.Fatal(err)
	}
	c := overTLS(t, s, conn)
	if got := c.read(); !strings.HasPrefix(got, "220 ") {
		t.Fatalf("greeting %q", got)
	}
	if got := c.cmd("EHLO x"); !strings.Contains(got, "AUTH LOGIN XOAUTH2") || strings.Contains(got, "STARTTLS") {
		t.Errorf("EHLO %q", got)
	}
}
