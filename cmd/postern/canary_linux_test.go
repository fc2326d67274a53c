package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/smtp"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/auth/token"
	"postern/bridge/sandbox"
	"postern/bridge/users"
)

const (
	canarySecret   = "canary~secret+8Q/and=more%of&it-7f3a9c51"
	canaryPassword = "canary password 5d81c0aa"
	wrongPassword  = "canary wrong password 77e0b1"
	wrongRefresh   = "1.canary-wrong-refresh-token-c0ffee"
)

// secrets are all that must stand nowhere, by what they are.
type secrets struct {
	mu  sync.Mutex // guards all
	all map[string]string
}

func (s *secrets) add(what, value string) {
	if value == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[value] = what
}

func (s *secrets) count(what string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.all {
		if w == what {
			n++
		}
	}
	return n
}

// forms are the ways in which a secret may be written.
func forms(value string) map[string]string {
	b := []byte(value)
	auth := []byte("\x00nav\x00" + value) // SASL PLAIN
	return map[string]string{
		"as it is": value, "URL-encoded": url.QueryEscape(value), "path-encoded": url.PathEscape(value),
		"quoted": strings.Trim(strconv.Quote(value), `"`), "in base64": base64.RawStdEncoding.EncodeToString(b),
		"in base64url": base64.RawURLEncoding.EncodeToString(b), "in hexadecimal": hex.EncodeToString(b),
		"in AUTH PLAIN": base64.RawStdEncoding.EncodeToString(auth),
	}
}

// search reports where any secret stands.
func (s *secrets) search(t *testing.T, place string, text []byte) {
	t.Helper()
	for _, found := range s.find(text) {
		t.Errorf("%s holds a %s", place, found)
	}
}

func (s *secrets) find(text []byte) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for value, what := range s.all {
		for how, form := range forms(value) {
			if at := bytes.Index(text, []byte(form)); at >= 0 {
				found = append(found, fmt.Sprintf("%s %s, near byte %d", what, how, at))
			}
		}
		// A long one may have been cut: the end of it is as unique.
		if part := value[max(0, len(value)-48):]; len(value) > 100 && bytes.Contains(text, []byte(part)) {
			found = append(found, what+" in part")
		}
	}
	return found
}

var hexWord = regexp.MustCompile(`0x[0-9a-f]{9,16}`)

// findWords looks for secrets among the words that a goroutine dump prints of each function's arguments: what was passed
// by value, as an array, would stand there; a string is a pointer and a length.
func (s *secrets) findWords(dump []byte) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := map[uint64]string{}
	for value, what := range s.all {
		for i := 0; i+8 <= len(value); i++ {
			words[binary.LittleEndian.Uint64([]byte(value[i:i+8]))] = what
		}
	}
	for _, w := range hexWord.FindAllString(string(dump), -1) {
		n, _ := strconv.ParseUint(w[2:], 16, 64)
		if what, hit := words[n]; hit {
			found = append(found, fmt.Sprintf("eight bytes of a %s: %s", what, w))
		}
	}
	return found
}

// TestCanaryFinds proves that TestCanary can fail.
func TestCanaryFinds(t *testing.T) {
	s := &secrets{all: map[string]string{canarySecret: "client secret"}}
	if found := append(s.find([]byte("time=12:00 err=\"invalid\"")), s.findWords([]byte("f(0xc000123456, 0x1f, {0xc0004d2120, 0x10})"))...); found != nil {
		t.Errorf("found %v where nothing is", found)
	}
	for how, form := range forms(canarySecret) {
		if found := s.find([]byte("before " + form + " after")); len(found) == 0 {
			t.Errorf("a secret %s is not found", how)
		}
	}
	word := binary.LittleEndian.Uint64([]byte(canarySecret[3:11]))
	if found := s.findWords(fmt.Appendf(nil, "postern/auth.f({{0x%x, 0x0}})", word)); len(found) != 1 {
		t.Errorf("an argument with eight bytes of a secret gave %v", found)
	}
}

