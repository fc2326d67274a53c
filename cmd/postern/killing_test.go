package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/bridge/sandbox"
)

// await waits until the log matches and returns the submatches; nil where the daemon ended before.
func (d *daemon) await(re *regexp.Regexp) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if m := re.FindStringSubmatch(d.log.String()); m != nil {
			return m
		}
		select {
		case <-d.end:
			return nil
		default:
		}
		d.grew.Wait()
	}
}

// killing is one daemon after the other on one data_dir, each killed at a step, and a sandbox that knows the steps.
type killing struct {
	t    *testing.T
	file string
	box  *sandbox.Sandbox
	d    *daemon
	logs strings.Builder // of the daemons that are gone
	to   []string        // whom submit writes to

	mu   sync.Mutex // guards what follows
	arms sandbox.Where
	late bool          // not at the step: before what the daemon writes down next
	skip int           // times that the step is passed before
	dead chan struct{} // closed when the daemon was killed at the step

	answered chan struct{} // closed when the application has its answer
	answer   func()        // closes it, once; nil where no step was armed

	looks int // at a draft, by its ID
}

func newKilling(t *testing.T, transport string) *killing {
	k := &killing{t: t, to: []string{"customer@example.test"}}
	var err error
	if k.box, err = sandbox.Start(sandbox.Options{Step: k.step}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.box.Close() })
	k.file = install(t, k.box, strings.Replace(transport, "sendMail", "graph", 1))
	if transport == "sendMail" {
		setDrafts(t, k.file, "never")
	}
	k.d = startDaemon(t, k.file)
	if out, status := outcome(t, k.box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", k.file); status != 0 {
		t.Fatal(out)
	}
	return k
}

// setDrafts writes the key drafts into the account of that configuration.
func setDrafts(t *testing.T, file, value string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("doubt_wait ="), fmt.Appendf(nil, "drafts = %q\ndoubt_wait =", value), 1)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// step kills the daemon where it is to die there, and returns when it is dead: the sandbox goes on only then. The application
// has its 250 before: a message is on its way as soon as it is kept.
func (k *killing) step(at sandbox.Where) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at == sandbox.AtLook {
		k.looks++
	}
	switch {
	case k.arms != at:
	case k.skip > 0:
		k.skip--
	case k.late:
		k.arms = ""
		<-k.answered
		k.inject("pwrite64:signal=KILL", "queue.db-wal")
		go func(d *daemon, dead chan<- struct{}) { <-d.end; close(dead) }(k.d, k.dead)
	default:
		k.arms = ""
		<-k.answered
		k.d.kill()
		close(k.dead)
	}
}

func (k *killing) arm(at sandbox.Where) <-chan struct{} { return k.armLate(at, false) }

func (k *killing) armLate(at sandbox.Where, late bool) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.arms, k.late, k.looks, k.dead = at, late, 0, make(chan struct{})
	k.answered = make(chan struct{})
	k.answer = sync.OnceFunc(func() { close(k.answered) })
	return k.dead
}

// looked is how often the sandbox was asked for a draft by its ID since a step was armed.
func (k *killing) looked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.looks
}

// restart starts the next daemon.
func (k *killing) restart() {
	k.d.kill() // where nobody did
	k.logs.WriteString(k.d.text())
	k.d = startDaemon(k.t, k.file)
}

// relayed waits until the daemons' logs say that the message of that queue ID is relayed.
func (k *killing) relayed(id string) {
	re := regexp.MustCompile(`msg="message relayed" queue_id=` + id)
	if !re.MatchString(k.logs.String()) && k.d.await(re) == nil {
		k.t.Fatalf("%s was not relayed:\n%s", id, k.d.text())
	}
}

// doubted reports whether the logs say that the message was in doubt.
func (k *killing) doubted(id string) bool {
	return strings.Contains(k.logs.String()+k.d.text(), `msg="message in doubt" queue_id=`+id)
}

// copies counts the arrivals of that subject.
func (k *killing) copies(subject string) (n int) {
	for _, r := range k.box.Received() {
		if strings.Contains(string(r.Raw), "\r\nSubject: "+subject+"\r\n") {
			n++
		}
	}
	return n
}

var queued = regexp.MustCompile(`queued as (\w+)`)

// submit hands in one message up to where until says, and returns its queue ID where it was answered with 250. Until "body"
// is without the final dot, and the connection stays open.
func (k *killing) submit(subject string, until string) (id string, err error) {
	return k.submitMessage("From: nav@contoso.test\r\nTo: customer@example.test\r\nSubject: "+subject+"\r\n\r\n"+
		strings.Repeat("invoice\r\n", 500)+sandbox.EndOfText, until)
}

func (k *killing) submitMessage(text, until string) (id string, err error) {
	if k.answer != nil {
		defer k.answer()
	}
	c, err := smtp.Dial(k.d.addr)
	if err != nil {
		return "", err
	}
	if until == "body" {
		k.t.Cleanup(func() { c.Close() })
	} else {
		defer c.Close()
	}
	if err := c.Auth(smtp.PlainAuth("", "nav", password, "127.0.0.1")); err != nil {
		return "", err
	}
	if err := c.Mail("nav@contoso.test"); err != nil {
		return "", err
	}
	for _, r := range k.to {
		if err := c.Rcpt(r); err != nil {
			return "", err
		}
	}
	if _, err := command(c.Text, 354, "DATA"); err != nil {
		return "", err
	}
	if until == "body" {
		c.Text.W.WriteString(text)
		return "", c.Text.W.Flush()
	}
	answer, err := command(c.Text, 250, "%s.", text)
	if err != nil {
		return "", err
	}
	return queued.FindStringSubmatch(answer)[1], nil
}

func command(c *textproto.Conn, want int, format string, args ...any) (string, error) {
	if err := c.PrintfLine(format, args...); err != nil {
		return "", err
	}
	_, answer, err := c.ReadResponse(want)
	return answer, err
}

// count asks the running daemon's store.
func (k *killing) count(query string) (n int) {
	k.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(filepath.Dir(k.file), "data", "queue.db")+"?_pragma=busy_timeout(10000)&_pragma=query_only(1)")
	if err != nil {
		k.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		k.t.Fatal(err)
	}
	return n
}

// killWithin starts the next daemon and kills it after that time, wherever it is then.
func (k *killing) killWithin(d time.Duration) {
	k.d.kill()
	cmd := program("run", "--config", k.file)
	said, err := cmd.StderrPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	killer := time.AfterFunc(d, func() { cmd.Process.Kill() })
	defer killer.Stop()
	if _, err := io.Copy(&k.logs, said); err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() >= 0 {
		k.t.Errorf("the daemon ended by itself: %v\n%s", err, k.logs.String())
	}
}

var (
	subjectLine = regexp.MustCompile(`(?m)^Subject: (.*?)\r$`)
	doubtLine   = regexp.MustCompile(`msg="message in doubt" .*?message_id="?<([^>]*)>`)
)
