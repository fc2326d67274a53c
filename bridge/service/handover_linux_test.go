package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyIsNoWayToAnotherFile: data_dir belongs to the service's user, who puts something in the key's place for root to read,
// and to hand to him as a credential.
func TestKeyIsNoWayToAnotherFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const uid, gid = 65534, 65533
	for _, tc := range []struct {
		name string
		put  func(secret, key string) error
		says string
	}{
		{"a symbolic link to a file that root alone reads", os.Symlink, "it is a link"},
		{"a hard link to it", os.Link, "it has another name too"},
		{"a file of a third user's", func(_, key string) error {
			return errors.Join(os.WriteFile(key, []byte("the key"), 0o600), os.Chown(key, 4242, 4242))
		}, "it belongs to user 4242"},
		{"a file that is no key", func(_, key string) error { return os.WriteFile(key, []byte("root:*:"), 0o600) }, "not a key"},
		{"a large file", func(_, key string) error { return os.WriteFile(key, make([]byte, maxKey+1), 0o600) }, "it has 4097 bytes, and is no key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := newSystem(t)
			s.lookup = func(string) (int, int, error) { return uid, gid, nil }
			data, secret := filepath.Join(s.root, "/var/lib/postern"), filepath.Join(s.root, "secret")
			key := filepath.Join(data, keyName)
			if err := errors.Join(os.MkdirAll(data, 0o700), os.WriteFile(secret, []byte("the key"), 0o600), tc.put(secret, key),
				os.Chown(data, uid, gid)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.install(usual); err == nil || !strings.Contains(err.Error(), key+": "+tc.says) {
				t.Errorf("install = %v; want %q", err, tc.says)
			}
			if text, err := os.ReadFile(filepath.Join(s.root, keyFile)); err == nil {
				t.Errorf("the unit's key is %.40q", text)
			}
			if _, err := os.Lstat(key); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
}
