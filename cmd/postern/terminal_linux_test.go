package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beginOnTerminal starts the program on a terminal of its own, with what a person types in r.in.
func beginOnTerminal(t *testing.T, args ...string) *running {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: program(args...), in: person, lines: bufio.NewReader(person)}
	r.cmd.Env = append(r.cmd.Env, "DISPLAY=", "WAYLAND_DISPLAY=")
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = tty, tty, tty
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	stuck := time.AfterFunc(time.Minute, func() { r.cmd.Process.Kill() })
	t.Cleanup(func() {
		stuck.Stop()
		r.cmd.Process.Kill()
		person.Close()
		r.cmd.Wait()
	})
	return r
}

// awaitPrompt reads until the program asks that.
func (r *running) awaitPrompt(text string) {
	r.t.Helper()
	from := r.seen.Len()
	for !strings.Contains(r.seen.String()[from:], text) {
		b, err := r.lines.ReadByte()
		if err != nil {
			r.t.Fatalf("no prompt %q:\n%s", text, r.seen.String())
		}
		r.seen.WriteByte(b)
	}
}

func (r *running) typeLine(text string) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, text+"\r"); err != nil {
		r.t.Fatal(err)
	}
}

// TestTerminal: what is pasted on a terminal may be longer than its line of 4,095 bytes, is not shown, and may be wrong at
// first; signout asks.
func TestTerminal(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "auto")

	r := beginOnTerminal(t, "signin", "erp", "--paste", "--config", file)
	address := strings.TrimRight(r.await(addressLine), "\r")
	next, _, err := person{"", "accept"}.open(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	const prompt = "(it is not shown): "
	r.awaitPrompt(prompt)
	r.typeLine(address)
	r.awaitPrompt("that was to be opened")
	r.awaitPrompt(prompt)
	r.typeLine(next + "&pad=" + strings.Repeat("longer", 2000))
	out, status := r.end()
	if status != 0 || !strings.Contains(out, "signed in as erp@contoso.test") || strings.Contains(out, "longer") || strings.Contains(out, "code=1.") {
		t.Errorf("%d\n%s", status, out)
	}

	long := box.RefreshToken("erp@contoso.test").Reveal()
	r = beginOnTerminal(t, "signin", "erp", "--refresh-token", "-", "--config", file)
	r.awaitPrompt("Refresh token: ")
	r.typeLine(long + strings.Repeat("\b", 3) + long[len(long)-3:])
	if out, status := r.end(); status != 0 || strings.Contains(out, long[:20]) {
		t.Errorf("%d\n%s", status, out)
	}

	r = beginOnTerminal(t, "signin", "erp", "--paste", "--config", file)
	r.awaitPrompt(prompt)
	if _, err := io.WriteString(r.in, "\x03"); err != nil {
		t.Fatal(err)
	}
	if out, status := r.end(); status != exitFailed || !strings.Contains(out, "given up") {
		t.Errorf("Ctrl-C: %d\n%s", status, out)
	}

	r = beginOnTerminal(t, "signout", "erp", "--config", file)
	r.awaitPrompt("Delete the sign-in of erp@contoso.test, which erp uses? Type yes: ")
	r.typeLine("y")
	if out, status := r.end(); status != exitFailed || !strings.Contains(out, "not signed out") || !signedIn(t, file) {
		t.Errorf("half a yes: %d\n%s", status, out)
	}
	r = beginOnTerminal(t, "signout", "erp", "--config", file)
	r.awaitPrompt("Type yes: ")
	r.typeLine("yes")
	if out, status := r.end(); status != 0 || !strings.Contains(out, "signed out: erp") || signedIn(t, file) {
		t.Errorf("yes: %d\n%s", status, out)
	}
}
