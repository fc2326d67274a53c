//go:build linux

package service

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestNotifier: a systemd of ours hears what sd_notify(3) says.
func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "180000000"}
	n := NewNotifier(func(k string) string { return env[k] })
	for _, tc := range []struct {
		name string
		tell func()
		want string
	}{
		{"it serves", n.Ready, `^READY=1\nSTATUS=`},
		{"it reloads, with the time", n.Reloading, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+\nSTATUS=`},
		{"it stops, and needs time", func() { n.Stopping(45 * time.Second) }, `^STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000\nSTATUS=`},
		{"it starts, and needs time", func() { n.Starting(time.Minute) }, `^EXTEND_TIMEOUT_USEC=60000000\nSTATUS=`},
		{"it is alive", n.Alive, `^WATCHDOG=1$`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.tell()
			buf := make([]byte, 500)
			l.SetReadDeadline(time.Now().Add(10 * time.Second))
			k, err := l.Read(buf)
			if err != nil || !regexp.MustCompile(tc.want).Match(buf[:k]) {
				t.Errorf("systemd hears %q, %v; want %s", buf[:k], err, tc.want)
			}
		})
	}
	if n.Every() != 3*time.Minute {
		t.Errorf("Every = %v; want 3m", n.Every())
	}
	env["WATCHDOG_PID"] = "1"
	if other := NewNotifier(func(k string) string { return env[k] }); other.Every() != 0 {
		t.Errorf("the watchdog of another process is fed every %v", other.Every())
	}
	NewNotifier(func(string) string { return "" }).Ready() // nobody is there, and nothing happens
}
