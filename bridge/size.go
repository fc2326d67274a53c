package bridge

import (
	"cmp"
	"sync/atomic"
	"time"

	"postern/bridge/config"
	"postern/bridge/submission"
)

// largestMessage is SIZE: the largest message that a user of this listener can send by any of his routes, as far as capacity
// knows them now (nil: by the file alone). The desk refuses what the message's own route does not carry.
func largestMessage(cfg *config.Config, l config.Listener, capacity func(account string) submission.Capacity) int64 {
	limits := map[string]int64{}
	var def string
	for _, a := range cfg.Accounts {
		limits[a.Name] = a.MaxMessage
		if capacity != nil {
			limits[a.Name] = limitOf(capacity(a.Name), a.MaxMessage)
		}
		if a.Default || len(cfg.Accounts) == 1 {
			def = a.Name
		}
	}
	var most int64
	for _, u := range cfg.Users {
		if l.Auth == "none" && len(u.Networks) == 0 {
			continue // cannot hand in mail here; where there is a login, control can give one to every user
		}
		can := limits[cmp.Or(u.Account, def)]
		for _, s := range cfg.Scenarios {
			can = max(can, limits[s.Account])
		}
		if u.MaxMessage > 0 {
			can = min(can, u.MaxMessage)
		}
		most = max(most, can)
	}
	return most
}

// everySecond calls f at most once a second and between returns what it said: every EHLO asks, and the stack that f needs
// would stay with each idle client. Safe for concurrent use.
func everySecond(f func() int64) func() int64 {
	type answer struct {
		n    int64
		till time.Time
	}
	var last atomic.Pointer[answer]
	return func() int64 {
		now := time.Now()
		if a := last.Load(); a != nil && now.Before(a.till) {
			return a.n
		}
		n := f()
		last.Store(&answer{n, now.Add(time.Second)})
		return n
	}
}

// limitOf is what an account of that capacity takes, most by the file.
func limitOf(c submission.Capacity, most int64) int64 {
	if c.Max > 0 {
		most = min(most, c.Max)
	}
	if c.Whole > 0 && c.Parts == nil {
		most = min(most, c.Whole)
	}
	return most
}
