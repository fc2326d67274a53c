//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// needsStrace skips where strace is not there, but never in CI.
func needsStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is missing: .ci/install installs it")
		}
		t.Skip("strace is missing: apt-get install strace")
	}
}

// TestCommitComesBeforeTheReply watches an accept from outside: the intake, or for a large message the write-ahead log, is
// synced after the final dot was read, and before the 250 is written.
func TestCommitComesBeforeTheReply(t *testing.T) {
	needsStrace(t)
	k := newKilling(t, "smtp")
	k.d.kill()
	trace := filepath.Join(t.TempDir(), "trace")
	p := program("run", "--config", k.file)
	cmd := exec.Command("strace", append([]string{"-D", "-f", "-y", "-s", "100000", "-e", "trace=read,write,fsync,fdatasync", "-o", trace}, p.Args...)...)
	cmd.Env = p.Env
	k.d = startCommand(t, cmd)
	const messages = 5
	for i := range messages {
		id, err := k.submitText(fmt.Sprintf("traced %d", i), strings.Repeat(strings.Repeat("x", 98)+"\r\n", i%2*1000))
		if err != nil {
			t.Fatal(err)
		}
		k.relayed(id)
	}
	if status := k.d.terminate(); status != 0 {
		t.Errorf("exit status %d\n%s", status, k.d.text())
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if n := checkTrace(t, strings.Split(string(text), "\n")); n != messages {
		t.Errorf("%d accepts were seen, want %d\n", n, messages)
	}
}

var (
	finalDot  = regexp.MustCompile(`\\r\\n\.\\r\\n`)
	syncOfLog = regexp.MustCompile(`^(\d+) .*\bf(?:data)?sync\(\d+<[^>]*queue\.db(?:-wal|\.intake)>(\) += 0| <unfinished)`)
	resumed   = regexp.MustCompile(`^(\d+) .*<\.\.\. f(?:data)?sync resumed>\) += 0`)
	reply250  = regexp.MustCompile(`write\(\d+<[^>]*>, "250 2\.0\.0 Ok: queued as `)
)

// checkTrace goes through the calls in order and returns how many accepts it saw.
func checkTrace(t *testing.T, lines []string) (accepts int) {
	synced := true
	pending := map[string]bool{} // threads within a sync of a log
	for _, line := range lines {
		switch m := syncOfLog.FindStringSubmatch(line); {
		case strings.Contains(line, "read(") || strings.Contains(line, "read resumed"):
			if finalDot.MatchString(line) {
				synced = false
				clear(pending) // one that began before proves nothing
			}
		case m != nil && strings.Contains(m[2], "unfinished"):
			pending[m[1]] = true
		case m != nil:
			synced = true
		case resumed.MatchString(line):
			if thread := resumed.FindStringSubmatch(line)[1]; pending[thread] {
				synced = true
				delete(pending, thread)
			}
		case reply250.MatchString(line):
			accepts++
			if !synced {
				t.Error("the 250 was written before the commit was synced")
			}
		}
	}
	return accepts
}

// TestNewNamesAreSynced: what is synced within a folder is lost all the same where a power cut takes the folder, or the
// file's name in it. Of mail that was exported a person drops the original.
func TestNewNamesAreSynced(t *testing.T) {
	needsStrace(t)
	file := install(t, startSandbox(t), "graph")
	dir := filepath.Dir(file)
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), `data_dir = "data"`, `data_dir = "a/b"`, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	traced := func(args ...string) *exec.Cmd {
		p := program(append(args, "--config", file)...)
		cmd := exec.Command("strace", append([]string{"-D", "-f", "-y", "-e", "trace=mkdirat,openat,fsync,fdatasync", "-o", trace}, p.Args...)...)
		cmd.Env = p.Env
		return cmd
	}
	d := startCommand(t, traced("run"))
	if err := d.send("waits"); err != nil {
		t.Fatal(err)
	}
	if status := d.terminate(); status != 0 {
		t.Fatalf("exit status %d\n%s", status, d.text())
	}
	made := []string{filepath.Join(dir, "a"), filepath.Join(dir, "a/b"), filepath.Join(dir, "a/b/contents")}
	checkNames(t, trace, made)

	id := rows(t, file)[0].ID
	for _, tc := range []struct {
		args []string
		made string
	}{
		{[]string{"queue", "export", id, "--to", dir}, filepath.Join(dir, id+".eml")},
		{[]string{"queue", "export", "--all", "--to", filepath.Join(dir, "a")}, filepath.Join(dir, "a", id+".eml")},
		{[]string{"backup", filepath.Join(dir, "backup.tar")}, filepath.Join(dir, "backup.tar")},
	} {
		if out, err := traced(tc.args...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", tc.args, err, out)
		}
		checkNames(t, trace, []string{tc.made})
	}
}

var (
	madeName = regexp.MustCompile(`(?:mkdirat\(|openat\(.*O_EXCL).*`)
	quoted   = regexp.MustCompile(`"([^"]*)"`)
	synced   = regexp.MustCompile(`f(?:data)?sync\(\d+<([^>]*)>`)
)

