package bridge

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestPortRemedy(t *testing.T) {
	bind := func(errno syscall.Errno) error {
		return fmt.Errorf("listen: %w", &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errno)})
	}
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"a port for root", bind(syscall.EACCES), "ports below 1024 are for root"},
		{"a port that is taken", bind(syscall.EADDRINUSE), "is another mail server running there?"},
		{"another machine's address", bind(syscall.EADDRNOTAVAIL), "this machine has no such address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := portRemedy(tc.err); !strings.Contains(got, tc.want) {
				t.Errorf("portRemedy(%v) = %q; want %q", tc.err, got, tc.want)
			}
		})
	}
}
