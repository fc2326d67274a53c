package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPlacesThatAreRefused: nothing is done where the service could not use what it is told, or would get what is not Postern's.
func TestPlacesThatAreRefused(t *testing.T) {
	data := func(path string) Options { o := usual; o.DataDir = path; return o }
	log := func(path string) Options { o := usual; o.LogFile = path; return o }
	program := func(path string) Options { o := usual; o.Program = path; return o }
	config := func(path string) Options { o := usual; o.Config = path; return o }
	write := func(path string) func(root string) error {
		return func(root string) error {
			path := filepath.Join(root, path)
			return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644))
		}
	}
	link := func(to, name string) func(root string) error {
		return func(root string) error {
			name := filepath.Join(root, name)
			return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(filepath.Join(root, to), name))
		}
	}
	for _, tc := range []struct {
		name    string
		o       Options
		prepare func(root string) error
		says    string
	}{
		{"the root folder", data("/"), nil, "is the system's"},
		{"a folder of everybody's", data("/var/lib"), nil, "is the system's"},
		{"the system's configuration", data("/etc"), nil, "is the system's"},
		{"the configuration's folder", data("/etc/postern"), nil, "is the system's"},
		{"a folder of programs", data("/usr/local/bin/postern.d"), nil, "is the system's"},
		{"the configuration in data_dir", Options{Program: "/usr/bin/postern", Config: "/srv/postern/etc/p.toml", DataDir: "/srv/postern"}, nil, "has the configuration in it"},
		{"the program in data_dir", Options{Program: "/opt/postern/postern", Config: "/etc/postern/postern.toml", DataDir: "/opt/postern"}, nil, "has the program in it"},
		{"a link to a folder of the system's", data("/srv/postern"), link("/etc/postern", "/srv/postern"), "is the system's"},
		{"a link above it", data("/srv/link/postern"), link("/etc", "/srv/link"), "is the system's"},
		{"somebody else's folder", data("/srv/shop"), write("/srv/shop/orders.db"), "/srv/shop has what is not Postern's (orders.db)"},
		{"somebody else's folder with a name of ours", data("/srv/shop"), func(root string) error {
			return errors.Join(write("/srv/shop/lock")(root), write("/srv/shop/orders.db")(root))
		}, "what is not Postern's (orders.db)"},
		{"data_dir where the unit has a /tmp of its own", data("/tmp/postern"), nil, "PrivateTmp"},
		{"data_dir in the other one", data("/var/tmp/postern"), nil, "PrivateTmp"},
		{"data_dir of root's", data("/root/postern"), nil, "ProtectHome"},
		{"data_dir that is emptied at the start", data("/run/user/1000/postern"), nil, "emptied when the machine starts"},
		{"data_dir by a link to a home", data("/srv/postern"), func(root string) error {
			return errors.Join(write("/home/me/x")(root), link("/home/me", "/srv/postern")(root))
		}, "ProtectHome"},
		{"a link that leads nowhere", data("/srv/postern"), link("/none", "/srv/postern"), "/srv/postern is a link that leads nowhere"},
		{"a program of root's", program("/root/postern"), nil, "the program, /root/postern, lies in /root"},
		{"a program in a home", program("/home/me/postern"), nil, "the program, /home/me/postern, lies in /home"},
		{"a program in /tmp", program("/tmp/postern"), nil, "the program, /tmp/postern, lies in /tmp"},
		{"a configuration of root's", config("/root/postern.toml"), nil, "the configuration, /root/postern.toml, lies in /root"},
		{"a configuration by a link to a home", config("/etc/postern/linked.toml"), func(root string) error {
			return errors.Join(write("/home/me/postern.toml")(root), link("/home/me/postern.toml", "/etc/postern/linked.toml")(root))
		}, "lies in /home"},
		{"a log of root's", log("/root/log/postern.log"), nil, "the folder of the log, /root/log, lies in /root"},
		{"a log in /tmp", log("/tmp/postern.log"), nil, "the folder of the log, /tmp, lies in /tmp"},
		{"a log in a folder of everybody's", log("/var/log/postern.log"), nil, "such as /var/log/postern"},
		{"a log among somebody else's", log("/var/log/shop/postern.log"), write("/var/log/shop/shop.log"), "what is not Postern's (shop.log)"},
		{"a log beside the configuration", Options{Program: "/usr/bin/postern", Config: "/srv/p/p.toml", DataDir: "/var/lib/postern", LogFile: "/srv/p/p.log"}, nil, "has the configuration in it"},
		{"a blank in the log's path", log("/var/log/my mail/p.log"), nil, "cannot stand in a unit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, calls := newSystem(t)
			if tc.prepare != nil {
				if err := tc.prepare(s.root); err != nil {
					t.Fatal(err)
				}
			}
			before := modes(t, s.root)
			if _, err := s.install(tc.o); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("install = %v; want %q", err, tc.says)
			}
			if after := modes(t, s.root); len(*calls) > 0 || after != before {
				t.Errorf("something was done: %q\n%s\nbefore\n%s", *calls, after, before)
			}
		})
	}
}

