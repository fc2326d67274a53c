//go:build !windows

package datadir

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

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
