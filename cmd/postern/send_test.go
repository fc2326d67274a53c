package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/handin"
)

// TestSendAndSendmail: both hand mail in through the listener with a password that the daemon gives, as the user that they
// say.
func TestSendAndSendmail(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	if _, status := outcome(t, "Subject: x\n\nx\n", "sendmail", "--config", file, "a@example.test"); status != exitConfig {
		t.Errorf("sendmail without sendmail_user: exit status %d; want 78", status)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(string(text), "[bridge]\n", "[bridge]\nsendmail_user = \"nav\"\ndefault_domain = \"contoso.test\"\n", 1)
	if err := os.WriteFile(file, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := outcome(t, "Subject: x\n\nx\n", "sendmail", "--config", file, "a@example.test"); status != exitTempFail {
		t.Errorf("sendmail without a daemon: exit status %d; want 75\n%s", status, out)
	}
	d := startDaemon(t, file)
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	attachment := filepath.Join(t.TempDir(), "invoice.csv")
	if err := os.WriteFile(attachment, []byte("a;b\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, input string
		args        []string
		recipients  []string
		has, hasNot string
	}{
		{"send makes a message", "", []string{"send", "--user", "nav", "--to", "one@example.test", "--subject", "T\u00e4st", "--attach", attachment},
			[]string{"one@example.test"}, "invoice.csv", "password"},
		{"sendmail of cron: a bare recipient, a header without From, a dot line that ends it", "Subject: cron\nTo: root\n\none\n.\nnot this\n",
			[]string{"sendmail", "-i", "-FCron", "-oi", "root"}, []string{"root@contoso.test"}, "not this", ""},
		{"-t takes the recipients and hides Bcc", "From: nav@contoso.test\nTo: A <a@example.test>,\n b@example.test\nBcc: hidden@example.test\nSubject: s\n\ntext\n",
			[]string{"sendmail", "-t"}, []string{"a@example.test", "b@example.test", "hidden@example.test"}, "text", "Bcc: hidden"},
		{"without -i a dot ends the message", "Subject: s\n\nbefore\n.\nafter\n", []string{"sendmail", "-f", "nav@contoso.test", "x@example.test"}, []string{"x@example.test"}, "before", "after"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := len(box.Received())
			if out, status := outcome(t, tc.input, append(tc.args, "--config", file)...); status != 0 {
				t.Fatalf("exit status %d\n%s\n%s", status, out, d.text())
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			got, err := box.Wait(ctx, before+1)
			if err != nil {
				t.Fatalf("%v\n%s", err, d.text())
			}
			r := got[before]
			slices.Sort(r.Recipients)
			if !slices.Equal(r.Recipients, tc.recipients) {
				t.Errorf("recipients = %q; want %q", r.Recipients, tc.recipients)
			}
			if raw := string(r.Raw); !strings.Contains(raw, tc.has) || tc.hasNot != "" && strings.Contains(raw, tc.hasNot) {
				t.Errorf("want %q and not %q in\n%s", tc.has, tc.hasNot, raw)
			}
		})
	}
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"an unknown user", []string{"send", "--user", "nobody", "--to", "x@example.test"}, exitUsage, "there is no user"},
		{"a refusal is said once, in the listener's words", []string{"sendmail", "-f", "bad address", "x@example.test"}, exitFailed,
			"postern: 501 5.1.7 Bad sender address \"bad address\": character"},
		{"a recipient that is more than an address", []string{"send", "--user", "nav", "--to", "A <a@example.test>"}, exitUsage,
			"postern: \"A <a@example.test>\" is no address"},
		{"a file to attach that is not there", []string{"send", "--user", "nav", "--to", "a@example.test", "--attach", attachment + ".none"}, exitFailed,
			"invoice.csv.none: "},
		{"a recipient that is none", []string{"send", "--user", "nav", "--to", "a b@example.test"}, exitFailed,
			"postern: not taken: recipient a b@example.test: 501 5.1.3 Bad recipient address"},
		{"no recipient", []string{"sendmail"}, exitUsage, "no recipients"},
		{"a mode that postern has not", []string{"sendmail", "-bd"}, exitUsage, "-bd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if out, status := outcome(t, "Subject: s\n\nx\n", append(tc.args, "--config", file)...); status != tc.status || !strings.Contains(out, tc.says) {
				t.Errorf("exit status %d; want %d and %q\n%s", status, tc.status, tc.says, out)
			}
		})
	}
}

