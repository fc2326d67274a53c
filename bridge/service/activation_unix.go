//go:build !windows

package service

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstSocket is the descriptor of the first socket that is handed over (SD_LISTEN_FDS_START, sd_listen_fds(3)).
const firstSocket = 3

// Inherited returns the listening sockets that systemd opened for this process (systemd.socket(5)): none where LISTEN_PID
// names another one. No program that this one starts gets them. What is no listening TCP socket is an error.
func Inherited(getenv func(string) string) (list []*net.TCPListener, err error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1000 {
		return nil, fmt.Errorf("LISTEN_FDS is %.20q; want the number of sockets", getenv("LISTEN_FDS"))
	}
	defer func() {
		if err != nil {
			for _, l := range list {
				l.Close()
			}
			list = nil
		}
	}()
	for fd := firstSocket; fd < firstSocket+n; fd++ {
		syscall.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "LISTEN_FD_"+strconv.Itoa(fd))
		l, err := net.FileListener(f) // a copy
		f.Close()
		if err != nil {
			return list, fmt.Errorf("socket %d of the service manager: %w; postern takes ListenStream with a TCP port, and Accept=no", fd-firstSocket+1, err)
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			return list, fmt.Errorf("socket %d of the service manager, %s, is no TCP port", fd-firstSocket+1, l.Addr())
		}
		list = append(list, tcp)
	}
	return list, nil
}
