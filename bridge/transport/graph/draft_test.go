package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
	"postern/bridge/sandbox"
)

// boxTokens gets access tokens of the sandbox, as package auth would.
type boxTokens struct {
	t      testing.TB
	box    *sandbox.Sandbox
	scopes string // names at Graph; "": app-only
	cached token.Secret
}

func (b *boxTokens) Token(context.Context, token.Resource) (token.Secret, error) {
	if b.cached != "" {
		return b.cached, nil
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {sandbox.ConfidentialClientID},
		"client_secret": {sandbox.ConfidentialSecret.Reveal()}, "scope": {"https://graph.microsoft.com/.default"}}
	if b.scopes != "" {
		form = url.Values{"grant_type": {"refresh_token"}, "client_id": {sandbox.PublicClientID},
			"refresh_token": {b.box.RefreshToken("erp@contoso.test").Reveal()}, "scope": {b.scopes}}
	}
	resp, err := http.PostForm(b.box.Authority()+"/"+sandbox.TenantName+"/oauth2/v2.0/token", form)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var v struct {
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.Access == "" {
		return "", fmt.Errorf("token: %d %v", resp.StatusCode, err)
	}
	b.cached = token.Secret(v.Access)
	return b.cached, nil
}

func (b *boxTokens) Refused(token.Resource, token.Secret) { b.cached = "" }

const withDrafts = "Mail.Send Mail.Send.Shared Mail.ReadWrite"

// draftBench is a transport before a sandbox.
type draftBench struct {
	t    *testing.T
	box  *sandbox.Sandbox
	tr   *Transport
	sink *sink

	rebuilds bool // also what would fit into one request as MIME
}

func newDraftBench(t *testing.T, set sandbox.Switches, change func(*Options)) *draftBench {
	t.Helper()
	return newDraftBenchAt(t, sandbox.Options{Switches: set}, change)
}

// newDraftBenchAt is newDraftBench with a sandbox of those options.
func newDraftBenchAt(t *testing.T, so sandbox.Options, change func(*Options)) *draftBench {
	t.Helper()
	so.Logf = t.Logf
	box, err := sandbox.Start(so)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	b := newBench(t, box.GraphURL(), func(o *Options) {
		o.Login, o.Drafts = o.Mailbox, DraftsAlways
		o.Tokens = &boxTokens{t: t, box: box, scopes: withDrafts}
		o.Pause = func(context.Context, time.Duration) bool { return true }
		if change != nil {
			change(o)
		}
	})
	return &draftBench{t: t, box: box, tr: b.Transport, sink: b.events}
}

// queued is a message as the queue keeps it between attempts.
type queued struct {
	message.Outgoing
	note string
}

func (b *draftBench) message(header, body string, to ...string) *queued {
	m := mail(b.t, body)
	q := &queued{Outgoing: m.Outgoing}
	q.Final = []byte(header + "X-Postern-Id: 0123456789abcdef\r\n\r\n")
	q.Plan.HeaderFrom = address(b.t, "erp@contoso.test")
	q.Plan.MessageID = "<1@contoso.test>"
	q.Recipients = nil
	for _, a := range to {
		q.Recipients = append(q.Recipients, address(b.t, a))
	}
	q.Remember = func(_ context.Context, _ []envelope.Address, note string) error { q.note = note; return nil }
	return q
}

// next is one attempt.
func (b *draftBench) next(q *queued) reply.Outcome {
	q.Notes = map[string]string{}
	if q.note != "" {
		for _, r := range q.Recipients {
			q.Notes[r.Key()] = q.note
		}
	}
	switch {
	case q.Look:
		return b.tr.Look(context.Background(), q.Outgoing)
	case b.rebuilds:
		o, _ := b.tr.sendAsDraft(context.Background(), q.Outgoing, true)
		return o
	}
	return b.tr.Send(context.Background(), q.Outgoing)
}

// run relays as the queue would: doubt is looked at twice and then sent again with a third look.
func (b *draftBench) run(q *queued) (outcomes []string) {
	for range 8 {
		o := b.next(q)
		fate := o.Verdict.String()
		if o.Verdict == reply.Deferred {
			fate += " (" + o.Owner.String() + ")"
		}
		outcomes = append(outcomes, fate)
		switch {
		case o.Verdict == reply.Relayed || o.Verdict == reply.Failed:
			return outcomes
		case o.Verdict == reply.InDoubt && q.Resend && !q.Look:
			return append(outcomes, "held")
		case o.Verdict == reply.InDoubt && !q.Resend:
			q.Resend, q.Look = true, o.CanLook
		case o.Verdict == reply.InDoubt:
			q.Look = len(outcomes) < 3
		default:
			q.Attempt++
		}
	}
	return outcomes
}

const draftHeader = "From: erp@contoso.test\r\nTo: ann@example.test\r\nSubject: s\r\nMessage-ID: <1@contoso.test>\r\n"

func TestDraftPath(t *testing.T) {
	b := newDraftBench(t, sandbox.Switches{KeepBcc: true}, nil)
	q := b.message(draftHeader, "hello\r\n", "ann@example.test", "hidden@example.test")
	if got := b.run(q); fmt.Sprint(got) != "[relayed]" {
		t.Fatalf("outcomes = %v", got)
	}
	r := b.box.Received()
	if len(r) != 1 || fmt.Sprint(r[0].Recipients) != "[ann@example.test hidden@example.test]" {
		t.Fatalf("received %+v; want one message to both", r)
	}
	if bytes.Contains(r[0].Raw, []byte("hidden")) || !bytes.HasSuffix(r[0].Raw, []byte("\r\n\r\nhello\r\n")) {
		t.Errorf("a hidden recipient shows, or the body differs, though the server strips no Bcc:\n%s", r[0].Raw)
	}
	if d := b.box.Drafts(); len(d) != 0 {
		t.Errorf("drafts left: %+v", d)
	}
}

// TestCrashBetweenCreationAndCommit: the id was never written down; the draft is found and removed.
func TestCrashBetweenCreationAndCommit(t *testing.T) {
	b := newDraftBench(t, sandbox.Switches{}, nil)
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	q.Intent = func(context.Context) error { return context.DeadlineExceeded } // dies here, with its note
	b.next(q)
	if len(b.box.Drafts()) != 1 {
		t.Fatalf("drafts = %+v; want one left behind", b.box.Drafts())
	}
	q.note, q.Attempt = "", 2
	q.Intent = func(context.Context) error { return nil }
	if o := b.next(q); o.Verdict != reply.Relayed {
		t.Fatalf("%+v", o)
	}
	if n, d := len(b.box.Received()), b.box.Drafts(); n != 1 || len(d) != 0 {
		t.Errorf("%d copies, drafts %+v; want one and none", n, d)
	}
}

// TestAStopDuringTheCreation: the attempt is ended, and what it may have left is noted all the same.
func TestAStopDuringTheCreation(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	b := newDraftBenchAt(t, sandbox.Options{Step: func(at sandbox.Where) {
		if at == sandbox.Made {
			stop()
		}
	}}, nil)
	if err := b.box.Fault(sandbox.Fault{Where: sandbox.AtCreate, Drop: true, Late: true}); err != nil {
		t.Fatal(err)
	}
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	q.Remember = func(ctx context.Context, _ []envelope.Address, note string) error {
		if ctx.Err() == nil { // as the store has it
			q.note = note
		}
		return ctx.Err()
	}
	if o := b.tr.Send(ctx, q.Outgoing); o.Verdict != reply.Deferred || o.Owner != reply.Process {
		t.Errorf("stopped: %+v; want it deferred for the process", o)
	}
	if n := len(b.box.Drafts()); n != 1 {
		t.Fatalf("%d drafts; want one, or this proves nothing", n)
	}
	if o := b.next(q); o.Verdict != reply.Relayed { // the attempt was not counted
		t.Errorf("afterwards: %+v", o)
	}
	if n, d := len(b.box.Received()), b.box.Drafts(); n != 1 || len(d) != 0 {
		t.Errorf("%d copies, drafts left %+v; want one and none", n, d)
	}
}

// TestAPageIsNoAnswerAboutADraft: a proxy that does not find the draft has not removed it, and the next attempt, which is
// still the first that counts, takes it.
func TestAPageIsNoAnswerAboutADraft(t *testing.T) {
	b := newDraftBench(t, sandbox.Switches{}, nil)
	for _, where := range []sandbox.Where{sandbox.AtSend, sandbox.AtDelete, sandbox.AtLook} {
		if err := b.box.Fault(sandbox.Fault{Where: where, Status: 404}); err != nil {
			t.Fatal(err)
		}
	}
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	q.Attempt = 1
	var outcomes []string
	for len(outcomes) < 3 && len(b.box.Received()) == 0 {
		o := b.next(q)
		outcomes = append(outcomes, fmt.Sprint(o.Verdict, " ", o.Owner))
	}
	if want := "[deferred account deferred account relayed nobody]"; fmt.Sprint(outcomes) != want {
		t.Errorf("outcomes = %v; want %s", outcomes, want)
	}
	if r, d := b.box.Received(), b.box.Drafts(); len(r) != 1 || len(d) != 0 {
		t.Errorf("%d copies, and the drafts %+v; want one and none", len(r), d)
	}
}

// TestWithoutTheRightMailGoesBySendMail: drafts "auto" needs Mail.Send only.
func TestWithoutTheRightMailGoesBySendMail(t *testing.T) {
	for _, tc := range []struct {
		name     string
		scopes   string
		mayDraft func() bool
		drafts   Drafts
		via      string
	}{
		{"the scopes say no", "Mail.Send", func() bool { return false }, DraftsAuto, "no"},
		{"nobody knows, and Graph says no", "Mail.Send", nil, DraftsAuto, "no"},
		{"nobody knows, and Graph takes it", "", nil, DraftsAuto, "not known"},
		{"the scopes say yes", withDrafts, func() bool { return true }, DraftsAuto, "yes"},
		{"the configuration says never", withDrafts, func() bool { return true }, DraftsNever, "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{}, func(o *Options) {
				o.Drafts, o.MayDraft = tc.drafts, tc.mayDraft
				o.Tokens.(*boxTokens).scopes = tc.scopes
				o.AppOnly = tc.scopes == ""
			})
			q := b.message(draftHeader, "hello\r\n", "ann@example.test")
			if o := b.next(q); o.Verdict != reply.Relayed {
				t.Fatalf("%+v", o)
			}
			if got := b.tr.DraftsInUse(); got != tc.via {
				t.Errorf("DraftsInUse = %q; want %q", got, tc.via)
			}
			if made := q.note != ""; made != (tc.via != "no") {
				t.Errorf("a draft was made: %v; want %v", made, tc.via != "no")
			}
		})
	}
}

