package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/auth/token"
)

// nextKeyName is the key that a Rekey under way seals with, until it takes the place of vault.key.
const nextKeyName = keyName + ".next"

// ErrNotOurKey says that the vault's key came from outside data_dir, so that a new one cannot be put in its place.
var ErrNotOurKey = errors.New("the vault's key is not Postern's to write")

// Rekey seals every entry again under a new key: given (as ReadKey returned it), or with "" one that it makes. Where the
// key in use is the folder's vault.key, the new one takes its place, and path names it. Else path is "": the caller must
// put given where the key in use came from, and keep both until then; without given the error is ErrNotOurKey.
//
// Whenever the machine stops meanwhile, the next Open succeeds: the new key is on the disk before the vault is sealed
// with it, and the old one stays until then. Its errors are ErrNotOurKey, ErrDamaged for an entry that cannot be opened
// and so not sealed again, and what the disk said.
func (v *Vault) Rekey(given token.Secret) (path string, err error) {
	if given != "" && len(given) != keyBytes {
		return "", fmt.Errorf("%w: the new key has %d bytes, not %d", ErrKey, len(given), keyBytes)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	dir := filepath.Dir(v.path)
	own, next := filepath.Join(dir, keyName), filepath.Join(dir, nextKeyName)
	if err := v.settleKey(own, next); err != nil {
		return "", fmt.Errorf("vault: %w", err)
	}
	if names := v.damaged(); len(names) > 0 {
		return "", fmt.Errorf("vault: these entries of %s are %w and cannot be sealed again: %s; set them again, sign in again, or remove them",
			v.path, ErrDamaged, strings.Join(names, ", "))
	}
	if v.keyPath != own {
		if given == "" {
			return "", fmt.Errorf("%w: it comes from %s", ErrNotOurKey, v.keyPath)
		}
		return "", v.sealAgain([]byte(given.Reveal()))
	}
	key := []byte(given.Reveal())
	if given == "" {
		key = make([]byte, keyBytes)
		rand.Read(key) // never fails
	}
	if err := writeKey(v.disk, next, key); err != nil {
		return "", fmt.Errorf("vault: write key file %s: %w", next, err)
	}
	if err := v.sealAgain(key); err != nil {
		return "", err
	}
	v.keyPath = next
	if err := v.settleKey(own, next); err != nil {
		return "", fmt.Errorf("vault: it is sealed with the new key, which is still in %s and works from there: %w", next, err)
	}
	return own, nil
}

// sealAgain replaces the file by one under the key. v.mu is held.
func (v *Vault) sealAgain(key []byte) error {
	aead, err := newAEAD(key)
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	fresh := make(map[string]*entry, len(v.entries))
	for name, e := range v.entries {
		value, err := e.open(v.aead)
		if err != nil {
			return fmt.Errorf("vault: entry %q of %s is %w; set it again, or put the file back from a backup", name, v.path, ErrDamaged)
		}
		again := &entry{Name: e.Name, Rev: e.Rev, Set: e.Set}
		again.seal(aead, value)
		fresh[name] = again
	}
	data, err := encode(aead, v.rev, fresh)
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	if err := replaceFile(v.disk, v.path, data); err != nil {
		return fmt.Errorf("vault: seal it again: %w", err)
	}
	v.aead, v.entries = aead, fresh
	return nil
}

// settleKey ends what a Rekey began and could not end: the next key takes its place where it is the vault's, and is
// removed where it is not. The vault must be open. v.mu is held, or nobody else has the vault yet.
func (v *Vault) settleKey(own, next string) error {
	if v.keyPath == next {
		if err := v.disk.rename(next, own); err != nil {
			return err
		}
		v.keyPath = own
		return v.disk.syncDir(filepath.Dir(own))
	}
	if _, err := os.Lstat(next); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return v.disk.remove(next)
}

// Snapshot returns the vault's file, and its key where that lies in the folder, by name and as they belong together: a
// Rekey meanwhile cannot come between them. A vault that was never written has no file.
func (v *Vault) Snapshot() (map[string][]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	files := map[string][]byte{}
	sealed, err := readPrivate(v.path, ownFile, maxFileBytes)
	switch {
	case err == nil:
		files[fileName] = sealed
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("vault: %w", err)
	}
	dir := filepath.Dir(v.path)
	// vault.key, or the next one where it could not be renamed yet.
	if v.keyPath == filepath.Join(dir, keyName) || v.keyPath == filepath.Join(dir, nextKeyName) {
		key, err := readPrivate(v.keyPath, ownFile, maxKeyBytes)
		if err != nil {
			return nil, fmt.Errorf("vault: %w", err)
		}
		files[keyName] = key
	}
	return files, nil
}
