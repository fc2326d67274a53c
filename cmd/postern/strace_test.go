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

// TestCommitComesBeforeTheReply watches accepts from outside: after the final dot was read, and before the 250 is written,
// the intake, or for a large message the write-ahead log, is written and then synced; and for the first message, which makes
// the intake, its folder is synced too.
func TestCommitComesBeforeTheReply(t *testing.T) {
	needsStrace(t)
	k := newKilling(t, "smtp")
	k.d.kill()
	trace := filepath.Join(t.TempDir(), "trace")
	p := program("run", "--config", k.file)
	cmd := exec.Command("strace", append([]string{"-D", "-f", "-y", "-s", "100000", "-e", "trace=read,write,pwrite64,fsync,fdatasync", "-o", trace}, p.Args...)...)
	cmd.Env = p.Env
	k.d = startCommand(t, cmd)
	data := filepath.Join(filepath.Dir(k.file), "data")
	intake, log := filepath.Join(data, "queue.db.intake"), filepath.Join(data, "queue.db-wal")
	accepts := []struct {
		octets int
		file   string
	}{{0, intake}, {1_500_000, log}, {50_000, intake}, {100_000, log}, {0, intake}}
	for i, a := range accepts {
		id, err := k.submitText(fmt.Sprintf("traced %d", i), strings.Repeat(strings.Repeat("x", 98)+"\r\n", a.octets/100))
		if err != nil {
			t.Fatal(err)
		}
		k.relayed(id)
	}
	if status := k.d.terminate(); status != 0 {
		t.Errorf("exit status %d\n%s", status, k.d.text())
	}
	seen := readAccepts(t, trace)
	if len(seen) != len(accepts) {
		t.Fatalf("%d accepts were seen, want %d", len(seen), len(accepts))
	}
	for i, calls := range seen {
		if !calls.durable(accepts[i].file) {
			t.Errorf("message %d: nothing was written to %s, or not synced after that, between the dot and the 250:\n%s", i, filepath.Base(accepts[i].file), calls)
		}
	}
	if !seen[0].synced(data, 0) {
		t.Errorf("the intake was made, and %s not synced before the 250:\n%s", filepath.Base(data), seen[0])
	}
}

// TestStartSyncsTheLog: what a killed process wrote into the log is synced before the next writes behind it.
func TestStartSyncsTheLog(t *testing.T) {
	needsStrace(t)
	k := newKilling(t, "smtp")
	id, err := k.submitText("logged", strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000))
	if err != nil {
		t.Fatal(err)
	}
	k.relayed(id)
	k.d.kill()
	trace := filepath.Join(t.TempDir(), "trace")
	p := program("run", "--config", k.file)
	cmd := exec.Command("strace", append([]string{"-D", "-f", "-y", "-e", "trace=pwrite64,fsync,fdatasync", "-o", trace}, p.Args...)...)
	cmd.Env = p.Env
	k.d = startCommand(t, cmd)
	if status := k.d.terminate(); status != 0 {
		t.Errorf("exit status %d\n%s", status, k.d.text())
	}
	for _, c := range readTrace(t, trace) {
		if !strings.Contains(c.args, "queue.db") {
			continue
		}
		if c.name != "fsync" || !strings.Contains(c.args, "queue.db-wal>") {
			t.Errorf("the first call on the queue is %s(%.120s); want an fsync of the log", c.name, c.args)
		}
		return
	}
	t.Error("the queue was not touched")
}

// traced is one system call: the lines of a trace in which it began and ended.
type traced struct {
	name, args   string
	began, ended int
}

var (
	wholeCall = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (\d+)`)
	halfCall  = regexp.MustCompile(`^(\d+) +(\w+)\((.*) <unfinished \.\.\.>`)
	otherHalf = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)\) += (\d+)`)
	finalDot  = regexp.MustCompile(`\\r\\n\.\\r\\n"`)
	reply250  = regexp.MustCompile(`^\d+<[^>]*>, "250 2\.0\.0 Ok: queued as `)
)

// readTrace returns the calls that succeeded in the order of their ends.
func readTrace(t *testing.T, file string) (calls []traced) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]traced{} // by thread
	for i, line := range strings.Split(string(text), "\n") {
		if m := halfCall.FindStringSubmatch(line); m != nil {
			open[m[1]] = traced{m[2], m[3], i, 0}
		} else if m := otherHalf.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			calls = append(calls, traced{c.name, c.args + m[2], c.began, i})
		} else if m := wholeCall.FindStringSubmatch(line); m != nil {
			calls = append(calls, traced{m[2], m[3], i, i})
		}
	}
	return calls
}

// accept is what began after a final dot was read and ended before its 250 was begun.
type accept []traced

func readAccepts(t *testing.T, file string) (accepts []accept) {
	t.Helper()
	calls := readTrace(t, file)
	dot := -1
	for i, c := range calls {
		switch {
		case c.name == "read" && finalDot.MatchString(c.args):
			dot = i
		case c.name == "write" && reply250.MatchString(c.args):
			if dot < 0 {
				t.Fatal("a 250 without a final dot before it")
			}
			var a accept
			for _, between := range calls[dot+1 : i] {
				if between.began > calls[dot].ended && between.ended < c.began {
					a = append(a, between)
				}
			}
			accepts, dot = append(accepts, a), -1
		}
	}
	return accepts
}

// durable reports whether the file was written, and synced after that.
func (a accept) durable(file string) bool {
	return slices.ContainsFunc(a, func(c traced) bool {
		return c.name == "pwrite64" && strings.Contains(c.args, "<"+file+">") && a.synced(file, c.ended+1)
	})
}

// synced reports whether the file was synced by a call that began at that line or later.
func (a accept) synced(file string, from int) bool {
	return slices.ContainsFunc(a, func(c traced) bool {
		return strings.HasSuffix(c.name, "sync") && strings.HasSuffix(c.args, "<"+file+">") && c.began >= from
	})
}

func (a accept) String() string {
	var b strings.Builder
	for _, c := range a {
		fmt.Fprintf(&b, "%s(%.80s\n", c.name, c.args)
	}
	return b.String()
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
		if os.Getenv("CI") != "" {
			k.t.Fatalf("strace cannot attach to a process here: %s", b[:n])
		}
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
