package users

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/bridge/reply"
)

// gate is users with a clock, and a user nav with the password "pw".
type gate struct {
	t   *testing.T
	u   *Users
	now time.Time
}

func newGate(t *testing.T) *gate {
	g := &gate{t: t, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	g.u = open(t, func() time.Time { return g.now }, User{Name: "nav", Hashes: []string{cheap(t, "pw", 1)}})
	return g
}

// try logs in and says how it ended: "in", "bad" or "blocked".
func (g *gate) try(addr, name, password string) (string, time.Duration) {
	g.t.Helper()
	_, wait, err := g.u.LoginFrom(g.t.Context(), netip.MustParseAddr(addr), name, password)
	var r *reply.Error
	switch {
	case err == nil:
		return "in", wait
	case errors.Is(err, ErrBadCredentials):
		return "bad", wait
	case errors.As(err, &r) && r.Code == 454 && r.Enhanced == "4.7.0":
		return "blocked", wait
	}
	g.t.Fatalf("LoginFrom = %v", err)
	return "", 0
}

func (g *gate) want(addr, name, password, want string) {
	g.t.Helper()
	if got, _ := g.try(addr, name, password); got != want {
		g.t.Fatalf("a login of %s from %s is %q; want %q", name, addr, got, want)
	}
}

func (g *gate) fail(times int, addr, name string) {
	g.t.Helper()
	for range times {
		g.want(addr, name, "wrong", "bad")
	}
}

func TestTenFailuresBlockAUserAtAnAddress(t *testing.T) {
	g := newGate(t)
	g.fail(10, "192.0.2.1", "nav")
	g.want("192.0.2.1", "NAV", "pw", "blocked") // the good password too: a guess is not told from it
	g.want("192.0.2.2", "nav", "pw", "in")      // another address of the same user
	g.want("192.0.2.1", "erp", "wrong", "bad")  // another user of the same address

	g.now = g.now.Add(15*time.Minute - time.Second)
	g.want("192.0.2.1", "nav", "pw", "blocked")
	g.now = g.now.Add(time.Second)
	g.want("192.0.2.1", "nav", "wrong", "bad") // one more failure renews the block
	g.want("192.0.2.1", "nav", "pw", "blocked")
	g.now = g.now.Add(15 * time.Minute)
	g.want("192.0.2.1", "nav", "pw", "in")
	g.fail(12, "192.0.2.1", "nav") // the address has worked
}

func TestThirtyFailuresBlockAnAddress(t *testing.T) {
	g := newGate(t)
	for i := range 30 {
		g.want("192.0.2.1", fmt.Sprint("guess", i), "wrong", "bad")
	}
	g.want("192.0.2.1", "nav", "pw", "blocked")
	g.now = g.now.Add(15 * time.Minute)
	g.want("192.0.2.1", "nav", "pw", "in")
}

func TestAnHourForgets(t *testing.T) {
	g := newGate(t)
	g.fail(9, "192.0.2.1", "nav")
	g.now = g.now.Add(time.Hour)
	g.fail(9, "192.0.2.1", "nav")
	g.want("192.0.2.1", "nav", "pw", "in")
}

func TestAnAddressThatWorksIsNeverBlocked(t *testing.T) {
	for _, tc := range []struct{ name, addr string }{
		{"this machine", "127.0.0.1"}, {"this machine, IPv6", "::1"}, {"this machine, mapped", "::ffff:127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t)
			g.fail(40, tc.addr, "nav")
			g.want(tc.addr, "nav", "pw", "in")
		})
	}
	t.Run("an address with a good login, for a day", func(t *testing.T) {
		g := newGate(t)
		g.want("192.0.2.1", "nav", "pw", "in")
		g.now = g.now.Add(24*time.Hour - time.Second)
		g.fail(10, "192.0.2.1", "erp")
		g.want("192.0.2.1", "erp", "wrong", "bad")
		g.now = g.now.Add(time.Second)
		g.want("192.0.2.1", "erp", "wrong", "blocked")
	})
}

func TestFailuresAreSlowed(t *testing.T) {
	g := newGate(t)
	for i := 1; i <= 12; i++ {
		want := min(time.Duration(i)*time.Second, 10*time.Second)
		if _, wait := g.try("127.0.0.1", "nav", "wrong"); wait != want {
			t.Errorf("failure %d waits %v; want %v", i, wait, want)
		}
	}
	if got, wait := g.try("127.0.0.1", "nav", "pw"); got != "in" || wait != 0 {
		t.Errorf("the good login is %q after %v", got, wait)
	}
	if _, wait := g.try("127.0.0.1", "nav", "wrong"); wait != time.Second {
		t.Errorf("after a good login a failure waits %v; want a second", wait)
	}
}

func TestOneMachineHasOneIPv6Network(t *testing.T) {
	g := newGate(t)
	for i := range 10 {
		g.want(fmt.Sprintf("2001:db8::%x", i), "nav", "wrong", "bad")
	}
	g.want("2001:db8::ffff:1", "nav", "pw", "blocked")
	g.want("2001:db8:0:1::1", "nav", "pw", "in")
	g.fail(10, "::ffff:192.0.2.1", "nav")
	g.want("192.0.2.1", "nav", "pw", "blocked") // a mapped address is its IPv4 address
}

func TestTheBlockNamesItsEndAndNoPassword(t *testing.T) {
	g := newGate(t)
	g.fail(10, "192.0.2.1", "nav")
	_, _, err := g.u.LoginFrom(t.Context(), netip.MustParseAddr("192.0.2.1"), "nav", "hunter2")
	if err == nil || !strings.Contains(err.Error(), "blocked until 12:15:00") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("err = %v; want its end", err)
	}
}

func TestANewConfigurationForgetsNoFailure(t *testing.T) {
	g := newGate(t)
	g.fail(10, "192.0.2.1", "nav")
	before := g.u
	g.u = open(t, func() time.Time { return g.now }, User{Name: "nav", Hashes: []string{cheap(t, "pw", 1)}})
	g.u.Succeed(before)
	g.want("192.0.2.1", "nav", "pw", "blocked")
	g.want("192.0.2.2", "nav", "pw", "in")
}

func TestCountsAreBounded(t *testing.T) {
	a := newAttempts()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for i := range maxCounts + 100 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		a.failed(pair{addr: addr}, now.Add(time.Duration(i)))
		a.succeeded(pair{addr: addr, name: [32]byte{1}}, now.Add(time.Duration(i)))
	}
	if len(a.addrs) != maxCounts || len(a.pairs) != maxCounts || len(a.good) != maxCounts {
		t.Errorf("%d addresses, %d pairs, %d good; want %d", len(a.addrs), len(a.pairs), len(a.good), maxCounts)
	}
	if _, ok := a.addrs[netip.MustParseAddr("10.0.0.0")]; ok {
		t.Error("the oldest is still there")
	}
}
