// Package contents keeps what scenarios put into messages, footers and files to attach, each by the hash of its content:
// a plan that was made before the administrator changed a file still gives the same bytes. It must not know what the
// content is, or mail. The hall puts in what the configuration names and sweeps out what no plan needs; relay reads. A
// content that is written is durable before Put returns; one that is gone is an error with its hash.
package contents

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Store is a folder of contents. Safe for concurrent use, by one process.
type Store struct{ dir string }

// Open makes the folder where it is not there, for its owner alone.
func Open(dir string) (*Store, error) {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("contents of scenarios: %w", err)
	}
	return &Store{dir}, nil
}

// unfinished begins the names of files that are being written.
const unfinished = "new-"

// Put keeps what r yields until io.EOF and returns its hash, SHA-256 in lower-case hexadecimal, and its size in octets.
func (s *Store) Put(r io.Reader) (hash string, size int64, err error) {
	path := filepath.Join(s.dir, unfinished+rand.Text())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, fmt.Errorf("keep content: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(path) // where it still has that name
			err = fmt.Errorf("keep content: %w", err)
		}
	}()
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, err
	}
	hash = hex.EncodeToString(sum.Sum(nil))
	if err = os.Rename(path, filepath.Join(s.dir, hash)); err != nil {
		return "", 0, err
	}
	return hash, size, syncDir(s.dir)
}

// syncDir makes new names in dir durable. Windows has no such call, and NTFS keeps its names in a journal.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open returns a content; the caller closes it.
func (s *Store) Open(hash string) (io.ReadCloser, error) {
	if !isHash(hash) {
		return nil, fmt.Errorf("%.80q is no content", hash)
	}
	f, err := os.Open(filepath.Join(s.dir, hash))
	if err != nil {
		return nil, fmt.Errorf("content %s: %w", hash, err)
	}
	return f, nil
}

func isHash(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*sha256.Size && strings.ToLower(s) == s
}

// Sweep removes the contents that needed does not hold, and what a process that is gone left unfinished. needed is asked
// for once, and only where something could be removed: to know it may mean to read the whole queue. No Put may run
// meanwhile.
func (s *Store) Sweep(current map[string]bool, needed func() (map[string]bool, error)) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("contents of scenarios: %w", err)
	}
	var old []string
	var errs []error
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, unfinished):
			errs = append(errs, os.Remove(filepath.Join(s.dir, name)))
		case isHash(name) && !current[name]:
			old = append(old, name)
		}
	}
	if len(old) > 0 {
		keep, err := needed()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, name := range old {
			if keep[name] {
				continue
			}
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Hash returns what Put would return, and keeps nothing.
func Hash(r io.Reader) (hash string, size int64, err error) {
	sum := sha256.New()
	size, err = io.Copy(sum, r)
	return hex.EncodeToString(sum.Sum(nil)), size, err
}
