package dsn

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/message"
	"postern/bridge/reply"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var day = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var address = envelopetest.Address

// base is a report without recipients.
func base(t testing.TB) Report {
	return Report{
		ID: "0000000000000r01", Hostname: "bridge.contoso.test", From: address(t, "erp@contoso.test"),
		To: []envelope.Address{address(t, "nav@contoso.test")}, Date: day,
		Original: Original{ID: "0000000000000m01", User: "nav", Accepted: day.Add(-5 * 24 * time.Hour), ReversePath: address(t, "nav@contoso.test"),
			Header: []byte("Message-ID: <4711@nav.contoso.test>\r\nFrom: =?utf-8?q?B=C3=BCro?= <nav@contoso.test>\r\n" +
				"To: customer@example.test\r\nSubject: Invoice\r\n 4711\r\n\r\n")},
	}
}

func TestReports(t *testing.T) {
	refused := reply.Reply{Code: 550, Enhanced: "5.1.1", Text: "The email account that you tried to reach does not exist"}
	for _, tc := range []struct {
		name, file string
		change     func(*Report)
	}{
		{"one recipient refused for good", "refused", func(r *Report) {
			r.KeptUntil = day.Add(14 * 24 * time.Hour)
			r.Recipients = []Recipient{{Address: address(t, "customer@example.test"), Action: Failed, Reply: refused, RemoteMTA: "smtp.office365.com",
				LastAttempt: day, Remedy: "correct the address, and hand the message in again"}}
		}},
		{"given up after five days of temporary replies", "given-up", func(r *Report) {
			r.Recipients = []Recipient{{Address: address(t, "customer@example.test"), Action: Failed, LastAttempt: day,
				Reply: reply.Reply{Code: 451, Enhanced: "4.7.1", Text: "Greylisted, please try again"}}}
		}},
		{"Graph refused with an error code and no status", "graph", func(r *Report) {
			r.Recipients = []Recipient{{Address: address(t, "customer@example.test"), Action: Failed,
				Reply: reply.Reply{Code: 400, Enhanced: "ErrorInvalidRecipients", Text: "At least one recipient is not valid."},
				Means: "a recipient is no address that Exchange takes, or there is none"}}
		}},
		{"late, with the time of giving up", "delayed", func(r *Report) {
			r.RetryUntil = day.Add(116 * time.Hour)
			r.Recipients = []Recipient{{Address: address(t, "customer@example.test"), Action: Delayed, Why: "the token endpoint does not answer"}}
		}},
		{"some failed, some are late, some were sent", "mixed", func(r *Report) {
			r.Relayed, r.Waiting = 3, 1
			r.Recipients = []Recipient{
				{Address: address(t, "a@example.test"), Action: Failed, Reply: refused},
				{Address: address(t, "b@example.test"), Action: Failed, Reply: refused},
				{Address: address(t, "c@example.test"), Action: Delayed, Why: "the mailbox is full", Remedy: "empty it"},
			}
		}},
		{"text and addresses beyond US-ASCII, and no header any more", "utf8", func(r *Report) {
			r.Original.Header = nil
			r.Recipients = []Recipient{{Address: address(t, "büro@bücher.example"), Action: Failed,
				Reply: reply.Reply{Code: 550, Text: "Postfach nicht gefunden: büro"}, Remedy: "Adresse prüfen"}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := base(t)
			tc.change(&r)
			header, body := r.Build()
			got := append(bytes.Clone(header), body...)
			path := filepath.Join("testdata", tc.file+".eml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("the report differs from %s (-want +got):\n%s", path, d)
			}
			check(t, header, body)
		})
	}
}

// check takes the report apart as a stranger would.
func check(t testing.TB, header, body []byte) (parts []string) {
	t.Helper()
	for _, line := range bytes.SplitAfter(append(bytes.Clone(header), body...), []byte("\n")) {
		text, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if len(line) > 0 && (!ok || len(text) > maxLine || bytes.ContainsFunc(text, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') })) {
			t.Fatalf("a line is no line of mail: %.100q", line)
		}
	}
	h, err := message.ParseHeader(header)
	if err != nil {
		t.Fatalf("the header cannot be parsed: %v", err)
	}
	if got := h.Get("Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted = %q", got)
	}
	if !Automatic(header) {
		t.Error("a report does not see that it is one itself")
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type = %s %v, %v", kind, params, err)
	}
	m := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		p, err := m.NextRawPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatalf("the body cannot be taken apart: %v", err)
		}
		var from io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			from = quotedprintable.NewReader(p)
		}
		text, err := io.ReadAll(from)
		if err != nil {
			t.Fatalf("part %s: %v", p.Header.Get("Content-Type"), err)
		}
		parts = append(parts, string(text))
	}
}

