package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// contents is the file. Names, revisions and times are readable, and sealed into each entry as associated data: changing
// them damages the entry.
type contents struct {
	Format  int      `json:"postern_vault"`
	Check   []byte   `json:"check"` // an empty message under the key, so that a wrong key is known at once
	Rev     uint64   `json:"rev"`
	Entries []*entry `json:"entries"`
}

const format = 1

// checkData is what the check is sealed with. An entry's associated data begins otherwise.
const checkData = "postern vault 1 check"

// newAEAD returns AES-256-GCM with random nonces. 2^32 seals under one key are safe (NIST SP 800-38D section 8.3); a
// vault that seals one token a minute needs 8,000 years for them.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (e *entry) associated() []byte {
	return fmt.Appendf(nil, "postern vault 1 entry\x00%s\x00%d\x00%s", e.Name, e.Rev, e.Set.UTC().Format(time.RFC3339))
}

func (e *entry) seal(aead cipher.AEAD, value []byte) {
	e.Sealed = aead.Seal(nil, nil, value, e.associated())
}

// open returns the value, never nil without an error.
func (e *entry) open(aead cipher.AEAD) ([]byte, error) {
	return aead.Open([]byte{}, nil, e.Sealed, e.associated())
}

// fits reports whether the key of aead sealed these contents. A damaged check does not hide a right key as long as one
// entry opens.
func (c *contents) fits(aead cipher.AEAD) bool {
	if _, err := aead.Open(nil, nil, c.Check, []byte(checkData)); err == nil {
		return true
	}
	return slices.ContainsFunc(c.Entries, func(e *entry) bool { _, err := e.open(aead); return err == nil })
}

func encode(aead cipher.AEAD, rev uint64, entries map[string]*entry) ([]byte, error) {
	c := contents{Format: format, Check: aead.Seal(nil, nil, nil, []byte(checkData)), Rev: rev, Entries: []*entry{}}
	for _, e := range entries {
		c.Entries = append(c.Entries, e)
	}
	slices.SortFunc(c.Entries, func(a, b *entry) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(c, "", " ")
	return append(data, '\n'), err
}

// decode reads the file's frame. Its errors never quote the file.
func decode(data []byte) (*contents, error) {
	var c contents
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("not readable near byte %d", dec.InputOffset())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("text after its end, at byte %d", dec.InputOffset())
	}
	if c.Format != format {
		return nil, fmt.Errorf("format %d is not known to this version", c.Format)
	}
	const maxRev = 1 << 62 // one more must never be 0, which means that there is no entry
	if c.Rev > maxRev {
		return nil, errors.New("its revision is out of range")
	}
	seen := map[string]bool{}
	for i, e := range c.Entries {
		if e == nil || checkName(e.Name) != nil {
			return nil, fmt.Errorf("entry %d has no readable name", i+1)
		}
		if e.Rev == 0 || e.Rev > maxRev {
			return nil, fmt.Errorf("entry %q has a revision out of range", e.Name)
		}
		if seen[e.Name] {
			return nil, fmt.Errorf("entry %q is there twice", e.Name)
		}
		seen[e.Name] = true
	}
	return &c, nil
}
