package users

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"

	"postern/bridge/reply"
)

// cheap makes hashes that a test can afford.
func cheap(t testing.TB, password string, iterations uint32) string {
	t.Helper()
	h, err := argon2id.CreateHash(password, &argon2id.Params{Memory: 64, Iterations: iterations, Parallelism: 1, SaltLength: 16, KeyLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func open(t testing.TB, now func() time.Time, us ...User) *Users {
	t.Helper()
	u, err := New(Options{Users: us, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestLogin(t *testing.T) {
	u := open(t, nil,
		User{Name: "NAV", Hashes: []string{cheap(t, "old", 1), cheap(t, "new", 2)}},
		User{Name: "scanner"},
	)
	for _, tc := range []struct {
		name, user, password, want string
	}{
		{"a good password gives the configured spelling", "nav", "old", "NAV"},
		{"the second of two passwords works while they are being changed", "NaV", "new", "NAV"},
		{"a wrong password is refused", "NAV", "nonsense", ""},
		{"an empty password is refused", "NAV", "", ""},
		{"a user without a password cannot log in", "scanner", "", ""},
		{"a user without a password cannot log in with another's", "scanner", "old", ""},
		{"an unknown user is refused", "root", "old", ""},
		{"an empty name is refused", "", "old", ""},
		{"a name that is not UTF-8 is refused", "\xff", "old", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := u.Login(t.Context(), tc.user, tc.password)
			if got != tc.want || (tc.want == "") != errors.Is(err, ErrBadCredentials) {
				t.Errorf("Login(%q) = %q, %v; want %q", tc.user, got, err, tc.want)
			}
		})
	}
}

func TestBadCredentialsAreAReplyOfTheirOwn(t *testing.T) {
	var r *reply.Error
	if !errors.As(ErrBadCredentials, &r) || r.Code != 535 || r.Enhanced != "5.7.8" {
		t.Errorf("ErrBadCredentials = %v; want 535 5.7.8", ErrBadCredentials)
	}
}

// The time that an unknown user takes is the time of some real user's hashes, and always of the same one's.
func TestDecoyIsARealUsersWork(t *testing.T) {
	a, b := cheap(t, "a", 1), cheap(t, "b", 5)
	u := open(t, nil, User{Name: "a", Hashes: []string{a}}, User{Name: "b", Hashes: []string{b, b}}, User{Name: "c"})
	seen := map[string]bool{}
	for i := range 64 {
		name := fmt.Sprint("unknown", i)
		d := u.decoy(name)
		if again := u.decoy(strings.ToUpper(name)); d[0] != again[0] {
			t.Fatalf("decoy(%q) changes from call to call", name)
		}
		seen[d[0]] = true
	}
	if !seen[a] || !seen[b] || len(seen) != 2 {
		t.Errorf("decoys taken: %d different; want both users with a password and no other", len(seen))
	}
	if h := open(t, nil).decoy("x"); checkHash(h[0]) != nil {
		t.Errorf("the invented hash is no hash: %v", checkHash(h[0]))
	}
}

// What a login costs must not tell whether its user is there, has a password, or which of two passwords is his.
func TestEveryLoginCostsTheSameHashes(t *testing.T) {
	a, b := cheap(t, "a", 1), cheap(t, "b", 1)
	for _, tc := range []struct{ name, user, password string }{
		{"a wrong password", "nav", "wrong"},
		{"the first of two passwords", "nav", "a"},
		{"the second", "nav", "b"},
		{"a user without a password", "scanner", "a"},
		{"an unknown user", "root", "a"},
		{"no name", "", ""},
		{"a name that is not UTF-8", "\xff", "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := open(t, nil, User{Name: "nav", Hashes: []string{a, b}}, User{Name: "scanner"})
			var hashed []string
			u.compare = func(password, hash string) (bool, error) {
				hashed = append(hashed, hash)
				return argon2id.ComparePasswordAndHash(password, hash)
			}
			u.Login(t.Context(), tc.user, tc.password)
			if len(hashed) != 2 || hashed[0] != a || hashed[1] != b {
				t.Errorf("%d hashes were computed: %q; want both of the one user who has some", len(hashed), hashed)
			}
		})
	}
}

func TestCacheBelievesAGoodLoginForAMinute(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	u := open(t, func() time.Time { return now }, User{Name: "nav", Hashes: []string{cheap(t, "pw", 1)}})
	if _, err := u.Login(t.Context(), "nav", "pw"); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	u.hashing <- struct{}{} // from here on a login that needs a hash waits, and its context has ended
	login := func(name, password string) error { _, err := u.Login(ended, name, password); return err }

	now = now.Add(59 * time.Second)
	if err := login("NAV", "pw"); err != nil {
		t.Errorf("after 59 s the login is hashed again: %v", err)
	}
	if err := login("nav", "PW"); !errors.Is(err, context.Canceled) {
		t.Errorf("another password found the cache: %v", err)
	}
	now = now.Add(time.Second)
	if err := login("nav", "pw"); !errors.Is(err, context.Canceled) {
		t.Errorf("after 60 s the login is still believed: %v", err)
	}
}

func TestOnlySuccessIsCached(t *testing.T) {
	u := open(t, nil, User{Name: "nav", Hashes: []string{cheap(t, "pw", 1)}})
	for range 3 {
		u.Login(t.Context(), "nav", "wrong")
		u.Login(t.Context(), "nobody", "pw")
	}
	if len(u.good) != 0 {
		t.Errorf("%d refused logins are cached", len(u.good))
	}
}

func TestCacheIsBounded(t *testing.T) {
	u := open(t, nil)
	for i := range cacheEntries + 10 {
		u.remember(u.mac("u", fmt.Sprint(i)))
	}
	if len(u.good) != cacheEntries || len(u.order) != cacheEntries {
		t.Errorf("cache holds %d entries and %d places; want %d", len(u.good), len(u.order), cacheEntries)
	}
	if u.isGood(u.mac("u", "0")) || !u.isGood(u.mac("u", fmt.Sprint(cacheEntries+9))) {
		t.Error("the oldest stayed or the newest went")
	}
}

func TestOneHashAtATimeAndOneForAllWhoWait(t *testing.T) {
	u := open(t, nil, User{Name: "nav", Hashes: []string{cheap(t, "pw", 1)}})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := u.Login(t.Context(), "nav", "pw"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if cap(u.hashing) != 1 || len(u.hashing) != 0 {
		t.Errorf("semaphore: %d of %d taken; want 0 of 1", len(u.hashing), cap(u.hashing))
	}
}

func TestWhoWaitsForHisTurnWaitsNoLongerThanHisContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := open(t, nil, User{Name: "nav", Hashes: []string{cheap(t, "pw", 1)}})
		u.hashing <- struct{}{} // somebody's hash is being computed, for ever
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := u.Login(ctx, "nav", "pw"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Login = %v; want the context's error", err)
		}
	})
}

func TestMemoryIsGivenBackAtMostEveryFewSeconds(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	u := open(t, func() time.Time { return now })
	u.giveMemoryBack()
	first := u.freed
	now = now.Add(freeEvery - 1)
	u.giveMemoryBack()
	if !u.freed.Equal(first) {
		t.Error("memory was given back twice within the limit")
	}
	now = now.Add(1)
	if u.giveMemoryBack(); u.freed.Equal(first) {
		t.Error("memory was not given back when it was due")
	}
}

func TestAt(t *testing.T) {
	p := netip.MustParsePrefix
	u := open(t, nil,
		User{Name: "wide", Networks: []netip.Prefix{p("192.0.2.0/24"), p("2001:db8::/48")}},
		User{Name: "narrow", Networks: []netip.Prefix{p("192.0.2.31/32"), p("::ffff:198.51.100.0/120")}},
	)
	for _, tc := range []struct{ name, addr, want string }{
		{"the longest prefix wins", "192.0.2.31", "narrow"},
		{"another address of the wide network", "192.0.2.32", "wide"},
		{"an IPv4-mapped address is its IPv4 address", "::ffff:192.0.2.31", "narrow"},
		{"an IPv4-mapped network is its IPv4 network", "198.51.100.9", "narrow"},
		{"IPv6", "2001:db8::1", "wide"},
		{"a zone does not matter", "2001:db8::1%eth0", "wide"},
		{"nobody's address", "203.0.113.1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := u.At(netip.MustParseAddr(tc.addr))
			if got != tc.want || ok != (tc.want != "") {
				t.Errorf("At(%s) = %q, %v; want %q", tc.addr, got, ok, tc.want)
			}
		})
	}
	if _, ok := u.At(netip.Addr{}); ok {
		t.Error("the zero address belongs to somebody")
	}
}

func TestNewRefuses(t *testing.T) {
	good := cheap(t, "x", 1)
	with := func(params string) string { return strings.Replace(good, "m=64,t=1,p=1", params, 1) }
	p := netip.MustParsePrefix
	for _, tc := range []struct {
		name  string
		users []User
		want  string
	}{
		{"a name twice in different case", []User{{Name: "a"}, {Name: "A"}}, "twice"},
		{"no name", []User{{}}, "no name"},
		{"a password in clear", []User{{Name: "a", Hashes: []string{"secret"}}}, "postern passwd"},
		{"another hash", []User{{Name: "a", Hashes: []string{"$2a$10$abc"}}}, "postern passwd"},
		{"more than 1 GiB", []User{{Name: "a", Hashes: []string{with("m=1048577,t=1,p=1")}}}, "1 GiB"},
		{"no memory", []User{{Name: "a", Hashes: []string{with("m=0,t=1,p=1")}}}, "minimum"},
		{"no iterations", []User{{Name: "a", Hashes: []string{with("m=64,t=0,p=1")}}}, "minimum"},
		{"no threads", []User{{Name: "a", Hashes: []string{with("m=64,t=1,p=0")}}}, "minimum"},
		{"iterations without end", []User{{Name: "a", Hashes: []string{with("m=64,t=4000000000,p=1")}}}, "iterations"},
		{"a short key", []User{{Name: "a", Hashes: []string{"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$a2V5"}}}, "too short"},
		{"one network of two users", []User{{Name: "a", Networks: []netip.Prefix{p("10.0.0.0/8")}}, {Name: "b", Networks: []netip.Prefix{p("10.1.0.0/8")}}}, "belongs to"},
		{"a network that is none", []User{{Name: "a", Networks: []netip.Prefix{{}}}}, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(Options{Users: tc.users})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("New = %v; want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "$") {
				t.Errorf("the error quotes the hash: %v", err)
			}
		})
	}
	if _, err := New(Options{Users: []User{{Name: "a", Hashes: []string{with("m=65536,t=10,p=4")}}}}); err != nil {
		t.Errorf("a stronger hash made elsewhere is refused: %v", err)
	}
}

