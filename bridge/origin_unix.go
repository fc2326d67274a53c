//go:build !windows

package bridge

import (
	"os"
	"strings"
)

// machineID is /etc/machine-id, or where D-Bus keeps it on systems without systemd.
func machineID() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) != "" {
			return hashMachine(strings.TrimSpace(string(text)))
		}
	}
	return ""
}
