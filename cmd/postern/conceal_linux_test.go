package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestConcealed: what shows the program's memory in /proc belongs to root, whoever runs it (proc_pid(5)). Every verb begins
// alike; the sandbox is one that stays.
func TestConcealed(t *testing.T) {
	p := program("sandbox")
	uid := uint32(os.Getuid())
	if uid == 0 {
		uid = 65534 // nobody, whom the test's own folder does not let in
		dir, err := os.MkdirTemp("", "pc")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		p.Path = filepath.Join(dir, "postern")
		copyProgram(t, p.Path)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer p.Process.Signal(syscall.SIGTERM)
	for lines, line := bufio.NewReader(out), ""; !strings.Contains(line, "Ctrl-C ends it"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	proc := fmt.Sprintf("/proc/%d/", p.Process.Pid)
	for _, name := range []string{"mem", "environ", "maps"} {
		fi, err := os.Stat(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Sys().(*syscall.Stat_t).Uid; got != 0 {
			t.Errorf("%s%s belongs to user %d; want root", proc, name, got)
		}
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil || !regexp.MustCompile(fmt.Sprintf(`(?m)^Uid:\t%d\t`, uid)).Match(status) {
		t.Errorf("the program is not run by user %d, and the test shows nothing (%v)\n%s", uid, err, status)
	}
}

func copyProgram(t *testing.T, path string) {
	t.Helper()
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}
