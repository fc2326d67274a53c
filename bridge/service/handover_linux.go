package service

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// made are the names that Postern makes in data_dir, beside a log file.
var made = []string{"lock", "try-*", "queue.db", "queue.db-*", "queue.db.*", "vault", "vault.new", keyName, keyName + ".*",
	"contents", "spool", ".unfinished-backup-*", "last-start*", "control.sock"}

// keyName is the vault's key in data_dir.
const keyName = "vault.key"

// maxKey is more than a key file has, in bytes.
const maxKey = 4096

// Makes reports whether Postern makes that name in data_dir: nothing else there is given to the service.
func Makes(name string) bool { return matches(made, name) }

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := filepath.Match(p, name); ok {
			return true
		}
	}
	return false
}

// logNames are those of a log file and of what its rotation and the note of the last start put beside it.
func logNames(file string) []string {
	if file == "" {
		return nil
	}
	base := filepath.Base(file)
	ext := filepath.Ext(base)
	return []string{base, strings.TrimSuffix(base, ext) + "-*" + ext, "last-start*"}
}

// claim opens a folder that is to be given away, and no link that has taken its place.
func claim(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	opened, err := root.Stat(".")
	named, lErr := os.Lstat(path)
	if err := errors.Join(err, lErr); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if !os.SameFile(opened, named) {
		return nil, errors.Join(fmt.Errorf("%s is a link now, which it was not before", path), root.Close())
	}
	return root, nil
}

// handed says what became of a folder's contents.
type handed struct {
	given int      // root's, and the service's now
	alien int      // a third user's
	left  []string // that Postern did not make, and the service cannot own
}

// handOver gives what root made in a folder before there was a service (a sign-in, a first run) to the service's user: what
// has one of the names, and all below it. It follows no symbolic link out of the folder, and leaves hard links alone: whoever
// may write there must not get another file given to him.
func handOver(root *os.Root, names []string, uid, gid int) (h handed, err error) {
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if !strings.Contains(name, "/") && !matches(names, name) {
			if name != lostAndFound {
				h.left = append(h.left, name)
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return h.give(root, name, d.Type(), uid, gid)
	})
	return h, err
}

// lostAndFound is in the root folder of an ext4 file system.
const lostAndFound = "lost+found"

// give judges what it has opened, not what the name means at another moment.
func (h *handed) give(root *os.Root, name string, kind fs.FileMode, uid, gid int) error {
	if kind&^fs.ModeDir != 0 {
		return nil
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok || int(st.Uid) == uid || !fi.IsDir() && (!fi.Mode().IsRegular() || st.Nlink > 1):
		return nil
	case st.Uid != 0:
		h.alien++
		return nil
	}
	h.given++
	return f.Chown(uid, gid)
}

// moveKey makes the key that a vault in data_dir was sealed with the one that the unit hands to the service, where that has
// none yet: the service's user cannot take it along then. Whoever owns the folder may have put a link to another file there,
// which only root can read.
func moveKey(data *os.Root, to string, uid int, check func(text []byte) error) (moved bool, err error) {
	text, err := readKey(data, uid)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = check(text)
	}
	if err != nil {
		return false, fmt.Errorf("the vault's key, %s: %w", filepath.Join(data.Name(), keyName), err)
	}
	if err := writeNew(to, text); err != nil {
		return false, err
	}
	return true, data.Remove(keyName)
}

func readKey(data *os.Root, uid int) (text []byte, err error) {
	named, err := data.Lstat(keyName)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, errors.New("it is a link, or no file; put the file itself there")
	}
	f, err := data.OpenFile(keyName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !os.SameFile(named, fi) || st.Nlink != 1:
		return nil, errors.New("it has another name too; put a file of its own there")
	case st.Uid != 0 && int(st.Uid) != uid:
		return nil, fmt.Errorf("it belongs to user %d, neither root nor the service's", st.Uid)
	case fi.Size() > maxKey:
		return nil, fmt.Errorf("it has %d bytes, and is no key", fi.Size())
	}
	return io.ReadAll(io.LimitReader(f, maxKey))
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
