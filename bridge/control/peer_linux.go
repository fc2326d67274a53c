package control

import (
	"net"
	"os/user"
	"strconv"
	"syscall"
)

// peerName asks the kernel who opened the socket (SO_PEERCRED, unix(7)).
func peerName(conn net.Conn) string {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return "unknown"
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return "unknown"
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return "unknown"
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}
