package service

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/packaging"
)

// newSystem is a Linux of ours below a folder; calls notes what it was told to run.
func newSystem(t *testing.T) (s system, calls *[]string) {
	t.Helper()
	calls = &[]string{}
	known := false
	s = system{root: t.TempDir(),
		run: func(name string, args ...string) error {
			*calls = append(*calls, strings.Join(append([]string{name}, args...), " "))
			known = known || name == "useradd"
			return nil
		},
		booted: func() error { return nil },
		lookup: func(string) (int, int, error) {
			if !known {
				return 0, 0, errors.New("unknown user")
			}
			return os.Getuid(), os.Getgid(), nil
		}}
	conf := filepath.Join(s.root, "/etc/postern")
	if err := errors.Join(os.MkdirAll(conf, 0o755), os.WriteFile(filepath.Join(conf, "postern.toml"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	return s, calls
}

var usual = Options{Program: "/usr/local/bin/postern", Config: "/etc/postern/postern.toml", DataDir: "/var/lib/postern",
	CheckKey: func(text []byte) error {
		if string(text) != "the key" {
			return errors.New("not a key")
		}
		return nil
	}}

func TestInstall(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give the configuration to a group")
	}
	s, calls := newSystem(t)
	if _, err := s.install(usual); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"/var/lib/postern": 0o700, "/etc/postern": 0o750, "/etc/postern/postern.toml": 0o640,
		"/etc/postern/vault.key": 0o600, ownUnit: 0o644} {
		fi, err := os.Stat(filepath.Join(s.root, path))
		if err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", path, fi, err, mode)
		}
	}
	unit, _ := os.ReadFile(filepath.Join(s.root, ownUnit))
	if !strings.Contains(string(unit), "ExecStart=/usr/local/bin/postern run --config /etc/postern/postern.toml\n") {
		t.Errorf("the unit starts another program:\n%s", unit)
	}
	for _, want := range []string{"systemctl daemon-reload", "systemctl enable postern.service", "systemctl try-restart postern.service"} {
		if !slices.Contains(*calls, want) {
			t.Errorf("%q was not run: %q", want, *calls)
		}
	}
	if slices.ContainsFunc(*calls, func(c string) bool { return strings.Contains(c, " start ") || strings.Contains(c, "--now") }) {
		t.Errorf("an installation starts nothing: %q", *calls)
	}

	// Over an existing one: the key stays, the unit follows.
	key, _ := os.ReadFile(filepath.Join(s.root, "/etc/postern/vault.key"))
	other := usual
	other.Program, *calls = "/opt/postern/postern", nil
	if _, err := s.install(other); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(filepath.Join(s.root, "/etc/postern/vault.key"))
	unit, _ = os.ReadFile(filepath.Join(s.root, ownUnit))
	if string(after) != string(key) || !strings.Contains(string(unit), "ExecStart=/opt/postern/postern run") || strings.Contains(strings.Join(*calls, "\n"), "useradd") {
		t.Errorf("the upgrade: key kept %v, unit\n%s\ncalls %q", string(after) == string(key), unit, *calls)
	}

	if _, err := s.uninstall(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.root, ownUnit)); err == nil {
		t.Error("the unit is still there")
	}
	if _, err := os.Stat(filepath.Join(s.root, "/var/lib/postern")); err != nil {
		t.Error("the queue is gone")
	}
}

// TestInstallWithoutSystemd: in an image that is being made the links are made, and nothing that would need systemd is called.
func TestInstallWithoutSystemd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give the configuration to a group")
	}
	s, calls := newSystem(t)
	s.booted = func() error { return errNoSystemd }
	r, err := s.install(usual)
	if err != nil || len(r.Warnings) != 1 || r.Warnings[0] != errNoSystemd.Error() {
		t.Errorf("install: %v, warnings %q; want one that says that no systemd runs", err, r.Warnings)
	}
	if r, err = s.uninstall(); err != nil || len(r.Warnings) > 0 {
		t.Errorf("uninstall: %v, %q", err, r.Warnings)
	}
	asked := slices.DeleteFunc(*calls, func(c string) bool { return !strings.HasPrefix(c, "systemctl ") })
	if want := []string{"systemctl enable postern.service", "systemctl disable postern.service"}; !slices.Equal(asked, want) {
		t.Errorf("systemctl was asked %q; want %q", asked, want)
	}
}

