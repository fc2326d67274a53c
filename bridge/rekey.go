package bridge

import (
	"context"
	"errors"
	"fmt"

	"postern/auth/token"
	"postern/auth/vault"
)

// ReadVaultKey reads a key file for Rekey, as whoever runs the command line.
func ReadVaultKey(path string) (token.Secret, error) { return vault.ReadKey(path) }

// Rekey implements control.Service.
func (a *admin) Rekey(_ context.Context, key token.Secret) (path string, err error) {
	path, err = a.accounts.Rekey(key)
	if errors.Is(err, vault.ErrNotOurKey) {
		return "", fmt.Errorf("%w; as root make a new key beside the file that it is made of, and name it:\n"+
			"  (umask 077; openssl rand -base64 32 > %s.new)\n  postern vault rekey --key %[2]s.new\n  mv %[2]s.new %[2]s", err, unitKeyFile)
	}
	return path, err
}