// listen puts itself between the program and Entra and Graph, and notes every secret that passes.
func (s *secrets) listen(t *testing.T, box *sandbox.Sandbox) *httptest.Server {
	to, err := url.Parse(box.Authority())
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // the assertion's audience names this server
			if strings.HasSuffix(r.In.URL.Path, "/oauth2/v2.0/token") {
				b, _ := io.ReadAll(r.In.Body)
				form, _ := url.ParseQuery(string(b))
				s.add("assertion", form.Get("client_assertion"))
				s.add("refresh token", form.Get("refresh_token"))
				if form.Has("client_assertion") { // the sandbox wants its own address in it, and is not who is tested here
					form.Del("client_assertion")
					form.Del("client_assertion_type")
					form.Set("client_secret", canarySecret)
				}
				body := form.Encode()
				r.Out.Body, r.Out.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				r.Out.Header.Set("Content-Length", strconv.Itoa(len(body)))
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.URL.Path, "/oauth2/v2.0/token") {
				return nil
			}
			b, err := io.ReadAll(r.Body)
			var got struct {
				Access  string `json:"access_token"`
				Refresh string `json:"refresh_token"`
				ID      string `json:"id_token"`
			}
			if err == nil && json.Unmarshal(b, &got) == nil {
				s.add("access token", got.Access)
				s.add("refresh token", got.Refresh)
				s.add("id token", got.ID)
			}
			r.Body = io.NopCloser(bytes.NewReader(b))
			return err
		},
		ErrorLog: log.New(io.Discard, "", 0), // requests that end with the daemon
	})
	t.Cleanup(front.Close)
	return front
}

