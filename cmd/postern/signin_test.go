package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/auth/signin"
	"postern/bridge/control"
	"postern/bridge/sandbox"
)

var (
	pageName = regexp.MustCompile(`name="page" value="([^"]+)"`)
	hinted   = regexp.MustCompile(`value="([^"]+)" required checked`)
)

// person is a browser with somebody before it, who chooses login ("" is the one that the page suggests) and answers.
type person struct{ login, answer string }

// open opens a page of the sandbox's, fills it in, and returns where that leads. It follows nothing by itself.
func (p person) open(method, address string, form url.Values) (next string, text string, err error) {
	_, text, err = visit(method, address, form)
	if err != nil {
		return "", "", err
	}
	name := pageName.FindStringSubmatch(text)
	if name == nil {
		return "", text, errors.New("no login page")
	}
	login := p.login
	if m := hinted.FindStringSubmatch(text); login == "" && m != nil {
		login = html.UnescapeString(m[1])
	}
	base, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	return visit(http.MethodPost, base.Scheme+"://"+base.Host+"/common/login",
		url.Values{"page": {html.UnescapeString(name[1])}, "login": {login}, "answer": {p.answer}})
}

// visit makes one request and returns where it leads and the page.
func visit(method, address string, form url.Values) (next, text string, err error) {
	r, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Header.Get("Location"), string(b), err
}

// browse is the program xdg-open of the tests.
func browse(address string) int {
	next, text, err := person{answer: "accept"}.open(http.MethodGet, address, nil)
	if err == nil {
		_, text, err = visit(http.MethodGet, next, nil)
	}
	if err != nil || !strings.Contains(text, "Signed in") {
		fmt.Fprintln(os.Stderr, err, text)
		return 1
	}
	return 0
}

// running is the program while it runs.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
	seen  strings.Builder
}

// begin starts the program without a desktop.
func begin(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: program(args...)}
	r.cmd.Env = append(r.cmd.Env, "DISPLAY=", "WAYLAND_DISPLAY=", "PATH=/nonexistent")
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = pw, pw
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	r.lines = bufio.NewReader(pr)
	stuck := time.AfterFunc(time.Minute, func() { r.cmd.Process.Kill() }) // ends a test that waits for a line in vain
	t.Cleanup(func() {
		stuck.Stop()
		r.cmd.Process.Kill()
		pr.Close()
		r.cmd.Wait()
	})
	return r
}

// await reads until a line matches, and returns its first group.
func (r *running) await(pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		line, err := r.lines.ReadString('\n')
		r.seen.WriteString(line)
		if m := re.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			return m[len(m)-1]
		}
		if err != nil {
			r.t.Fatalf("no line matched %q:\n%s", pattern, r.seen.String())
		}
	}
}

// end returns all that was written, and the exit status.
func (r *running) end() (string, int) {
	rest, _ := io.ReadAll(r.lines)
	r.seen.Write(rest)
	r.cmd.Wait()
	return r.seen.String(), r.cmd.ProcessState.ExitCode()
}

// signedIn reports what `accounts` says of erp.
func signedIn(t *testing.T, file string) bool {
	t.Helper()
	out, status := outcome(t, "", "accounts", "--config", file)
	if status != 0 {
		t.Fatal(out)
	}
	return !strings.Contains(out, "needs sign-in")
}

// withDaemon runs the case with the daemon stopped, and with it running.
func withDaemon(t *testing.T, run func(t *testing.T, box *sandbox.Sandbox, file string)) {
	for _, running := range []bool{false, true} {
		t.Run(map[bool]string{false: "stopped daemon", true: "running daemon"}[running], func(t *testing.T) {
			t.Parallel() // they wait for the second that a device code's interval is, at least
			box := startSandbox(t)
			box.Switch(func(s *sandbox.Switches) { s.DeviceInterval = sandbox.Duration{Duration: time.Second} })
			file := install(t, box, "auto")
			if running {
				startDaemon(t, file)
			}
			run(t, box, file)
		})
	}
}

