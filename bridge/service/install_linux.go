package service

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"postern/packaging"
)

// system is what an installation does to Linux; a test has another root, and programs that do nothing.
type system struct {
	root   string // "" is /
	run    func(name string, args ...string) error
	booted func() error // why no systemd runs; nil where one does
	lookup func(user string) (uid, gid int, err error)
}

// packagedUnit is where the .deb and the .rpm put the unit.
const packagedUnit = "/usr/lib/systemd/system/postern.service"

// keyFile is what the unit's LoadCredential names.
const keyFile = "/etc/postern/vault.key"

// ownUnit is where an administrator's unit belongs; it wins over the package's.
const ownUnit = "/etc/systemd/system/postern.service"

// Install makes Postern a service: the user postern, the folders with their modes, the vault's key, the unit, enabled and
// not started. Over an existing installation it upgrades the unit, and restarts the service where it ran.
func Install(o Options) (Result, error) {
	if os.Geteuid() != 0 {
		return Result{}, errors.New("only root can install a service; run it with sudo")
	}
	s := system{run: command, booted: managed, lookup: lookupUser}
	return s.install(o)
}

// Uninstall stops and removes the service. Configuration, queue and sign-ins stay.
func Uninstall() (Result, error) {
	if os.Geteuid() != 0 {
		return Result{}, errors.New("only root can remove a service; run it with sudo")
	}
	s := system{run: command, booted: managed, lookup: lookupUser}
	return s.uninstall()
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func lookupUser(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(errU, errG)
}

func (s system) install(o Options) (r Result, err error) {
	if o, err = s.settle(o); err != nil {
		return r, err
	}
	unit, err := unitText(o)
	if err != nil {
		return r, err
	}
	if err := s.makeUser(&r); err != nil {
		return r, err
	}
	if err := s.makeFolders(&r, o); err != nil {
		return r, err
	}
	if err := s.writeUnit(&r, o, unit); err != nil {
		return r, err
	}
	booted := s.booted()
	if booted == nil {
		if err := s.run("systemctl", "daemon-reload"); err != nil {
			return r, err
		}
	}
	// Links alone, which an image that is being made takes too.
	if err := s.run("systemctl", "enable", "postern.service"); err != nil {
		return r, errors.Join(err, booted)
	}
	r.did("the service starts with the machine")
	if booted != nil {
		r.warn("%v", booted)
		return r, nil
	}
	if err := s.run("systemctl", "try-restart", "postern.service"); err != nil {
		r.warn("%v", err)
	}
	return r, nil
}

// makeUser makes the system user that the service runs as.
func (s system) makeUser(r *Result) error {
	if _, _, err := s.lookup(unitName); err == nil {
		return nil
	}
	if err := s.run("useradd", "--system", "--user-group", "--home-dir", "/var/lib/postern", "--no-create-home",
		"--shell", "/usr/sbin/nologin", "--comment", "Postern mail bridge", unitName); err != nil {
		return err
	}
	r.did("made the system user and group postern")
	return nil
}

func (s system) makeFolders(r *Result, o Options) error {
	uid, gid, err := s.lookup(unitName)
	if err != nil {
		return fmt.Errorf("the user postern: %w", err)
	}
	conf := filepath.Join(s.root, o.Config)
	if err := errors.Join(os.Chown(conf, 0, gid), os.Chmod(conf, 0o640)); err != nil {
		return fmt.Errorf("the configuration must be there first: %w", err)
	}
	if dir := filepath.Dir(conf); filepath.Base(dir) == "postern" {
		if err := errors.Join(os.Chown(dir, 0, gid), os.Chmod(dir, 0o750)); err != nil {
			return err
		}
	}
	data, err := s.give(r, o.DataDir, append(logNames(o.inData()), made...), uid, gid)
	if err != nil {
		return err
	}
	defer data.Close()
	if err := s.makeKey(r, data, uid, o.CheckKey); err != nil {
		return err
	}
	if err := s.makeLogFolder(r, o, data, uid, gid); err != nil {
		return err
	}
	for _, path := range []string{o.Program, o.Config, o.DataDir, o.LogFile} {
		if path != "" {
			s.warnClosed(r, path, uid, gid)
		}
	}
	return nil
}

// makeLogFolder makes the folder of a log file, in data_dir through what is open there.
func (s system) makeLogFolder(r *Result, o Options, data *os.Root, uid, gid int) error {
	folder := o.logFolder()
	if folder == "" {
		return nil
	}
	if inside, ok := strings.CutPrefix(folder, o.DataDir+"/"); ok {
		err := data.MkdirAll(inside, 0o700)
		if err == nil {
			_, err = handOver(data, []string{o.inData()}, uid, gid)
		}
		return err
	}
	logs, err := s.give(r, folder, logNames(o.LogFile), uid, gid)
	if err != nil {
		return err
	}
	return logs.Close()
}

// makeKey makes the vault's key where there is none, of the one in the data folder if there is one. The unit hands it to the
// service; root alone reads it.
func (s system) makeKey(r *Result, data *os.Root, uid int, check func([]byte) error) error {
	path := filepath.Join(s.root, keyFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	moved, err := moveKey(data, path, uid, check)
	if err != nil {
		return err
	}
	if moved {
		r.did("moved the vault's key to %s; put a copy in a safe place", keyFile)
		return nil
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand, Go 1.24)
	if err := writeNew(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n")); err != nil {
		return err
	}
	r.did("made the vault's key, %s; put a copy in a safe place", keyFile)
	return nil
}

// writeUnit writes the unit where the package's does not say the same.
func (s system) writeUnit(r *Result, o Options, unit string) error {
	if b, err := os.ReadFile(filepath.Join(s.root, packagedUnit)); err == nil && string(b) == unit {
		r.did("the package's unit serves: %s", packagedUnit)
		return nil
	}
	path := filepath.Join(s.root, ownUnit)
	was, err := os.ReadFile(path)
	if err == nil && string(was) == unit {
		r.did("the unit is current: %s", ownUnit)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		return err
	}
	r.did("wrote the unit: %s", ownUnit)
	return nil
}

// unitText is the package's unit for another program or configuration.
func unitText(o Options) (string, error) {
	if err := checkPlaces(o); err != nil {
		return "", err
	}
	unit := strings.NewReplacer("/usr/bin/postern ", o.Program+" ", "/etc/postern/postern.toml", o.Config).Replace(packaging.Unit)
	if !strings.Contains(unit, "ExecStart="+o.Program+" run --config "+o.Config+"\n") {
		return "", errors.New("the unit's text has no ExecStart that is known")
	}
	if o.DataDir != "/var/lib/postern" {
		unit = strings.Replace(unit, "StateDirectory=postern\nStateDirectoryMode=0700\n", "ReadWritePaths="+o.DataDir+"\n", 1)
	}
	if f := o.logFolder(); f != "" && !under(o.DataDir, f) {
		unit = strings.Replace(unit, "ProtectSystem=strict\n", "ProtectSystem=strict\nReadWritePaths="+f+"\n", 1)
	}
	return unit, nil
}

func (s system) uninstall() (r Result, err error) {
	disable := []string{"disable", "--now", "postern.service"}
	booted := s.booted() == nil
	if !booted {
		disable = slices.Delete(disable, 1, 2) // nothing runs
	}
	if err := s.run("systemctl", disable...); err != nil {
		r.warn("%v", err)
	}
	path := filepath.Join(s.root, ownUnit)
	switch err := os.Remove(path); {
	case err == nil:
		r.did("removed the unit: %s", ownUnit)
	case !errors.Is(err, fs.ErrNotExist):
		return r, err
	}
	if _, err := os.Stat(filepath.Join(s.root, packagedUnit)); err == nil {
		r.warn("the package's unit stays, disabled: %s", packagedUnit)
	}
	if booted {
		if err := s.run("systemctl", "daemon-reload"); err != nil {
			r.warn("%v", err)
		}
	}
	r.did("configuration, queue and sign-ins stay where they are")
	return r, nil
}
