package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"postern/auth/token"
	"postern/auth/vault"
)

const (
	secretPrefix   = "secret/"
	maxSecretBytes = 64 << 10
)

// Secrets reads what the configuration's references mean, and keeps those of the kind vault:NAME. Safe for concurrent
// use.
type Secrets struct {
	Store     Store                                // of vault:NAME
	LookupEnv func(string) (value string, ok bool) // of env:NAME; default os.LookupEnv
}

// SecretInfo describes a secret in the vault, never its value.
type SecretInfo struct {
	Name    string    `json:"name"`
	Set     time.Time `json:"set"`
	Damaged bool      `json:"damaged,omitempty"` // it must be set again
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Resolve returns the secret that a reference names: vault:NAME, env:NAME or file:PATH, of which one line end is cut off.
// It reads it anew each time, so that a changed secret takes effect at once. Its errors name the reference, never a value;
// what is no reference is not repeated, because it may be the secret itself.
func (s Secrets) Resolve(ref string) (token.Secret, error) {
	kind, name, ok := strings.Cut(ref, ":")
	if !ok || name == "" {
		return "", errors.New("a secret must be given as vault:NAME, env:NAME or file:PATH")
	}
	var value []byte
	var err error
	switch kind {
	case "vault":
		value, err = s.fromVault(name)
	case "env":
		value, err = s.fromEnv(name)
	case "file":
		value, err = fromFile(name)
	default:
		return "", errors.New("a secret must be given as vault:NAME, env:NAME or file:PATH")
	}
	if err == nil && len(value) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return "", fmt.Errorf("%s %w", ref, err)
	}
	return token.Secret(value), nil
}

func (s Secrets) fromVault(name string) ([]byte, error) {
	value, _, err := s.Store.Get(secretPrefix + name)
	if errors.Is(err, vault.ErrNotFound) && !errors.Is(err, vault.ErrDamaged) {
		return nil, errors.New("is not set")
	}
	return value, err
}

func (s Secrets) fromEnv(name string) ([]byte, error) {
	lookup := s.LookupEnv
	if lookup == nil {
		lookup = os.LookupEnv
	}
	value, ok := lookup(name)
	if !ok {
		return nil, errors.New("is not set in this process; start the service if it has the variable")
	}
	return []byte(value), nil
}

func fromFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if len(value) > maxSecretBytes {
		return nil, fmt.Errorf("has more than %d bytes", maxSecretBytes)
	}
	text := strings.TrimSuffix(string(value), "\n")
	return []byte(strings.TrimSuffix(text, "\r")), nil
}

// SecretRemedy says how to give the reference a new value, for example "run: postern secret set contoso".
func SecretRemedy(ref string) string {
	kind, name, _ := strings.Cut(ref, ":")
	switch kind {
	case "vault":
		return "run: postern secret set " + name
	case "env":
		return "set the service's environment variable " + name + " and restart it"
	case "file":
		return "write the new secret into " + name
	}
	return "give the secret as vault:NAME"
}

// CheckSecretName says what is wrong with a name for a secret in the vault.
func CheckSecretName(name string) error {
	if !secretName.MatchString(name) {
		return errors.New("a secret's name has up to 100 letters, digits, dots, dashes and underscores, and begins with one of " +
			"the first two")
	}
	return nil
}

// Set stores a secret under a name of letters, digits, dots, dashes and underscores, replacing a former one.
func (s Secrets) Set(name string, value token.Secret) error {
	if err := CheckSecretName(name); err != nil {
		return err
	}
	switch {
	case value == "":
		return fmt.Errorf("secret %s is empty", name)
	case len(value) > maxSecretBytes:
		return fmt.Errorf("secret %s has more than %d bytes", name, maxSecretBytes)
	}
	return s.swap(name, []byte(value.Reveal()))
}

// Remove deletes a secret. The error is vault.ErrNotFound where there is none.
func (s Secrets) Remove(name string) error {
	_, rev, err := s.Store.Get(secretPrefix + name)
	if rev == 0 && err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return s.swap(name, nil)
}

func (s Secrets) swap(name string, value []byte) error {
	for {
		_, rev, err := s.Store.Get(secretPrefix + name)
		if err != nil && !errors.Is(err, vault.ErrNotFound) && !errors.Is(err, vault.ErrDamaged) {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		_, err = s.Store.Swap(secretPrefix+name, rev, value)
		if err == nil {
			return nil
		}
		if !errors.Is(err, vault.ErrChanged) {
			return fmt.Errorf("secret %s: %w", name, err)
		}
	}
}

// List returns the secrets that are set, sorted by name.
func (s Secrets) List() []SecretInfo {
	list := []SecretInfo{}
	for _, i := range s.Store.List() {
		if name, ok := strings.CutPrefix(i.Name, secretPrefix); ok {
			list = append(list, SecretInfo{Name: name, Set: i.Set, Damaged: i.Damaged})
		}
	}
	return list
}

// Rekey has the vault sealed again under a new key; vault.Vault.Rekey says how.
func (a *Accounts) Rekey(given token.Secret) (path string, err error) {
	v, ok := a.secrets.Store.(interface {
		Rekey(token.Secret) (string, error)
	})
	if !ok {
		return "", errors.New("this store of secrets has no key of its own")
	}
	return v.Rekey(given)
}

// Snapshot returns the vault's files for a backup; vault.Vault.Snapshot says which.
func (a *Accounts) Snapshot() (map[string][]byte, error) {
	v, ok := a.secrets.Store.(interface {
		Snapshot() (map[string][]byte, error)
	})
	if !ok {
		return nil, errors.New("this store of secrets has no files")
	}
	return v.Snapshot()
}

// Secrets returns what reads the configuration's references.
func (a *Accounts) Secrets() Secrets { return a.secrets }

// SetSecret stores a secret as Secrets.Set does, and has every account that failed ask again at its next use.
func (a *Accounts) SetSecret(name string, value token.Secret) error {
	if err := a.secrets.Set(name, value); err != nil {
		return err
	}
	for l := range a.eachLogin {
		l.forgetFailures()
	}
	return nil
}

// RemoveSecret deletes a secret as Secrets.Remove does. Tokens that it gave stay good until they expire.
func (a *Accounts) RemoveSecret(name string) error { return a.secrets.Remove(name) }

// ListSecrets lists what is set.
func (a *Accounts) ListSecrets() []SecretInfo { return a.secrets.List() }
