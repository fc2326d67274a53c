package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// unseen are folders where the service finds nothing, or nothing that lasts, and why.
var unseen = []struct{ folder, why string }{
	{"/home", "the service cannot see it (ProtectHome)"},
	{"/root", "the service cannot see it (ProtectHome)"},
	{"/tmp", "the service has one of its own (PrivateTmp)"},
	{"/var/tmp", "the service has one of its own (PrivateTmp)"},
	{"/run", "it is emptied when the machine starts"},
	{"/dev", "the service has one of its own (PrivateDevices)"},
	{"/proc", "it is the kernel's"},
	{"/sys", "it is the kernel's"},
}

// common are folders in which others have theirs: none is given to the service's user.
var common = []string{"/", "/media", "/mnt", "/opt", "/srv", "/usr", "/usr/local", "/var", "/var/backups", "/var/cache", "/var/lib",
	"/var/local", "/var/log", "/var/mail", "/var/opt", "/var/spool", "/var/www"}

// programs are folders that are the system's with all that is in them.
var programs = []string{"/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32",
	"/usr/lib64", "/usr/libexec", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin", "/usr/sbin", "/usr/share", "/var/lib/dpkg",
	"/var/lib/rpm", "/var/lib/systemd"}

// logFolder is the folder of a log file that does not lie in data_dir itself; "" for none.
func (o Options) logFolder() string {
	if o.LogFile == "" || filepath.Dir(o.LogFile) == o.DataDir {
		return ""
	}
	return filepath.Dir(o.LogFile)
}

// checkPlaces refuses what the service could not use, and to give away what is not Postern's.
func checkPlaces(o Options) error {
	type spot struct{ what, path, instead string }
	ours := []spot{{"data_dir", o.DataDir, "/var/lib/postern"}}
	if f := o.logFolder(); f != "" {
		ours = append(ours, spot{"the folder of the log", f, "/var/log/postern"})
	}
	for _, p := range append([]spot{{"the program", o.Program, "/usr/local/bin"}, {"the configuration", o.Config, "/etc/postern"}}, ours...) {
		if !filepath.IsAbs(p.path) || strings.ContainsAny(p.path, " \t\n\"'\\%$;") {
			return fmt.Errorf("%s, %q, cannot stand in a unit: it must be an absolute path without blanks, quotes and %%", p.what, p.path)
		}
		for _, u := range unseen {
			if under(u.folder, p.path) {
				return fmt.Errorf("%s, %s, lies in %s: %s; put it elsewhere, such as %s", p.what, p.path, u.folder, u.why, p.instead)
			}
		}
	}
	for _, p := range ours {
		if slices.Contains(common, p.path) || slices.ContainsFunc(programs, func(f string) bool { return under(f, p.path) }) {
			return fmt.Errorf("%s is %s, which is the system's, and would be the service's alone; name a folder of its own, such as %s", p.what, p.path, p.instead)
		}
		for _, f := range []spot{{"the program", o.Program, ""}, {"the configuration", o.Config, ""}, {"the vault's key", keyFile, ""}} {
			if under(p.path, f.path) {
				return fmt.Errorf("%s, %s, has %s in it, %s, which the service could change then; name a folder of its own, such as %s",
					p.what, p.path, f.what, f.path, p.instead)
			}
		}
	}
	return nil
}

// under reports whether path is folder or lies below it; both are clean.
func under(folder, path string) bool {
	return path == folder || folder == "/" || strings.HasPrefix(path, folder+"/")
}

