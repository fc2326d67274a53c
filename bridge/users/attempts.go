package users

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern/bridge/reply"
)

// How failed logins count. Everything comes from one ERP host, one NAT or this machine, so that a block of an address is
// a block of the product: an address that works is slowed alone (guessing costs it delayMost for each connection and
// try), and a block covers logins, not mail that needs none.
const (
	pairLimit    = 10               // failures of one user name at one address, before it is blocked
	addressLimit = 30               // failures of one address, whatever the names
	blockFor     = 15 * time.Minute // after the last failure
	countFor     = time.Hour        // after the last failure the count begins again
	trustFor     = 24 * time.Hour   // after a good login an address is slowed, never blocked
	delayStep    = time.Second      // before the answer to a failure, times the failures of the pair
	delayMost    = 10 * time.Second
	maxCounts    = 4096 // addresses, and pairs, that are remembered; beyond it the oldest goes
)

// attempts counts failed logins per address, and per address and user. Safe for concurrent use.
type attempts struct {
	mu    sync.Mutex // guards what follows
	pairs map[pair]count
	addrs map[netip.Addr]count
	good  map[netip.Addr]count // of good logins
}

// LoginFrom is Login for a client at remote, whose failures count. wait is how long the answer to a failure should be held
// back, up to 10 seconds. A *reply.Error of 454 is a block: after 10 failures within an hour of one user name at an address,
// or 30 of an address, logins from there are not looked at until 15 minutes after the last failure. Loopback, and an
// address with a good login within a day, are never blocked.
func (u *Users) LoginFrom(ctx context.Context, remote netip.Addr, name, password string) (user string, wait time.Duration, err error) {
	from := u.origin(remote, name)
	if err := u.attempts.blocked(from, u.now()); err != nil {
		return "", delayMost, err
	}
	user, err = u.Login(ctx, name, password)
	switch {
	case errors.Is(err, ErrBadCredentials):
		return "", u.attempts.failed(from, u.now()), err
	case err != nil:
		return "", 0, err
	}
	// Many guesses at a time gain nothing: one that was good after the others were too many is not told.
	if err := u.attempts.blocked(from, u.now()); err != nil {
		return "", delayMost, err
	}
	u.attempts.succeeded(from, u.now())
	return user, 0, nil
}

// pair is a user name, of which only a hash is kept (names may be long), at an address.
type pair struct {
	addr netip.Addr
	name [32]byte
}

type count struct {
	n    int
	last time.Time
}

func newAttempts() *attempts {
	return &attempts{pairs: map[pair]count{}, addrs: map[netip.Addr]count{}, good: map[netip.Addr]count{}}
}

// origin is whose attempt it is: the address, of IPv6 the /64 that one machine may choose from at will.
func (u *Users) origin(addr netip.Addr, name string) pair {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		p, _ := addr.Prefix(64) // 64 is never too long for IPv6
		addr = p.Addr()
	}
	return pair{addr, u.mac("attempt", strings.ToLower(name))}
}

// blocked is the refusal of a login that is not even looked at, or nil.
func (a *attempts) blocked(p pair, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.addr.IsLoopback() || a.good[p.addr].since(now) < trustFor {
		return nil
	}
	byPair, byAddr := a.pairs[p], a.addrs[p.addr]
	last := byPair.last
	switch {
	case byAddr.n >= addressLimit:
		last = byAddr.last
	case byPair.n < pairLimit:
		return nil
	}
	if now.Sub(last) >= blockFor {
		return nil
	}
	return &reply.Error{Code: 454, Enhanced: "4.7.0", Text: "Too many failed logins, try again later",
		Err: fmt.Errorf("%d failed logins from this address, %d of them as this user: logins are blocked until %s; mail that needs none is not",
			max(byAddr.n, byPair.n), byPair.n, last.Add(blockFor).Format(time.TimeOnly))}
}

// failed counts a failure and returns how long its answer is held back.
func (a *attempts) failed(p pair, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	raise(a.addrs, p.addr, now)
	return min(time.Duration(raise(a.pairs, p, now))*delayStep, delayMost)
}

// succeeded forgets the failures of the pair and trusts the address.
func (a *attempts) succeeded(p pair, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pairs, p)
	raise(a.good, p.addr, now)
}

// since is how long ago the last was; for ever where there was none.
func (c count) since(now time.Time) time.Duration {
	if c.n == 0 {
		return 1<<63 - 1
	}
	return now.Sub(c.last)
}

// raise counts one more and returns how many there are.
func raise[K comparable](m map[K]count, key K, now time.Time) int {
	c, ok := m[key]
	if c.since(now) >= countFor {
		c.n = 0
	}
	if !ok && len(m) >= maxCounts {
		dropOldest(m)
	}
	m[key] = count{c.n + 1, now}
	return c.n + 1
}

func dropOldest[K comparable](m map[K]count) {
	var oldest K
	var at time.Time
	for k, c := range m {
		if at.IsZero() || c.last.Before(at) {
			oldest, at = k, c.last
		}
	}
	delete(m, oldest)
}