// large is a message with an HTML text, an inline picture and files of several sizes.
func large(sizes ...int) string {
	var b strings.Builder
	b.WriteString("--m\r\nContent-Type: multipart/related; boundary=r\r\n\r\n" +
		"--r\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n" +
		"--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n" +
		"--a\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Gr=FC=DFe <img src=3D\"cid:logo\"></p>\r\n" +
		"--a\r\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\nBEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n--a--\r\n" +
		"--r\r\nContent-Type: image/png\r\nContent-ID: <logo>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0K\r\n--r--\r\n" +
		"--m\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nBcc: secret@example.test\r\n\r\nnested\r\n")
	for i, n := range sizes {
		fmt.Fprintf(&b, "--m\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*=iso-8859-1''%%C4-%d.pdf\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", i)
		b.WriteString(content(i, n))
		b.WriteString("\r\n")
	}
	b.WriteString("--m--\r\n")
	return b.String()
}

// content is n octets that are the same each time and differ from place to place.
func content(i, n int) string {
	line := fmt.Sprintf("file %d ", i)
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%s%d\r\n", line, b.Len())
	}
	return b.String()[:n-1] + "x"
}

const largeHeader = "From: \"ERP, Contoso\" <erp@contoso.test>\r\nTo: =?utf-8?q?J=C3=BCrgen?= <ann@example.test>\r\nCc: bob@example.test\r\n" +
	"Reply-To: desk@contoso.test\r\nSubject: =?iso-8859-1?q?Gr=F6=DFe?=\r\nMessage-ID: <1@contoso.test>\r\nIn-Reply-To: <0@x>\r\n" +
	"References: <a@x> <0@x>\r\nImportance: high\r\nX-Order: 7\r\nDisposition-Notification-To: erp@contoso.test\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n"

