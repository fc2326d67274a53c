package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// activated is the daemon as systemd starts it for a socket: the socket is descriptor 3, and LISTEN_PID is its own number.
func activated(t *testing.T, file string, socket interface{ File() (*os.File, error) }) *exec.Cmd {
	t.Helper()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := program("run", "--config", file)
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`}, p.Args...)...)
	cmd.Env, cmd.ExtraFiles = p.Env, []*os.File{f}
	return cmd
}

// greeting connects and returns the first line.
func greeting(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return firstLine(t, c)
}

func firstLine(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// TestInheritedSocket: a socket of systemd's is taken over, by the listener that has its address. The test keeps it open, as
// systemd does: whoever bound the address anew would fail.
func TestInheritedSocket(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	rewrite := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// localhost is 127.0.0.1, and a second listener is bound as always.
	with := strings.Replace(string(text), "127.0.0.1:0", strings.Replace(address, "127.0.0.1", "localhost", 1), 1) +
		"\n[[listener]]\naddress = \"127.0.0.1:0\"\n"
	rewrite(with)
	early, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	d := startCommand(t, activated(t, file, l.(*net.TCPListener)))
	if line := firstLine(t, early); !strings.HasPrefix(line, "220 ") {
		t.Errorf("who connected before the daemon was there gets %q", line)
	}
	if strings.Contains(d.text(), "waits in vain") {
		t.Errorf("a warning of a socket that is in use:\n%s", d.text())
	}

	rewrite(string(text)) // the listener goes, the socket stays
	if out, status := outcome(t, "", "reload", "--config", file); status != 0 {
		t.Fatalf("reload = %d\n%s", status, out)
	}
	d.await(regexp.MustCompile(`configuration warning.*has opened ` + regexp.QuoteMeta(address) + `, and no .* has this address`))
	rewrite(with)
	if out, status := outcome(t, "", "reload", "--config", file); status != 0 {
		t.Fatalf("the listener does not come back: %d\n%s", status, out)
	}
	if line := greeting(t, address); !strings.HasPrefix(line, "220 ") {
		t.Errorf("after the listener came back: %q", line)
	}
	if status := d.terminate(); status != 0 {
		t.Errorf("exit status %d\n%s", status, d.text())
	}
}

// TestInheritedSocketOfAnotherAddress: a port alone is [::] to systemd, where the file has 0.0.0.0.
func TestInheritedSocketOfAnotherAddress(t *testing.T) {
	file := install(t, startSandbox(t), "graph")
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	defer l.Close()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	text = []byte(strings.Replace(string(text), `"127.0.0.1:0"`, `"0.0.0.0:`+port+`"`+"\ntls = \"none\"\nnetworks = [\"127.0.0.0/8\"]", 1))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := activated(t, file, l.(*net.TCPListener)).CombinedOutput()
	want := "listener 0.0.0.0:" + port + " cannot listen: the service manager opened [::]:" + port + "; write ListenStream=0.0.0.0:" + port
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("the daemon ended with %v\n%s\nwant %q", err, out, want)
	}
}

// TestForeignSocket: what is no listening TCP socket is refused in words.
func TestForeignSocket(t *testing.T) {
	file := install(t, startSandbox(t), "graph")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	out, err := activated(t, file, udp.(*net.UDPConn)).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "postern: socket 1 of the service manager: ") || !strings.Contains(string(out), "ListenStream") {
		t.Errorf("the daemon ended with %v\n%s", err, out)
	}
}

// TestSocketActivate: systemd's own program hands the socket over, when the first client comes.
func TestSocketActivate(t *testing.T) {
	path, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("systemd-socket-activate is missing: .ci/install installs it")
		}
		t.Skip("systemd-socket-activate is missing: apt-get install systemd")
	}
	box := startSandbox(t)
	file := install(t, box, "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + freePort(t)
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "127.0.0.1:0", address, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := program("run", "--config", file)
	cmd := exec.Command(path, append([]string{"--listen", address, "--setenv", "POSTERN_TEST_MAIN=1"}, p.Args...)...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewReader(log)
	for line := ""; !strings.Contains(line, "Listening on"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	go lines.WriteTo(os.Stderr)
	if line := greeting(t, address); !strings.HasPrefix(line, "220 ") {
		t.Errorf("the first client gets %q", line)
	}
}
