package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"postern/bridge/control"
	"postern/bridge/sandbox"
)

// TestCheckLive runs the program: beside the daemon, on a stopped one, and with something red.
func TestCheckLive(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	check := func(args ...string) (status int, out, errs string) {
		t.Helper()
		cmd := program(append([]string{"check", "--live", "--config", file}, args...)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run() // its status is what counts
		return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	}

	status, out, errs := check()
	want := "green   provider contoso: tenant and client_id are right\n" +
		"green   provider contoso, clock: this machine's clock is right\n" +
		"red     account erp, graph: needs sign-in\n" +
		"        run: postern signin erp\n"
	if status != exitFailed || out != want || !strings.HasSuffix(errs, "\npostern: 1 of 3 checks is red\n") {
		t.Errorf("on a stopped daemon: status %d\n%s%s\nwant 1\n%s", status, out, errs, want)
	}

	d := startDaemon(t, file)
	signIn(t, file, box.RefreshToken("erp@contoso.test").Reveal())
	if status, out, errs = check(); status != exitDone || strings.Count(out, "green ") != 3 || strings.Contains(out, "\x1b") {
		t.Errorf("beside the daemon: status %d\n%s%s", status, out, errs)
	}
	status, out, _ = check("--json", "--send-to", "it@example.test")
	var list []control.Check
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != exitDone || len(list) != 4 || list[3].State != control.Green || list[3].Account != "erp" {
		t.Errorf("as JSON: status %d, %v\n%s", status, err, out)
	}
	if got := box.Received(); len(got) != 1 || got[0].Recipients[0] != "it@example.test" {
		t.Errorf("%d messages arrived; want the test message", len(got))
	}
	if status := d.terminate(); status != exitDone {
		t.Errorf("the daemon ended with %d\n%s", status, d.text())
	}

	cmd := program("check", "--send-to", "it@example.test", "--config", file)
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != exitUsage {
		t.Errorf("--send-to without --live: status %d; want %d", got, exitUsage)
	}
}

func TestPrintChecks(t *testing.T) {
	list := []control.Check{{State: control.Green, Subject: "a", Text: "x"}, {State: control.Yellow, Subject: "b", Text: "y", Remedy: "do"}, {State: control.Red, Subject: "c", Text: "z"}}
	var b strings.Builder
	if err := printChecks(&b, list, true); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[32mgreen \x1b[0m  a: x\n\x1b[33myellow\x1b[0m  b: y\n        do\n\x1b[31mred   \x1b[0m  c: z\n"; b.String() != want {
		t.Errorf("printed %q; want %q", b.String(), want)
	}
}

// signIn hands a refresh token in through the program.
func signIn(t *testing.T, file, refresh string) {
	t.Helper()
	if out, status := outcome(t, refresh+"\n", "signin", "erp", "--refresh-token", "-", "--config", file); status != exitDone {
		t.Fatalf("signin = %d\n%s", status, out)
	}
}

// arrived waits until n messages are at the sandbox.
func arrived(t *testing.T, box *sandbox.Sandbox, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := box.Wait(ctx, n); err != nil {
		t.Fatalf("%d messages did not arrive: %v", n, err)
	}
}
