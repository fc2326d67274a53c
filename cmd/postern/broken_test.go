package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
)

// TestBrokenFileBesideARunningDaemon: whoever edits the file half keeps nobody from the daemon that runs on the former
// one, and everybody is told; what reads the file for its own sake stays strict.
func TestBrokenFileBesideARunningDaemon(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Replace(string(text), "[bridge]\n", "[bridge]\nsendmail_user = \"nav\"\n", 1)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	d := startDaemon(t, file)
	write(good + "\n[[user]]\nname = \"half\nhostnam")
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	const first = "a string does not end on its line; close its quotes; run: postern check"
	for _, tc := range []struct {
		name, input, says string
		args              []string
	}{
		{"queue list", "", "no messages", []string{"queue", "list"}},
		{"queue change", "", "0 messages released", []string{"queue", "release", "--all"}},
		{"accounts", "", "erp  erp@contoso.test", []string{"accounts"}},
		{"service status", "", "listening on", []string{"service", "status"}},
		{"secret set", "s3cr3t", "stored", []string{"secret", "set", "contoso"}},
		{"secret list", "", "nobody", []string{"secret", "list"}},
		{"secret remove", "", "removed contoso", []string{"secret", "remove", "contoso"}},
		{"vault rekey", "", "sealed again", []string{"vault", "rekey"}},
		{"backup", "", "octets", []string{"backup", filepath.Join(t.TempDir(), "b.tar")}},
		{"send", "", "taken: ", []string{"send", "--user", "nav", "--to", "a@example.test"}},
		{"sendmail, as the user of the former file", "Subject: cron\n\nx\n", "", []string{"sendmail", "-f", "nav@contoso.test", "b@example.test"}},
		{"signout", "", "signed out: erp", []string{"signout", "erp", "--yes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, status := outcome(t, tc.input, append(tc.args, "--config", file)...)
			if status != 0 || !strings.Contains(out, tc.says) || strings.Count(out, "warning: the running daemon was asked, and the file has mistakes: postern.toml:") != 1 || !strings.Contains(out, first) {
				t.Errorf("exit status %d; want %q and the first mistake\n%s", status, tc.says, out)
			}
			if tc.name == "sendmail, as the user of the former file" { // before the sign-out
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := box.Wait(ctx, 2); err != nil {
					t.Errorf("%v\n%s", err, d.text())
				}
			}
		})
	}
	if out, status := outcome(t, "", "health", "--config", file); status != healthCritical || strings.Contains(out, "warning:") || !strings.Contains(out, "needs sign-in") {
		t.Errorf("health after the sign-out: %d %s", status, out)
	}
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	if out, status := outcome(t, "", "health", "--config", file); status != healthUnknown || !strings.HasPrefix(out, "unknown: the configuration has mistakes, and the next start fails: postern.toml:") {
		t.Errorf("health = %d; want unknown\n%s", status, out)
	}
	for _, args := range [][]string{{"check"}, {"check", "--live"}, {"reload"}, {"run"}, {"route", "--user", "nav", "--to", "a@example.test"}} {
		if out, status := outcome(t, "", append(args, "--config", file)...); status != exitConfig || strings.Contains(out, "the running daemon was asked") {
			t.Errorf("%v of a broken file = %d; want 78\n%s", args, status, out)
		}
	}
	write("[bridge]\ndata_dir = \"da\n")
	if out, status := outcome(t, "", "queue", "list", "--config", file); status != exitConfig {
		t.Errorf("where data_dir cannot be read: %d\n%s", status, out)
	}
	write(good + "[x")
	d.terminate()
	if out, status := outcome(t, "", "queue", "list", "--config", file); status != exitConfig || !strings.Contains(out, "postern.toml:") {
		t.Errorf("where no daemon runs: %d\n%s", status, out)
	}
	if out, status := outcome(t, "Subject: x\n\nx\n", "sendmail", "--config", file, "a@example.test"); status != exitTempFail {
		t.Errorf("sendmail where no daemon runs: %d\n%s", status, out)
	}
	for _, want := range []string{"secret stored", "secret removed", "vault rekeyed", "account signed in", "account signed out"} {
		if !strings.Contains(d.text(), `msg="`+want+`" by=`+whoami(t)) {
			t.Errorf("no line that says who: %s\n%s", want, d.text())
		}
	}
}

// TestDataDirOfAnotherDaemon: a data_dir that was changed in the file while the daemon runs on the former one.
func TestDataDirOfAnotherDaemon(t *testing.T) {
	file := install(t, startSandbox(t), "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	startDaemon(t, file)
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), `data_dir = "data"`, `data_dir = "other"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(file), "other")
	for _, args := range [][]string{{"queue", "list"}, {"queue", "show", "06ab3c9d0e1f2g3h"}, {"queue", "drop", "--all"}, {"queue", "export", "--all"},
		{"accounts"}, {"secret", "list"}, {"secret", "remove", "x"}, {"vault", "rekey"}, {"signout", "erp", "--yes"}, {"backup", other + ".tar"}, {"service", "status"}} {
		out, status := outcome(t, "", append(args, "--config", file)...)
		if status != exitFailed || !strings.Contains(out, "there is no queue in "+other+" (data_dir); is the daemon running with another configuration?") {
			t.Errorf("%v = %d\n%s", args, status, out)
		}
	}
	if out, status := outcome(t, "", "health", "--config", file); status != healthCritical || !strings.Contains(out, "there is no queue in "+other) {
		t.Errorf("health = %d\n%s", status, out)
	}
	if out, status := outcome(t, "", "reload", "--config", file); status != exitFailed || !strings.Contains(out, "where the file has a new data_dir, stop the service, move the old folder there, and start") {
		t.Errorf("reload = %d\n%s", status, out)
	}
	if _, err := os.Stat(other); err == nil {
		t.Errorf("%s was made", other)
	}
}

// TestDataDirOf: a daemon is looked for at the platform's place only where the platform's file is meant, and where nothing in
// it is about another place.
func TestDataDirOf(t *testing.T) {
	const absent = "-"
	def := config.Default().Bridge.DataDir
	for _, tc := range []struct {
		name, text      string
		platform, other string // what it means as the platform's file, and as another; "" where it cannot be known
	}{
		{"a file that is gone", absent, def, ""},
		{"a syntax error beside no data_dir", "[bridge]\n[x", def, ""},
		{"data_dir in a comment and a syntax error", "[bridge]\n# data_dir = \"data\"\n[x", def, ""},
		{"an unknown key of another table", "[queue]\nkeep = 1\n", def, def},
		{"data_dir misspelt", "[bridge]\ndatadir = \"data\"\n", "", ""},
		{"data_dir misspelt, and a syntax error", "[bridge]\ndatadir = \"data\"\n[x", "", ""},
		{"data_dir half written", "[bridge]\ndata_dir = \"da\n", "", ""},
		{"UTF-16", "[\x00b\x00", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "postern.toml")
			if tc.text != absent {
				if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if dir, ok := dataDirOf(file, file); dir != tc.platform || ok != (tc.platform != "") {
				t.Errorf("of the platform's file: %q, %v; want %q", dir, ok, tc.platform)
			}
			if dir, ok := dataDirOf(file, systemConfig()); dir != tc.other || ok != (tc.other != "") {
				t.Errorf("of another file: %q, %v; want %q", dir, ok, tc.other)
			}
		})
	}
}
