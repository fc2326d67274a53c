package datadir

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	return err
}

// giveToOwner and becomeOwner do nothing: on Windows the folder's ACL lets administrators and the service in.
func giveToOwner(string, *os.File) error { return nil }

func becomeOwner(string) error { return nil }

// narrow does nothing: service install sets the folder's ACL.
func narrow(string) error { return nil }
