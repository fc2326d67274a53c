package users

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
)

// Bounds of the hashes that are accepted. A hash comes from the configuration and may have been made elsewhere, stronger
// than ours; beyond these it is a mistake that would stop the machine, and below them x/crypto/argon2 panics or the hash
// protects nothing.
const (
	maxMemory     = 1 << 20 // KiB: 1 GiB
	maxIterations = 100
	minSalt       = 8
	minKey        = 16
	maxSaltOrKey  = 1024
)

// Hash returns the PHC string of a password: argon2id, m = 12 MiB, t = 3, p = 1, a fresh salt.
func Hash(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	h, err := argon2id.CreateHash(password, &own)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return h, nil
}

// checkHash says what is wrong with a hash, without quoting it.
func checkHash(h string) error {
	p, salt, key, err := argon2id.DecodeHash(h)
	switch {
	case err != nil: // its text may quote the hash
		return errors.New("not an argon2id hash; make one by: postern passwd")
	case p.Memory > maxMemory:
		return errors.New("its hash asks for more than 1 GiB of memory")
	case p.Memory < 8*uint32(p.Parallelism) || p.Iterations < 1 || p.Parallelism < 1:
		return errors.New("its hash has a parameter below argon2id's minimum")
	case p.Iterations > maxIterations:
		return fmt.Errorf("its hash asks for more than %d iterations", maxIterations)
	case len(salt) < minSalt || len(key) < minKey:
		return errors.New("its hash or its salt is too short")
	case len(salt) > maxSaltOrKey || len(key) > maxSaltOrKey:
		return errors.New("its hash or its salt is too long")
	}
	return nil
}

// inventedHash is a hash that no password has, for a configuration without passwords.
func inventedHash() string {
	b := make([]byte, own.SaltLength+own.KeyLength)
	rand.Read(b)
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, own.Memory, own.Iterations, own.Parallelism,
		e.EncodeToString(b[:own.SaltLength]), e.EncodeToString(b[own.SaltLength:]))
}
