package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

func TestReceivedMailIsKeptAsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	s := start(t, Options{Dir: dir})
	at := accessFor(t, s, "erp@contoso.test", sendScopes)
	do(t, sendRequest(t, s, "/me/sendMail", at, mimeErp))
	signedIn(t, s, "erp@contoso.test").submit("erp@contoso.test", mimeErp, "a@example.test")
	all := waitFor(t, s, 2)
	for i, name := range []string{"0001-graph.eml", "0002-smtp.eml"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(all[i].Raw) || !strings.HasPrefix(name, all[i].ID) {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, Options{Dir: dir}) // goes on counting
	do(t, sendRequest(t, s, "/me/sendMail", accessFor(t, s, "erp@contoso.test", sendScopes), mimeErp))
	if m := waitFor(t, s, 1)[0]; m.ID != "0003" {
		t.Errorf("ID %q in a folder that has two, want 0003", m.ID)
	}
	s.Forget()
	if len(s.Received()) != 0 {
		t.Error("Forget forgot nothing")
	}
}

func TestATemporaryFolderGoesAtClose(t *testing.T) {
	s := start(t, Options{})
	if _, err := os.Stat(s.CAFile()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestStartFailsCleanly(t *testing.T) {
	s := start(t, Options{})
	if _, err := Start(Options{SMTP: s.SMTPAddr()}); err == nil || !strings.Contains(err.Error(), "sandbox SMTP") {
		t.Errorf("a port in use: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Options{Dir: filepath.Join(file, "x")}); err == nil {
		t.Error("a folder below a file was made")
	}
}

func TestWaitEnds(t *testing.T) {
	s := start(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v", err)
	}
	done := make(chan error)
	go func() {
		_, err := s.Wait(context.Background(), 1)
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("Wait at Close: %v", err)
	}
}

// Close must not wait for slow@, nor for a client that sits there.
func TestCloseCutsWhatIsUnderWay(t *testing.T) {
	logf, judged := counter()
	s := start(t, Options{Logf: logf, Switches: Switches{SlowDelay: Duration{time.Hour}}})
	idle := dialSMTP(t, s)
	idle.read()
	c := signedIn(t, s, "erp@contoso.test")
	c.want("MAIL FROM:<erp@contoso.test>", "250 ")
	c.want("RCPT TO:<slow@example.test>", "250 ")
	c.want("DATA", "354 ")
	c.write("From: erp@contoso.test\r\n\r\nx\r\n.\r\n")
	r := sendRequest(t, s, "/me/sendMail", accessFor(t, s, "erp@contoso.test", sendScopes), withTo("slow@example.test"))
	done := make(chan bool)
	go func() {
		_, _ = try(r) // is cut
		done <- true
	}()
	<-judged
	<-judged
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestConfigTOML(t *testing.T) {
	if got := tomlString(`C:\temp\"x"`); got != `"C:\\temp\\\"x\""` {
		t.Errorf("tomlString = %s", got)
	}
	s := start(t, Options{Dir: filepath.Join(t.TempDir(), "it's a folder")})
	var conf struct {
		Provider []map[string]any `toml:"provider"`
	}
	text := s.ConfigTOML("first", PublicClientID) + "\n" + s.ConfigTOML("second", ConfidentialClientID)
	if _, err := toml.Decode(text, &conf); err != nil || len(conf.Provider) != 2 {
		t.Fatalf("%v\n%s", err, text)
	}
	p := conf.Provider[0]
	for k, want := range map[string]any{"name": "first", "type": "microsoft", "tenant": TenantName, "client_id": PublicClientID, "authority": s.Authority(),
		"graph": s.GraphURL(), "smtp": s.SMTPAddr(), "smtp_tls": "starttls", "ca_file": s.CAFile(), "allow_http": true, "client_secret": nil} {
		if p[k] != want {
			t.Errorf("%s = %v, want %v", k, p[k], want)
		}
	}
	ref, _ := conf.Provider[1]["client_secret"].(string)
	secret, err := os.ReadFile(strings.TrimPrefix(ref, "file:"))
	if err != nil || strings.TrimSuffix(string(secret), "\n") != ConfidentialSecret.Reveal() {
		t.Errorf("client_secret %q: %v", ref, err)
	}
}

func TestAdmin(t *testing.T) {
	s := start(t, Options{})
	post := func(what, body string) answer {
		return do(t, request(t, "POST", s.Authority()+"/admin/"+what, "application/json", body))
	}
	a := post("refresh-token", `{"login":"erp@contoso.test"}`)
	rt := strings.TrimSuffix(string(a.body), "\n")
	if a.status != 200 || refresh(t, s, rt, askGraph).status != 200 {
		t.Errorf("refresh-token: %d %s", a.status, a.body)
	}
	if a := post("refresh-token", `{"login":"noreply@contoso.test"}`); a.status != 400 {
		t.Errorf("refresh-token of a shared mailbox: %d %s", a.status, a.body)
	}
	if a := post("fault", `{"where":"token","aadsts":7000222,"times":-1,"delay":"1ms"}`); a.status != 204 {
		t.Errorf("fault: %d %s", a.status, a.body)
	}
	wantSTS(t, refresh(t, s, rt, askGraph), 401, 7000222, "invalid_client")
	if a := post("clear", `{}`); a.status != 204 || refresh(t, s, rt, askGraph).status != 200 {
		t.Errorf("clear: %d %s", a.status, a.body)
	}
	if a := post("switches", `{"keep_bcc":true,"slow_delay":"7s"}`); a.status != 204 {
		t.Errorf("switches: %d %s", a.status, a.body)
	}
	var set Switches
	if err := json.Unmarshal(do(t, request(t, "GET", s.Authority()+"/admin/switches", "", "")).body, &set); err != nil || !set.KeepBcc || set.SlowDelay.Duration != 7*time.Second || set.GraphConcurrency != 4 {
		t.Errorf("switches %+v, %v", set, err)
	}
	if a := post("revoke", `{"login":"erp@contoso.test"}`); a.status != 204 || refresh(t, s, rt, askGraph).status != 400 {
		t.Errorf("revoke: %d %s", a.status, a.body)
	}
	for what, body := range map[string]string{"fault": `{"where":"moon"}`, "switches": `{"keep_bbc":true}`, "revoke": `x`} {
		if a := post(what, body); a.status != 400 || !strings.Contains(string(a.body), `"error"`) {
			t.Errorf("%s %s: %d %s", what, body, a.status, a.body)
		}
	}
	if a := post("nothing", `{}`); a.status != 404 {
		t.Errorf("an unknown call: %d", a.status)
	}
	if a := post("expire", `{}`); a.status != 204 {
		t.Errorf("expire: %d", a.status)
	}
}

func TestForeignWebPagesAreShutOut(t *testing.T) {
	s := start(t, Options{})
	port := s.httpLn.Addr().String()[strings.LastIndexByte(s.httpLn.Addr().String(), ':'):]
	for host, want := range map[string]int{"127.0.0.1" + port: 200, "localhost" + port: 200, "evil.test" + port: 403, "evil.test": 403, "127.0.0.1.evil.test": 403, "[::1]" + port: 200} {
		for _, path := range []string{"/", "/admin/switches"} {
			r := request(t, "GET", s.Authority()+path, "", "")
			r.Host = host
			if a := do(t, r); a.status != want {
				t.Errorf("%s with Host %s: %d, want %d", path, host, a.status, want)
			}
		}
	}
	// A form of a foreign page can be sent without asking; JSON cannot.
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", ""} {
		if a := do(t, request(t, "POST", s.Authority()+"/admin/clear", kind, "{}")); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("POST /admin/clear as %q: %d", kind, a.status)
		}
	}
}

func TestPage(t *testing.T) {
	s := start(t, Options{})
	get := func(path string) answer { return do(t, request(t, "GET", s.Authority()+path, "", "")) }
	empty := get("/")
	if body := string(empty.body); empty.status != 200 || !strings.Contains(body, "No mail yet") || !strings.Contains(body, s.SMTPAddr()) {
		t.Errorf("empty page: %d %s", empty.status, body)
	}
	csp := empty.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || empty.header.Get("X-Content-Type-Options") != "nosniff" || empty.header.Get("Cache-Control") != "no-store" {
		t.Errorf("header %v", empty.header)
	}
	nasty := `From: =?iso-8859-1?B?PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0PiBK/HJnZW4=?= <buyer@contoso.test>
To: Anna <anna@example.test>
Bcc: hidden@example.test
Subject: =?utf-8?B?PHNjcmlwdD5hbGVydCgyKTwvc2NyaXB0PiDDhG5kZXJ1bmc=?=

<script>alert(3)</script>
`
	do(t, sendRequest(t, s, "/me/sendMail", accessFor(t, s, "erp@contoso.test", sharedScopes), nasty))
	waitFor(t, s, 1)
	body := string(get("/").body)
	for _, want := range []string{"Jürgen", "Änderung", "&lt;script&gt;alert(2)", "sent by erp@contoso.test on behalf", "hidden: hidden@example.test", "/mail/0001.txt", "/mail/0001.eml", "1 message received"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "disclosed") {
		t.Errorf("page: %s", body)
	}
	if how := string(get("/?how").body); !strings.Contains(how, "[[provider]]") || strings.Contains(how, "refresh\"") || !strings.Contains(body, "http-equiv=\"refresh\"") {
		t.Errorf("instructions: %s", how)
	}
	if a := get("/mail/0001.txt"); a.header.Get("Content-Type") != "text/plain; charset=utf-8" || string(a.body) != string(s.Received()[0].Raw) {
		t.Errorf("source: %v %q", a.header, a.body)
	}
	if a := get("/mail/0001.eml"); a.header.Get("Content-Disposition") != `attachment; filename="0001.eml"` {
		t.Errorf(".eml: %v", a.header)
	}
	if a := get("/mail/0001-sent.txt"); !strings.Contains(string(a.body), "Bcc: hidden@example.test") {
		t.Errorf("Sent Items copy: %s", a.body)
	}
	for _, path := range []string{"/mail/0002.txt", "/mail/0001.html", "/mail/../ca.pem", "/mail/"} {
		if a := get(path); a.status != 404 && a.status != 400 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := do(t, request(t, "POST", s.PageURL(), "", "")); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", a.status)
	}
}

func TestPageShowsTheNewest(t *testing.T) {
	s := start(t, Options{})
	c := signedIn(t, s, "erp@contoso.test")
	for i := range pageRows + 1 {
		c.submit("erp@contoso.test", fmt.Sprintf("From: erp@contoso.test\nSubject: number %d.\n\nx\n", i), "a@example.test")
	}
	body := string(do(t, request(t, "GET", s.PageURL(), "", "")).body)
	if !strings.Contains(body, "number 200.") || strings.Contains(body, "number 0.") || !strings.Contains(body, "the last 200 shown") {
		t.Error("the page does not show the newest")
	}
}

// TestPageOfManyRecipients: a message to everybody does not push the others off the page, and says how many it hides.
func TestPageOfManyRecipients(t *testing.T) {
	s := start(t, Options{})
	c := signedIn(t, s, "erp@contoso.test")
	var to, all []string
	for i := range 2 * (rowPeople + 3) {
		all = append(all, fmt.Sprintf("k%d@example.test", i))
		if i < rowPeople+3 {
			to = append(to, fmt.Sprintf("K %d <k%[1]d@example.test>", i))
		}
	}
	c.submit("erp@contoso.test", "From: erp@contoso.test\nTo: "+strings.Join(to, ",\n ")+"\n\nx\n", all...)
	body := string(do(t, request(t, "GET", s.PageURL(), "", "")).body)
	for _, want := range []string{"no subject", "&lt;k11@example.test", "and 3 more<", "hidden: k26@example.test", "and 3 more hidden"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "k12@") || strings.Contains(body, "k27@") {
		t.Error("the page shows everybody")
	}
}

func TestCharsets(t *testing.T) {
	for in, want := range map[string]string{
		"=?Windows-1252?Q?=80_=FC?= <a@example.test>": "\u20ac \u00fc",
		"=?iso-8859-1?Q?=FC?= <a@example.test>":       "\u00fc",
		"=?koi8-r?Q?A=C1?= <a@example.test>":          "A\ufffd",
		"\u00c4nne <a@example.test>":                  "\u00c4nne",
	} {
		list, err := parseMail([]byte("From: " + in + "\r\n\r\n")).addresses("From")
		if err != nil || len(list) != 1 || list[0].Name != want || list[0].Address != "a@example.test" {
			t.Errorf("%q: %v, %v; want %q", in, list, err, want)
		}
	}
}

func FuzzParseMail(f *testing.F) {
	for _, seed := range []string{"", "\r\n", crlf(mimeErp), "a: b\r\n c\r\n\r\nx", " x\r\na:b", "a\nb: c\n\n", "From: =?x?Q?a?= <a@b>\r\nTo: a:;\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := parseMail(raw)
		if string(m.bytes()) != string(raw) {
			t.Errorf("parse and write changed %q to %q", raw, m.bytes())
		}
		_, _ = m.addresses("To") // must not panic
		_ = m.decoded("Subject")
		_ = newRow(Received{Raw: raw})
	})
}
