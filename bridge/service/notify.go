package service

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier tells systemd what Postern does (sd_notify(3)). What systemd does not hear is not worth stopping mail for, so
// that nothing here fails. Safe for concurrent use.
type Notifier struct {
	socket *net.UnixAddr // nil: nobody listens
	every  time.Duration
	clock  func() int64 // CLOCK_MONOTONIC in microseconds
}

// NewNotifier reads NOTIFY_SOCKET and the watchdog's variables. Without them it tells nobody.
func NewNotifier(getenv func(string) string) *Notifier {
	n := &Notifier{clock: monotonic}
	path := getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
		return n
	}
	n.socket = &net.UnixAddr{Name: path, Net: "unixgram"}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n
	}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		n.every = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Ready says that Postern serves.
func (n *Notifier) Ready() { n.send("READY=1\nSTATUS=relaying mail") }

// Reloading says that the configuration is read again; the time is what Type=notify-reload asks for (systemd 253).
func (n *Notifier) Reloading() {
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\nSTATUS=reading the configuration", n.clock()))
}

// Stopping says so, and asks for the time that it may take.
func (n *Notifier) Stopping(within time.Duration) {
	n.send(fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=finishing what is on the wire", within.Microseconds()))
}

// Starting asks for more time: a large queue is looked through before anybody is served.
func (n *Notifier) Starting(within time.Duration) {
	n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=opening the queue", within.Microseconds()))
}

// Alive feeds the watchdog.
func (n *Notifier) Alive() { n.send("WATCHDOG=1") }

// Every is how often the watchdog wants to be fed at least; 0 is never.
func (n *Notifier) Every() time.Duration { return n.every }

func (n *Notifier) send(message string) {
	if n.socket == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, n.socket)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write([]byte(message))
}
