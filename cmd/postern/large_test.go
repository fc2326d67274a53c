//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
)

// TestLargeQueue starts the daemon on a long queue: after a stop, after a kill, and after a kill with a file that must be read
// from the disk. POSTERN_LARGE sets how long; by hand it is 100000, and then the greeting must come within two seconds after a
// stop, and memory stay under 150 MB.
func TestLargeQueue(t *testing.T) {
	messages := 5000
	if n, err := strconv.Atoi(os.Getenv("POSTERN_LARGE")); err == nil {
		messages = n
	}
	box := startSandbox(t)
	file := install(t, box, "smtp")
	data := filepath.Join(filepath.Dir(file), "data")
	startDaemon(t, file).terminate() // a queue that never ran here is taken for a copy, and held
	fillQueue(t, filepath.Join(data, "queue.db"), messages)

	d, clean := startGreeting(t, file)
	d.kill()
	d, killed := startGreeting(t, file)
	d.kill()
	uncache(t, filepath.Join(data, "queue.db"))
	d, cold := startGreeting(t, file)
	if out, status := outcome(t, box.RefreshToken("erp@contoso.test").Reveal(), "signin", "erp", "--refresh-token", "-", "--config", file); status != 0 {
		t.Fatal(out)
	}
	relayed, err := box.Wait(t.Context(), min(messages, 2000))
	if err != nil {
		t.Fatal(err)
	}
	rss := residentMemory(t, d.cmd.Process.Pid)
	t.Logf("%d messages: greeting after %v, where the former process was killed %v, and from the disk %v; %d MB resident after %d were relayed",
		messages, clean, killed, cold, rss>>20, len(relayed))
	if rss > 150<<20 {
		t.Errorf("%d MB are resident; want at most 150", rss>>20)
	}
	if messages >= 100_000 && clean > 2*time.Second {
		t.Errorf("the greeting came after %v; want 2s", clean)
	}
}

// startGreeting starts the daemon and returns how long an application waits for its greeting.
func startGreeting(t *testing.T, file string) (d *daemon, took time.Duration) {
	t.Helper()
	began := time.Now()
	d = startDaemon(t, file)
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	greeting, err := bufio.NewReader(conn).ReadString('\n')
	took = time.Since(began).Round(time.Millisecond)
	if err != nil || !strings.HasPrefix(greeting, "220 ") {
		t.Fatalf("greeting %q, %v", greeting, err)
	}
	return d, took
}

// uncache has the system forget a file that it keeps in memory, as a power cut does.
func uncache(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
}

// fillQueue keeps messages of 10 KB that wait.
func fillQueue(t *testing.T, path string, messages int) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("invoice of the month 2026-11\r\n"), 10_000/30)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range messages / 20 {
				item, m := queuetest.NewMessage("erp", time.Now())
				m.Plan.HeaderFrom.Local, m.Plan.ReversePath = "erp", m.Envelope.ReversePath
				m.Plan.ReversePath.Local = "erp"
				m.Header = []byte("From: <erp@contoso.test>\r\nTo: <buyer@fabrikam.test>\r\nMessage-ID: " + m.Plan.MessageID + "\r\nSubject: order\r\n\r\n")
				if err := s.Add(t.Context(), item, m, bytes.NewReader(body)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// residentMemory is VmRSS of proc_pid_status(5), in bytes.
func residentMemory(t *testing.T, pid int) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
