//go:build !windows

package origin

import (
	"os"
	"strings"
)

// Machine is a hash of /etc/machine-id, or of the id that D-Bus keeps on systems without systemd; "" where there is none.
func Machine() string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) != "" {
			return hashMachine(strings.TrimSpace(string(text)))
		}
	}
	return ""
}
