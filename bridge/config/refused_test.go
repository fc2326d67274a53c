package config

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// TestRefusedFile: a file that this user may not read is a mistake, which no restart mends; another fault is none.
func TestRefusedFile(t *testing.T) {
	var out report
	f := &file{name: "postern.toml", path: "/etc/postern/postern.toml", out: &out}
	if err := f.refused(&fs.PathError{Op: "open", Path: f.path, Err: fs.ErrPermission}); err != nil {
		t.Fatalf("refused = %v; want a mistake", err)
	}
	if len(out.mistakes) != 1 || !strings.Contains(out.mistakes[0].Text, "cannot be read by this user; use ") {
		t.Errorf("mistakes = %v", out.mistakes)
	}
	fault := errors.New("input/output error")
	if err := f.refused(fault); err != fault || len(out.mistakes) != 1 {
		t.Errorf("refused = %v, mistakes = %v; want the fault as it is", err, out.mistakes)
	}
}
