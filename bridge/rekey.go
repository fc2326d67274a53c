package bridge

import (
	"context"
	"errors"
	"fmt"

	"postern/auth/token"
	"postern/auth/vault"
	"postern/bridge/event"
)

// ReadVaultKey reads a key file for Rekey, as whoever runs the command line.
func ReadVaultKey(path string) (token.Secret, error) { return vault.ReadKey(path) }

// Rekey implements control.Service.
func (a *admin) Rekey(ctx context.Context, key token.Secret) (path string, err error) {
	path, err = a.accounts.Rekey(key)
	if errors.Is(err, vault.ErrNotOurKey) {
		return "", fmt.Errorf("%w; as root make a new key beside the file that it is made of, and name it:\n"+
			"  (umask 077; head -c 32 /dev/urandom | base64 > %s.new) &&\n  postern vault rekey --key %[2]s.new &&\n  mv %[2]s.new %[2]s", err, unitKeyFile)
	}
	if err == nil {
		a.audit(ctx, event.VaultRekeyed)
	}
	return path, err
}
