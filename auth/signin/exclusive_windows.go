package signin

import "syscall"

// exclusive keeps another program from binding the same port: on Windows SO_REUSEADDR of the other one would be enough
// ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE", read in November 2026).
func exclusive(_, _ string, c syscall.RawConn) error {
	const soExclusiveAddrUse = ^syscall.SO_REUSEADDR
	var failed error
	if err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, soExclusiveAddrUse, 1)
	}); err != nil {
		return err
	}
	return failed
}
