package bridge

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/bridge/config"
	"postern/bridge/users"
)

// TestHashesThatConfigTakesOpenUsers: config says what is wrong with a password's hash, with its place in the file, and
// users, who must not know the file, has bounds of its own. What one takes the other takes.
func TestHashesThatConfigTakesOpenUsers(t *testing.T) {
	hash := func(m, passes, p int, salt, key int) string {
		e := base64.RawStdEncoding
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", m, passes, p, e.EncodeToString(make([]byte, salt)), e.EncodeToString(make([]byte, key)))
	}
	for _, tc := range []struct {
		name, hash string
		ok         bool
	}{
		{"our own", hash(12*1024, 3, 1, 16, 32), true},
		{"the most memory", hash(1<<20, 1, 1, 16, 32), true},
		{"more memory", hash(1<<20+1, 1, 1, 16, 32), false},
		{"more memory than a number holds", strings.Replace(hash(64, 1, 1, 16, 32), "m=64", "m=99999999999", 1), false},
		{"the least memory", hash(16, 1, 2, 16, 32), true},
		{"less memory", hash(15, 1, 2, 16, 32), false},
		{"the most passes", hash(64, 100, 1, 16, 32), true},
		{"more passes", hash(64, 101, 1, 16, 32), false},
		{"no pass", hash(64, 0, 1, 16, 32), false},
		{"the most lanes", hash(8*255, 1, 255, 16, 32), true},
		{"more lanes", hash(8*256, 1, 256, 16, 32), false},
		{"no lane", hash(64, 1, 0, 16, 32), false},
		{"the shortest", hash(64, 1, 1, 8, 16), true},
		{"a shorter salt", hash(64, 1, 1, 7, 16), false},
		{"a shorter key", hash(64, 1, 1, 8, 15), false},
		{"the longest", hash(64, 1, 1, 1024, 1024), true},
		{"a longer salt", hash(64, 1, 1, 1025, 32), false},
		{"a longer key", hash(64, 1, 1, 16, 1025), false},
		{"another function", strings.Replace(hash(64, 1, 1, 16, 32), "argon2id", "argon2i", 1), false},
		{"another version", strings.Replace(hash(64, 1, 1, 16, 32), "v=19", "v=16", 1), false},
		{"a password", "correct horse battery", false},
		{"padding", hash(64, 1, 1, 16, 32) + "=", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, byUsers := users.New(users.Options{Users: []users.User{{Name: "nav", Hashes: []string{tc.hash}}}})
			_, byConfig := config.Load(writeConfig(t, tc.hash))
			if byUsers == nil != tc.ok || byConfig == nil != tc.ok {
				t.Errorf("users: %v; config: %v; want both to take it: %v", byUsers, byConfig, tc.ok)
			}
		})
	}
}

// writeConfig writes a file that is right but for the password of its one user, perhaps.
func writeConfig(t *testing.T, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "postern.toml")
	text := fmt.Sprintf(`[bridge]
data_dir = "data"
[[listener]]
address = "127.0.0.1:2525"
[[provider]]
name = "contoso"
tenant = "contoso.test"
client_id = "11111111-2222-3333-4444-555555555555"
[[account]]
name = "erp"
provider = "contoso"
mailbox = "erp@contoso.test"
[[user]]
name = "nav"
password = '%s'
`, password)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
