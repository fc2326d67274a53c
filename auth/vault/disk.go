package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is the system calls that replace a file, apart so that a test can stop the process or fill the disk between any
// two of them.
type disk interface {
	create(path string) (syncFile, error) // new, for this user alone, never through a link
	rename(old, new string) error         // replaces new in one step
	remove(path string) error
	syncDir(dir string) error
}

type syncFile interface {
	io.WriteCloser
	Sync() error
}

// replaceFile makes path hold data, or leaves it as it was: whenever the machine stops, path is the whole old file or
// the whole new one.
func replaceFile(d disk, path string, data []byte) error {
	fresh := path + ".new"
	// What a crash left behind. The lock of data_dir keeps others away, and create refuses what is still there.
	if err := d.remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(d, fresh, data); err != nil {
		d.remove(fresh)
		return err
	}
	if err := d.rename(fresh, path); err != nil {
		d.remove(fresh)
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

func writeFile(d disk, path string, data []byte) error {
	f, err := d.create(path)
	if err != nil {
		return err
	}
	n, err := f.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// osDisk is the real one; rename and syncDir differ by platform.
type osDisk struct{}

func (osDisk) create(path string) (syncFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func (osDisk) remove(path string) error { return os.Remove(path) }

// trust says what readPrivate demands of a file.
type trust int

const (
	ownFile    trust = iota // no link, ours or root's, mode 0600 or less
	credential              // made by the service manager or a container's secret store, which answers for it
)

// readPrivate reads a small file that only its owner may read. A file that is not what trust demands is an error with a
// remedy; a missing one is fs.ErrNotExist, an unreadable one fs.ErrPermission.
func readPrivate(path string, t trust, limit int64) ([]byte, error) {
	f, err := openPrivate(path, t)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