// TestInstallOverATrial: who signed in and ran it as root before there was a service has files of root's in data_dir, which the
// service must be able to read.
func TestInstallOverATrial(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	s, _ := newSystem(t)
	const uid, gid = 65534, 65533
	s.lookup = func(string) (int, int, error) { return uid, gid, nil }
	data, secret := filepath.Join(s.root, "/var/lib/postern"), filepath.Join(s.root, "secret")
	err := errors.Join(os.MkdirAll(filepath.Join(data, "spool"), 0o700), os.WriteFile(filepath.Join(data, "vault"), nil, 0o600),
		os.WriteFile(filepath.Join(data, "spool", "1"), nil, 0o600), os.WriteFile(filepath.Join(data, "vault.key"), []byte("the key"), 0o600),
		os.WriteFile(secret, nil, 0o600), os.Symlink(secret, filepath.Join(data, "spool", "symbolic")), os.Link(secret, filepath.Join(data, "spool", "hard")))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.install(usual)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"": uid, "vault": uid, "spool": uid, "spool/1": uid, "spool/symbolic": 0, "spool/hard": 0, "../../../secret": 0} {
		fi, err := os.Lstat(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%q belongs to user %d; want %d", name, got, want)
		}
	}
	key, err := os.ReadFile(filepath.Join(s.root, keyFile))
	if fi, e := os.Stat(filepath.Join(s.root, keyFile)); err != nil || e != nil || string(key) != "the key" || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the unit's key is %q (%v, %v), mode %v; want the one that the vault was sealed with, for root alone", key, err, e, fi)
	}
	if _, err := os.Stat(filepath.Join(data, "vault.key")); err == nil {
		t.Error("the key still lies in data_dir")
	}
	said := strings.Join(r.Done, "\n")
	if !strings.Contains(said, "moved the vault's key to "+keyFile) || !strings.Contains(said, "gave what was in /var/lib/postern already to the user postern") {
		t.Errorf("the installation says:\n%s", said)
	}
}

// TestThePackagesUnitServes: where the package was installed its unit is used, and no second one shadows it.
func TestThePackagesUnitServes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give the configuration to a group")
	}
	s, _ := newSystem(t)
	path := filepath.Join(s.root, packagedUnit)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(packaging.Unit), 0o644)); err != nil {
		t.Fatal(err)
	}
	o := usual
	o.Program = "/usr/bin/postern"
	if _, err := s.install(o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.root, ownUnit)); err == nil {
		t.Error("a second unit was written")
	}
}

func TestUnitText(t *testing.T) {
	for _, tc := range []struct {
		name  string
		o     Options
		has   string
		wrong bool
	}{
		{"the usual places", Options{Program: "/usr/bin/postern", Config: "/etc/postern/postern.toml", DataDir: "/var/lib/postern"}, packaging.Unit, false},
		{"another data_dir can be written", Options{Program: "/usr/bin/postern", Config: "/etc/postern/postern.toml", DataDir: "/srv/postern"}, "ReadWritePaths=/srv/postern\n", false},
		{"a log file elsewhere can be written", Options{Program: "/usr/bin/postern", Config: "/etc/p.toml", DataDir: "/var/lib/postern", LogFile: "/var/log/postern/p.log"}, "ReadWritePaths=/var/log/postern\n", false},
		{"reload uses the same program and file", Options{Program: "/opt/p/postern", Config: "/opt/p/p.toml", DataDir: "/var/lib/postern"}, "ExecReload=/opt/p/postern reload --config /opt/p/p.toml\n", false},
		{"a relative program is refused", Options{Program: "postern", Config: "/etc/p.toml", DataDir: "/var/lib/postern"}, "", true},
		{"a blank in a path is refused", Options{Program: "/opt/my tools/postern", Config: "/etc/p.toml", DataDir: "/var/lib/postern"}, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			unit, err := unitText(tc.o)
			if (err != nil) != tc.wrong || !strings.Contains(unit, tc.has) {
				t.Errorf("unitText = %v\n%s\nwant %q", err, unit, tc.has)
			}
		})
	}
}