// TestSignInWithABrowser: on a desktop `signin` alone opens the browser, and all is done when the person has accepted.
func TestSignInWithABrowser(t *testing.T) {
	desktop := t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(desktop, "xdg-open")); err != nil {
		t.Fatal(err)
	}
	withDaemon(t, func(t *testing.T, box *sandbox.Sandbox, file string) {
		cmd := program("signin", "erp", "--config", file)
		cmd.Env = append(cmd.Env, "DISPLAY=:0", "PATH="+desktop, "SSH_CONNECTION=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, want := range []string{"Signing in erp@contoso.test for account erp.\n", "of tenant contoso.onmicrosoft.com asks for:\n",
			"  Mail.Send         sends mail as that person\n", "  Mail.Send.Shared  ", "  Mail.ReadWrite    ", "  SMTP.Send         sends mail by SMTP\n",
			"  offline_access    ", "  User.Read         ", "signed in as erp@contoso.test; works: graph, smtp; mail goes by graph\n"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("the output lacks %q:\n%s", want, out)
			}
		}
		for line := range strings.Lines(string(out)) {
			if len(line) > 81 && !strings.HasPrefix(line, "http") && !strings.HasPrefix(line, "time=") { // the log has no columns
				t.Errorf("a line has more than 80 columns: %s", line)
			}
		}
		if !signedIn(t, file) {
			t.Error("accounts does not show the sign-in")
		}
	})
}

var addressLine = `^(http://127\.0\.0\.1:\d+/\S+/authorize\?\S+)`

// TestSignInAddress: what the address asks Entra for, and what of other answers.
func TestSignInAddress(t *testing.T) {
	withDaemon(t, func(t *testing.T, _ *sandbox.Sandbox, file string) {
		r := begin(t, "signin", "erp", "--browser", "--config", file)
		address := r.await(addressLine)
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Get("login_hint") != "erp@contoso.test" || q.Get("prompt") != "select_account" || q.Get("code_challenge_method") != "S256" ||
			!strings.HasPrefix(q.Get("redirect_uri"), "http://localhost:") || len(q.Get("state")) < 22 {
			t.Errorf("the address is %s", address)
		}
		next, _, err := person{"erp@contoso.test", "accept"}.open(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		stray := regexp.MustCompile(`&state=[^&]+`).ReplaceAllString(next, "&state=stray")
		if _, text, err := visit(http.MethodGet, stray, nil); err != nil || !strings.Contains(text, "another sign-in") {
			t.Errorf("a wrong state: %v %s", err, text)
		}
		if _, text, err := visit(http.MethodGet, strings.Replace(next, "localhost", "127.0.0.1", 1), nil); err != nil || !strings.Contains(text, "not the address") {
			t.Errorf("another Host: %v %s", err, text)
		}
		if _, text, err := visit(http.MethodGet, next, nil); err != nil || !strings.Contains(text, "Signed in") || !strings.Contains(text, "erp@contoso.test") {
			t.Errorf("the right answer after these: %v %s", err, text)
		}
		if out, status := r.end(); status != 0 || !strings.Contains(out, "signed in as erp@contoso.test") {
			t.Errorf("%d\n%s", status, out)
		}
	})
}

// TestSignInRefused: nothing is stored, the terminal and the browser say why, and what to do.
func TestSignInRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		who    person
		change func(*sandbox.Sandbox) error
		want   string
	}{
		{"another person", person{"nav@contoso.test", "accept"}, nil,
			"nav@contoso.test signed in, but the login of account erp is erp@contoso.test; nothing was stored; run postern signin erp again and choose erp@contoso.test"},
		{"another person, when Graph cannot be asked", person{"nav@contoso.test", "accept"}, func(s *sandbox.Sandbox) error {
			return s.Fault(sandbox.Fault{Where: sandbox.AtGraph, Status: 503, Times: -1})
		}, "nav@contoso.test signed in, but the login of account erp is erp@contoso.test"},
		{"declined consent", person{"erp@contoso.test", "cancel"}, nil, "the person declined the consent (AADSTS65004); nothing was stored; sign in again and accept: run: postern signin erp"},
		{"a code that Entra does not take", person{"erp@contoso.test", "accept"}, func(s *sandbox.Sandbox) error {
			return s.Fault(sandbox.Fault{Where: sandbox.AtToken, AADSTS: 53003})
		}, "Conditional Access blocks this sign-in (AADSTS53003)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			box := startSandbox(t)
			file := install(t, box, "auto")
			if tc.change != nil {
				if err := tc.change(box); err != nil {
					t.Fatal(err)
				}
			}
			r := begin(t, "signin", "erp", "--browser", "--config", file)
			next, _, err := tc.who.open(http.MethodGet, r.await(addressLine), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, text, err := visit(http.MethodGet, next, nil)
			if err != nil || !strings.Contains(text, "Not signed in") || !strings.Contains(html.UnescapeString(strings.ToLower(text)), strings.ToLower(tc.want)) {
				t.Errorf("the browser shows %v %s", err, text)
			}
			if out, status := r.end(); status != exitFailed || !strings.Contains(out, tc.want) {
				t.Errorf("exit status %d; want 1 and %q:\n%s", status, tc.want, out)
			}
			if signedIn(t, file) {
				t.Error("something was stored")
			}
		})
	}
}