// checkNames demands that the folder of each of these was synced after they were made: of a folder before anything is synced
// that lies elsewhere, and of a file that it was synced too.
func checkNames(t *testing.T, trace string, names []string) {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, name := range names {
		folders = append(folders, filepath.Dir(name))
	}
	for _, name := range names {
		isFile := filepath.Ext(name) != ""
		made, folder, file, late := false, false, false, false
		for line := range strings.Lines(string(text)) {
			if madeName.MatchString(line) {
				made = made || quoted.FindStringSubmatch(line)[1] == name
				continue
			}
			m := synced.FindStringSubmatch(line)
			if !made || m == nil {
				continue
			}
			file = file || m[1] == name
			late = late || !isFile && !slices.Contains(folders, m[1])
			folder = folder || m[1] == filepath.Dir(name) && !late
		}
		if !made || !folder || isFile && !file {
			t.Errorf("%s: made %v; its folder was synced in time: %v; itself: %v", name, made, folder, file)
		}
	}
}

// TestBrokenDisk makes the system calls on the store fail in a running daemon: the application gets a 4xx with a fixed
// text, nothing is lost or half kept, and it goes on by itself when the disk does.
func TestBrokenDisk(t *testing.T) {
	needsStrace(t)
	for _, tc := range []struct{ name, inject, code, text string }{
		{"the disk is full", "pwrite64:error=ENOSPC", "452", "4.3.1 insufficient system storage; try again later"},
		{"the disk cannot be written", "pwrite64:error=EIO", "451", "4.3.0 the message could not be stored; try again later"},
		{"the file system is read-only", "pwrite64:error=EROFS", "451", "4.3.0 the message could not be stored; try again later"},
		{"the disk cannot be synced", "fsync,fdatasync:error=EIO", "451", "4.3.0 the message could not be stored; try again later"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newKilling(t, "smtp")
			first, err := k.submit("before", "")
			if err != nil {
				t.Fatal(err)
			}
			k.relayed(first)
			detach := k.inject(tc.inject, "queue.db-wal", "queue.db.intake")
			for i := range 3 {
				_, err := k.submit(fmt.Sprintf("during %d", i), "")
				var refusal *textproto.Error
				if !errors.As(err, &refusal) || fmt.Sprint(refusal.Code) != tc.code || refusal.Msg != tc.text {
					t.Errorf("submit = %v; want %s %s", err, tc.code, tc.text)
				}
			}
			detach()
			last, err := k.submit("after", "")
			if err != nil {
				t.Fatalf("submit after the trouble: %v\n%s", err, k.d.text())
			}
			k.relayed(last)
			k.restart()
			if before, during, after := k.copies("before"), k.copies("during 0")+k.copies("during 1")+k.copies("during 2"), k.copies("after"); before != 1 || during != 0 || after != 1 {
				t.Errorf("arrived: before %d, during %d, after %d; want 1, 0, 1", before, during, after)
			}
		})
	}
}

// TestBrokenIntake: where only the intake fails, mail goes into the tables at once; and what is not known of the frame that
// failed is not found again by the next start.
func TestBrokenIntake(t *testing.T) {
	needsStrace(t)
	for _, inject := range []string{"pwrite64:error=EIO", "fsync,fdatasync:error=EIO"} {
		t.Run(inject, func(t *testing.T) {
			k := newKilling(t, "smtp")
			first, err := k.submit("before", "")
			if err != nil {
				t.Fatal(err)
			}
			k.relayed(first)
			detach := k.inject(inject, "queue.db.intake")
			for i := range 3 {
				id, err := k.submit(fmt.Sprintf("during %d", i), "")
				if err != nil {
					t.Fatalf("submit: %v\n%s", err, k.d.text())
				}
				k.relayed(id)
			}
			detach()
			for range 2 {
				k.restart()
				id, err := k.submit("after", "")
				if err != nil {
					t.Fatal(err)
				}
				k.relayed(id)
			}
			for subject, want := range map[string]int{"before": 1, "during 0": 1, "during 1": 1, "during 2": 1, "after": 2} {
				if n := k.copies(subject); n != want {
					t.Errorf("%s arrived %d times, want %d", subject, n, want)
				}
			}
		})
	}
}

// inject lets calls on files in data_dir fail in the running daemon until the returned function is called.
func (k *killing) inject(what string, files ...string) (detach func()) {
	k.t.Helper()
	calls, _, _ := strings.Cut(what, ":")
	args := []string{"-f", "-p", fmt.Sprint(k.d.cmd.Process.Pid), "-e", "trace=" + calls, "-e", "inject=" + what, "-o", filepath.Join(k.t.TempDir(), "trace")}
	for _, f := range files {
		args = append(args, "-P", filepath.Join(filepath.Dir(k.file), "data", f))
	}
	cmd := exec.Command("strace", args...)
	said, err := cmd.StderrPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	b := make([]byte, 200)
	n, _ := said.Read(b) // "strace: Process 1 attached": from then on
	if !strings.Contains(string(b[:n]), "attached") {
		cmd.Process.Kill()
		cmd.Wait()
		k.t.Skipf("strace cannot attach to a process here: %s", b[:n])
	}
	done := false
	detach = func() {
		if !done {
			done = true
			cmd.Process.Signal(os.Interrupt)
			cmd.Wait()
		}
	}
	k.t.Cleanup(detach)
	return detach
}