// settle follows the symbolic links of the folders that are to be given away, so that what they lead to is judged, and not
// their names; and it refuses folders that hold what Postern did not make.
func (s system) settle(o Options) (Options, error) {
	if err := checkPlaces(o); err != nil {
		return o, err
	}
	real := o
	logName := filepath.Base(o.LogFile)
	for _, p := range []*string{&real.Program, &real.Config, &real.DataDir} {
		if err := s.follow(p); err != nil {
			return o, err
		}
	}
	if o.LogFile != "" {
		folder := filepath.Dir(o.LogFile)
		if err := s.follow(&folder); err != nil {
			return o, err
		}
		real.LogFile = filepath.Join(folder, logName)
	}
	if err := checkPlaces(real); err != nil {
		return o, err
	}
	o.DataDir, o.LogFile = real.DataDir, real.LogFile
	uid, _, err := s.lookup(unitName)
	if err != nil {
		uid = -1 // it is made later
	}
	if err := s.vacant(o.DataDir, uid, append(logNames(o.inData()), made...), "queue.db", "vault", keyName); err != nil {
		return o, fmt.Errorf("data_dir: %w", err)
	}
	if f := o.logFolder(); f != "" && !under(o.DataDir, f) {
		if err := s.vacant(f, uid, logNames(o.LogFile), logName); err != nil {
			return o, fmt.Errorf("the folder of the log: %w", err)
		}
	}
	return o, nil
}

// inData is what the log adds to data_dir: its file, or the folder that has it; "" for neither.
func (o Options) inData() string {
	rest, inside := strings.CutPrefix(o.LogFile, o.DataDir+"/")
	if !inside {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// follow replaces the path by what it leads to, as far as it is there.
func (s system) follow(path *string) error {
	rest := ""
	for dir := *path; ; dir = filepath.Dir(dir) {
		real, err := filepath.EvalSymlinks(filepath.Join(s.root, dir))
		if err == nil {
			*path = filepath.Join("/", strings.TrimPrefix(real, s.root), rest)
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return err
		}
		if _, err := os.Lstat(filepath.Join(s.root, dir)); err == nil {
			return fmt.Errorf("%s is a link that leads nowhere", dir)
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// vacant demands that a folder can become the service's: it is that already, or not there, or empty, or has nothing but the
// given names, or one of the sure ones, which nobody else's folder has.
func (s system) vacant(folder string, uid int, names []string, sure ...string) error {
	path := filepath.Join(s.root, folder)
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	foreign := ""
	for _, e := range entries {
		if slices.Contains(sure, e.Name()) {
			return nil
		}
		if e.Name() != lostAndFound && !matches(names, e.Name()) {
			foreign = e.Name()
		}
	}
	if foreign != "" {
		return fmt.Errorf("%s has what is not Postern's (%s), and would be the service's alone; name a folder of its own", folder, foreign)
	}
	return nil
}

// give makes a folder where it is missing, and gives it to the service's user with what root made there before.
func (s system) give(r *Result, folder string, names []string, uid, gid int) (*os.Root, error) {
	path := filepath.Join(s.root, folder)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := claim(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(root.Chown(".", uid, gid), root.Chmod(".", 0o700)); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	h, err := handOver(root, names, uid, gid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("what is in %s already: %w", folder, err), root.Close())
	}
	if h.given > 0 {
		r.did("gave what was in %s already to the user postern", folder)
	}
	if h.alien > 0 {
		r.warn("%d files and folders in %s belong to another user, and the service cannot work with them; run: chown -hR postern:postern %[2]s", h.alien, folder)
	}
	if len(h.left) > 0 {
		r.warn("%s in %s was not made by Postern, and stays as it is", strings.Join(h.left, ", "), folder)
	}
	return root, nil
}

// warnClosed tells of a folder above a path that the service's user cannot enter.
func (s system) warnClosed(r *Result, path string, uid, gid int) {
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		fi, err := os.Stat(filepath.Join(s.root, dir))
		if err != nil {
			return
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return
		}
		need := fs.FileMode(0o001)
		switch {
		case int(st.Uid) == uid:
			need = 0o100
		case int(st.Gid) == gid:
			need = 0o010
		}
		if fi.Mode().Perm()&need == 0 {
			r.warn("the user postern cannot enter %s, above %s; run: chmod a+x %[1]s", dir, path)
		}
	}
}
