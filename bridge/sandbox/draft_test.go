package sandbox

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const readWrite = graphResource + "/Mail.ReadWrite " + graphResource + "/Mail.Send"

// graphDo is one call with a token.
func graphDo(t *testing.T, s *Sandbox, bearer, method, path, contentType, body string, header ...string) answer {
	t.Helper()
	r := request(t, method, s.GraphURL()+path, contentType, body)
	r.Header.Set("Authorization", "Bearer "+bearer)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, r)
}

func newDraft(t *testing.T, s *Sandbox, bearer, mime string) string {
	t.Helper()
	a := graphDo(t, s, bearer, "POST", "/me/messages", "text/plain", base64.StdEncoding.EncodeToString([]byte(crlf(mime))), "Prefer", `IdType="ImmutableId"`)
	id, _ := a.json(t)["id"].(string)
	if a.status != 201 || id == "" || a.header.Get("Preference-Applied") == "" {
		t.Fatalf("create = %d %s; want 201 with an id", a.status, a.body)
	}
	return id
}

const draftMail = "From: erp@contoso.test\nTo: a@example.test\nMessage-ID: <d1@x>\nX-Postern-Id: Q1\nSubject: s\n\nbody\n"

// TestDraft follows a draft from its creation to Sent Items. It is one or the other to whoever looks, also before the answer.
func TestDraft(t *testing.T) {
	var s *Sandbox
	s = start(t, Options{Step: func(at Where) {
		if n := len(s.Drafts()); at == Kept && n != 0 {
			t.Errorf("%d drafts when the message has been taken; want none", n)
		}
	}})
	at := accessFor(t, s, "erp@contoso.test", readWrite)
	id := newDraft(t, s, at, draftMail)
	if got := graphDo(t, s, at, "GET", "/me/messages/"+id, "", ""); got.json(t)["isDraft"] != true {
		t.Errorf("a new draft = %s; want isDraft", got.body)
	}
	patch := `{"bccRecipients":[{"emailAddress":{"address":"hidden@example.test"}}]}`
	if got := graphDo(t, s, at, "PATCH", "/me/messages/"+id, "application/json", patch); got.status != 200 {
		t.Fatalf("PATCH = %d %s", got.status, got.body)
	}
	if n := len(s.Drafts()); n != 1 {
		t.Fatalf("%d drafts; want 1", n)
	}
	if got := graphDo(t, s, at, "POST", "/me/messages/"+id+"/send", "", ""); got.status != 202 || len(got.body) != 0 {
		t.Fatalf("send = %d %s; want an empty 202", got.status, got.body)
	}
	r := s.Received()[0]
	if fmt.Sprint(r.Recipients) != "[a@example.test hidden@example.test]" || bytes.Contains(r.Raw, []byte("hidden")) || bytes.Contains(r.Sent, []byte("hidden")) {
		t.Errorf("recipients %v; want the hidden one too, and in no header:\n%s", r.Recipients, r.Raw)
	}
	if got := graphDo(t, s, at, "GET", "/me/messages/"+id, "", ""); got.json(t)["isDraft"] != false {
		t.Errorf("after send = %s; want the copy in Sent Items by the same id", got.body)
	}
	if got := graphDo(t, s, at, "POST", "/me/messages/"+id+"/send", "", ""); got.status != 404 {
		t.Errorf("a second send = %d; want 404", got.status)
	}
	for _, tc := range []struct {
		name, folder, filter string
		want                 int
	}{
		{"by Message-ID", "sentitems", "internetMessageId eq '<d1@x>'", 1},
		{"by our header", "sentitems", "singleValueExtendedProperties/any(ep:ep/id eq '" + internetHeaders + "X-Postern-Id' and ep/value eq 'Q1')", 1},
		{"another's Message-ID", "sentitems", "internetMessageId eq '<other@x>'", 0},
		{"not among the drafts", "drafts", "internetMessageId eq '<d1@x>'", 0},
	} {
		got := graphDo(t, s, at, "GET", "/me/mailFolders/"+tc.folder+"/messages?$filter="+url.QueryEscape(tc.filter), "", "")
		if list, _ := got.json(t)["value"].([]any); got.status != 200 || len(list) != tc.want {
			t.Errorf("search %s = %d %s; want %d", tc.name, got.status, got.body, tc.want)
		}
	}
	if got := graphDo(t, s, at, "GET", "/me/messages?$filter=subject+eq+'s'", "", ""); got.status != 400 {
		t.Errorf("another filter = %d; want 400", got.status)
	}
}

func TestDraftRights(t *testing.T) {
	s := start(t, Options{})
	send := accessFor(t, s, "erp@contoso.test", graphResource+"/Mail.Send")
	if got := graphDo(t, s, send, "POST", "/me/messages", "text/plain", "eA=="); got.status != 403 || got.errorCode(t) != "ErrorAccessDenied" {
		t.Errorf("without Mail.ReadWrite = %d %s", got.status, got.body)
	}
	at := accessFor(t, s, "erp@contoso.test", readWrite)
	if got := graphDo(t, s, at, "POST", "/users/noreply@contoso.test/messages", "text/plain", "eA=="); got.status != 403 {
		t.Errorf("another's mailbox = %d; want 403", got.status)
	}
	id := newDraft(t, s, at, draftMail)
	if got := graphDo(t, s, at, "DELETE", "/me/messages/"+id, "", ""); got.status != 204 || len(s.Drafts()) != 0 {
		t.Errorf("DELETE = %d, %d drafts left", got.status, len(s.Drafts()))
	}
	app := appAccess(t, s, graphResource)
	if got := graphDo(t, s, app, "POST", "/users/erp@contoso.test/messages", "text/plain", "eA=="); got.status != 201 {
		t.Errorf("app-only = %d %s; want 201", got.status, got.body)
	}
}

