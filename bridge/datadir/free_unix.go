//go:build !windows

package datadir

import (
	"errors"
	"syscall"
)

// Free returns how many bytes of the folder's file system this process may still take.
func Free(folder string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// Full reports whether an error says that the file system, or what this user may take of it, is full.
func Full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
