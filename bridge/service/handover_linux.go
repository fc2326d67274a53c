package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// handOver gives what root made in data_dir before there was a service (a sign-in, a first run) to the service's user. It
// follows no symbolic link out of the folder, and leaves hard links alone: whoever may write there must not get another
// file given to him.
func handOver(data string, uid, gid int) (given int, err error) {
	root, err := os.OpenRoot(data)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || st.Uid != 0 || int(st.Uid) == uid || !fi.IsDir() && (!fi.Mode().IsRegular() || st.Nlink > 1) {
			return nil
		}
		given++
		return root.Lchown(name, uid, gid)
	})
	return given, err
}

// moveKey makes the key that a vault in data_dir was sealed with the one that the unit hands to the service, where that has
// none yet: the service's user cannot take it along then.
func moveKey(from, to string) (moved bool, err error) {
	key, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the vault's key: %w", err)
	}
	if err := writeNew(to, key); err != nil {
		return false, err
	}
	return true, os.Remove(from)
}

// writeNew makes a file that root alone can read, on the disk with its name, or leaves none.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
