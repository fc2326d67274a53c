package vault

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

var errStopped = errors.New("the process is dead")

// dyingDisk works like the real one for a number of steps; the step after them fails, and if it is dead, every later one
// too, as if the process had been killed there.
type dyingDisk struct {
	osDisk
	left int
	fail error
	dead bool
}

func (d *dyingDisk) step() error {
	d.left--
	if d.left == -1 || d.left < -1 && d.dead {
		return d.fail
	}
	return nil
}

func (d *dyingDisk) create(path string) (syncFile, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	f, err := d.osDisk.create(path)
	return &dyingFile{f, d}, err
}

func (d *dyingDisk) rename(old, new string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.osDisk.rename(old, new)
}

func (d *dyingDisk) remove(path string) error {
	if d.left < 0 && d.dead {
		return d.fail
	}
	return d.osDisk.remove(path) // not counted: at the start it usually finds nothing
}

func (d *dyingDisk) syncDir(dir string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.osDisk.syncDir(dir)
}

type dyingFile struct {
	syncFile
	d *dyingDisk
}

func (f *dyingFile) Write(p []byte) (int, error) {
	if err := f.d.step(); err != nil {
		n, _ := f.syncFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.syncFile.Write(p)
}

func (f *dyingFile) Sync() error {
	if err := f.d.step(); err != nil {
		return err
	}
	return f.syncFile.Sync()
}

// steps of one Swap: create, write, sync, rename, sync of the folder.
const steps = 5

func TestStoppedAnywhereTheFileIsOldOrNew(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail error
		dead bool
	}{
		{"killed", errStopped, true},
		{"the disk is full", syscall.ENOSPC, false},
	} {
		for n := range steps {
			t.Run(fmt.Sprintf("%s after step %d", tc.name, n), func(t *testing.T) {
				dir := t.TempDir()
				rev := mustSwap(t, mustOpen(t, dir), "token", 0, "old")
				d := &dyingDisk{left: n, fail: tc.fail, dead: tc.dead}
				v, err := open(dir, options(), d)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.Swap("token", rev, []byte("new")); !errors.Is(err, tc.fail) {
					t.Fatalf("Swap = %v; want %v", err, tc.fail)
				}
				wantValue(t, v, "token", "old")

				want := "old"
				if n == steps-1 {
					want = "new" // renamed; only the folder was not synced
				}
				wantValue(t, mustOpen(t, dir), "token", want)
				if tc.dead {
					return
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				mustSwap(t, v, "token", rev, "newer") // the disk has room again
				wantValue(t, mustOpen(t, dir), "token", "newer")
			})
		}
	}
}

func TestLeftoverOfACrashIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName+".new"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustSwap(t, mustOpen(t, dir), "token", 0, "value")
	wantValue(t, mustOpen(t, dir), "token", "value")
}

func TestKilledWhileTheKeyIsMade(t *testing.T) {
	for n := range steps {
		dir := t.TempDir()
		if _, err := open(dir, options(), &dyingDisk{left: n, fail: errStopped, dead: true}); !errors.Is(err, errStopped) {
			t.Fatalf("open killed after step %d = %v; want the kill", n, err)
		}
		mustSwap(t, mustOpen(t, dir), "token", 0, "value")
		wantValue(t, mustOpen(t, dir), "token", "value")
	}
}

func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits mean nothing on Windows")
	}
	prepare := func(t *testing.T) string {
		dir := t.TempDir()
		mustSwap(t, mustOpen(t, dir), "token", 0, "value")
		return dir
	}
	t.Run("both files are for their owner alone", func(t *testing.T) {
		dir := prepare(t)
		for _, name := range []string{fileName, keyName} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v; want 0600", name, info.Mode(), err)
			}
		}
	})
	for _, name := range []string{fileName, keyName} {
		for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
			t.Run(fmt.Sprintf("%s with mode %o stops with a remedy", name, mode), func(t *testing.T) {
				dir := prepare(t)
				path := filepath.Join(dir, name)
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
				if _, err := Open(dir, options()); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
					t.Errorf("Open = %v; want the remedy", err)
				}
			})
		}
		t.Run(name+" as a symbolic link is refused", func(t *testing.T) {
			dir := prepare(t)
			path := filepath.Join(dir, name)
			if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, options()); err == nil || !strings.Contains(err.Error(), "symbolic link") {
				t.Errorf("Open = %v; want a refusal", err)
			}
		})
		t.Run(name+" as a folder is refused", func(t *testing.T) {
			dir := prepare(t)
			path := filepath.Join(dir, name)
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, options()); err == nil {
				t.Error("Open took a folder")
			}
		})
	}
	t.Run("a link in the place of the new file is not followed", func(t *testing.T) {
		dir := prepare(t)
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		if err := errors.Join(os.WriteFile(elsewhere, []byte("mine"), 0o600), os.Symlink(elsewhere, filepath.Join(dir, fileName+".new"))); err != nil {
			t.Fatal(err)
		}
		v := mustOpen(t, dir)
		mustSwap(t, v, "other", 0, "value")
		if got, err := os.ReadFile(elsewhere); err != nil || !bytes.Equal(got, []byte("mine")) {
			t.Errorf("the link's target was written: %q, %v", got, err)
		}
	})
	t.Run("a credential may be group-readable, as systemd's ACL makes it look", func(t *testing.T) {
		dir, credentials := t.TempDir(), t.TempDir()
		path := filepath.Join(credentials, keyName)
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, keyBytes), 0o440); err != nil {
			t.Fatal(err)
		}
		o := options()
		o.Getenv = func(string) string { return credentials }
		if _, err := Open(dir, o); err != nil {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("ReadKey refuses what others can read", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), keyName)
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, keyBytes), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(path); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("ReadKey = %v; want ErrKey with the remedy", err)
		}
	})
}
