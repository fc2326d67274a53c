package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestReloadVerb: the verb, SIGHUP, and a file with a mistake, against a real daemon.
func TestReloadVerb(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	if out, status := outcome(t, "", "reload", "--config", file); status != exitFailed || !strings.Contains(out, "no daemon is running on ") {
		t.Errorf("reload without a daemon = %d\n%s", status, out)
	}
	d := startDaemon(t, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(string(text) + "\n[[user]]\nname = \"second\"\n[queue]\ngive_up_after = \"1d\"\n")
	for _, args := range [][]string{{"send", "--user", "second", "--to", "a@example.test"}, {"signout", "second", "--yes"}} {
		if out, status := outcome(t, "", append(args, "--config", file)...); status != exitUsage || !strings.Contains(out, "where the file has it by now, run: postern reload") {
			t.Errorf("%v before the reload = %d\n%s", args, status, out)
		}
	}
	out, status := outcome(t, "", "reload", "--config", file)
	if status != 0 || !strings.Contains(out, "user second added") || !strings.Contains(out, "after a restart only: [queue]") {
		t.Errorf("reload = %d\n%s", status, out)
	}
	rewrite(string(text) + "\n[[uesr]]\n")
	if out, status = outcome(t, "", "reload", "--config", file); status != exitConfig || !strings.Contains(out, "uesr") {
		t.Errorf("reload of a broken file = %d\n%s", status, out)
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	d.await(regexp.MustCompile(`msg="configuration refused"`))
	rewrite(string(text))
	d.cmd.Process.Signal(syscall.SIGHUP)
	d.await(regexp.MustCompile(`changes="\[user second removed\]"`))
	if status := d.terminate(); status != 0 {
		t.Errorf("exit status = %d\n%s", status, d.text())
	}
}

// TestHealthVerb: one line in each format, and the exit statuses of monitoring plugins.
func TestHealthVerb(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	run := func(format string) (string, int) {
		t.Helper()
		return outcome(t, "", "health", "--format", format, "--config", file)
	}
	if out, status := run("text"); status != healthCritical || !strings.Contains(out, "critical: postern is not running: there is no queue in ") {
		t.Errorf("before the first start: %d %s", status, out)
	}
	d := startDaemon(t, file)
	out, status := run("nagios")
	if status != healthCritical || !strings.HasPrefix(out, "POSTERN CRITICAL - account erp: needs sign-in; run: postern signin erp | waiting=0 ") || strings.Count(out, "\n") != 1 {
		t.Errorf("nobody is signed in: %d %s", status, out)
	}
	var prtg struct {
		PRTG struct {
			Error int
			Text  string
		}
	}
	if out, status = run("prtg"); status != healthCritical || json.Unmarshal([]byte(out), &prtg) != nil || prtg.PRTG.Error != 1 {
		t.Errorf("PRTG reads %+v of: %d %s", prtg, status, out)
	}
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	if out, status = run("text"); status != healthOK || !strings.HasPrefix(out, "ok: 1 account in order, nothing waits") {
		t.Errorf("all is well: %d %s", status, out)
	}
	var health struct {
		Status   string
		Findings []finding
	}
	if out, status = run("json"); status != healthOK || json.Unmarshal([]byte(out), &health) != nil || health.Status != "ok" {
		t.Errorf("JSON: %d %s", status, out)
	}
	if out, status = outcome(t, "", "service", "status", "--config", file); status != 0 || !strings.Contains(out, "listening on 127.0.0.1:") ||
		!strings.Contains(out, "erp: in order") || !strings.Contains(out, "queue     nothing waits") {
		t.Errorf("service status: %d\n%s", status, out)
	}
	d.terminate()
	if out, status = run("text"); status != healthCritical || !strings.Contains(out, "critical: postern is not running; run: postern service start") {
		t.Errorf("without a daemon: %d %s", status, out)
	}
	if err := os.WriteFile(file, []byte("[[uesr]]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status = run("text"); status != healthUnknown || !strings.HasPrefix(out, "unknown: the configuration has mistakes") {
		t.Errorf("a wrong file: %d %s", status, out)
	}
	if _, status = outcome(t, "", "health", "--format", "xml"); status != exitUsage {
		t.Errorf("an unknown format: exit status %d", status)
	}
}
