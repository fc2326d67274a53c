//go:build !windows

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	l, err := listen(path)
	return l, "", err
}

func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// ListenGroup opens a second control socket, in the folder that systemd made for the service ($RUNTIME_DIRECTORY): its group
// cannot enter dataDir. A link beside it says whose it is.
func ListenGroup(dataDir, folder string) (net.Listener, error) {
	link := filepath.Join(folder, ownerLink)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Symlink(dataDir, link); err != nil {
		return nil, err
	}
	path, err := socketPath(folder)
	if err != nil {
		return nil, err
	}
	return listen(path)
}

// ownerLink leads to the data_dir of the daemon that listens beside it.
const ownerLink = "data_dir"

// RuntimeFolder is where the second socket is: what systemd tells the service, else where the unit has it (systemd.exec(5)).
func RuntimeFolder() (folder string, told bool) {
	if folder, _, _ = strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); folder != "" {
		return folder, true
	}
	return "/run/postern", false
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
			return dialGroup(ctx, dataDir)
		}
		return conn, err
	}, "", nil
}

// dialGroup reaches the daemon by the socket of its group.
func dialGroup(ctx context.Context, dataDir string) (net.Conn, error) {
	folder, _ := RuntimeFolder()
	path, err := groupSocket(dataDir, folder)
	var conn net.Conn
	if err == nil {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("the daemon on %s (data_dir) does not run, or has no socket in %s that its group may use; as root: postern service status", dataDir, folder)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("you may not talk to the daemon on %s (data_dir); be root, or a member of the group postern: usermod -aG postern USER, then log in again", dataDir)
	}
	return conn, err
}

// groupSocket returns the path of the socket that the daemon on dataDir has in folder: fs.ErrNotExist where that is another
// daemon's, or made by somebody who could not work in dataDir.
func groupSocket(dataDir, folder string) (string, error) {
	path, err := socketPath(folder)
	if err != nil {
		return "", err
	}
	socket, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	data, err := os.Stat(dataDir)
	if err != nil {
		return "", err
	}
	told, err := os.Stat(filepath.Join(folder, ownerLink))
	if err != nil {
		return "", err
	}
	maker, ok := socket.Sys().(*syscall.Stat_t)
	owner, known := data.Sys().(*syscall.Stat_t)
	if !ok || !known || socket.Mode().Type() != os.ModeSocket || maker.Uid != 0 && maker.Uid != owner.Uid || !os.SameFile(data, told) {
		return "", fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
	return path, nil
}
