// Package users knows the local applications: their passwords (argon2id hashes) and the networks from which a client
// without AUTH acts as one of them. It must not know SMTP, accounts or files. The hall makes one of it per configuration
// and hands it to the listeners, who ask it at AUTH and at MAIL; `postern passwd` calls Hash. A login that is not good is
// ErrBadCredentials, whatever was wrong with it; any other error of a login is temporary. Failures are counted across
// connections and listeners, per address and user; the counts live as long as the Users.
package users

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"

	"postern/bridge/reply"
)

// ErrBadCredentials is Login's answer to an unknown user, a user without a password and a wrong password alike. It is a
// reply (RFC 4954 section 6), so that a listener can write it without knowing this package.
var ErrBadCredentials error = &reply.Error{Code: 535, Enhanced: "5.7.8", Text: "Authentication credentials invalid"}

const (
	cacheFor     = 60 * time.Second // how long a good login is believed without a hash
	cacheEntries = 1024             // beyond it the oldest goes
	freeEvery    = 5 * time.Second  // memory is given back to the system at most this often
)

// own are the parameters of Hash: m = 12 MiB, t = 3, p = 1, from the table of OWASP's password storage cheat sheet (read
// November 2026), chosen for the daemon's memory.
var own = argon2id.Params{Memory: 12 * 1024, Iterations: 3, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// User is one local application.
type User struct {
	Name     string         // as configured; compared without regard to case
	Hashes   []string       // PHC strings of argon2id; any of them lets in; none: the user cannot log in
	Networks []netip.Prefix // clients without AUTH from here act as this user
}

// Options is what the hall hands over.
type Options struct {
	Users []User
	Now   func() time.Time // default time.Now
}

// Users answers who a client is. Safe for concurrent use.
type Users struct {
	now      func() time.Time
	byName   map[string]User // by lower-case name
	decoys   [][]string      // the hashes of each user that has some, or one invented
	networks []network       // longest prefix first
	key      [32]byte        // of this process alone: what is cached and which decoy is taken cannot be told from outside
	hashing  chan struct{}   // holds one token while a hash is computed: each takes megabytes
	attempts *attempts
	compare  func(password, hash string) (bool, error) // argon2id's; tests count its calls

	mu    sync.Mutex // guards what follows
	good  map[[32]byte]time.Time
	order [][32]byte // keys of good, oldest first
	freed time.Time
}

type network struct {
	prefix netip.Prefix
	user   string
}

// New checks users and hashes. It reports all mistakes at once, each with the user's name and never with a hash.
func New(o Options) (*Users, error) {
	u := &Users{
		now:     o.Now,
		byName:  make(map[string]User, len(o.Users)),
		hashing: make(chan struct{}, 1),
		good:    make(map[[32]byte]time.Time),

		attempts: newAttempts(),
		compare:  argon2id.ComparePasswordAndHash,
	}
	if u.now == nil {
		u.now = time.Now
	}
	rand.Read(u.key[:]) // never fails (crypto/rand, Go 1.24)
	var errs []error
	for _, user := range o.Users {
		errs = append(errs, u.add(user))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(u.decoys) == 0 {
		u.decoys = append(u.decoys, []string{inventedHash()})
	}
	slices.SortStableFunc(u.networks, func(a, b network) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return u, nil
}

func (u *Users) add(user User) error {
	key := strings.ToLower(user.Name)
	if key == "" {
		return errors.New("a user has no name")
	}
	if _, ok := u.byName[key]; ok {
		return fmt.Errorf("user %q stands there twice", user.Name)
	}
	var errs []error
	for i, h := range user.Hashes {
		if err := checkHash(h); err != nil {
			errs = append(errs, fmt.Errorf("password %d of user %q: %w", i+1, user.Name, err))
		}
	}
	for _, p := range user.Networks {
		if !p.IsValid() {
			errs = append(errs, fmt.Errorf("user %q has a network that is none", user.Name))
			continue
		}
		p = unmapPrefix(p)
		for _, n := range u.networks {
			if n.prefix == p && !strings.EqualFold(n.user, user.Name) {
				errs = append(errs, fmt.Errorf("network %s belongs to user %q and to user %q", p, n.user, user.Name))
			}
		}
		u.networks = append(u.networks, network{p, user.Name})
	}
	u.byName[key] = user
	if len(user.Hashes) > 0 {
		u.decoys = append(u.decoys, user.Hashes)
	}
	return errors.Join(errs...)
}

// Login checks a password and returns the user's name as configured. An unknown user, a user without a password and a
// wrong password give ErrBadCredentials after the same work. One hash is computed at a time; Login waits for its turn as
// long as ctx lets it and then returns ctx's error. A good login is believed for 60 seconds: old applications log in for
// every message.
func (u *Users) Login(ctx context.Context, name, password string) (user string, err error) {
	key := u.mac(strings.ToLower(name), password)
	known, ok := u.byName[strings.ToLower(name)]
	if ok && u.isGood(key) {
		return known.Name, nil
	}
	select {
	case u.hashing <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a login to be checked: %w", ctx.Err())
	}
	defer func() { <-u.hashing }()
	if ok && u.isGood(key) { // another connection of the same application was checked while this one waited
		return known.Name, nil
	}
	hashes := known.Hashes
	if len(hashes) == 0 {
		hashes = u.decoy(name)
	}
	matched := false
	for _, h := range hashes {
		m, err := u.compare(password, h)
		matched = matched || err == nil && m
	}
	u.giveMemoryBack()
	if !matched || len(known.Hashes) == 0 {
		return "", ErrBadCredentials
	}
	u.remember(key)
	return known.Name, nil
}

// decoy chooses whose hashes a name without a password is checked against: always the same ones for a name, and spread
// over the real users, so that time does not tell an unknown name even where the users' parameters differ.
func (u *Users) decoy(name string) []string {
	sum := u.mac("decoy", strings.ToLower(name))
	return u.decoys[binary.BigEndian.Uint64(sum[:8])%uint64(len(u.decoys))]
}

// mac ties two strings to this process; the length keeps ("ab", "c") and ("a", "bc") apart.
func (u *Users) mac(a, b string) (sum [32]byte) {
	m := hmac.New(sha256.New, u.key[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(a))))
	m.Write([]byte(a))
	m.Write([]byte(b))
	m.Sum(sum[:0])
	return sum
}

func (u *Users) isGood(key [32]byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	until, ok := u.good[key]
	return ok && u.now().Before(until)
}

func (u *Users) remember(key [32]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.good[key]; !ok {
		if len(u.order) == cacheEntries {
			delete(u.good, u.order[0])
			u.order = slices.Delete(u.order, 0, 1)
		}
		u.order = append(u.order, key)
	}
	u.good[key] = u.now().Add(cacheFor)
}

// giveMemoryBack returns the hash's megabytes to the system. The garbage collector would, but minutes later on an idle
// daemon; a forced collection costs milliseconds, so a burst of logins pays for one only.
func (u *Users) giveMemoryBack() {
	u.mu.Lock()
	now := u.now()
	due := u.freed.IsZero() || now.Sub(u.freed) >= freeEvery
	if due {
		u.freed = now
	}
	u.mu.Unlock()
	if due {
		debug.FreeOSMemory()
	}
}

// At returns the user whose networks hold addr; the longest prefix wins. An IPv4-mapped address is its IPv4 address.
func (u *Users) At(addr netip.Addr) (user string, ok bool) {
	addr = addr.Unmap().WithZone("")
	for _, n := range u.networks {
		if n.prefix.Contains(addr) {
			return n.user, true
		}
	}
	return "", false
}

// unmapPrefix turns ::ffff:192.0.2.0/120 into 192.0.2.0/24.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
