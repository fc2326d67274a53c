package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/smtp"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/queue"
	"postern/bridge/relay"
)

// rewrite replaces the world's file.
func (w *world) rewrite(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) text() string {
	w.t.Helper()
	b, err := os.ReadFile(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

const (
	extraAccount = "\n[[account]]\nname = \"extra\"\nprovider = \"contoso\"\nmailbox = \"sales@contoso.test\"\nlogin = \"svc@contoso.test\"\ntransport = \"smtp\"\n"
	extraUser    = "\n[[user]]\nname = \"extra\"\naccount = \"extra\"\nnetworks = [\"127.0.0.7/32\"]\n"
)

// versions are configurations that a reload takes, each with what it says of itself against the first.
func versions(base string) []string {
	return []string{
		base,
		base + extraAccount + extraUser,
		strings.Replace(base, `level = "debug"`, `level = "info"`, 1),
		strings.Replace(base, "rate_per_minute = 0\n", "rate_per_minute = 60000\nconcurrency = 2\n", 2),
		strings.ReplaceAll(base, `transport = "graph"`, "transport = \"graph\"\ndrafts = \"never\""), // other transports
		base + "\n[[listener]]\naddress = \"127.0.0.9:0\"\n",
		strings.Replace(base, `hostname = "bridge.contoso.test"`, "hostname = \"bridge.contoso.test\"\ndefault_domain = \"contoso.test\"", 1),
	}
}

// broken are configurations that no reload takes.
func broken(base, taken string) []string {
	return []string{
		base + "\n[[user]\n",
		strings.Replace(base, "auth = ", "atuh = ", 1),
		base + "\n[[user]]\nname = \"lost\"\naccount = \"nowhere\"\n",
		base + extraAccount + fmt.Sprintf("\n[[listener]]\naddress = %q\n", taken),
		base + extraAccount + "\n[[listener]]\naddress = \"127.0.0.1:2500\"\ntls = \"starttls\"\ntls_cert = \"missing.pem\"\n",
		"",
	}
}

// TestReloadUnderLoad reloads 50 times, half of them broken files, while applications hand in mail: some log in for every
// message, some stay connected. No session fails, nothing is lost, and nothing comes twice.
func TestReloadUnderLoad(t *testing.T) {
	w := newWorld(t, worldOptions{})
	base := w.text()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	good, bad := versions(base), broken(base, busy.Addr().String())

	const perReload = 6
	turns := make(chan struct{}, 50*perReload)
	var sent atomic.Int64
	var senders sync.WaitGroup
	for _, s := range []struct {
		user string
		stay bool
	}{{"graph", false}, {"smtp", false}, {"graph", true}, {"smtp", true}} {
		senders.Go(func() {
			if err := w.keepSending(s.user, s.stay, turns, &sent); err != nil {
				t.Errorf("the application %s (stays connected: %v): %v", s.user, s.stay, err)
			}
		})
	}
	for i := range 50 {
		for range perReload {
			turns <- struct{}{}
		}
		if i%2 == 1 {
			w.rewrite(bad[i/2%len(bad)])
			if done, err := w.b.Reload(t.Context()); err == nil {
				t.Fatalf("reload %d took a broken file: %+v", i, done)
			}
			continue
		}
		w.rewrite(good[i/2%len(good)])
		if _, err := w.b.Reload(t.Context()); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
	}
	close(turns)
	senders.Wait()
	got := w.wait(int(sent.Load()))
	if len(got) != 50*perReload {
		t.Errorf("%d messages arrived; want %d", len(got), 50*perReload)
	}
	seen := map[string]bool{}
	for _, r := range got {
		m, err := mail.ReadMessage(bytes.NewReader(r.Raw))
		if err != nil {
			t.Fatal(err)
		}
		if s := m.Header.Get("Subject"); seen[s] {
			t.Errorf("%s came twice", s)
		} else {
			seen[s] = true
		}
	}
	if n := w.events.count(event.ConfigurationReloaded); n != 25 {
		t.Errorf("%d reloads were told of; want 25", n)
	}
	if n := w.events.count(event.ConfigurationBad); n != 25 {
		t.Errorf("%d broken files were told of; want 25", n)
	}
}

// keepSending hands in one message for each turn.
func (w *world) keepSending(user string, stay bool, turns <-chan struct{}, sent *atomic.Int64) error {
	host, _, _ := net.SplitHostPort(w.addr)
	var c *smtp.Client
	for range turns {
		if c == nil {
			var err error
			if c, err = smtp.Dial(w.addr); err != nil {
				return err
			}
			if err := c.Auth(smtp.PlainAuth("", user, w.password, host)); err != nil {
				return err
			}
		}
		text := fmt.Sprintf("From: a@erp.local\r\nTo: c@example.test\r\nSubject: message %d\r\n\r\nx\r\n", sent.Add(1))
		if err := handIn(c, text); err != nil {
			return err
		}
		if !stay {
			if err := c.Quit(); err != nil {
				return err
			}
			c = nil
		}
	}
	if c != nil {
		return c.Quit()
	}
	return nil
}

func handIn(c *smtp.Client, text string) error {
	if err := errors.Join(c.Mail("a@erp.local"), c.Rcpt("c@example.test")); err != nil {
		return err
	}
	body, err := c.Data()
	if err != nil {
		return err
	}
	_, err = io.WriteString(body, text)
	return errors.Join(err, body.Close())
}

// TestReloadUnderSMTPSource: Postfix's load generator on 10 connections, each with many messages, while the configuration is
// reloaded 50 times, half of them broken files. It ends with an error at the first reply that is none of success.
func TestReloadUnderSMTPSource(t *testing.T) {
	needs(t, "smtp-source")
	w := newWorld(t, worldOptions{})
	base := w.text()
	good, bad := versions(base), broken(base, w.addr)
	tap := newTap(t, w.addr, "127.0.0.3")
	ended := make(chan error, 1)
	rounds := 0
	source := func() {
		out, err := exec.Command("smtp-source", "-s", "10", "-m", "100", "-l", "2048", "-d", "-f", "nav@contoso.test", "-t", "customer@example.test",
			tap.addr).CombinedOutput()
		if err == nil && len(out) > 0 {
			err = fmt.Errorf("%s", out)
		}
		ended <- err
	}
	go source()
	for i := 0; i < 50; {
		select {
		case err := <-ended: // it was faster: once more, so that every reload has load
			if err != nil {
				t.Fatalf("smtp-source ended with %v\n%s", err, w.log())
			}
			rounds++
			go source()
			continue
		default:
		}
		if i%2 == 1 {
			w.rewrite(bad[i/2%len(bad)])
		} else {
			w.rewrite(good[i/2%len(good)])
		}
		if _, err := w.b.Reload(t.Context()); (err == nil) != (i%2 == 0) {
			t.Fatalf("reload %d = %v", i, err)
		}
		i++
	}
	if err := <-ended; err != nil {
		t.Fatalf("smtp-source ended with %v\n%s", err, w.log())
	}
	rounds++
	if n := w.accepted(); n != rounds*100 {
		t.Errorf("%d messages were accepted; want %d", n, rounds*100)
	}
	if got := w.wait(rounds * 100); len(got) != rounds*100 {
		t.Errorf("%d messages arrived; want %d", len(got), rounds*100)
	}
}

// TestReloadSays checks what a reload reports.
func TestReloadSays(t *testing.T) {
	w := newWorld(t, worldOptions{})
	base := w.text()
	for _, tc := range []struct {
		name, text       string
		changes, restart []string
	}{
		{"the same file changes nothing", base, nil, nil},
		{"an account and its user", base + extraAccount + extraUser, []string{"account extra added", "user extra added"}, nil},
		{"both removed again", base, []string{"account extra removed", "user extra removed"}, nil},
		{"a log level", strings.Replace(base, `level = "debug"`, `level = "warn"`, 1), []string{"log level is WARN now"}, nil},
		{"what needs a restart is said and stays", strings.Replace(base, `hostname = "bridge.`, `hostname = "other.`, 1) + "\n[queue]\ngive_up_after = \"1d\"\n",
			[]string{"log level is DEBUG now"}, []string{"bridge.hostname", "[queue]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.rewrite(tc.text)
			done, err := w.b.Reload(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(done.Changes, tc.changes) || !slices.Equal(done.Restart, tc.restart) {
				t.Errorf("Reload = %q, needs restart %q; want %q, %q", done.Changes, done.Restart, tc.changes, tc.restart)
			}
		})
	}
}

// TestReloadRefuses: a file that cannot be put in force changes nothing and says why.
func TestReloadRefuses(t *testing.T) {
	w := newWorld(t, worldOptions{})
	base := w.text()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	before := w.b.live.Load()
	w.rewrite(strings.Replace(base, "auth = ", "atuh = ", 1))
	var mistakes *config.Mistakes
	if _, err := w.b.Reload(t.Context()); !errors.As(err, &mistakes) || !strings.Contains(err.Error(), "did you mean auth") {
		t.Errorf("Reload of a file with a wrong key = %v", err)
	}
	w.rewrite(base + fmt.Sprintf("\n[[listener]]\naddress = %q\n", busy.Addr()))
	if _, err := w.b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot listen") {
		t.Errorf("Reload with a port in use = %v", err)
	}
	if w.b.live.Load() != before || len(w.b.Addrs()) != 1 {
		t.Error("a refused file has changed something")
	}
	if err := w.submit("graph", []string{"customer@example.test"}, invoice); err != nil {
		t.Fatal(err)
	}
	w.wait(1)
}

// TestReloadLetsMailGo: mail that waits for a transport which its account has no more is tried by the other one at once.
func TestReloadLetsMailGo(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	if err := w.submit("smtp", []string{"customer@example.test"}, invoice); err != nil {
		t.Fatal(err)
	}
	if err := w.events.await(t.Context(), event.MessageDeferred, 1); err != nil {
		t.Fatal(err)
	}
	w.rewrite(strings.Replace(w.text(), `transport = "smtp"`, `transport = "graph"`, 1))
	if _, err := w.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // a lane that nobody wakes sleeps for a minute
	defer cancel()
	if err := w.events.await(ctx, event.AccountParked, 2); err != nil {
		t.Errorf("nobody has tried it: %v\n%s", err, w.log())
	}
	for _, s := range w.b.relay.States() {
		if s.Account == "by-smtp" && (s.Transport != "graph" || s.Condition != relay.Parked) {
			t.Errorf("%+v; want only Graph, which nobody is signed in for either", s)
		}
	}
}

// TestReloadEndsThePauseOfAnotherServer: mail that waits because the file named a wrong server goes when it names the right one.
func TestReloadEndsThePauseOfAnotherServer(t *testing.T) {
	w := newWorld(t, worldOptions{})
	right := w.text()
	wrong := regexp.MustCompile(`(?m)^smtp\s*=.*$`).ReplaceAllString(right, `smtp = "127.0.0.1:1"`)
	for _, restart := range []bool{false, true} {
		mended := w.events.count(event.AccountResumed)
		w.rewrite(wrong)
		if _, err := w.b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.submit("smtp", []string{"customer@example.test"}, invoice); err != nil {
			t.Fatal(err)
		}
		if err := w.events.await(t.Context(), event.AccountPaused, mended+1); err != nil {
			t.Fatal(err)
		}
		w.rewrite(right)
		if restart {
			w.stop()
			w.start()
		} else if _, err := w.b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		// At once: by itself the pause ends after 30 seconds.
		if n := w.events.count(event.AccountResumed); n != mended+1 {
			t.Errorf("restarted: %v, that it goes on was told %d times; want %d\n%s", restart, n, mended+1, w.log())
		}
		if err := w.events.await(t.Context(), event.MessageRelayed, mended+1); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRemovedAccountKeepsItsMail: mail of an account that the file does not name any more waits in sight, and goes when the
// account is back.
func TestRemovedAccountKeepsItsMail(t *testing.T) {
	w := newWorld(t, worldOptions{unsigned: true})
	base := w.text()
	if err := w.submit("smtp", []string{"customer@example.test"}, invoice); err != nil {
		t.Fatal(err)
	}
	// Nobody is signed in: the attempt ends, and the message waits.
	if err := w.events.await(t.Context(), event.MessageDeferred, 1); err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(base, "\n[[account]]\nname = \"by-smtp\"", "\n[[account]]\nname = \"renamed\"", 1)
	without = strings.Replace(without, `account = "by-smtp"`, `account = "renamed"`, 1)
	w.rewrite(without)
	if _, err := w.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := w.b.queue.List(t.Context(), queue.Filter{Limit: 10})
	if err != nil || len(rows) != 1 || rows[0].WaitingFor != "parked" {
		t.Errorf("the queue has %+v, %v; want one message that waits for a parked account", rows, err)
	}
	if !strings.Contains(w.log(), "the configuration has no such account") {
		t.Errorf("nobody was told that mail waits:\n%s", w.log())
	}
	w.rewrite(base)
	if _, err := w.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.signIn()
	w.wait(1)
}
