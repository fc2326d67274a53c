package service

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// newKeeper is a keeper of this machine's folders.
func newKeeper() (keeper, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return keeper{}, fmt.Errorf("who installs: %w", err)
	}
	k := keeper{self: user.User.Sid.String(), list: listObjects, own: ownByAdministrators, write: writeRights, read: readRights}
	if k.profiles, err = windows.KnownFolderPath(windows.FOLDERID_UserProfiles, 0); err != nil {
		return k, fmt.Errorf("where the users' folders are: %w", err)
	}
	for _, id := range []*windows.KNOWNFOLDERID{windows.FOLDERID_Windows, windows.FOLDERID_System, windows.FOLDERID_ProgramFiles, windows.FOLDERID_ProgramData} {
		folder, err := windows.KnownFolderPath(id, 0)
		if err != nil {
			return k, fmt.Errorf("where the system's folders are: %w", err)
		}
		k.common = append(k.common, folder)
	}
	return k, nil
}

// listObjects lists what is there, the root first. It follows no link.
func listObjects(root string) (list []object, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // there is none yet, or the daemon has removed it
			return nil
		case err != nil:
			return err
		}
		link := d.Type()&(fs.ModeSymlink|fs.ModeIrregular) != 0
		o := object{path: path, link: link}
		if !link { // what it stands for has another owner
			sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			sid, _, err := sd.Owner()
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			o.owner, o.name = sid.String(), nameOf(sid)
		}
		list = append(list, o)
		return nil
	})
	return list, err
}

// nameOf is a SID as people know it, or else in full.
func nameOf(sid *windows.SID) string {
	name, domain, _, err := sid.LookupAccount("")
	if err != nil {
		return sid.String()
	}
	return domain + `\` + name
}

// ownByAdministrators leaves the rights alone.
func ownByAdministrators(path string) error {
	sid, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION, sid, nil, nil, nil)
}

func writeRights(path, sddl string) error {
	want, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return err
	}
	owner, _, err := want.Owner()
	if err != nil {
		return err
	}
	acl, _, err := want.DACL()
	if err != nil {
		return err
	}
	const what = windows.OWNER_SECURITY_INFORMATION | windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	return windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, what, owner, nil, acl, nil)
}

func readRights(path string) (owner, dacl string, err error) {
	has, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return "", "", err
	}
	sid, _, err := has.Owner()
	if err != nil {
		return "", "", err
	}
	return sid.String(), has.String(), nil
}