// TestSignInOutlivesTrouble: a 503 on the way back to Entra costs no sign-in.
func TestSignInOutlivesTrouble(t *testing.T) {
	t.Parallel()
	box := startSandbox(t)
	file := install(t, box, "auto")
	r := begin(t, "signin", "erp", "--browser", "--config", file)
	address := r.await(addressLine)
	if err := box.Fault(sandbox.Fault{Where: sandbox.AtToken, Status: 503}); err != nil {
		t.Fatal(err)
	}
	next, _, err := person{"", "accept"}.open(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, text, err := visit(http.MethodGet, next, nil); err != nil || !strings.Contains(text, "Signed in") {
		t.Errorf("%v %s", err, text)
	}
	if out, status := r.end(); status != 0 || !strings.Contains(out, "trying again") {
		t.Errorf("%d\n%s", status, out)
	}
}

// What the program shows of a device code.
const devicePage, deviceCode = `open +(http://\S+/devicelogin)$`, `enter the code +([A-Z0-9]{9})$`

// device enters the code that the program shows.
func (p person) device(t *testing.T, r *running) string {
	t.Helper()
	page := r.await(devicePage)
	return p.enter(t, page, r.await(deviceCode))
}

func (p person) enter(t *testing.T, page, code string) string {
	t.Helper()
	_, text, err := p.open(http.MethodPost, page, url.Values{"otc": {code}})
	if err != nil {
		t.Fatal(err, text)
	}
	return text
}

// TestSignInWithADevice: without a desktop `signin` alone shows a code.
func TestSignInWithADevice(t *testing.T) {
	t.Parallel()
	withDaemon(t, func(t *testing.T, box *sandbox.Sandbox, file string) {
		r := begin(t, "signin", "erp", "--config", file)
		if err := box.Fault(sandbox.Fault{Where: sandbox.AtToken, Status: 503}); err != nil {
			t.Fatal(err)
		}
		if text := (person{"erp@contoso.test", "accept"}).device(t, r); !strings.Contains(text, "signed in to Postern") {
			t.Errorf("the page: %s", text)
		}
		out, status := r.end()
		if status != 0 || !strings.Contains(out, "signed in as erp@contoso.test; works: graph, smtp; mail goes by graph") || !strings.Contains(out, "trying again") {
			t.Errorf("%d\n%s", status, out)
		}
		if !signedIn(t, file) {
			t.Error("accounts does not show the sign-in")
		}
	})
}

// TestSignInOutlivesTheDaemon: a daemon that dies and comes back while somebody signs in costs no sign-in.
func TestSignInOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	box := startSandbox(t)
	box.Switch(func(s *sandbox.Switches) { s.DeviceInterval = sandbox.Duration{Duration: time.Second} })
	file := install(t, box, "auto")
	d := startDaemon(t, file)
	r := begin(t, "signin", "erp", "--device", "--config", file)
	page, code := r.await(devicePage), r.await(deviceCode)
	d.kill()
	r.await("ask the daemon: .*; trying again")
	person{"erp@contoso.test", "accept"}.enter(t, page, code)
	startDaemon(t, file)
	if out, status := r.end(); status != 0 || !strings.Contains(out, "signed in as erp@contoso.test; works: graph, smtp") {
		t.Errorf("%d\n%s", status, out)
	}
}

func TestSignInWithADeviceRefused(t *testing.T) {
	late := make(chan time.Duration, 1)
	late <- 0
	now := func() time.Time {
		d := <-late
		late <- d
		return time.Now().Add(d)
	}
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, box *sandbox.Sandbox, r *running)
		want string
	}{
		{"declined", func(t *testing.T, _ *sandbox.Sandbox, r *running) {
			person{"erp@contoso.test", "cancel"}.device(t, r)
		}, "the sign-in was declined"},
		{"another person", func(t *testing.T, _ *sandbox.Sandbox, r *running) {
			person{"nav@contoso.test", "accept"}.device(t, r)
		}, "nav@contoso.test signed in, but the login of account erp is erp@contoso.test"},
		{"an expired code", func(t *testing.T, _ *sandbox.Sandbox, r *running) {
			r.await("enter the code")
			<-late
			late <- time.Hour
		}, "nobody signed in in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			box, err := sandbox.Start(sandbox.Options{Now: now, Switches: sandbox.Switches{DeviceInterval: sandbox.Duration{Duration: time.Second}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { box.Close() })
			file := install(t, box, "auto")
			r := begin(t, "signin", "erp", "--device", "--config", file)
			tc.do(t, box, r)
			if out, status := r.end(); status != exitFailed || !strings.Contains(out, tc.want) {
				t.Errorf("exit status %d; want 1 and %q:\n%s", status, tc.want, out)
			}
			if signedIn(t, file) {
				t.Error("something was stored")
			}
		})
	}
	t.Run("forbidden by policy", func(t *testing.T) {
		box := startSandbox(t)
		if err := box.Fault(sandbox.Fault{Where: sandbox.AtDeviceCode, AADSTS: 53003}); err != nil {
			t.Fatal(err)
		}
		out, status := outcome(t, "", "signin", "erp", "--device", "--config", install(t, box, "auto"))
		if status != exitFailed || !strings.Contains(out, "Conditional Access blocks this sign-in (AADSTS53003)") {
			t.Errorf("%d\n%s", status, out)
		}
	})
}

