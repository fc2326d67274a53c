package service

import (
	"errors"
	"testing"
)

func TestParseShow(t *testing.T) {
	show := func(load, active, sub, result, status string) string {
		return "LoadState=" + load + "\nActiveState=" + active + "\nSubState=" + sub + "\nResult=" + result + "\nExecMainStatus=" + status + "\n"
	}
	for _, tc := range []struct {
		name, text string
		want       Status
		err        error
	}{
		{"it runs", show("loaded", "active", "running", "success", "0"), Status{State: "running"}, nil},
		{"it reads its configuration again", show("loaded", "reloading", "reload", "success", "0"), Status{State: "running"}, nil},
		{"it was never started", show("loaded", "inactive", "dead", "success", "0"), Status{State: "stopped"}, nil},
		{"it starts", show("loaded", "activating", "start", "success", "0"), Status{State: "starting"}, nil},
		{"a wrong configuration is not tried again", show("loaded", "failed", "failed", "exit-code", "78"),
			Status{"failed", "the configuration has a mistake; see: postern check, then: postern service start"}, nil},
		{"it crashed and is about to be started again", show("loaded", "activating", "auto-restart", "exit-code", "2"),
			Status{"starting", "it ended with exit status 2; see: journalctl -u postern -n 20"}, nil},
		{"it hung", show("loaded", "activating", "auto-restart", "watchdog", "6"), Status{"starting", "it hung, and the watchdog ended it; see: journalctl -u postern -n 20"}, nil},
		{"it failed too often", show("loaded", "failed", "failed", "start-limit-hit", "1"),
			Status{"failed", "it ended too often in a short time; see: journalctl -u postern -n 20"}, nil},
		{"it was killed", show("loaded", "failed", "failed", "signal", "9"), Status{"failed", "it ended by signal; see: journalctl -u postern -n 20"}, nil},
		{"there is no unit", show("not-found", "inactive", "dead", "success", "0"), Status{}, ErrNotInstalled},
		{"a state of another systemd's", show("loaded", "maintenance", "", "success", "0"), Status{State: "unknown"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := parseShow(tc.text); got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("parseShow = %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

// TestWithoutSystemd: in a container nobody can be asked, and the answer says what to do.
func TestWithoutSystemd(t *testing.T) {
	if managed() == nil {
		t.Skip("systemd runs this machine")
	}
	for _, action := range []string{"start", "stop", "restart"} {
		if err := Control(action); !errors.Is(err, errNoSystemd) {
			t.Errorf("%s says %v; want %v", action, err, errNoSystemd)
		}
	}
}