// TestLargeMessage rebuilds a message and compares what arrives part by part.
func TestLargeMessage(t *testing.T) {
	sizes := []int{100, 1_500_000, 1_600_000, 3_100_000, 4_300_000}
	for _, tc := range []struct {
		name   string
		faults []sandbox.Fault
	}{
		{"nothing breaks", nil},
		{"slices come again, in steps", []sandbox.Fault{{Where: sandbox.AtUpload, Outcome: "back"}, {Where: sandbox.AtUpload, Drop: true, Late: true}, {Where: sandbox.AtUpload, Outcome: "back"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{}, nil)
			for _, f := range tc.faults {
				if err := b.box.Fault(f); err != nil {
					t.Fatal(err)
				}
			}
			body := large(sizes...)
			q := b.message(largeHeader, body, "ann@example.test", "bob@example.test", "hidden@example.test")
			if got := fmt.Sprint(b.run(q)); got != "[relayed]" {
				t.Fatalf("outcomes = %s\n%s", got, strings.Join(b.sink.lines, "\n"))
			}
			if n, d := len(b.box.Received()), b.box.Drafts(); n != 1 || len(d) != 0 {
				t.Fatalf("%d copies, drafts %+v", n, d)
			}
			checkRebuilt(t, b.box.Received()[0], sizes)
			for _, line := range b.sink.lines {
				if strings.Contains(line, "authtoken") || strings.Contains(line, "AttachmentSessions") {
					t.Errorf("the upload URL is in the log: %s", line)
				}
			}
		})
	}
}

