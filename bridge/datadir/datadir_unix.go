//go:build !windows

package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// SyncFolder makes the names in a folder durable. That of a folder which this user may not read, or whose file system cannot
// sync one, is left to the system.
func SyncFolder(path string) error {
	d, err := os.Open(path)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// owner returns the folder's owner where root is about to work in somebody else's folder.
func owner(path string) (st *syscall.Stat_t, foreign bool, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, false, fmt.Errorf("data_dir %s: %w", path, reason(err))
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return st, ok && os.Geteuid() == 0 && st.Uid != 0, nil
}

// openLock opens the lock's file, or makes it, for the folder's owner. Whoever owns the folder may have put something else
// there for root to open and to give away: nothing is followed, and only what was made here changes hands.
func openLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		if err = giveToOwner(dir, f); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, notWritable(dir, err)
	}
	f, err = os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EISDIR) {
		return nil, notOurs(path)
	}
	if err != nil {
		return nil, notWritable(dir, err)
	}
	if err := judge(dir, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// judge demands of a lock that was there already that somebody who may work in dir made it, and that it has no other name.
func judge(dir string, f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	folder, _, err := owner(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || st.Nlink != 1 || st.Uid != 0 && st.Uid != folder.Uid && int(st.Uid) != os.Geteuid() {
		return notOurs(f.Name())
	}
	return nil
}

func notOurs(path string) error {
	return fmt.Errorf("%s is a link, or no file that postern made; look at what put it there, then remove it", path)
}

func giveToOwner(path string, f *os.File) error {
	st, foreign, err := owner(path)
	if err != nil || !foreign {
		return err
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

func becomeOwner(path string) error {
	st, foreign, err := owner(path)
	if err != nil || !foreign {
		return err
	}
	err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(int(st.Gid)), syscall.Setuid(int(st.Uid)))
	if err != nil {
		return fmt.Errorf("data_dir %s belongs to user %d, and this process cannot take that identity: %w", path, st.Uid, err)
	}
	return nil
}

// narrow takes the rights of others off the folder; the group may keep those of entering it for the control socket.
func narrow(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := fi.Mode().Perm(); mode&0o027 != 0 {
		return os.Chmod(path, mode&0o750)
	}
	return nil
}

func readOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
