package vault

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openPrivate refuses links. Mode bits mean nothing here: who may read is the business of the folder's ACL, which the
// hall sets.
func openPrivate(path string, t trust) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if t == ownFile && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

// rename tries again for a second: virus scanners hold a file that was just written.
func (osDisk) rename(old, new string) error {
	var err error
	for range 20 {
		err = os.Rename(old, new)
		if !errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// syncDir does nothing: Windows does not flush folders by handle, and NTFS journals the rename.
func (osDisk) syncDir(string) error { return nil }

// printKey wraps the key with DPAPI for this machine: a copied disk image does not carry it. Every process of the
// machine can unwrap it; the folder's ACL stands before that.
func printKey(key []byte) (string, error) {
	var out windows.DataBlob
	err := windows.CryptProtectData(blob(key), nil, nil, 0, nil,
		windows.CRYPTPROTECT_LOCAL_MACHINE|windows.CRYPTPROTECT_UI_FORBIDDEN, &out)
	if err != nil {
		return "", fmt.Errorf("wrap the key with DPAPI: %w", err)
	}
	return wrappedPrefix + base64.StdEncoding.EncodeToString(taken(out)), nil
}

func unwrapKey(wrapped []byte) ([]byte, error) {
	var out windows.DataBlob
	if err := windows.CryptUnprotectData(blob(wrapped), nil, nil, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("DPAPI does not unwrap it: it was wrapped on another machine, or is damaged: %w", err)
	}
	return taken(out), nil
}

func blob(data []byte) *windows.DataBlob {
	if len(data) == 0 {
		return &windows.DataBlob{}
	}
	return &windows.DataBlob{Size: uint32(len(data)), Data: &data[0]}
}

// taken copies what DPAPI allocated, and frees it.
func taken(b windows.DataBlob) []byte {
	if b.Data == nil {
		return nil
	}
	defer windows.LocalFree(windows.Handle(unsafe.Pointer(b.Data)))
	return append([]byte(nil), unsafe.Slice(b.Data, b.Size)...)
}
