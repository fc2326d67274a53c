package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestALogThatNobodyReadsStopsNoMail: the reader of standard error goes away (a terminal that was closed, a logger that
// died); the next write gets EPIPE, and mail flows on.
func TestALogThatNobodyReadsStopsNoMail(t *testing.T) {
	box := startSandbox(t)
	file := install(t, box, "graph")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "127.0.0.1:0", "127.0.0.1:"+port, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program("run", "--config", file)
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	first := make([]byte, 4096)
	for !regexp.MustCompile(`service started`).Match(first) {
		n, err := r.Read(first[:cap(first)])
		if err != nil {
			t.Fatal(err)
		}
		first = first[:n]
	}
	r.Close()
	d := &daemon{t: t, cmd: cmd, addr: "127.0.0.1:" + port}
	for range 3 {
		if err := d.send("nobody reads the log"); err != nil {
			t.Fatalf("mail was not taken: %v", err)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v; want exit status 0", err)
	}
}

// TestTheLogBelongsToTheService: root starts it on a data_dir of somebody else's; the file that it logs to is his, or the
// service could not write it later.
func TestTheLogBelongsToTheService(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	const uid, gid = 65534, 65534
	box := startSandbox(t)
	file := install(t, box, "graph")
	dir := filepath.Dir(file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, "\n[log]\nto = \"file\"\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(dir, 0o755), os.Chown(data, uid, gid), os.Chmod(filepath.Dir(box.CAFile()), 0o755), os.Chmod(box.CAFile(), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := program("run", "--config", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	log := filepath.Join(data, "postern.log")
	deadline := time.Now().Add(30 * time.Second)
	for {
		b, _ := os.ReadFile(log)
		if strings.Contains(string(b), "service started") {
			break
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("the log never said that the service started: %s\n%s", b, stderr.String())
		}
		time.Sleep(10 * time.Millisecond) // a file tells nobody that it has grown
	}
	fi, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Uid != uid || fi.Mode().Perm() != 0o600 {
		t.Errorf("the log is user %d's, mode %o; want %d, 600", st.Uid, fi.Mode().Perm(), uid)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
}