// checkRebuilt compares part by part.
func checkRebuilt(t *testing.T, r sandbox.Received, sizes []int) {
	t.Helper()
	if got := fmt.Sprint(r.Recipients); got != "[ann@example.test bob@example.test hidden@example.test]" {
		t.Errorf("recipients = %s", got)
	}
	if bytes.Contains(r.Raw, []byte("hidden@")) {
		t.Error("a hidden recipient shows")
	}
	header, body, err := message.SplitHeader(bytes.NewReader(r.Raw), 0)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := message.Rebuild(header, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all)), nil })
	if err != nil {
		t.Fatal(err)
	}
	if !got.HTML || got.Text != "<p>Grüße <img src=\"cid:logo\"></p>" || got.Subject != "Größe" || got.Importance != "high" || !got.ReadReceipt || got.MessageID != "<1@contoso.test>" {
		t.Errorf("text %q, subject %q, importance %q, receipt %v, id %s", got.Text, got.Subject, got.Importance, got.ReadReceipt, got.MessageID)
	}
	if len(got.From) != 1 || got.From[0].Name != "ERP, Contoso" || len(got.To) != 1 || got.To[0].Name != "Jürgen" || len(got.Cc) != 1 || len(got.ReplyTo) != 1 {
		t.Errorf("from %v to %v cc %v reply-to %v", got.From, got.To, got.Cc, got.ReplyTo)
	}
	if fmt.Sprint(got.Threads) != "[{In-Reply-To <0@x>} {References <a@x> <0@x>}]" {
		t.Errorf("threads = %v", got.Threads)
	}
	if want := 3 + len(sizes); len(got.Files) != want { // beside picture, calendar and message
		t.Fatalf("%d files; want %d: %+v", len(got.Files), want, got.Files)
	}
	files := message.NewFileReader(bytes.NewReader(all))
	found := map[string]string{}
	for _, f := range got.Files {
		r, err := files.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil || int64(len(data)) != f.Size {
			t.Fatalf("%s: %d octets of %d, %v", f.Name, len(data), f.Size, err)
		}
		found[f.Name] = string(data)
		if f.Name == "part-1.ics" && !strings.Contains(f.Type, "method=REQUEST") {
			t.Errorf("the calendar is a %s", f.Type)
		}
		if f.Inline && f.ContentID != "logo" {
			t.Errorf("the picture's Content-ID is %q", f.ContentID)
		}
	}
	for i, n := range sizes {
		if name := fmt.Sprintf("Ä-%d.pdf", i); found[name] != content(i, n) {
			t.Errorf("%s differs: %d octets; want %d", name, len(found[name]), n)
		}
	}
	for name, want := range map[string]string{"part-1.ics": "BEGIN:VCALENDAR\r\nEND:VCALENDAR", "part-3.eml": "Subject: inner\r\nBcc: secret@example.test\r\n\r\nnested"} {
		if found[name] != want {
			t.Errorf("%s = %q; want %q", name, found[name], want)
		}
	}
}

