package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/bridge/sandbox"
	"postern/bridge/users"
)

const password = "correct horse battery"

// daemon is the real program in a process of its own.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string // of its listener

	mu  sync.Mutex
	log bytes.Buffer
	end chan struct{} // closed when its standard error ended

	grew *sync.Cond // on mu: the log has grown or ended
}

func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "POSTERN_TEST_MAIN=1")
	return cmd
}

var started = regexp.MustCompile(`msg="listener started" listener=(\S+)`)

// startDaemon runs `postern run` and returns when it serves.
func startDaemon(t *testing.T, file string) *daemon {
	t.Helper()
	return startCommand(t, program("run", "--config", file))
}

// startCommand runs a command that becomes the daemon.
func startCommand(t *testing.T, cmd *exec.Cmd) *daemon {
	t.Helper()
	d, serves := tryCommand(t, cmd)
	if !serves {
		t.Fatalf("the daemon did not start:\n%s", d.text())
	}
	return d
}

// tryCommand is startCommand where the daemon may end instead of serving.
func tryCommand(t *testing.T, cmd *exec.Cmd) (d *daemon, serves bool) {
	t.Helper()
	d = &daemon{t: t, cmd: cmd, end: make(chan struct{})}
	d.grew = sync.NewCond(&d.mu)
	pipe, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := make(chan struct{})
	go func() {
		defer d.grew.Broadcast()
		defer close(d.end)
		announced := sync.OnceFunc(func() { close(serving) })
		for s := bufio.NewScanner(pipe); s.Scan(); {
			d.mu.Lock()
			fmt.Fprintln(&d.log, s.Text())
			if m := started.FindStringSubmatch(s.Text()); m != nil {
				d.addr = m[1]
			}
			d.grew.Broadcast()
			d.mu.Unlock()
			if strings.Contains(s.Text(), `msg="service started"`) {
				announced()
			}
		}
	}()
	t.Cleanup(func() { d.kill() })
	select {
	case <-serving:
		return d, true
	case <-d.end:
		return d, false
	}
}

func (d *daemon) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// kill is SIGKILL, or nothing where the daemon has ended.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	<-d.end
	d.cmd.Wait()
}

// terminate is SIGTERM; it returns the exit status.
func (d *daemon) terminate() int {
	d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.end
	d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode()
}

