package service

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Whom Windows' rights are given to (Microsoft, Well-known SIDs, November 2026).
const (
	administrators = "S-1-5-32-544"
	localSystem    = "S-1-5-18"
)

// keeper sets and reads the rights on Windows' folders; a test has folders of its own. SIDs are written in full, rights as
// an SDDL has them.
type keeper struct {
	self     string   // who installs
	profiles string   // the folder of all users' profiles
	common   []string // folders that are never Postern's own; nor is what they lie in
	list     func(root string) ([]object, error)
	own      func(path string) error       // gives it to the administrators
	write    func(path, sddl string) error // owner, and the rights instead of all others
	read     func(path string) (owner, dacl string, err error)
}

// object is a file or a folder that is there already.
type object struct {
	path  string
	owner string // SID
	name  string // of the owner, for people
	link  bool   // it stands for another place
}

// guarded is what an installation guards.
type guarded struct {
	path   string
	file   bool
	rights string // of the service
}

// serviceSID is the SID of a service's virtual account, as sc showsid prints it: the name in capitals, as UTF-16, in SHA-1.
// The manager would tell it as well, but not before there is such a service.
func serviceSID(name string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(strings.ToUpper(name))) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	sum := sha1.Sum(b)
	sid := "S-1-5-80"
	for i := 0; i < len(sum); i += 4 {
		sid += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(sum[i:]))
	}
	return sid
}

// places are the folder of queue and tokens, and before it that of the configuration where it is another: who may write
// there tells the service what to do. A folder that is not Postern's own keeps its rights, and the file in it is guarded.
func places(o Options) []guarded {
	list := []guarded{{path: o.DataDir, rights: "FA"}}
	dir := parent(o.Config)
	if inside(dir, o.DataDir) {
		return list
	}
	const readAndExecute = "0x1200a9"
	conf := guarded{path: dir, rights: readAndExecute}
	switch {
	case !strings.EqualFold(dir[strings.LastIndexByte(dir, '\\')+1:], Name):
		conf = guarded{path: o.Config, file: true, rights: readAndExecute}
	case o.LogFile != "" && inside(o.LogFile, dir):
		conf.rights = "FA"
	}
	return append([]guarded{conf}, list...)
}

// parent is the folder of a path of Windows, also on another system.
func parent(path string) string { return path[:max(strings.LastIndexByte(path, '\\'), 0)] }

// inside reports whether a path of Windows is the folder, or lies in it.
func inside(path, dir string) bool {
	path, dir = strings.ToLower(path)+`\`, strings.ToLower(strings.TrimRight(dir, `\`))+`\`
	return strings.HasPrefix(path, dir)
}

// refuse says why the service could not run with these places, or not in safety.
func (k keeper) refuse(o Options) error {
	if err := k.refusePlaces(o); err != nil {
		return err
	}
	for _, p := range places(o) {
		if _, err := k.look(p); err != nil {
			return err
		}
	}
	return nil
}

// look returns what is in a place, where nobody made it who could be anybody: an owner can always change the rights.
func (k keeper) look(p guarded) ([]object, error) {
	objects, err := k.list(p.path)
	if err != nil {
		return nil, fmt.Errorf("who owns %s: %w", p.path, err)
	}
	for _, found := range objects {
		switch {
		case found.link:
			return nil, fmt.Errorf("%s is a link; in its place use what it stands for", found.path)
		case !k.trusts(found.owner):
			return nil, fmt.Errorf(`%s belongs to %s, who may have put there what no administrator did, and can let in anybody; look through it, then run: `+
				`takeown /F "%s" /A /R, then: icacls "%[3]s" /reset /T, and install again`, found.path, found.name, p.path)
		}
	}
	return objects, nil
}

func (k keeper) refusePlaces(o Options) error {
	for _, p := range []struct{ what, path string }{{"the program", o.Program}, {"the configuration", o.Config}, {"data_dir", o.DataDir}} {
		if inside(p.path, k.profiles) {
			return fmt.Errorf(`%s, %s, lies in a user's folder (%s), which the service may not read and that user may change; `+
				`put the program into C:\Program Files\Postern, and configuration and data_dir into C:\ProgramData\Postern`, p.what, p.path, k.profiles)
		}
	}
	for _, c := range k.common {
		if inside(c, o.DataDir) {
			return fmt.Errorf(`data_dir is %s, which is the system's, and would be the service's alone; name a folder of its own, such as C:\ProgramData\Postern`, o.DataDir)
		}
	}
	if inside(o.Program, o.DataDir) {
		return fmt.Errorf(`data_dir, %s, has the program in it, which the service could change then; put it into C:\Program Files\Postern`, o.DataDir)
	}
	return nil
}

// trusts reports whether what the owner made may be used.
func (k keeper) trusts(owner string) bool {
	switch owner {
	case administrators, localSystem, serviceSID(Name), k.self:
		return true
	}
	return false
}

// guard lets in the service, administrators and the system alone, and makes the administrators the owner. What it set is
// read back: a folder that others can read must not hold sign-ins.
func (k keeper) guard(r *Result, p guarded) error {
	// SY is the system, BA administrators; OICI is inherited by files and folders; P keeps ProgramData's own entries out,
	// which let every user read.
	inherit := "OICI"
	if p.file {
		inherit = ""
	}
	sddl := fmt.Sprintf("O:BAD:P(A;%s;FA;;;SY)(A;%[1]s;FA;;;BA)(A;%[1]s;%s;;;%s)", inherit, p.rights, serviceSID(Name))
	if err := k.write(p.path, sddl); err != nil {
		return fmt.Errorf("guard %s: %w", p.path, err)
	}
	objects, err := k.look(p) // once more, now that nobody else can put anything there
	if err != nil {
		return err
	}
	for _, found := range objects {
		if found.path != p.path && found.owner == k.self && k.self != localSystem {
			if err := k.own(found.path); err != nil {
				return fmt.Errorf("make the administrators the owner of %s: %w", found.path, err)
			}
		}
	}
	owner, dacl, err := k.read(p.path)
	if err != nil {
		return fmt.Errorf("guard %s: %w", p.path, err)
	}
	foreign := openToOthers(dacl)
	if owner != administrators {
		r.warn(`%s still belongs to %s, who can let in anybody; run: takeown /F "%[1]s" /A`, p.path, owner)
	}
	if foreign != "" {
		r.warn("%s can be read by others in spite of what was set: %s", p.path, foreign)
	}
	if owner == administrators && foreign == "" {
		r.did("%s is open to the service, administrators and the system alone", p.path)
	}
	return nil
}

// program warns where the service may not start the program.
func (k keeper) program(r *Result, o Options) {
	_, dacl, err := k.read(o.Program)
	if err != nil {
		r.warn("who may start %s: %v", o.Program, err)
		return
	}
	if !opensToService(dacl) {
		r.warn(`the service may not start %s; run: icacls "%[1]s" /grant "NT SERVICE\%s:RX"`, o.Program, Name)
	}
}
