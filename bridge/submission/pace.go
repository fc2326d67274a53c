package submission

import (
	"slices"
	"sync"
	"time"
)

// Pacer spreads the mail of users that hand in more than their rate: it is taken, and each message gets the time before
// which it must not leave. Any 60 seconds hold at most the rate; within that a burst is allowed. (A few more where most of
// what was handed in at one time was refused: pullBack.) It outlives a Desk, so that a new configuration does not open a
// second allowance. Safe for concurrent use. The zero value is ready.
type Pacer struct {
	mu    sync.Mutex
	users map[string][]time.Time // when messages leave, the last minute's and those to come, in order
}

// Resume tells of a message that was accepted before the program started and must not leave before at.
func (p *Pacer) Resume(user string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.insert(user, at)
}

// reserve returns when a message that came now may leave.
func (p *Pacer) reserve(user string, perMinute int, now time.Time) time.Time {
	if perMinute <= 0 {
		return now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.users[user]
	past := 0
	for past < len(all) && now.Sub(all[past]) >= time.Minute {
		past++
	}
	all = all[past:]
	pullBack(all, perMinute, now)
	at := now
	if n := len(all); n >= perMinute {
		if free := all[n-perMinute].Add(time.Minute); free.After(at) {
			at = free
		}
	}
	if p.users == nil {
		p.users = map[string][]time.Time{}
	}
	p.users[user] = all
	p.insert(user, at)
	return at
}

// pullBack moves what lies much further ahead than so many could have been put to as far as they could: the clock was ahead
// then, and was set back. Somewhat further is no sign of that: mail that was refused leaves holes. What a former process let go
// within the last minute is not among them.
func pullBack(all []time.Time, perMinute int, now time.Time) {
	most := func(i int) time.Time { return now.Add(time.Duration(i/perMinute+1) * time.Minute) }
	if n := len(all); n == 0 || !all[n-1].After(most(2*n+perMinute)) {
		return
	}
	for i, at := range all {
		if most := most(i); at.After(most) {
			all[i] = most
		}
	}
}

// cancel gives a reservation back: the message was not accepted.
func (p *Pacer) cancel(user string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.users[user], at.Equal); i >= 0 {
		p.users[user] = slices.Delete(p.users[user], i, i+1)
	}
}

func (p *Pacer) insert(user string, at time.Time) {
	if p.users == nil {
		p.users = map[string][]time.Time{}
	}
	all := p.users[user]
	i, _ := slices.BinarySearchFunc(all, at, time.Time.Compare)
	for i < len(all) && all[i].Equal(at) {
		i++
	}
	p.users[user] = slices.Insert(all, i, at)
}
