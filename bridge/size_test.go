package bridge

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/config"
	"postern/bridge/submission"
)

func TestSizeIsWhatTheListenersUsersCanSend(t *testing.T) {
	here := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	cfg := &config.Config{
		Accounts: []config.Account{{Name: "small", MaxMessage: 10}, {Name: "large", MaxMessage: 100, Default: true}, {Name: "huge", MaxMessage: 1000}},
		Users:    []config.User{{Name: "erp", MaxMessage: 50}, {Name: "nav"}, {Name: "scanner", Account: "small", Networks: here}},
	}
	routed := *cfg
	routed.Scenarios = []config.Scenario{{Name: "all", Account: "huge"}}
	whole := func(c submission.Capacity) func(string) submission.Capacity {
		return func(account string) submission.Capacity {
			if account == "large" {
				return c
			}
			return submission.Capacity{}
		}
	}
	parts := func([]byte, io.Reader) error { return nil }
	for _, tc := range []struct {
		name     string
		cfg      *config.Config
		auth     string
		capacity func(string) submission.Capacity
		want     int64
	}{
		{"with a login everybody may come", cfg, "required", nil, 100},
		{"without one only who has networks", cfg, "none", nil, 10},
		{"a scenario may lead elsewhere", &routed, "required", nil, 1000},
		{"a route that splits nothing carries what goes whole", cfg, "required", whole(submission.Capacity{Whole: 30}), 30},
		{"a route that splits carries more", cfg, "required", whole(submission.Capacity{Whole: 30, Parts: parts}), 100},
		{"a mailbox has shown a limit", cfg, "optional", whole(submission.Capacity{Max: 40}), 40},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := largestMessage(tc.cfg, config.Listener{Auth: tc.auth}, tc.capacity); got != tc.want {
				t.Errorf("largestMessage = %d; want %d", got, tc.want)
			}
		})
	}
}

func TestEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := int64(0)
		f := everySecond(func() int64 { calls++; return calls })
		got := []int64{f(), f()}
		time.Sleep(time.Second)
		if got = append(got, f()); got[0] != 1 || got[1] != 1 || got[2] != 2 {
			t.Errorf("it said %v; want 1, 1 and a second later 2", got)
		}
	})
}