// TestTempFail: sendmail's caller may try again what may pass, and nothing else.
func TestTempFail(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want error // nil: the error itself, for run to give its status
	}{
		{"no daemon", fmt.Errorf("%w; run: postern service start", control.ErrNotRunning), exitWith(exitTempFail)},
		{"no listener", fmt.Errorf("the listener %w: refused", handin.ErrUnreachable), exitWith(exitTempFail)},
		{"a refusal for now", &handin.Refusal{Code: 451, Text: "4.3.0 later"}, exitWith(exitTempFail)},
		{"a recipient's refusal for now", fmt.Errorf("recipient a@example.test: %w", &handin.Refusal{Code: 450, Text: "4.2.1 later"}), exitWith(exitTempFail)},
		{"a refusal for good", &handin.Refusal{Code: 550, Text: "5.1.1 unknown"}, nil},
		{"a recipient's refusal for good", fmt.Errorf("recipient a@example.test: %w", &handin.Refusal{Code: 550, Text: "5.1.1 unknown"}), nil},
		{"a password that is good no longer", &handin.Refusal{Code: 535, Text: "5.7.8 wrong password"}, exitWith(exitTempFail)},
		{"an answer that is neither", &handin.Refusal{Code: 252, Text: "perhaps"}, exitWith(exitTempFail)},
		{"a listener that hangs up", io.EOF, exitWith(exitTempFail)},
		{"a listener that says nothing", &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, exitWith(exitTempFail)},
		{"TLS that does not come up", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, exitWith(exitTempFail)},
		{"the daemon's own words", &control.Error{Text: "there is no user \"nav\""}, exitWith(exitTempFail)},
		{"a daemon that breaks off", fmt.Errorf("ask the daemon: %w", io.EOF), exitWith(exitTempFail)},
		{"no sendmail_user", &config.Mistakes{List: []config.Mistake{{Key: sendmailKey, Text: "is not set"}}}, nil},
		{"a refusal instead of a greeting", fmt.Errorf("%w: %w", handin.ErrUnreachable, &handin.Refusal{Code: 554, Text: "no"}), exitWith(exitTempFail)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var said bytes.Buffer
			want, says := tc.want, "postern: "+tc.err.Error()+"\n"
			if want == nil {
				want, says = tc.err, "" // run says it
			}
			if err := (&cli{err: &said}).tempFail(tc.err); err != want || said.String() != says {
				t.Errorf("tempFail = %v, and says %q; want %v and %q", err, said.String(), want, says)
			}
		})
	}
}

// TestTaken: one line of the reply, and the ID alone to ask for.
func TestTaken(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"the reply of our listener", "2.0.0 queued as 7K", "taken: 2.0.0 queued as 7K\nsee what becomes of it: postern queue show 7K\n"},
		{"a longer one", "2.0.0 taken\nqueued as 7K\nfor now", "taken: 2.0.0 taken queued as 7K for now\nsee what becomes of it: postern queue show 7K\n"},
		{"one that names no ID", "ok\n2.0.0 ok", "taken: ok 2.0.0 ok\nsee what becomes of it: postern queue list --all\n"},
		{"one that ends there", "queued as ", "taken: queued as\nsee what becomes of it: postern queue list --all\n"},
		{"one without an end", strings.Repeat("x", 2000), "taken: " + strings.Repeat("x", 1000) + "\nsee what becomes of it: postern queue list --all\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := taken(tc.text); got != tc.want {
				t.Errorf("taken = %q; want %q", got, tc.want)
			}
		})
	}
}
