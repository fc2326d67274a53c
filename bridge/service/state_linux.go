package service

import (
	"errors"
	"os"
	"os/exec"
	"strings"
)

// errNoSystemd says that nobody could control a service.
var errNoSystemd = errors.New("no systemd runs on this machine, which is usual in a container; let what starts the container run: postern run")

// managed reports whether systemd runs this machine (sd_booted(3)).
func managed() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return errNoSystemd
	}
	return nil
}

// ask asks systemd itself: kardianos/service calls a unit that has failed an error, and what cannot be asked is not started.
func ask() (Status, error) {
	out, err := exec.Command("systemctl", "show", "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus", unitName+".service").Output()
	if err != nil {
		return Status{}, err
	}
	return parseShow(string(out))
}

// parseShow reads what `systemctl show` prints (org.freedesktop.systemd1(5)).
func parseShow(text string) (Status, error) {
	p := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		p[key] = value
	}
	if p["LoadState"] == "not-found" {
		return Status{}, ErrNotInstalled
	}
	s := Status{State: map[string]string{"active": "running", "reloading": "running", "activating": "starting", "deactivating": "stopping",
		"inactive": "stopped", "failed": "failed"}[p["ActiveState"]]}
	switch {
	case s.State == "":
		s.State = "unknown"
	case s.State == "failed" || p["SubState"] == "auto-restart":
		s.Why = howItEnded(p["Result"], p["ExecMainStatus"])
	}
	return s, nil
}

// howItEnded puts systemd's result into words, with what to do.
func howItEnded(result, status string) string {
	const journal = "; see: journalctl -u postern -n 20"
	switch {
	case result == "exit-code" && status == "78":
		return "the configuration has a mistake; see: postern check, then: postern service start"
	case result == "exit-code":
		return "it ended with exit status " + status + journal
	case result == "watchdog":
		return "it hung, and the watchdog ended it" + journal
	case result == "start-limit-hit":
		return "it ended too often in a short time" + journal
	}
	return "it ended by " + result + journal
}