// modes lists what is below a folder, with modes and owners.
func modes(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(fi.Mode().String() + " " + strings.TrimPrefix(path, root) + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPlacesThatAreGiven: what the service needs is its own afterwards, and it can get there.
func TestPlacesThatAreGiven(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const uid, gid = 65534, 65533
	s, _ := newSystem(t)
	s.lookup = func(string) (int, int, error) { return uid, gid, nil }
	at := func(path string) string { return filepath.Join(s.root, path) }
	o := usual
	o.DataDir, o.LogFile = "/srv/mail/postern", "/var/log/postern/postern.log"
	err := errors.Join(os.MkdirAll(at("/data/postern/lost+found"), 0o700), os.MkdirAll(at("/srv/mail"), 0o750), os.Symlink(at("/data/postern"), at(o.DataDir)),
		os.MkdirAll(at("/var/log/postern"), 0o755), os.WriteFile(at(o.LogFile), nil, 0o600), os.WriteFile(at("/var/log/postern/postern-2025-11-20.log"), nil, 0o600),
		os.WriteFile(at("/data/postern/vault"), nil, 0o600), os.WriteFile(at("/data/postern/bridge.pem"), nil, 0o600),
		os.WriteFile(at("/data/postern/queue.db"), nil, 0o600), os.Chown(at("/data/postern/queue.db"), 1000, 1000), os.Chmod(at("/data"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.install(o)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]uint32{"/data/postern": uid, "/data/postern/vault": uid, "/data/postern/bridge.pem": 0, "/data/postern/lost+found": 0,
		"/data/postern/queue.db": 1000, "/var/log/postern": uid, "/var/log/postern/postern.log": uid, "/var/log/postern/postern-2025-11-20.log": uid,
		"/data": 0, "/var/log": 0} {
		fi, err := os.Lstat(at(path))
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%s belongs to user %d; want %d", path, got, want)
		}
	}
	for _, want := range []string{
		"1 files and folders in /data/postern belong to another user, and the service cannot work with them; run: chown -hR postern:postern /data/postern",
		"bridge.pem in /data/postern was not made by Postern",
		"the user postern cannot enter /data, above /data/postern; run: chmod a+x /data",
	} {
		if !strings.Contains(strings.Join(r.Warnings, "\n"), want) {
			t.Errorf("no warning %q in\n%s", want, strings.Join(r.Warnings, "\n"))
		}
	}
	unit, _ := os.ReadFile(at(ownUnit))
	if !strings.Contains(string(unit), "ReadWritePaths=/data/postern\n") || !strings.Contains(string(unit), "ReadWritePaths=/var/log/postern\n") {
		t.Errorf("the unit lets it write elsewhere:\n%s", unit)
	}
}

// TestLogFolderIsMade: in data_dir and outside of it, with folders above that the service can enter.
func TestLogFolderIsMade(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const uid, gid = 65534, 65533
	for _, file := range []string{"/srv/logs/postern/p.log", "/var/lib/postern/logs/mail/p.log"} {
		s, _ := newSystem(t)
		s.lookup = func(string) (int, int, error) { return uid, gid, nil }
		o := usual
		o.LogFile = file
		r, err := s.install(o)
		if err != nil || len(r.Warnings) > 0 {
			t.Fatalf("%s: %v, warnings %q", file, err, r.Warnings)
		}
		fi, err := os.Stat(filepath.Dir(filepath.Join(s.root, file)))
		if err != nil || fi.Sys().(*syscall.Stat_t).Uid != uid || fi.Mode().Perm() != 0o700 {
			t.Errorf("the folder of %s: %v, %v; want mode 0700 and the service's user", file, fi, err)
		}
	}
}
