// Package backup writes a copy of what data_dir keeps as one tar archive: the store as it is at one moment, the vault, the
// vault's key where it lies in data_dir, and the contents that plans name. The archive lies as data_dir does, so that it is
// put back by unpacking it into an empty one. It must not know what the store or the vault holds. The hall calls it with a
// store and says how the copy is marked. A failure is an error, and what was written until then is no archive.
package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// folder begins the name of the folder in data_dir where the copy of the store is made. Sweep deletes by it, so it is none
// that a person gives to a folder of his own.
const folder = ".unfinished-backup-"

// vaultFiles are the vault and its key, which may lie elsewhere.
var vaultFiles = []string{"vault", "vault.key"}

// Store is the queue's.
type Store interface {
	// Backup writes a consistent copy into a new file, with these notes.
	Backup(ctx context.Context, path string, notes map[string]string) error
}

// Options say what is copied.
type Options struct {
	DataDir   string
	Store     Store
	StoreFile string            // its name in data_dir
	StoreLog  string            // the name of its write-ahead log there
	Notes     map[string]string // by which a start on the copy knows that it is one
	Contents  string            // name of the folder in data_dir; it may not be there
	// Sealed returns the vault's files as they belong together; nil where the lock of data_dir keeps them so.
	Sealed func() (map[string][]byte, error)

	Free  func() (int64, error) // octets free on the disk of data_dir; nil: nobody knows
	Least int64                 // octets of it that must stay free
}

// Write writes the archive. It takes as much room in data_dir meanwhile as the store has mail, and is refused where that
// would leave too little: a disk that is full takes no mail.
func Write(ctx context.Context, to io.Writer, o Options) (err error) {
	if err := o.enough(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.DataDir, folder)
	if err != nil {
		return fmt.Errorf("make room for the copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, o.StoreFile)
	if err := o.Store.Backup(ctx, copied, o.Notes); err != nil {
		return fmt.Errorf("copy the store: %w", err)
	}
	w := tar.NewWriter(to)
	// An empty log, and first: one that a crash left where the archive is unpacked would be read into the copy.
	if err := w.WriteHeader(header(o.StoreLog, 0, time.Now())); err != nil {
		return err
	}
	if err := addFile(w, copied, o.StoreFile); err != nil {
		return err
	}
	if err := addVault(w, o); err != nil {
		return err
	}
	if err := addFolder(w, o.DataDir, o.Contents); err != nil {
		return err
	}
	return w.Close()
}

// enough returns an error where the copy of the store would leave too little of the disk.
func (o Options) enough() error {
	if o.Free == nil {
		return nil
	}
	fi, err := os.Stat(filepath.Join(o.DataDir, o.StoreFile))
	if err != nil {
		return nil // the store itself will say what it cannot read
	}
	free, err := o.Free()
	if err != nil {
		return nil // and what it cannot write
	}
	if free-fi.Size() < o.Least {
		return fmt.Errorf("too little room for the copy of the store: it takes about %d bytes, %d are free on the disk of data_dir, and %d must stay so (min_free_disk)",
			fi.Size(), free, o.Least)
	}
	return nil
}

// addVault adds the vault, and its key where it lies in data_dir.
func addVault(w *tar.Writer, o Options) error {
	if o.Sealed == nil {
		for _, name := range vaultFiles {
			if err := addFile(w, filepath.Join(o.DataDir, name), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	files, err := o.Sealed()
	if err != nil {
		return err
	}
	for _, name := range vaultFiles {
		b, ok := files[name]
		if !ok {
			continue
		}
		if err := w.WriteHeader(header(name, int64(len(b)), time.Now())); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// addFolder adds the files of a folder.
func addFolder(w *tar.Writer, dataDir, name string) error {
	entries, err := os.ReadDir(filepath.Join(dataDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		// One that nobody needs any more may go meanwhile.
		if err := addFile(w, filepath.Join(dataDir, name, e.Name()), name+"/"+e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func addFile(w *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(header(name, fi.Size(), fi.ModTime())); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// header is that of a file which its owner alone may read.
func header(name string, size int64, at time.Time) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: at.Truncate(time.Second)}
}

// Sweep deletes what a process that died in the midst of a backup left in data_dir. The caller holds its lock.
func Sweep(dataDir string) error {
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() || !strings.HasPrefix(e.Name(), folder) })
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dataDir, e.Name())))
	}
	return errors.Join(errs...)
}
