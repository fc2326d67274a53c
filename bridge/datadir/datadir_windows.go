package datadir

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// SyncFolder does nothing: Windows has no such call, and NTFS keeps its names in a journal.
func SyncFolder(string) error { return nil }

func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

// openLock opens the lock's file, or makes it.
func openLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, notWritable(dir, err)
	}
	return f, nil
}

// becomeOwner does nothing: on Windows the folder's ACL lets administrators and the service in.
func becomeOwner(string) error { return nil }

// narrow does nothing: service install sets the folder's ACL.
func narrow(string) error { return nil }

func readOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
