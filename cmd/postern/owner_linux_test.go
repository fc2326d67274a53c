package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ownersQueue is a stopped daemon on a data_dir that belongs to somebody else, with one message that is held.
func ownersQueue(t *testing.T) (file, id string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	const owner = 65534
	box := startSandbox(t)
	file = install(t, box, "graph")
	data := filepath.Join(filepath.Dir(file), "data")
	for _, err := range []error{os.Mkdir(data, 0o700), os.Chown(data, owner, owner), os.Chmod(file, 0o644), os.Chmod(filepath.Dir(file), 0o755),
		os.Chmod(filepath.Dir(box.CAFile()), 0o755), os.Chmod(box.CAFile(), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d := startDaemon(t, file)
	if err := d.send("exported"); err != nil {
		t.Fatal(err)
	}
	holdAll(t, file)
	id = rows(t, file)[0].ID
	d.terminate()
	return file, id
}

// leaves runs a command that fails, and holds what it says of the files that it could not remove and what these say.
func leaves(t *testing.T, want string, left []string, args ...string) {
	t.Helper()
	out, status := outcome(t, "", args...)
	if status != exitFailed || !strings.Contains(out, want) {
		t.Errorf("%s = %d; want %q\n%s", strings.Join(args, " "), status, want, out)
	}
	for _, name := range left {
		text, err := os.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(text), "postern: this ") || !strings.HasSuffix(string(text), "\n") || len(text) > 60 {
			t.Errorf("%s has %d octets, %v; want a line that says what it is not\n%.200s", name, len(text), err, text)
		}
		if !strings.Contains(out, name+" could not be removed again") {
			t.Errorf("%s does not name %s:\n%s", strings.Join(args, " "), name, out)
		}
	}
}

// TestFilesOfRootBesideAStoppedDaemon: root takes the identity of data_dir's owner, who may not remove a file that root made.
// What was not exported or copied is in none that looks as if it were, and the file is named.
func TestFilesOfRootBesideAStoppedDaemon(t *testing.T) {
	file, id := ownersQueue(t)
	const nobody = "00000000000000vv" // an ID that no message has
	dir := filepath.Dir(file)
	none, one := filepath.Join(dir, nobody+".eml"), filepath.Join(dir, id+".eml")
	leaves(t, "no such message", []string{none, one}, "queue", "export", nobody, id, "--to", dir, "--config", file)
	if err := errors.Join(os.Remove(none), os.Remove(one)); err != nil {
		t.Fatal(err)
	}
	if out, status := outcome(t, "", "queue", "export", id, "--to", dir, "--config", file); status != 0 {
		t.Fatal(out)
	}
	text, err := os.ReadFile(one)
	if err != nil || !strings.HasSuffix(string(text), "invoice\r\n") {
		t.Errorf("the exported file: %v\n%.300s", err, text)
	}

	text, err = os.ReadFile(file)
	if err = errors.Join(err, os.WriteFile(file, append(text, "[queue]\nmin_free_disk = \"1000000GB\"\n"...), 0o644)); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "copy.tar")
	leaves(t, "min_free_disk", []string{archive}, "backup", archive, "--config", file)
	open := filepath.Join(dir, "open") // where the owner may remove it no file is left
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	leaves(t, "min_free_disk", nil, "backup", filepath.Join(open, "copy.tar"), "--config", file)
	if left, err := os.ReadDir(open); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