// canaryFile writes a configuration with a confidential client for a person, and an app-only one with a certificate.
func canaryFile(t *testing.T, box *sandbox.Sandbox, front string, s *secrets) string {
	t.Helper()
	file := install(t, box, "graph")
	dir := filepath.Dir(file)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.add("private key", base64.StdEncoding.EncodeToString(pkcs8)[200:300])
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), pair, 0o600); err != nil {
		t.Fatal(err)
	}
	hash, err := users.Hash(canaryPassword)
	if err != nil {
		t.Fatal(err)
	}
	provider := strings.ReplaceAll(box.ConfigTOML("contoso", sandbox.ConfidentialClientID), box.Authority(), front)
	secret := regexp.MustCompile(`client_secret = .*`)
	text := "[bridge]\nhostname = \"bridge.contoso.test\"\ndata_dir = \"data\"\n[log]\nlevel = \"debug\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n" +
		secret.ReplaceAllLiteralString(provider, `client_secret = "vault:contoso"`) +
		secret.ReplaceAllLiteralString(strings.Replace(provider, `"contoso"`, `"signed"`, 1), "certificate = 'cert.pem'")
	for _, a := range []struct{ name, more string }{
		{"erp", "provider = \"contoso\"\nmailbox = \"erp@contoso.test\"\ntransport = \"graph\"\ndefault = true\n"},
		{"smtp", "provider = \"contoso\"\nmailbox = \"svc@contoso.test\"\ntransport = \"smtp\"\n"},
		{"app", "provider = \"signed\"\nmailbox = \"nav@contoso.test\"\ntransport = \"auto\"\nsignin = \"app-only\"\n"},
	} {
		text += fmt.Sprintf("[[account]]\nname = %q\n%srate_per_minute = 0\n[[user]]\nname = %q\naccount = %q\npassword = '%s'\nsender = { mode = \"account\" }\n",
			a.name, a.more, a.name, a.name, hash)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCanary lets the program sign in, send, fail and die at debug level, with secrets that are unique, and looks for them
// in everything that it leaves behind.
func TestCanary(t *testing.T) {
	s := &secrets{all: map[string]string{canarySecret: "client secret", canaryPassword: "password", wrongPassword: "wrong password", wrongRefresh: "wrong refresh token"}}
	app := sandbox.DefaultApps()[1]
	app.Secret = token.Secret(canarySecret)
	struck := make(chan string, 1000)
	box, err := sandbox.Start(sandbox.Options{Apps: []sandbox.App{app}, Logf: func(format string, args ...any) {
		if strings.HasPrefix(format, "fault at") {
			struck <- fmt.Sprintf(format, args...)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	front := s.listen(t, box)
	file := canaryFile(t, box, front.URL, s)
	d := startDaemon(t, file)

	verb := func(input string, args ...string) {
		t.Helper()
		out, _ := outcome(t, input, append(args, "--config", file)...)
		s.search(t, "the output of postern "+strings.Join(args, " "), []byte(out))
	}
	mail := func(user, password string) error {
		return smtp.SendMail(d.addr, smtp.PlainAuth("", user, password, "127.0.0.1"), "x@contoso.test", []string{"customer@example.test"},
			[]byte("From: x@contoso.test\r\nTo: customer@example.test\r\nSubject: s\r\n\r\nbody\r\n"))
	}
	verb(canarySecret+"\n", "secret", "set", "contoso")
	verb(wrongRefresh+"\n", "signin", "erp", "--refresh-token", "-")
	verb(box.RefreshTokenFor(app.ClientID, "erp@contoso.test").Reveal()+"\n", "signin", "erp", "--refresh-token", "-")
	verb(box.RefreshTokenFor(app.ClientID, "svc@contoso.test").Reveal()+"\n", "signin", "smtp", "--refresh-token", "-")
	if err := mail("erp", wrongPassword); err == nil {
		t.Error("a wrong password was taken")
	}
	for _, user := range []string{"erp", "smtp", "app"} {
		if err := mail(user, canaryPassword); err != nil {
			t.Fatalf("mail of %s: %v", user, err)
		}
	}
	arrived(t, box, 3)

	// Trouble of every kind, and the words that people read of it.
	box.ExpireAccessTokens()
	for _, f := range []sandbox.Fault{
		{Where: sandbox.AtToken, AADSTS: 7000222, Times: 2}, {Where: sandbox.AtGraph, Status: 500, Times: 2},
		{Where: sandbox.AtAuth, Reply: "535 5.7.3 Authentication unsuccessful", Times: 2}, {Where: sandbox.AtToken, Status: 502},
	} {
		if err := box.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"erp", "smtp", "app"} {
		if err := mail(user, canaryPassword); err != nil {
			t.Fatalf("mail of %s: %v", user, err)
		}
	}
	verb("", "check", "--live", "--send-to", "it@example.test")
	verb("", "check", "--live", "--json")
	box.ClearFaults()
	verb("", "accounts")
	verb("", "accounts", "--json")
	verb("", "secret", "list", "--json")
	verb("", "vault", "rekey")

	proc := fmt.Sprintf("/proc/%d/", d.cmd.Process.Pid)
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(proc + name)
		if name == "environ" && os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
			continue // it is root's alone: TestConcealed
		}
		if err != nil || len(b) == 0 {
			t.Fatalf("%s: %d bytes, %v", name, len(b), err)
		}
		s.search(t, proc+name, b)
	}
	for len(struck) > 0 {
		<-struck
	}
	// Requests at Graph and logins at the smarthost hang, then token requests with secret and assertion too.
	stall(t, box, file, struck, sandbox.AtGraph, sandbox.AtAuth)
	stall(t, box, file, struck, sandbox.AtToken)
	dump := quit(t, d)
	for _, what := range []string{"refresh token", "access token", "assertion"} {
		if n := s.count(what); n < 2 {
			t.Errorf("%d of kind %s passed; the test looks for nothing", n, what)
		}
	}
	s.searchFolder(t, filepath.Join(filepath.Dir(file), "data"))
	key, err := os.ReadFile(filepath.Join(filepath.Dir(file), "data", "vault.key"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key)))
	if err != nil || len(raw) != 32 {
		t.Fatalf("the vault's key has %d bytes, %v", len(raw), err)
	}
	s.add("vault key", string(raw))
	s.search(t, "the log, with the dump of SIGQUIT,", []byte(dump))
	for _, found := range s.findWords([]byte(dump)) {
		t.Errorf("the dump has %s", found)
	}
}

// stall lets whatever comes to these places hang, has the daemon go there, and waits until two are under way.
func stall(t *testing.T, box *sandbox.Sandbox, file string, struck <-chan string, places ...sandbox.Where) {
	t.Helper()
	for _, where := range places {
		if err := box.Fault(sandbox.Fault{Where: where, Delay: sandbox.Duration{Duration: time.Hour}, Times: -1}); err != nil {
			t.Fatal(err)
		}
	}
	live := program("check", "--live", "--config", file)
	if err := live.Start(); err != nil { // ends with the daemon
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Wait() })
	for range 2 {
		select {
		case <-struck:
		case <-time.After(time.Minute):
			t.Fatal("no request is under way")
		}
	}
}

// quit sends SIGQUIT and returns the log with the dump.
func quit(t *testing.T, d *daemon) string {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-d.end
	d.cmd.Wait()
	text := d.text()
	for _, want := range []string{"SIGQUIT", "goroutine ", "net/http.", "postern/"} {
		if !strings.Contains(text, want) {
			t.Errorf("the dump has no %q; does it still have what it should be searched for?", want)
		}
	}
	return text
}

func (s *secrets) searchFolder(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		s.search(t, path, b)
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files in data_dir, %v; want the vault, its key and the queue at least", files, err)
	}
}