// TestWhatCannotBeCarried is known before anything is sent.
func TestWhatCannotBeCarried(t *testing.T) {
	filler := "--m\r\nContent-Type: application/pdf\r\n\r\n" + strings.Repeat("0123456789\r\n", 300_000) + "--m--\r\n"
	for _, tc := range []struct{ name, field, body, why string }{
		{"List-Unsubscribe", "List-Unsubscribe: <mailto:x@y>\r\n", filler, "List-Unsubscribe"},
		{"Resent-From", "Resent-From: a@b\r\n", filler, "Resent-From"},
		{"a signed part", "", "--m\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s--\r\n" + filler, "signed"},
		{"an unknown charset", "", "--m\r\nContent-Type: text/plain; charset=klingon\r\n\r\nx\r\n" + filler, "klingon"},
		{"a text of 4 MB", "", "--m\r\n\r\n" + strings.Repeat("0123456789\r\n", 350_000) + "--m--\r\n", "text is larger"},
		{"an inline PGP signature", "", "--m\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n" + filler, "signed"},
		{"a file in damaged base64", "", "--m\r\nContent-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==AA==\r\n" + filler, "\"a.zip\" is damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{}, nil)
			q := b.message(tc.field+largeHeader, tc.body, "ann@example.test")
			q.BodySize = int64(len(tc.body))
			o := b.next(q)
			if o.Verdict != reply.Failed || o.Owner != reply.Message || !strings.Contains(o.Reply.Text, tc.why) {
				t.Errorf("%+v; want a failure that names %q", o, tc.why)
			}
			if n := len(b.box.Received()) + len(b.box.Drafts()); n != 0 {
				t.Errorf("%d messages were made", n)
			}
			if err := b.tr.CheckCarry(q.Final, strings.NewReader(tc.body)); err == nil || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("CheckCarry = %v", err)
			}
		})
	}
}

// TestTextNearTheLimitFits: HTML that is taken before 250 must fit into the request, whatever JSON makes of it.
func TestTextNearTheLimitFits(t *testing.T) {
	for _, unit := range []string{"<p>0123456789 & more</p>", "\"quoted\"\r\n", "Grüße €"} {
		escaped := len(unit) + strings.Count(unit, `"`) + strings.Count(unit, "\r") + strings.Count(unit, "\n")
		body := "--m\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + strings.Repeat(unit, 3_399_000/escaped) + "\r\n--m--\r\n"
		b := newDraftBench(t, sandbox.Switches{}, nil)
		q := b.message(largeHeader, body, "ann@example.test", "bob@example.test")
		if err := b.tr.CheckCarry(q.Final, strings.NewReader(body)); err != nil {
			t.Errorf("%q: CheckCarry = %v", unit, err)
		}
		o, _ := b.tr.sendAsDraft(context.Background(), q.Outgoing, true)
		if o.Verdict != reply.Relayed || len(b.box.Received()) != 1 {
			t.Errorf("%q: %+v", unit, o)
		}
	}
}

func TestUploadHostIsChecked(t *testing.T) {
	b := newBench(t, "https://graph.microsoft.com/v1.0", func(o *Options) { o.UploadHosts = []string{"outlook.office.com"} })
	for _, tc := range []struct {
		name, url string
		ok        bool
	}{
		{"the provider's", "https://outlook.office.com/api/v2.0/x?authtoken=y", true},
		{"in another case", "https://Outlook.Office.com:443/x", true},
		{"without TLS", "http://outlook.office.com/x", false},
		{"another's", "https://evil.test/x", false},
		{"one that ends like it", "https://outlook.office.com.evil.test/x", false},
		{"with a user", "https://outlook.office.com@evil.test/x", false},
		{"loopback, from a Graph that is not there", "http://127.0.0.1:1/x", false},
		{"none", "", false},
	} {
		if err := b.checkUploadURL(tc.url); (err == nil) != tc.ok {
			t.Errorf("%s: %v; want ok %v", tc.name, err, tc.ok)
		} else if err != nil && strings.Contains(err.Error(), "authtoken") {
			t.Errorf("%s: the error shows the URL: %v", tc.name, err)
		}
	}
}

// TestPermissionGoneInDoubt: a draft in doubt is never sent beside by sendMail.
func TestPermissionGoneInDoubt(t *testing.T) {
	may := true
	b := newDraftBench(t, sandbox.Switches{}, func(o *Options) { o.Drafts, o.MayDraft = DraftsAuto, func() bool { return may } })
	if err := b.box.Fault(sandbox.Fault{Where: sandbox.AtDot, Outcome: "gateway"}); err != nil {
		t.Fatal(err)
	}
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	if o := b.next(q); o.Verdict != reply.InDoubt {
		t.Fatalf("%+v", o)
	}
	may, q.Resend = false, true
	b.tr.o.Tokens = &boxTokens{t: t, box: b.box, scopes: "Mail.Send"}
	if o := b.next(q); o.Verdict != reply.Deferred || o.Owner != reply.Account {
		t.Errorf("%+v; want the account to wait for its permission", o)
	}
	if n := len(b.box.Received()); n != 0 {
		t.Errorf("%d copies were sent beside the draft", n)
	}
}