// install writes a configuration with one account of that transport on the sandbox, in a folder of its own.
func install(t *testing.T, box *sandbox.Sandbox, transport string) string {
	t.Helper()
	// Not t.TempDir: with the test's name in it the control socket's path is too long.
	dir, err := os.MkdirTemp("", "pd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	hash, err := users.Hash(password)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "postern.toml")
	text := fmt.Sprintf("[bridge]\nhostname = \"bridge.contoso.test\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n%s\n"+
		"[[account]]\nname = \"erp\"\nprovider = \"contoso\"\nmailbox = \"erp@contoso.test\"\ntransport = %q\nrate_per_minute = 0\ndoubt_wait = \"1s\"\n"+
		"[[user]]\nname = \"nav\"\npassword = '%s'\nsender = { mode = \"account\" }\n", box.ConfigTOML("contoso", sandbox.PublicClientID), transport, hash)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func startSandbox(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	box, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	return box
}

// send hands one message in; nil means that the program answered 250.
func (d *daemon) send(subject string) error {
	auth := smtp.PlainAuth("", "nav", password, "127.0.0.1")
	return smtp.SendMail(d.addr, auth, "nav@contoso.test", []string{"customer@example.test"},
		[]byte("From: nav@contoso.test\r\nTo: customer@example.test\r\nSubject: "+subject+"\r\n\r\n"+strings.Repeat("invoice\r\n", 500)))
}

// outcome runs the program to its end and returns what it wrote and its exit status.
func outcome(t *testing.T, input string, args ...string) (string, int) {
	t.Helper()
	cmd := program(args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestDaemonAndCommandLine: the verbs talk to the running daemon; mail that waited flows once somebody has signed in.
func TestDaemonAndCommandLine(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "auto")
	d := startDaemon(t, file)
	if err := d.send("waits"); err != nil {
		t.Fatal(err)
	}
	out, status := outcome(t, "", "accounts", "--config", file)
	if status != 0 || !strings.Contains(out, "needs sign-in: run postern signin erp") || !strings.Contains(out, "1 message") {
		t.Errorf("accounts = %d\n%s", status, out)
	}
	out, status = outcome(t, "no such token\n", "signin", "erp", "--refresh-token", "-", "--config", file)
	if status != exitFailed || !strings.Contains(out, "postern: ") {
		t.Errorf("signin with a wrong token = %d\n%s", status, out)
	}
	out, status = outcome(t, box.RefreshToken("erp@contoso.test").Reveal()+"\n", "signin", "erp", "--refresh-token", "-", "--config", file)
	if status != 0 || !strings.Contains(out, "works: graph, smtp; mail goes by graph") {
		t.Errorf("signin = %d\n%s", status, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := box.Wait(ctx, 1); err != nil {
		t.Fatalf("the message that waited did not flow: %v\n%s", err, d.text())
	}
	out, status = outcome(t, "", "accounts", "--config", file)
	if status != 0 || strings.Contains(out, "needs sign-in") || !strings.Contains(out, "erp@contoso.test") {
		t.Errorf("accounts after the sign-in = %d\n%s", status, out)
	}
	if out, status = outcome(t, "s3cr3t\n", "secret", "set", "contoso", "--config", file); status != 0 {
		t.Errorf("secret set = %d\n%s", status, out)
	}
	if status := d.terminate(); status != 0 {
		t.Errorf("exit status after SIGTERM = %d; want 0\n%s", status, d.text())
	}
	if strings.Contains(d.text(), "s3cr3t") {
		t.Error("the log has the secret")
	}
}

// TestDaemonRefusesToStart: one clear line, exit status 1, nothing half-started.
func TestDaemonRefusesToStart(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	d := startDaemon(t, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	// A data_dir of its own and a fixed port, so that only what the case names is wrong.
	fixed := func(name, address, data string) string {
		text := strings.Replace(strings.Replace(string(text), "127.0.0.1:0", address, 1), `"data"`, data, 1)
		path := filepath.Join(dir, name+".toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	free := "127.0.0.1:" + freePort(t)
	for _, tc := range []struct{ name, file, want string }{
		{"a second daemon on the same data_dir", fixed("second", free, `"data"`), "is in use: another postern runs on it"},
		{"a listener address in use", fixed("busy", d.addr, `"other"`), "listener " + d.addr + " cannot listen"},
		{"a data_dir that cannot be made", fixed("dir", free, `"postern.toml/data"`), "cannot be made"},
		{"a data_dir that cannot be written", fixed("proc", free, `"/proc/self"`), "data_dir /proc/self"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, status := outcome(t, "", "run", "--config", tc.file)
			if status != exitFailed || !strings.Contains(out, tc.want) || strings.Count(strings.TrimSpace(out), "\n") != 0 {
				t.Errorf("exit status %d; want 1 and one line with %q:\n%s", status, tc.want, out)
			}
		})
	}
}

// TestKillAnyTime: SIGKILL in the middle of the load, again and again; no message that was answered with 250 is gone.
func TestKillAnyTime(t *testing.T) {
	for _, transport := range []string{"graph", "smtp"} {
		t.Run(transport, func(t *testing.T) {
			box := startSandbox(t)
			file := install(t, box, transport)
			d := startDaemon(t, file)
			if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
				t.Fatal(out)
			}
			const kills, senders = 4, 3
			acked := map[string]bool{}
			for round := range kills {
				for _, s := range d.sendUntilKilled(round, senders, 8+5*(round%8)) {
					acked[s] = true
				}
				d = startDaemon(t, file)
			}
			if len(acked) < kills*senders {
				t.Fatalf("only %d messages were accepted; the test proves nothing", len(acked))
			}
			held := drain(t, box, file, kills)
			copies, lost := arrivals(t, box, acked, d)
			extra := 0
			for s := range acked {
				extra += max(copies[s]-1, 0)
				if copies[s] > 2 {
					t.Errorf("%s arrived %d times; at most two copies, ever", s, copies[s])
				}
			}
			// A copy can only come of what was in flight at a kill: three connections to Microsoft.
			if most := kills * 3; extra > most {
				t.Errorf("%d extra copies of %d kills; want %d at most", extra, kills, most)
			}
			t.Logf("%s: %d kills, %d acked, %d lost, %d extra copies, %d held", transport, kills, len(acked), lost, extra, held)
		})
	}
}

// sendUntilKilled lets the senders send until so many messages were accepted, kills the daemon, and returns the subjects
// that were answered with 250.
func (d *daemon) sendUntilKilled(round, senders, accepted int) []string {
	var mu sync.Mutex
	var acked []string
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for s := range senders {
		wg.Go(func() {
			for i := 0; ; i++ {
				subject := fmt.Sprintf("r%d s%d m%d", round, s, i)
				if d.send(subject) != nil {
					return // killed
				}
				mu.Lock()
				if acked = append(acked, subject); len(acked) == accepted {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	d.kill()
	wg.Wait()
	return acked
}

// drain waits until the queue holds nothing that goes on by itself, and does what a person does about held mail that did
// not arrive: one that was alone in flight at three kills, or in doubt twice. So there are at most as many as kills, or
// something holds mail that it should not. It returns how many there were.
func drain(t *testing.T, box *sandbox.Sandbox, file string, kills int) (held int) {
	t.Helper()
	for {
		out, status := outcome(t, "", "queue", "list", "--json", "--config", file)
		var rows []struct {
			ID        string `json:"id"`
			MessageID string `json:"message_id"`
			State     string `json:"state"`
		}
		if err := json.Unmarshal([]byte(out), &rows); err != nil || status != 0 {
			t.Fatalf("%v\n%s", err, out)
		}
		waits := map[string]string{} // Message-ID to queue ID, of held mail
		goesOn := false
		for _, r := range rows {
			switch r.State {
			case "held":
				waits[strings.Trim(r.MessageID, "<>")] = r.ID
			case "sending", "queued", "deferred", "in-doubt":
				goesOn = true
			}
		}
		if goesOn {
			continue
		}
		for _, r := range box.Received() {
			delete(waits, strings.Trim(r.MessageID, "<>"))
		}
		if len(waits) == 0 {
			return held
		}
		if held += len(waits); held > kills {
			t.Fatalf("%d messages were held by %d kills:\n%.6000s", held, kills, out)
		}
		retry := append([]string{"queue", "retry", "--config", file}, slices.Collect(maps.Values(waits))...)
		if out, status := outcome(t, "", retry...); status != 0 {
			t.Fatal(out)
		}
	}
}

// arrivals waits until every acked message has arrived, and returns how often each did, and how many never did.
func arrivals(t *testing.T, box *sandbox.Sandbox, acked map[string]bool, d *daemon) (copies map[string]int, lost int) {
	t.Helper()
	subject := regexp.MustCompile(`(?m)^Subject: (.*?)\r$`)
	copies = map[string]int{}
	missing, seen := maps.Clone(acked), 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for a few more, however many there are
		got, err := box.Wait(ctx, seen+min(len(missing), 100))
		cancel()
		for _, r := range got[seen:] {
			if m := subject.FindSubmatch(r.Raw); m != nil {
				copies[string(m[1])]++
				delete(missing, string(m[1]))
			}
		}
		if len(missing) == 0 {
			return copies, 0
		}
		if err != nil && len(got) == seen {
			t.Errorf("%d of %d accepted messages are lost: %v\n%.6000s", len(missing), len(acked), err, d.text())
			return copies, len(missing)
		}
		seen = len(got)
	}
}
