// Package vault keeps secrets and tokens at rest: one sealed file in data_dir behind get and compare-and-swap. It must
// not know what a token or a provider is, nor who else uses data_dir (the lock of that folder is the hall's). The key
// cabinet (package auth) calls it, and the hall opens it. Failure looks like this: a wrong key or an unreadable file is
// one error at Open, which names the files and says what to do; a damaged entry is an error of that entry alone; a
// change that could not be written is an error of Swap, and then the vault is as it was.
package vault

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/auth/token"
)

const (
	fileName     = "vault"
	maxNameBytes = 512
	maxFileBytes = 64 << 20
)

// MaxValueBytes is the longest value that an entry can have.
const MaxValueBytes = 1 << 20

var (
	// ErrNotFound says that no entry has that name.
	ErrNotFound = errors.New("not in the vault")
	// ErrChanged says that an entry is no longer at the revision that the caller knew.
	ErrChanged = errors.New("the vault's entry was changed meanwhile")
	// ErrDamaged says that an entry, or the whole file, was damaged on disk. The text names which.
	ErrDamaged = errors.New("damaged")
	// ErrKey says that no key was found, or that none fits.
	ErrKey = errors.New("the vault cannot be opened")
)

// Options are all optional.
type Options struct {
	// Key is a key that the caller read with ReadKey, tried after the systemd credential and before vault.key in the
	// vault's own folder. Root's command line reads the file that the unit's LoadCredential names before it takes the
	// identity of data_dir's owner, who cannot read it.
	Key token.Secret
	// Getenv finds CREDENTIALS_DIRECTORY (systemd.exec(5), Credentials); default os.Getenv.
	Getenv func(string) string
	// Now stamps entries; default time.Now.
	Now func() time.Time
}

// Info describes an entry, never its value.
type Info struct {
	Name    string
	Set     time.Time // when the value was last set, in whole seconds
	Damaged bool      // it cannot be opened; it can be set again or removed
}

// Vault is an open vault. Safe for concurrent use in one process; another process must not have it open meanwhile.
type Vault struct {
	path string
	disk disk
	aead cipher.AEAD
	now  func() time.Time

	mu      sync.Mutex        // guards what follows, and aead
	keyPath string            // where the key came from
	rev     uint64            // the last revision that was given to any entry
	entries map[string]*entry // by name
}

// entry stays sealed in memory, too; it is opened for each Get.
type entry struct {
	Name   string    `json:"name"`
	Rev    uint64    `json:"rev"`
	Set    time.Time `json:"set"`
	Sealed []byte    `json:"sealed"` // nonce and ciphertext

	damaged bool
}

// Open opens the vault of the folder, which must exist. A vault without a file is empty; the file comes with the first
// Swap. The key is the first of these that fits: the systemd credential vault.key, o.Key, the file vault.key in the
// folder. Where there is neither a vault nor a key, the last is made. It never makes a key beside an existing vault: that
// would look like a lost sign-in. Errors are ErrKey, ErrDamaged, or what the disk said, with the file and a remedy.
func Open(dir string, o Options) (*Vault, error) {
	return open(dir, o, osDisk{})
}

func open(dir string, o Options, d disk) (*Vault, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Vault{path: filepath.Join(dir, fileName), disk: d, now: o.Now, entries: map[string]*entry{}}
	data, err := readPrivate(v.path, ownFile, maxFileBytes)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("vault: %w", err)
	}
	var stored *contents
	if exists {
		if stored, err = decode(data); err != nil {
			return nil, fmt.Errorf("vault: file %s is %w (%v); put it back from a backup, or move it away and sign in again",
				v.path, ErrDamaged, err)
		}
	}
	keys, err := findKeys(dir, o, d, !exists)
	if err != nil {
		return nil, err
	}
	if v.aead, v.keyPath, err = chooseKey(keys, stored, v.path); err != nil {
		return nil, err
	}
	if stored != nil {
		v.take(stored)
	}
	// A reader who may not write leaves it to the next one: the key works from where it is.
	_ = v.settleKey(filepath.Join(dir, keyName), filepath.Join(dir, nextKeyName))
	return v, nil
}

// take fills the vault from the file. Each entry is opened once, so that damage is known before the entry is needed.
func (v *Vault) take(c *contents) {
	v.rev = c.Rev
	for _, e := range c.Entries {
		_, err := e.open(v.aead)
		e.damaged = err != nil
		v.rev = max(v.rev, e.Rev)
		v.entries[e.Name] = e
	}
}

// Get returns the value of the entry and its revision. Its errors are ErrNotFound (then rev is 0) and ErrDamaged; with
// ErrDamaged rev is still right, so that Swap can set the entry again. A name that is not there is ErrDamaged, not
// ErrNotFound, while another entry is damaged: it may be this one under a spoilt name.
func (v *Vault) Get(name string) (value []byte, rev uint64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.entries[name]
	if e == nil {
		if names := v.damaged(); len(names) > 0 {
			return nil, 0, fmt.Errorf("%q is %w, and these entries of %s are %w: %s", name, ErrNotFound, v.path, ErrDamaged,
				strings.Join(names, ", "))
		}
		return nil, 0, fmt.Errorf("%q is %w", name, ErrNotFound)
	}
	value, err = e.open(v.aead)
	if err != nil {
		return nil, e.Rev, fmt.Errorf("vault: entry %q of %s is %w; set it again, or put the file back from a backup",
			name, v.path, ErrDamaged)
	}
	return value, e.Rev, nil
}

// Swap sets the entry to value if it is still at revision old, and returns the new revision; old 0 means that there is no
// such entry yet. A nil value removes it and returns 0. When Swap returns nil the change is on the disk. Its errors are
// ErrChanged, a name or value that cannot be kept, and whatever the disk said; then nothing has changed here, and the
// file is the old or, where only the last step failed, the new one.
func (v *Vault) Swap(name string, old uint64, value []byte) (rev uint64, err error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	if len(value) > MaxValueBytes {
		return 0, fmt.Errorf("vault: value of entry %q has %d bytes; the limit is %d", name, len(value), MaxValueBytes)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	have := uint64(0)
	if e := v.entries[name]; e != nil {
		have = e.Rev
	}
	if have != old {
		return 0, fmt.Errorf("%q: %w", name, ErrChanged)
	}
	if value == nil && have == 0 {
		return 0, nil
	}
	next := make(map[string]*entry, len(v.entries)+1)
	for n, e := range v.entries {
		next[n] = e
	}
	delete(next, name)
	if value != nil {
		e := &entry{Name: name, Rev: v.rev + 1, Set: v.now().UTC().Truncate(time.Second)}
		e.seal(v.aead, value)
		next[name] = e
		rev = e.Rev
	}
	data, err := encode(v.aead, v.rev+1, next)
	if err != nil {
		return 0, fmt.Errorf("vault: %w", err)
	}
	if err := replaceFile(v.disk, v.path, data); err != nil {
		return 0, fmt.Errorf("vault: write entry %q: %w", name, err)
	}
	v.rev++
	v.entries = next
	return rev, nil
}

// List returns what is there, sorted by name.
func (v *Vault) List() []Info {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]Info, 0, len(v.entries))
	for _, e := range v.entries {
		list = append(list, Info{Name: e.Name, Set: e.Set, Damaged: e.damaged})
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (v *Vault) damaged() (names []string) {
	for _, e := range v.entries {
		if e.damaged {
			names = append(names, fmt.Sprintf("%q", e.Name))
		}
	}
	slices.Sort(names)
	return names
}

func checkName(name string) error {
	odd := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("vault: %q cannot be the name of an entry", name)
	}
	return nil
}