// TestSignInWithTwoDeviceCodes: where one code may not be for two resources, SMTP has a round of its own.
func TestSignInWithTwoDeviceCodes(t *testing.T) {
	t.Parallel()
	box := startSandbox(t)
	box.Switch(func(s *sandbox.Switches) {
		s.DeviceOneResource, s.DeviceInterval = true, sandbox.Duration{Duration: time.Second}
	})
	box.SetApp(sandbox.App{ClientID: sandbox.PublicClientID, Name: "Postern", Public: true, Scopes: []string{"openid", "profile", "offline_access"}})
	file := install(t, box, "auto")
	r := begin(t, "signin", "erp", "--device", "--config", file)
	person{"erp@contoso.test", "accept"}.device(t, r)
	r.await("sign-in of its own for smtp")
	person{"erp@contoso.test", "accept"}.device(t, r)
	if out, status := r.end(); status != 0 || !strings.Contains(out, "signed in as erp@contoso.test; works: graph, smtp; mail goes by graph") {
		t.Errorf("%d\n%s", status, out)
	}

	r = begin(t, "signin", "erp", "--device", "--config", install(t, box, "graph"))
	person{"erp@contoso.test", "accept"}.device(t, r)
	if out, status := r.end(); status != 0 || strings.Contains(out, "SMTP.Send") || !strings.Contains(out, "works: graph; mail goes by graph") {
		t.Errorf("an account that uses Graph alone: %d\n%s", status, out)
	}
}

// TestSignInByPasting: the browser is on another machine; the address or the code comes back by hand.
func TestSignInByPasting(t *testing.T) {
	for _, tc := range []struct {
		name  string
		args  []string
		paste func(next string) string
		want  string // of a failure
	}{
		{"the whole address", nil, func(next string) string { return next }, ""},
		{"the bare code", nil, func(next string) string {
			u, _ := url.Parse(next)
			return u.Query().Get("code")
		}, ""},
		{"the address of the blank page", []string{"--redirect", "nativeclient"}, func(next string) string { return next }, ""},
		{"another sign-in's address", nil, func(next string) string { return strings.Replace(next, "&state=", "&state=x", 1) }, "another sign-in"},
		{"another sign-in's code", nil, func(string) string { return "1.AXsbx" }, "AADSTS70000"},
		{"nothing", nil, func(string) string { return "" }, "nothing was pasted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			box := startSandbox(t)
			file := install(t, box, "auto")
			r := begin(t, append([]string{"signin", "erp", "--paste", "--config", file}, tc.args...)...)
			next, _, err := person{"", "accept"}.open(http.MethodGet, r.await(addressLine), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(next, "http://localhost/?code=") && len(tc.args) == 0 {
				t.Errorf("the browser ends at %s", next)
			}
			// The input stays open: the line alone must do.
			if _, err := io.WriteString(r.in, tc.paste(next)+"\n"); err != nil {
				t.Fatal(err)
			}
			out, status := r.end()
			if (status == 0) != (tc.want == "") || !strings.Contains(out, tc.want) || (tc.want == "") != signedIn(t, file) {
				t.Errorf("%d; want %q\n%s", status, tc.want, out)
			}
		})
	}
}

