package vault

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/auth/token"
)

const (
	keyName     = "vault.key"
	keyBytes    = 32
	maxKeyBytes = 4096 // of the file: DPAPI wraps a key into some 250 bytes
)

// keyring is what findKeys found.
type keyring struct {
	keys  []foundKey
	tried []string // every file that was looked for, with what was wrong with it
}

type foundKey struct {
	path string
	key  []byte
}

// ReadKey reads a key file for Options.Key. A missing file is fs.ErrNotExist, one that this user may not read
// fs.ErrPermission; one that others can read, or that is no key, is ErrKey with a remedy.
func ReadKey(path string) (token.Secret, error) {
	key, err := readKey(path, ownFile)
	return token.Secret(key), err
}

// CheckKey says what is wrong with the text of a key file, which it does not quote.
func CheckKey(text []byte) error {
	_, err := parseKey(text)
	return err
}

func readKey(path string, t trust) ([]byte, error) {
	text, err := readPrivate(path, t, maxKeyBytes)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: key file %w", ErrKey, err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: key file %s: %w", ErrKey, path, err)
	}
	return key, nil
}

// findKeys reads every key that is there. A file that is missing or unreadable for this user is passed over; a file that
// others can read, and one that is no key, stop.
func findKeys(dir string, o Options, d disk, mayMake bool) (keyring, error) {
	var ring keyring
	look := func(path string, t trust) error {
		key, err := readKey(path, t)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			ring.tried = append(ring.tried, path+" (not there)")
		case errors.Is(err, fs.ErrPermission):
			ring.tried = append(ring.tried, path+" (not readable for this user)")
		case err != nil:
			return err
		default:
			ring.tried = append(ring.tried, path)
			ring.keys = append(ring.keys, foundKey{path, key})
		}
		return nil
	}
	if c := o.Getenv("CREDENTIALS_DIRECTORY"); c != "" {
		if err := look(filepath.Join(c, keyName), credential); err != nil {
			return ring, err
		}
	}
	if o.Key != "" {
		ring.tried = append(ring.tried, "the key given by the caller")
		ring.keys = append(ring.keys, foundKey{"given by the caller", []byte(o.Key.Reveal())})
	}
	own := filepath.Join(dir, keyName)
	if err := look(own, ownFile); err != nil {
		return ring, err
	}
	// What a Rekey that was cut off may have sealed with already.
	next := filepath.Join(dir, nextKeyName)
	if key, err := readKey(next, ownFile); err == nil {
		ring.tried = append(ring.tried, next)
		ring.keys = append(ring.keys, foundKey{next, key})
	}
	if _, err := os.Lstat(own); !errors.Is(err, fs.ErrNotExist) {
		mayMake = false // it is there but not readable: a new one must not take its place
	}
	if len(ring.keys) == 0 && mayMake {
		key, err := makeKey(d, own)
		if err != nil {
			return ring, fmt.Errorf("vault: make key file %s: %w", own, err)
		}
		ring.keys = []foundKey{{own, key}}
	}
	return ring, nil
}

// chooseKey takes the first key that fits. A new vault takes the first there is.
func chooseKey(ring keyring, c *contents, vault string) (aead cipher.AEAD, path string, err error) {
	for _, k := range ring.keys {
		aead, err := newAEAD(k.key)
		if err != nil {
			return nil, "", fmt.Errorf("%w: key file %s: %w", ErrKey, k.path, err)
		}
		if c == nil || c.fits(aead) {
			return aead, k.path, nil
		}
	}
	tried := strings.Join(ring.tried, ", ")
	if len(ring.keys) == 0 {
		return nil, "", fmt.Errorf("%w: no key for %s: tried %s; start the service first if it has the key as a credential, or "+
			"put the key file back", ErrKey, vault, tried)
	}
	return nil, "", fmt.Errorf("%w: wrong key for %s: tried %s; put back the key that it was sealed with, or move the vault away "+
		"and sign in again", ErrKey, vault, tried)
}

// parseKey accepts 32 raw bytes, their base64 with or without padding, and on Windows what DPAPI wrapped. Its errors
// never quote the file.
func parseKey(text []byte) ([]byte, error) {
	if len(text) == keyBytes {
		return text, nil
	}
	line := string(bytes.TrimSpace(text))
	if wrapped, ok := strings.CutPrefix(line, wrappedPrefix); ok {
		blob, err := base64.StdEncoding.DecodeString(wrapped)
		if err != nil {
			return nil, errors.New("the wrapped key is not base64")
		}
		key, err := unwrapKey(blob)
		if err != nil {
			return nil, err
		}
		if len(key) != keyBytes {
			return nil, fmt.Errorf("the wrapped key has %d bytes, not %d", len(key), keyBytes)
		}
		return key, nil
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(line, "="))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("not a key: %d random bytes, raw or as base64, are expected (openssl rand -base64 %d)",
			keyBytes, keyBytes)
	}
	return key, nil
}

// wrappedPrefix marks a key that DPAPI wrapped for this machine.
const wrappedPrefix = "dpapi:"

func makeKey(d disk, path string) ([]byte, error) {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails
	return key, writeKey(d, path, key)
}

// writeKey makes path hold the key, or leaves it as it was.
func writeKey(d disk, path string, key []byte) error {
	text, err := printKey(key)
	if err != nil {
		return err
	}
	return replaceFile(d, path, []byte(text+"\n"))
}
