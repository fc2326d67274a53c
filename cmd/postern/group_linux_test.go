package main

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/bridge/service"
)

// TestMembersOfTheGroup: data_dir is closed to the service's group, and its members reach the daemon all the same; others do
// not, and nobody is led to another daemon.
func TestMembersOfTheGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	const owner, group, member = 65534, 4242, 1
	box := startSandbox(t)
	file := install(t, box, "graph")
	dir := filepath.Dir(file)
	data, runtime, exe := filepath.Join(dir, "data"), filepath.Join(dir, "run"), filepath.Join(dir, "postern")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "[bridge]\n", "[bridge]\nsendmail_user = \"nav\"\n", 1))
	for _, err := range []error{os.Mkdir(data, 0o700), os.Mkdir(runtime, 0o750), os.Chown(data, owner, group), os.Chown(runtime, owner, group),
		os.WriteFile(file, text, 0o644), os.Chmod(file, 0o644), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(box.CAFile()), 0o755),
		os.Chmod(box.CAFile(), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	copyProgram(t, exe)
	run := program("run", "--config", file)
	run.Env = append(run.Env, "RUNTIME_DIRECTORY="+runtime)
	d := startCommand(t, run)
	as := func(groups []uint32, in string, args ...string) (out string, status int) {
		t.Helper()
		cmd := exec.Command(exe, append(args, "--config", file)...)
		cmd.Env = append(run.Env, "HOME="+dir)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: member, Gid: 65533, Groups: groups}}
		b, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(b), cmd.ProcessState.ExitCode()
	}
	in := []uint32{group}
	for _, args := range [][]string{{"health"}, {"send", "--user", "nav", "--to", "customer@example.test"}, {"sendmail", "-i", "customer@example.test"}, {"secret", "set", "extra"}} {
		if out, status := as(in, "text\n", args...); status != exitDone && (args[0] != "health" || status == 3) {
			t.Errorf("a member's %s = %d\n%s", args[0], status, out)
		}
	}
	name := "uid 1"
	if u, err := user.LookupId("1"); err == nil {
		name = u.Username
	}
	if out, status := as(nil, "", "health"); status == exitDone || !strings.Contains(out, "usermod -aG postern USER") {
		t.Errorf("who is no member: %d\n%s\nwant the remedy", status, out)
	}
	if entries, err := os.ReadDir(data); err != nil {
		t.Error(err)
	} else {
		for _, e := range entries {
			if !service.Makes(e.Name()) {
				t.Errorf("%s in data_dir is not given to the service by: service install", e.Name())
			}
		}
	}
	// Another daemon's socket, and one that a stranger made.
	if err := errors.Join(os.Remove(filepath.Join(runtime, "data_dir")), os.Symlink(dir, filepath.Join(runtime, "data_dir"))); err != nil {
		t.Fatal(err)
	}
	if out, status := as(in, "", "queue", "list"); status == exitDone || !strings.Contains(out, "does not run, or has no socket") {
		t.Errorf("the socket of another data_dir: %d\n%s", status, out)
	}
	if err := errors.Join(os.Remove(filepath.Join(runtime, "data_dir")), os.Symlink(data, filepath.Join(runtime, "data_dir")),
		os.Chown(filepath.Join(runtime, "control.sock"), 4711, group)); err != nil {
		t.Fatal(err)
	}
	if out, status := as(in, "", "queue", "list"); status == exitDone || !strings.Contains(out, "does not run, or has no socket") {
		t.Errorf("the socket of a stranger: %d\n%s", status, out)
	}
	if status := d.terminate(); status != 0 || !strings.Contains(d.text(), "by="+name+" ") {
		t.Errorf("exit status %d, and want an audit line of %s's:\n%s", status, name, d.text())
	}
}
