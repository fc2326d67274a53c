// Package datadir opens the folder that keeps queue, tokens and secrets: it makes it, closes it to others, proves that it can
// be written, locks it for this process, and takes on its owner's identity. It knows the systems' locks and rights and must
// not know what lies there. The hall calls it before it opens anything else. A folder that cannot be used is an error with
// the remedy, ErrInUse where another process has it.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrInUse says that another process holds data_dir.
var ErrInUse = errors.New("another postern runs on it")

// lockName is the file in data_dir that whoever works there holds locked.
const lockName = "lock"

// Dir is the folder, locked for this process.
type Dir struct {
	path string
	lock *os.File
}

// Open makes the folder where it is missing (0700), proves that it can be written, and locks it. The lock ends
// with the process, however that ends.
func Open(path string) (*Dir, error) {
	if err := makeFolder(path); err != nil {
		return nil, fmt.Errorf("data_dir %s cannot be made: %w; make it for the user that postern runs as, or name another", path, reason(err))
	}
	lock, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		if errors.Is(err, ErrInUse) {
			return nil, fmt.Errorf("data_dir %s is in use: %w; try again in a moment where that is the service which just starts or stops, else stop it, or give this one a data_dir of its own", path, err)
		}
		return nil, fmt.Errorf("lock data_dir %s: %w", path, err)
	}
	if err := narrow(path); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data_dir %s is open to other users and cannot be closed: %w; run: chmod 700 %[1]s", path, reason(err))
	}
	// On a full disk there is work to do all the same: the mail that goes makes room.
	if err := tryWrite(path); err != nil && !Full(err) {
		lock.Close()
		return nil, notWritable(path, err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// makeFolder makes the folder where it is missing, and those above it. Their names are durable: else a power cut could take
// all that has been synced within.
func makeFolder(path string) error {
	missing, err := missingFolders(path, os.Stat)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, made := range missing {
		if err := SyncFolder(filepath.Dir(made)); err != nil {
			return err
		}
	}
	return nil
}

// missingFolders lists the folder, where it is missing, and those above it that are. A drive that is missing nobody can make.
func missingFolders(path string, stat func(string) (fs.FileInfo, error)) (list []string, err error) {
	for at := path; ; at = filepath.Dir(at) {
		if _, err := stat(at); !errors.Is(err, fs.ErrNotExist) {
			return list, nil
		}
		if filepath.Dir(at) == at {
			return nil, fmt.Errorf("%s is not there, or only other users see it, as a drive that one of them has mapped", at)
		}
		list = append(list, at)
	}
}

// Used reports whether somebody has opened the folder before.
func Used(path string) bool {
	_, err := os.Stat(filepath.Join(path, lockName))
	return !errors.Is(err, fs.ErrNotExist)
}

func notWritable(path string, err error) error {
	remedy := "it must belong to the user that postern runs as"
	switch {
	case readOnly(err):
		remedy = "mount it writable, or look into the kernel's messages for why it is not"
	case Full(err):
		remedy = "make room on its disk"
	}
	return fmt.Errorf("data_dir %s cannot be written: %w; %s", path, reason(err), remedy)
}

// tryWrite makes and removes a file: a read-only file system lets an existing lock file be opened by root.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, "try-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("postern")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// TakeIdentity gives up root for the folder's owner: what a command line of root's makes on a stopped daemon's folder
// must be the daemon's own. Ports below 1024 are bound before.
func (d *Dir) TakeIdentity() error { return becomeOwner(d.path) }

// Close gives the folder free.
func (d *Dir) Close() error { return d.lock.Close() }

// reason takes the path off an error that names it already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
