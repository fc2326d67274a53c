//go:build unix

package vault

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// openPrivate opens the file and judges what was opened, not what the name meant a moment ago. O_NONBLOCK keeps a pipe
// in its place from hanging the start.
func openPrivate(path string, t trust) (*os.File, error) {
	flags := os.O_RDONLY | syscall.O_NONBLOCK
	if t == ownFile {
		flags |= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, which could be changed by others; put the file itself there", path)
	}
	if err != nil {
		return nil, err
	}
	if err := judge(f, path, t); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func judge(f *os.File, path string, t trust) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if t == credential {
		// systemd gives the unit's user access by an ACL, whose mask stands in the group's bits (0440), in a folder
		// that nobody else can enter. systemd.exec(5), Credentials.
		return nil
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s can be read or written by others (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to the user that postern runs as (%d); run: chown %d %s",
			path, st.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	return nil
}

func (osDisk) rename(old, new string) error { return os.Rename(old, new) }

// syncDir makes the rename itself durable.
func (osDisk) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func printKey(key []byte) (string, error) { return base64.StdEncoding.EncodeToString(key), nil }

func unwrapKey([]byte) ([]byte, error) {
	return nil, errors.New("the key is wrapped by Windows and can only be read on the machine that wrapped it")
}