func TestThousandRecipientsAreOneReport(t *testing.T) {
	r := base(t)
	for i := range 1000 {
		r.Recipients = append(r.Recipients, Recipient{Address: address(t, fmt.Sprintf("r%d@example.test", i)), Action: Failed,
			Reply: reply.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}})
	}
	parts := checkReport(t, &r)
	if n := strings.Count(parts[1], "Final-Recipient:"); n != 1000 {
		t.Errorf("the part for programs names %d recipients; want 1000", n)
	}
	if n := strings.Count(parts[0], "\n"); n > 60 {
		t.Errorf("the part for people has %d lines; nobody reads that", n)
	}
	if !strings.Contains(parts[0], "and 980 more") {
		t.Errorf("the part for people does not say how many more:\n%s", parts[0])
	}
}

// checkReport builds the report and returns its parts.
func checkReport(t testing.TB, r *Report) []string {
	t.Helper()
	header, body := r.Build()
	parts := check(t, header, body)
	if len(parts) < 2 {
		t.Fatalf("%d parts", len(parts))
	}
	return parts
}

func TestLongHeaderIsCutAtALine(t *testing.T) {
	r := base(t)
	r.Recipients = []Recipient{{Address: address(t, "a@example.test"), Action: Failed}}
	r.Original.Header = []byte(strings.Repeat("X-Trace: "+strings.Repeat("t", 60)+"\r\n", 2000) + "\r\n")
	parts := checkReport(t, &r)
	if n := len(parts[2]); n > maxHeader+100 {
		t.Errorf("the third part has %d octets", n)
	}
	if !strings.Contains(parts[2], "X-Postern-Cut: ") {
		t.Error("the third part does not say that it was cut")
	}
}