func TestJSONDraft(t *testing.T) {
	s := start(t, Options{})
	at := accessFor(t, s, "erp@contoso.test", readWrite)
	a := graphDo(t, s, at, "POST", "/me/messages", "application/json", `{"subject":"Größe","body":{"contentType":"html","content":"<p>x &lt; y</p>"},
		"toRecipients":[{"emailAddress":{"name":"A, B","address":"a@example.test"}}],"bccRecipients":[{"emailAddress":{"address":"h@example.test"}}],
		"importance":"high","internetMessageId":"<j@x>","internetMessageHeaders":[{"name":"X-One","value":"1"}],
		"singleValueExtendedProperties":[{"id":"String 0x1042","value":"<parent@x>"}],
		"attachments":[{"@odata.type":"#microsoft.graph.fileAttachment","name":"ä.txt","contentType":"text/plain","contentBytes":"aGFsbG8="}]}`)
	id, _ := a.json(t)["id"].(string)
	if a.status != 201 {
		t.Fatalf("create = %d %s", a.status, a.body)
	}
	if got := graphDo(t, s, at, "POST", "/me/messages/"+id+"/send", "", ""); got.status != 202 {
		t.Fatalf("send = %d %s", got.status, got.body)
	}
	r := s.Received()[0]
	for _, want := range []string{"In-Reply-To: <parent@x>", "Importance: high", "X-One: 1", "Message-ID: <j@x>", "aGFsbG8=", "multipart/alternative"} {
		if !strings.Contains(string(r.Raw), want) {
			t.Errorf("what arrived lacks %q:\n%s", want, r.Raw)
		}
	}
	if fmt.Sprint(r.Recipients) != "[a@example.test h@example.test]" || strings.Contains(string(r.Raw), "h@example") {
		t.Errorf("recipients = %v, and the hidden one must not show", r.Recipients)
	}
	six := `{"internetMessageHeaders":[` + strings.TrimSuffix(strings.Repeat(`{"name":"X-A","value":"1"},`, 6), ",") + `]}`
	if got := graphDo(t, s, at, "POST", "/me/messages", "application/json", six); got.errorCode(t) != "InvalidInternetMessageHeaderCollection" {
		t.Errorf("six headers = %s", got.body)
	}
}

// openSession opens an upload session for size octets.
func openSession(t *testing.T, s *Sandbox, at, id string, size int) answer {
	t.Helper()
	return graphDo(t, s, at, "POST", "/me/messages/"+id+"/attachments/createUploadSession", "application/json",
		fmt.Sprintf(`{"AttachmentItem":{"attachmentType":"file","name":"big.bin","size":%d}}`, size))
}

func put(t *testing.T, to string, data []byte, from, total int, header ...string) answer {
	t.Helper()
	r, err := http.NewRequest("PUT", to, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+len(data)-1, total))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, r)
}

func ranges(t *testing.T, a answer) string {
	t.Helper()
	var v struct {
		Next []string `json:"nextExpectedRanges"`
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return strings.Join(v.Next, ",")
}

func TestUpload(t *testing.T) {
	clk := newClock()
	s := start(t, Options{Now: clk.now})
	at := accessFor(t, s, "erp@contoso.test", readWrite)
	id := newDraft(t, s, at, draftMail)
	const size = 5 << 20
	if got := openSession(t, s, at, id, minUpload-1); got.errorCode(t) != "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize" {
		t.Errorf("too small = %s", got.body)
	}
	open := func() string {
		a := openSession(t, s, at, id, size)
		to, _ := a.json(t)["uploadUrl"].(string)
		if a.status != 201 || ranges(t, a) != "0-" || strings.HasPrefix(to, s.Authority()) {
			t.Fatalf("session = %d %s", a.status, a.body)
		}
		return to
	}
	to, data := open(), bytes.Repeat([]byte("x"), size)
	if got := put(t, to, data[:2<<20], 0, size, "Authorization", "Bearer "+at); got.status != 401 {
		t.Errorf("with Authorization = %d; want 401", got.status)
	}
	if got := put(t, to, data[:2<<20], 0, size); got.status != 200 || ranges(t, got) != "2097152" {
		t.Errorf("first slice = %d %s", got.status, got.body)
	}
	if got := put(t, to, data[:2<<20], 0, size); got.status != 416 {
		t.Errorf("the same slice again = %d; want 416", got.status)
	}
	if got := do(t, request(t, "GET", to, "", "")); ranges(t, got) != "2097152-" {
		t.Errorf("GET = %s", got.body)
	}
	if err := s.Fault(Fault{Where: AtUpload, Outcome: "back"}); err != nil {
		t.Fatal(err)
	}
	if got := put(t, to, data[2<<20:3<<20], 2<<20, size); ranges(t, got) != "2621440" {
		t.Errorf("a step back = %s", got.body)
	}
	rest := data[2621440:]
	if got := put(t, to, rest, 2621440, size); got.status != 201 || got.header.Get("Location") == "" || len(got.body) != 0 {
		t.Errorf("last slice = %d %q %s", got.status, got.header.Get("Location"), got.body)
	}
	if d := s.Drafts(); len(d) != 1 || d[0].Attachments != 1 {
		t.Errorf("drafts = %+v; want the attachment", d)
	}
	late := open()
	clk.add(2 * time.Hour)
	if got := put(t, late, data[:10], 0, size); got.status != 404 || got.errorCode(t) != "uploadSessionNotFound" {
		t.Errorf("expired = %d %s", got.status, got.body)
	}
	clk.add(-2 * time.Hour)
	gone := open()
	if got := do(t, request(t, "DELETE", gone, "", "")); got.status != 204 {
		t.Errorf("DELETE = %d", got.status)
	}
}
