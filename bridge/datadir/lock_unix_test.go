//go:build !windows

package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLockIsNoWayToAnotherFile: the folder's owner, which is not root, puts something in the lock's place for root to open
// and to give to him.
func TestLockIsNoWayToAnotherFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const uid, gid = 65534, 65533
	for _, tc := range []struct {
		name string
		put  func(secret, lock string) error
	}{
		{"a symbolic link to a file of root's", os.Symlink},
		{"a hard link to a file of root's", os.Link},
		{"a file of a third user's", func(_, lock string) error {
			return errors.Join(os.WriteFile(lock, nil, 0o600), os.Chown(lock, 4242, 4242))
		}},
		{"a pipe, which would hang", func(_, lock string) error { return syscall.Mkfifo(lock, 0o600) }},
		{"a folder", func(_, lock string) error { return os.Mkdir(lock, 0o700) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			secret, data := filepath.Join(t.TempDir(), "secret"), t.TempDir()
			lock := filepath.Join(data, lockName)
			if err := errors.Join(os.WriteFile(secret, []byte("root's"), 0o600), tc.put(secret, lock), os.Chown(data, uid, gid)); err != nil {
				t.Fatal(err)
			}
			d, err := Open(data)
			if err == nil {
				d.Close()
			}
			if err == nil || !strings.Contains(err.Error(), lock+" is a link, or no file that postern made") {
				t.Errorf("Open = %v; want a refusal that names the lock", err)
			}
			if got := ownerOf(t, secret); got != 0 {
				t.Errorf("root's file belongs to user %d now", got)
			}
		})
	}
	t.Run("a lock that it makes itself is the folder's owner's", func(t *testing.T) {
		data := t.TempDir()
		if err := os.Chown(data, uid, gid); err != nil {
			t.Fatal(err)
		}
		for range 2 { // made, then opened
			d, err := Open(data)
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
			if got := ownerOf(t, filepath.Join(data, lockName)); got != uid {
				t.Errorf("the lock belongs to user %d; want %d", got, uid)
			}
		}
	})
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Uid
}

// TestNotWritableSaysWhatToDo for each reason there is.
func TestNotWritableSaysWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EACCES: "must belong to the user",
		syscall.EROFS:  "mount it writable",
		syscall.ENOSPC: "make room on its disk",
		syscall.EDQUOT: "make room on its disk",
	} {
		got := notWritable("/d", &fs.PathError{Op: "open", Path: "/d/lock", Err: err}).Error()
		if !strings.HasPrefix(got, "data_dir /d cannot be written: "+err.Error()) || !strings.Contains(got, want) {
			t.Errorf("%v: %q; want %q", err, got, want)
		}
	}
}
