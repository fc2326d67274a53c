//go:build !windows

package signin

import "syscall"

// exclusive has nothing to do: a second listener on a port needs SO_REUSEPORT of both.
func exclusive(string, string, syscall.RawConn) error { return nil }
