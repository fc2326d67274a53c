package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// loadWith loads the smallest configuration with another listener and more keys of its user, and returns the mistakes and
// the warnings.
func loadWith(t *testing.T, listener, user string) (mistakes, warnings string) {
	t.Helper()
	minimal, err := os.ReadFile(filepath.Join("testdata", "good", "minimal.toml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(minimal), "address = \"127.0.0.1:25\"\n", listener, 1) + user
	file := filepath.Join(t.TempDir(), "postern.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	var m *Mistakes
	switch {
	case errors.As(err, &m):
		return m.Error(), ""
	case err != nil:
		t.Fatal(err)
	}
	for _, w := range c.Warnings {
		warnings += w.String() + "\n"
	}
	return "", warnings
}

// TestWhoCanReachAListener goes through every combination that makes a listener an open door or not. One that others can
// reach and that neither has TLS with a login for everybody, nor says who may connect, stops the start.
func TestWhoCanReachAListener(t *testing.T) {
	const remedy = `listener[0].address: other machines can reach this address; write tls = "starttls" or "implicit" and ` +
		`auth = "required", or name in networks who may connect, or listen on 127.0.0.1`
	for host, others := range map[string]bool{
		"127.0.0.1": false, "127.9.9.9": false, "localhost": false, "LocalHost": false, "[::1]": false, "[::ffff:127.0.0.1]": false,
		"0.0.0.0": true, "": true, "[::]": true, "192.0.2.1": true, "[2001:db8::1]": true, "[::ffff:192.0.2.1]": true, "[fe80::1%eth0]": true,
	} {
		for _, tls := range []string{"none", "starttls", "implicit"} {
			for _, auth := range []string{"required", "optional", "none"} {
				for _, networks := range []string{"", "networks = []", `networks = ["127.0.0.1", "::1"]`, `networks = ["192.0.2.0/24"]`, `networks = ["0.0.0.0/0", "::/0"]`} {
					for _, tolerate := range []string{"", `tolerate = ["plaintext-auth"]`} {
						listener := fmt.Sprintf("address = %q\ntls = %q\nauth = %q\n%s\n%s\n", host+":25", tls, auth, networks, tolerate)
						if tls != "none" {
							listener += "tls_cert = \"c.pfx\"\n"
						}
						mistakes, warnings := loadWith(t, listener, "")
						stops := others && networks == "" && !(tls != "none" && auth == "required")
						if got := strings.Contains(mistakes, remedy); got != stops || !stops && mistakes != "" {
							t.Errorf("%s\nstops the start: %v; want %v\n%s", listener, got, stops, mistakes)
						}
						named := strings.Contains(networks, "0/")
						unreachable := others && !named && !stops
						if got := strings.Contains(warnings, "only this machine can connect"); got != unreachable {
							t.Errorf("%s\nsays that nobody can reach it: %v; want %v", listener, got, unreachable)
						}
						noLogin := others && named && tls == "none" && auth == "required" && tolerate == ""
						if got := strings.Contains(warnings, "other machines cannot log in"); got != noLogin {
							t.Errorf("%s\nsays that nobody can log in: %v; want %v", listener, got, noLogin)
						}
					}
				}
			}
		}
	}
}

// TestHowWideAUsersNetworkMayBe: who sends without a login comes from a network that somebody can look after.
func TestHowWideAUsersNetworkMayBe(t *testing.T) {
	for _, tc := range []struct{ network, mistake string }{
		{"0.0.0.0/0", "wider than /16"},
		{"10.0.0.0/8", "wider than /16"},
		{"10.0.0.0/15", "wider than /16"},
		{"10.0.0.0/16", ""},
		{"192.0.2.31", ""},
		{"::/0", "wider than /48"},
		{"2001:db8::/32", "wider than /48"},
		{"2001:db8::/47", "wider than /48"},
		{"2001:db8::/48", ""},
		{"::ffff:0.0.0.0/96", "wider than /16"},
		{"::ffff:10.0.0.0/111", "wider than /16"},
		{"::ffff:10.0.0.0/112", ""},
		{"::ffff:192.0.2.31", ""},
		{"::ffff:10.0.0.0/95", "write it as IPv4"},
	} {
		t.Run(tc.network, func(t *testing.T) {
			mistakes, _ := loadWith(t, "address = \"127.0.0.1:25\"\nauth = \"optional\"\n", fmt.Sprintf("networks = [%q]\n", tc.network))
			if (mistakes == "") != (tc.mistake == "") || !strings.Contains(mistakes, tc.mistake) {
				t.Errorf("mistakes = %q; want %q", mistakes, tc.mistake)
			}
			if strings.Contains(tc.mistake, "wider") && !strings.Contains(mistakes, "name the machines that need it") {
				t.Errorf("%q has no remedy", mistakes)
			}
		})
	}
}
