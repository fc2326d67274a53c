package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "postern")
	if Used(path) {
		t.Error("it is said to be used before it was made")
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if !Used(path) {
		t.Error("it is not said to be used")
	}
	if _, err := Open(path); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second Open = %v; want ErrInUse and the folder's name", err)
	}
	if err := d.TakeIdentity(); err != nil {
		t.Errorf("TakeIdentity of a folder of our own = %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(path); err != nil {
		t.Fatalf("Open after Close = %v", err)
	}
	defer d.Close()
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 || entries[0].Name() != lockName {
		t.Errorf("the folder has %v, %v; want the lock alone", entries, err)
	}
	if free, err := Free(path); err != nil || free <= 0 {
		t.Errorf("Free = %d, %v", free, err)
	}
	if _, err := Free(filepath.Join(path, "none")); err == nil {
		t.Error("a folder that is not there has room")
	}
}

func TestOpenClosesTheFolderToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("service install sets the folder's ACL")
	}
	for _, tc := range []struct {
		name       string
		mode, want os.FileMode
	}{
		{"open to everybody", 0o777, 0o750},
		{"the group may enter, for the control socket", 0o750, 0o750},
		{"the owner's alone", 0o700, 0o700},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := t.TempDir()
			if err := os.Chmod(path, tc.mode); err != nil {
				t.Fatal(err)
			}
			d, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != tc.want {
				t.Errorf("mode %v, %v; want %v", fi.Mode().Perm(), err, tc.want)
			}
		})
	}
}

func TestOpenSaysWhyNot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(filepath.Join(file, "postern"))
	if err == nil || !strings.HasPrefix(err.Error(), "data_dir "+file) || strings.Count(err.Error(), file) != 1 {
		t.Errorf("Open below a file = %v; want one that names the folder once", err)
	}
}

func TestMissingFolders(t *testing.T) {
	folder := t.TempDir()
	root := filepath.VolumeName(folder) + string(filepath.Separator)
	for _, tc := range []struct {
		name  string
		path  string
		there string // the only folder that is there
		want  []string
		fails string // part of the error, "" for none
	}{
		{"none where it is there", folder, folder, nil, ""},
		{"itself and those above it", filepath.Join(folder, "new", "postern"), folder, []string{filepath.Join(folder, "new", "postern"), filepath.Join(folder, "new")}, ""},
		{"on a drive that is not there nothing can be made", filepath.Join(root, "new", "postern"), "", nil, root + " is not there"},
		{"the drive itself neither", root, "", nil, root + " is not there"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			got, err := missingFolders(tc.path, func(path string) (fs.FileInfo, error) {
				if asked++; asked > 100 {
					t.Fatal("it never ends")
				}
				if path == tc.there {
					return os.Stat(folder)
				}
				return nil, fs.ErrNotExist
			})
			if !slices.Equal(got, tc.want) || (err != nil) != (tc.fails != "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("%q, %v; want %q, %q", got, err, tc.want, tc.fails)
			}
		})
	}
}

func TestOpenOnADriveThatIsNotThere(t *testing.T) {
	if runtime.GOOS != "windows" {
		t.Skip("only Windows has drives")
	}
	for letter := 'Z'; letter > 'C'; letter-- {
		drive := string(letter) + `:\`
		if _, err := os.Stat(drive); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		path := drive + "postern"
		if _, err := Open(path); err == nil || !strings.HasPrefix(err.Error(), "data_dir "+path) || !strings.Contains(err.Error(), drive+" is not there") || !strings.Contains(err.Error(), "name another") {
			t.Errorf("Open = %v; want an error that names the folder, the drive and the remedy", err)
		}
		return
	}
	t.Skip("every drive is there")
}