func TestWanted(t *testing.T) {
	sender := address(t, "nav@contoso.test")
	for _, tc := range []struct {
		name   string
		path   envelope.Address
		header string
		want   bool
	}{
		{"mail of an application is reported", sender, "Subject: x\r\n\r\n", true},
		{"a null reverse-path is not", envelope.Address{}, "Subject: x\r\n\r\n", false},
		{"an answer by a program is not", sender, "Auto-Submitted: auto-replied\r\n\r\n", false},
		{"nor what a program made by itself", sender, "auto-submitted : Auto-Generated; x=y\r\n\r\n", false},
		{"Auto-Submitted no is", sender, "Auto-Submitted: No\r\n\r\n", true},
		{"a report is not", sender, "Content-Type: Multipart/Report;\r\n report-type=delivery-status\r\n\r\n", false},
		{"a folded field counts", sender, "Subject: x\r\nAuto-Submitted:\r\n auto-replied\r\n\r\n", false},
		{"text that only looks like the field does not", sender, "Subject: x\r\n Auto-Submitted: auto-replied\r\n\r\n", true},
		{"what stands below the header does not", sender, "Subject: x\r\n\r\nAuto-Submitted: auto-replied\r\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Wanted(tc.path, []byte(tc.header)); got != tc.want {
				t.Errorf("Wanted(%s, %q) = %v; want %v", tc.path, tc.header, got, tc.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		name   string
		action Action
		said   reply.Reply
		want   string
	}{
		{"the server's own status stays", Failed, reply.Reply{Code: 550, Enhanced: "5.1.1"}, "5.1.1"},
		{"a failure is never of class 4", Failed, reply.Reply{Code: 451, Enhanced: "4.7.1"}, "5.4.7"},
		{"a delay is never of class 5", Delayed, reply.Reply{Code: 550, Enhanced: "5.7.60"}, "4.7.60"},
		{"a code of Graph's is no status", Failed, reply.Reply{Code: 400, Enhanced: "ErrorInvalidRecipients"}, "5.0.0"},
		{"silence until the end is expiry", Failed, reply.Reply{}, "5.4.7"},
		{"silence is a delay of no known kind", Delayed, reply.Reply{}, "4.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rc := Recipient{Action: tc.action, Reply: tc.said}
			if got := rc.status(); got != tc.want {
				t.Errorf("status = %s; want %s", got, tc.want)
			}
		})
	}
}

// TestAHostileHeaderCostsNoMoreThanItsLength counts what is allocated: four times the header may allocate little more than
// four times as much.
func TestAHostileHeaderCostsNoMoreThanItsLength(t *testing.T) {
	for _, piece := range []string{" \r\n", "a:\r\n", "Subject:x\r\n", "=?a?b? ", "x ", "\xfc"} {
		t.Run(fmt.Sprintf("%q", piece), func(t *testing.T) {
			allocated := func(n int) uint64 {
				r := base(t)
				r.Recipients = []Recipient{{Address: address(t, "customer@example.test"), Action: Failed}}
				r.Original.Header = []byte("Subject:" + strings.Repeat(piece, n/len(piece)) + "\r\n\r\n")
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				r.Build()
				Wanted(r.Original.ReversePath, r.Original.Header)
				runtime.ReadMemStats(&after)
				return after.TotalAlloc - before.TotalAlloc
			}
			if one, four := allocated(32<<10), allocated(128<<10); four > 6*one+256<<10 {
				t.Errorf("32 KB of it allocate %d octets, 128 KB %d: it grows faster than the input", one, four)
			}
		})
	}
}

// FuzzBuild: whatever an application put into its header and a server into its answer, the report can be sent and taken
// apart, and no text of theirs becomes a field.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("Subject: x\r\n\r\n"), "550 no", "run: postern queue retry", "nav")
	f.Add([]byte("Subject: =?utf-8?q?=0D=0ABcc:_evil@example.test?=\r\n\r\n"), "a\r\nb: c", "\u2028x", "n\x00v")
	f.Add([]byte("\xff\xfe: x\r\n\tfolded\r\nMessage-ID: <a b>\r\n\r\n"), strings.Repeat("x", 3000), "", "")
	f.Add([]byte("no field\n\n"), "--=_0000000000000r01--", ".", "\r")
	f.Fuzz(func(t *testing.T, header []byte, said, remedy, user string) {
		r := base(t)
		r.Original.Header, r.Original.User, r.KeptUntil = header, user, day
		r.Recipients = []Recipient{{Address: address(t, "a@example.test"), Action: Failed, Reply: reply.Reply{Code: 550, Text: said}, Remedy: remedy},
			{Address: address(t, "b@example.test"), Action: Delayed, Why: said, RemoteMTA: user}}
		if bytes.Contains(header, []byte("--=_")) {
			return // the boundary is not for the application to know
		}
		parts := checkReport(t, &r)
		if n := strings.Count(parts[1], "\nFinal-Recipient:"); n != 2 {
			t.Errorf("the part for programs has %d recipients; want 2:\n%s", n, parts[1])
		}
		h, _ := r.Build()
		if block, err := message.ParseHeader(h); err != nil || len(block.Fields) > 10 {
			t.Errorf("the header has %d fields, %v:\n%s", len(block.Fields), err, h)
		}
	})
}
