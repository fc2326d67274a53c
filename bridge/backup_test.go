package bridge

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern/bridge/config"
)

func TestFolderOutsideOfDataDir(t *testing.T) {
	data := filepath.FromSlash("/var/lib/postern")
	for _, tc := range []struct{ name, to, file, cache, want string }{
		{"a log file elsewhere", "file", "/var/log/postern/postern.log", "", "/var/log/postern"},
		{"a log file in data_dir is no such place", "file", "/var/lib/postern/postern.log", "", ""},
		{"the unit's cache", "stderr", "/var/lib/postern/postern.log", "/var/cache/postern", "/var/cache/postern"},
		{"the first of several caches", "auto", "/var/lib/postern/postern.log", "/var/cache/a:/var/cache/b", "/var/cache/a"},
		{"a log file that is not written", "stderr", "/var/log/postern/postern.log", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("CACHE_DIRECTORY", tc.cache)
			var cfg config.Config
			cfg.Bridge.DataDir, cfg.Log.To, cfg.Log.File = data, tc.to, filepath.FromSlash(tc.file)
			if got := elsewhere(&cfg); got != filepath.FromSlash(tc.want) {
				t.Errorf("elsewhere = %q; want %q", got, tc.want)
			}
			visited := tc.want
			if visited == "" && runtime.GOOS != "windows" {
				visited = "/var/cache/postern"
			}
			if got := visitedPlace(&cfg, nil, nil).Elsewhere; got != filepath.FromSlash(visited) {
				t.Errorf("a command looks into %q; want %q", got, visited)
			}
		})
	}
}

// TestBackupLeavesRoom: a backup does not take what min_free_disk keeps for mail.
func TestBackupLeavesRoom(t *testing.T) {
	w := newWorld(t, worldOptions{})
	var to bytes.Buffer
	if err := w.b.admin.Load().Backup(t.Context(), &to); err != nil || to.Len() == 0 {
		t.Fatalf("Backup = %v, %d octets", err, to.Len())
	}
	w.rewrite(w.text() + "\n[queue]\nmin_free_disk = \"1000000GB\"\n")
	w.stop()
	w.start()
	to.Reset()
	if err := w.b.admin.Load().Backup(t.Context(), &to); err == nil || !strings.Contains(err.Error(), "min_free_disk") || to.Len() != 0 {
		t.Errorf("Backup on a disk with less free than must be = %v, %d octets; want it refused", err, to.Len())
	}
}
