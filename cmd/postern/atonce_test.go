package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/bridge/sandbox"
)

// outcomes runs the program n times at once, each with its own arguments and input.
func outcomes(n int, input func(i int) string, args ...string) (out []string, status []int) {
	out, status = make([]string, n), make([]int, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			cmd := program(args...)
			cmd.Stdin = strings.NewReader(input(i))
			b, _ := cmd.CombinedOutput() // its status is what counts
			out[i], status[i] = string(b), cmd.ProcessState.ExitCode()
		})
	}
	all.Wait()
	return out, status
}

// TestManyAtOnce: the lock of data_dir lets one command line at a time work on a stopped daemon's vault, and beside a
// running one they all ask it, so that a token that was refused is refreshed once.
func TestManyAtOnce(t *testing.T) {
	var refreshed atomic.Int64
	box, err := sandbox.Start(sandbox.Options{
		Switches: sandbox.Switches{RevokeOnUse: true}, // a second refresh by the same token would cost the sign-in
		Logf: func(format string, args ...any) {
			if strings.HasPrefix(fmt.Sprintf(format, args...), "entra: token for erp@contoso.test") {
				refreshed.Add(1)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	file := install(t, box, "graph")
	const n = 6
	var tokens [n]string
	for i := range tokens {
		tokens[i] = box.RefreshToken("erp@contoso.test").Reveal()
	}
	out, status := outcomes(n, func(i int) string { return tokens[i] + "\n" }, "signin", "erp", "--refresh-token", "-", "--config", file)
	done := 0
	for i := range out {
		switch {
		case status[i] == exitDone:
			done++
		case status[i] != exitFailed || !strings.Contains(out[i], "another postern runs on it"):
			t.Errorf("signin = %d\n%s\nwant done, or that data_dir is in use", status[i], out[i])
		}
	}
	if done == 0 {
		t.Fatal("nobody could sign in")
	}

	d := startDaemon(t, file)
	if err := d.send("with the sign-in that stands"); err != nil {
		t.Fatal(err)
	}
	arrived(t, box, 1)
	refreshed.Store(0)
	box.ExpireAccessTokens()
	out, status = outcomes(n, func(int) string { return "" }, "check", "--live", "--config", file)
	for i := range out {
		if status[i] != exitDone {
			t.Errorf("check --live = %d\n%s", status[i], out[i])
		}
	}
	if got := refreshed.Load(); got != 1 {
		t.Errorf("%d tokens were fetched for %d command lines at once; want 1", got, n)
	}
	if status := d.terminate(); status != exitDone {
		t.Errorf("the daemon ended with %d\n%s", status, d.text())
	}
}