func TestHash(t *testing.T) {
	h, err := Hash("pw")
	if err != nil || !strings.HasPrefix(h, "$argon2id$v=19$m=12288,t=3,p=1$") {
		t.Fatalf("Hash = %q, %v", h, err)
	}
	u := open(t, nil, User{Name: "a", Hashes: []string{h}})
	if _, err := u.Login(t.Context(), "a", "pw"); err != nil {
		t.Errorf("its own hash does not let in: %v", err)
	}
	if _, err := Hash(""); err == nil {
		t.Error("an empty password was hashed")
	}
}

func FuzzCheckHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5")
	f.Add("$argon2id$v=19$m=0,t=0,p=0$$")
	f.Fuzz(func(t *testing.T, h string) {
		if checkHash(h) != nil {
			return
		}
		if p, _, _, err := argon2id.DecodeHash(h); err != nil || p.Memory > 256 || p.Iterations > 2 {
			return // accepted, but too dear to compute here
		}
		if _, err := argon2id.ComparePasswordAndHash("x", h); err != nil {
			t.Errorf("an accepted hash cannot be compared: %v", err)
		}
	})
}

// BenchmarkLogin prints what a login costs with Hash's parameters, checked and from the cache.
func BenchmarkLogin(b *testing.B) {
	h, err := Hash("pw")
	if err != nil {
		b.Fatal(err)
	}
	u := open(b, nil, User{Name: "nav", Hashes: []string{h}})
	b.Run("wrong password", func(b *testing.B) {
		for b.Loop() {
			u.Login(b.Context(), "nav", "wrong")
		}
	})
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			if _, err := u.Login(b.Context(), "nav", "pw"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