// TestSignInAccountsOfOneLogin: one sign-in serves them all, asks for what each needs, and ends for all.
func TestSignInAccountsOfOneLogin(t *testing.T) {
	box := startSandbox(t)
	box.SetMailbox(sandbox.Mailbox{Address: "erp@contoso.test", Name: "ERP", Aliases: []string{"bills@contoso.test"}})
	file := install(t, box, "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "[[account]]\n", "[[account]]\ndefault = true\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("[[account]]\nname = \"bills\"\nprovider = \"contoso\"\nmailbox = \"noreply@contoso.test\"\nlogin = \"ERP@contoso.test\"\ntransport = \"smtp\"\n" +
		"[[account]]\nname = \"alias\"\nprovider = \"contoso\"\nmailbox = \"bills@contoso.test\"\ntransport = \"smtp\"\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	sign := func(account string) string {
		r := begin(t, "signin", account, "--browser", "--config", file)
		next, _, err := person{"erp@contoso.test", "accept"}.open(http.MethodGet, r.await(addressLine), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, text, err := visit(http.MethodGet, next, nil); err != nil || !strings.Contains(text, "Signed in") {
			t.Fatal(err, text)
		}
		out, status := r.end()
		if status != 0 {
			t.Fatal(out)
		}
		return out
	}
	out := sign("erp")
	for _, want := range []string{"for account erp (and bills)", "SMTP.Send", "Mail.Send", "works: graph; mail goes by graph", "also used by: bills"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	// The login is compared with every address of the person.
	if out := sign("alias"); !strings.Contains(out, "signed in as erp@contoso.test") || !strings.Contains(out, "bills@contoso.test is another address of erp@contoso.test") {
		t.Errorf("an account whose login is an alias:\n%s", out)
	}
	if out, status := outcome(t, "", "signout", "bills", "--config", file); status != exitUsage || !strings.Contains(out, "postern signout bills --yes") {
		t.Errorf("signout without a terminal = %d\n%s", status, out)
	}
	if out, status := outcome(t, "", "signout", "bills", "--yes", "--config", file); status != 0 || !strings.Contains(out, "signed out: bills, erp") {
		t.Errorf("signout = %d\n%s", status, out)
	}
	if out, status := outcome(t, "", "signout", "erp", "--yes", "--config", file); status != exitFailed || !strings.Contains(out, "nobody is signed in for account erp") {
		t.Errorf("signout again = %d\n%s", status, out)
	}
	if out, _ := outcome(t, "", "accounts", "--config", file); strings.Count(out, "needs sign-in: run postern signin") != 2 || !strings.Contains(out, "as erp@contoso.test") {
		t.Errorf("accounts after the sign-out:\n%s", out)
	}
}

// TestSignInGivenUp: Ctrl-C ends each way at once, and so does a time that is over.
func TestSignInGivenUp(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "auto")
	for way, shown := range map[string]string{"--browser": addressLine, "--device": "enter the code"} {
		r := begin(t, "signin", "erp", way, "--config", file)
		r.await(shown)
		if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if out, status := r.end(); status != exitFailed || !strings.HasSuffix(out, "postern: given up; nothing was stored\n") {
			t.Errorf("%s: %d\n%s", way, status, out)
		}
	}
	f := &signInFlow{account: "erp", offer: control.Offer{Provider: "contoso", Account: "erp"}}
	over, cancel := context.WithTimeoutCause(t.Context(), 0, signin.ErrExpired)
	defer cancel()
	<-over.Done()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		err  error
		want string
	}{
		{"nobody came", over, over.Err(), "nobody signed in in time; start again: postern signin erp"},
		{"a refusal without words of ours", t.Context(), &signin.Refusal{Code: "strange_error", Said: "AADSTS1: odd"}, "the sign-in was refused: strange_error: AADSTS1: odd; nothing was stored"},
		{"trouble of Microsoft's", t.Context(), &signin.Refusal{Code: "server_error"}, "provider contoso: Entra is busy or has trouble of its own; nothing was stored"},
		{"a policy", t.Context(), &signin.Refusal{Code: "access_denied", Number: 53003}, "provider contoso: Conditional Access blocks this sign-in (AADSTS53003); nothing was stored; find the policy"},
	} {
		if err := f.explain(tc.ctx, tc.err); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", tc.name, err, tc.want)
		}
	}
}

// TestSignInForOneTransport: a sign-in that serves Graph alone is accepted, and the transport that results is said.
func TestSignInForOneTransport(t *testing.T) {
	box := startSandbox(t)
	app := sandbox.DefaultApps()[0]
	app.Scopes = app.Scopes[:len(app.Scopes)-1] // SMTP.Send is the last
	box.SetApp(app)
	file := install(t, box, "auto")
	out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file)
	if ok, _ := regexp.MatchString(`(?s)signed in as erp@contoso\.test; works: graph; mail goes by graph\n.*not usable: smtp: .*AADSTS65001`, out); status != 0 || !ok { // the log may come between
		t.Errorf("%d\n%s", status, out)
	}
	out, status = outcome(t, box.RefreshToken("nav@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file)
	if status != exitFailed || !strings.Contains(out, "nav@contoso.test signed in, but") || !signedIn(t, file) {
		t.Errorf("another person's token: %d\n%s", status, out)
	}
}
