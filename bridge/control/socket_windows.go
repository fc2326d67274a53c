package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"postern/auth/token"
)

// addressFile holds "ADDRESS KEY". Whoever can read data_dir may talk to the daemon: the folder's ACL is the guard,
// because a loopback port has none. (Wine knows no Unix socket, and moves no data through a named pipe.)
const addressFile = "control.addr"

// Listen opens a loopback port and writes its address and a fresh random key into a file in dataDir.
func Listen(dataDir string) (net.Listener, token.Secret, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("open the control port: %w", err)
	}
	key := rand.Text()
	path := filepath.Join(dataDir, addressFile)
	if err := os.WriteFile(path, []byte(l.Addr().String()+" "+key), 0o600); err != nil {
		l.Close()
		return nil, "", fmt.Errorf("write the control address: %w", err)
	}
	return addressed{l, path}, token.Secret(key), nil
}

// addressed is a listener whose address stands in a file, as long as it listens: the installer sees by the file whether an
// upgrade finds a daemon that runs.
type addressed struct {
	net.Listener
	file string
}

// Close implements net.Listener. It may be called twice, in the process that holds data_dir.
func (a addressed) Close() error {
	_ = os.Remove(a.file) // one that stays names a port where nobody answers
	return a.Listener.Close()
}

// ListenGroup and RuntimeFolder are for systemd's services.
func ListenGroup(string, string) (net.Listener, error) { return nil, errors.ErrUnsupported }

// RuntimeFolder says that there is none.
func RuntimeFolder() (folder string, told bool) { return "", false }

// CheckPath finds nothing wrong: a file in dataDir has no limit of its own.
func CheckPath(string) error { return nil }

func dialer(dataDir string) (func(context.Context) (net.Conn, error), token.Secret, error) {
	b, err := os.ReadFile(filepath.Join(dataDir, addressFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("%w on %s (data_dir)", ErrNotRunning, dataDir)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the control address (are you an administrator?): %w", err)
	}
	addr, key, _ := strings.Cut(string(b), " ")
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("%w on %s (data_dir)", ErrNotRunning, dataDir)
		}
		return conn, nil
	}, token.Secret(key), nil
}
