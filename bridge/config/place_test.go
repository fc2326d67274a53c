package config

import (
	"errors"
	"path/filepath"
	"testing"
)

func TestDataDirAboveTheFile(t *testing.T) {
	root, err := filepath.Abs("/")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, dir string
		wrong     bool
	}{
		{"the root folder", root, true},
		{"the folder above the file's", "..", true},
		{"one far above it", filepath.Dir(filepath.Dir(t.TempDir())), true},
		{"the file's own, for a trial", ".", false},
		{"one beside the file", "data", false},
		{"one beside the file's folder", "../data", false},
		{"one whose name begins with dots", "..data", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(write(t, "[bridge]\ndata_dir = '"+tc.dir+"'\n"+minimal))
			var m *Mistakes
			errors.As(err, &m)
			if got := m != nil && len(m.List) == 1 && m.List[0].Key == "bridge.data_dir"; got != tc.wrong {
				t.Errorf("Load = %v; wrong is %v", err, tc.wrong)
			}
		})
	}
}
