package bridge

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// backupFolder begins the name of the folder in data_dir where the copy of the store is made.
const backupFolder = "backup-"

// Backup implements control.Queue: a tar archive of the store as it is at one moment, the vault, the vault's key where it
// lies in data_dir, and the contents that plans name. It takes as much room in data_dir meanwhile as the store has mail.
// The copy knows that it is one: a start on it holds everything.
func (a *mailAdmin) Backup(ctx context.Context, to io.Writer) (err error) {
	dataDir := a.cfg().Bridge.DataDir
	_, store, err := a.open(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(dataDir, backupFolder)
	if err != nil {
		return fmt.Errorf("make room for the copy: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	copied := filepath.Join(dir, "queue.db")
	mark, err := json.Marshal(origin{Backup: true})
	if err != nil {
		return err
	}
	if err := store.Backup(ctx, copied, map[string]string{originKey: string(mark)}); err != nil {
		return fmt.Errorf("copy the store: %w", err)
	}
	w := tar.NewWriter(to)
	if err := addFile(w, copied, "queue.db"); err != nil {
		return err
	}
	if err := a.addVault(w); err != nil {
		return err
	}
	if err := addFolder(w, dataDir, filepath.Base(contentsDir(a.cfg()))); err != nil {
		return err
	}
	return w.Close()
}

// addVault adds the vault, and its key where it lies in data_dir.
func (a *mailAdmin) addVault(w *tar.Writer) error {
	names := []string{"vault", "vault.key"}
	if a.sealed == nil {
		for _, name := range names {
			if err := addFile(w, filepath.Join(a.cfg().Bridge.DataDir, name), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	files, err := a.sealed()
	if err != nil {
		return err
	}
	for _, name := range names {
		b, ok := files[name]
		if !ok {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(b)), ModTime: time.Now().Truncate(time.Second)}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// addFolder adds the files of a folder, which may not be there.
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

// addFile adds one file, readable by its owner alone.
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
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: fi.Size(), ModTime: fi.ModTime().Truncate(time.Second)}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// removeBackups deletes what a process that died in the midst of a backup left.
func removeBackups(dataDir string) error {
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() || !strings.HasPrefix(e.Name(), backupFolder) })
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dataDir, e.Name())))
	}
	return errors.Join(errs...)
}

// replaceFile writes a small file of data_dir so that after a power cut it is the old one or the new one.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil || runtime.GOOS == "windows" {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // the file is in its place; the folder's name for it will be synced with the next
	}
	defer folder.Close()
	return folder.Sync()
}
