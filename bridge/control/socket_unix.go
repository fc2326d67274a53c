//go:build !windows

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"postern/auth/token"
)

// maxSocketPath is what sockaddr_un takes on Linux, in octets without the final NUL.
const maxSocketPath = 107

// Listen opens the control socket of dataDir; the caller holds the folder's lock, so a socket that is there already
// was left by a process that died. Mode 0660: the daemon's user and group postern. No key is needed then.
func Listen(dataDir string) (net.Listener, token.Secret, error) {
	path, err := socketPath(dataDir)
	if err != nil {
		return nil, "", err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("remove the old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, "", fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, "", err
	}
	return l, "", nil
}

// CheckPath says whether the control socket of dataDir can have a name, before anything is made there.
func CheckPath(dataDir string) error {
	_, err := socketPath(dataDir)
	return err
}

func socketPath(dataDir string) (string, error) {
	path := filepath.Join(dataDir, "control.sock")
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("the control socket %s would have a path of over %d bytes; choose a shorter data_dir", path, maxSocketPath)
	}
	return path, nil
}

func dialer(dataDir string) (func(context.Context) (net.Conn, error), token.Secret, error) {
	path, err := socketPath(dataDir)
	if err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
			return nil, fmt.Errorf("%w on %s (data_dir)", ErrNotRunning, dataDir)
		case errors.Is(err, os.ErrPermission):
			return nil, fmt.Errorf("you may not talk to the daemon on %s (data_dir); be root, or a member of the group of that folder", dataDir)
		}
		return conn, err
	}, "", nil
}
