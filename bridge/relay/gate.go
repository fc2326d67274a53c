package relay

import (
	"context"
	"time"

	"postern/bridge/event"
	"postern/bridge/reply"
)

// Gate is an account's leave to send.
type Gate struct {
	Limit   int       // how many of its messages may be under way now; 0 closed, also while a probe finds out; 1 for that probe
	Again   time.Time // when closed: when to ask again; zero: when somebody called Unpark, or the probe has ended
	Waiting string    // why it is not open: "", "pause" or "parked"
	Since   time.Time // when it is not open: since when
}

// Gate says whether messages of that account may be claimed now. It does not block. An account that is not configured is
// parked.
func (r *Relay) Gate(account string, now time.Time) Gate {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.accounts[account]
	if !ok {
		return Gate{Waiting: "parked"}
	}
	g := Gate{Waiting: "parked"}
	for _, w := range a.ways() {
		t, s := r.state(a, w.name, now)
		if s == open {
			return Gate{Limit: a.Concurrency}
		}
		if !t.parked {
			g.Waiting = "pause"
		}
		switch {
		case s == due && !t.probing:
			g.Limit = 1
		case s == stopped && (g.Again.IsZero() || t.until.Before(g.Again)):
			g.Again = t.until
		}
	}
	if g.Limit > 0 {
		g.Again = time.Time{}
	}
	g.Since = r.since(a, a.ways(), now)
	return g
}

// since is when the last of these ways that was open was stopped; now where one is open. r.mu is held.
func (r *Relay) since(a Account, ways []way, now time.Time) (last time.Time) {
	for _, w := range ways {
		t, s := r.state(a, w.name, now)
		if s == open {
			return now
		}
		if t.since.After(last) {
			last = t.since
		}
	}
	return last
}

// turnBack is the outcome of a message that no transport was open for. The account was stopped after the message was
// claimed, or another of its transports is open, which cannot carry this one. It waits until the next message may probe;
// when a trouble is over before that, the queue is told (Options.Resumed).
func (r *Relay) turnBack(a Account, ways []way) reply.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	since := r.since(a, ways, now)
	o := reply.Outcome{Owner: reply.Route, TurnedBack: true, Since: since, RetryAfter: turnedBack}
	for i, w := range ways {
		t, s := r.state(a, w.name, now)
		if s != stopped { // it opened, or somebody probes
			o = reply.Outcome{Owner: reply.Route, TurnedBack: true, Since: since, RetryAfter: turnedBack, Transport: w.name,
				Reply: reply.Reply{Text: "waits until another message has shown that its transport is up again"}}
			if s == due && t.probing {
				o.RetryAfter = t.waitIfItFails()
			}
			if s == due && t.parked { // for this message it still is: its age stands still
				o.Owner, o.Remedy = t.outcome.Owner, t.outcome.Remedy
			}
			return o
		}
		left := max(t.until.Sub(now), turnedBack)
		if i == 0 {
			o = reply.Outcome{Owner: t.outcome.Owner, Reply: t.outcome.Reply, Remedy: t.outcome.Remedy, Err: t.outcome.Err,
				Transport: w.name, TurnedBack: true, Since: since, RetryAfter: left}
			if !t.parked { // also where it met a login
				o.Owner = reply.Route
			}
		}
		o.RetryAfter = min(o.RetryAfter, left)
	}
	return o
}

// Unpark ends all parks of the account's login: somebody signed in again, stored a secret, or checked that all is well.
// Pauses stay, since they end by themselves. The caller wakes the queue.
func (r *Relay) Unpark(account string) {
	a, ok := r.account(account)
	if !ok {
		return
	}
	var all []ended
	r.mu.Lock()
	own, _ := a.places("")
	for _, name := range r.names {
		other := r.accounts[name]
		for _, w := range other.ways() {
			login, route := other.places(w.name)
			if login.key != own.key {
				continue
			}
			for _, at := range []place{login, route} {
				if t := r.troubles[at]; t != nil && t.parked {
					delete(r.troubles, at)
					all = append(all, ended{at, *t})
				}
			}
		}
	}
	r.mu.Unlock()
	r.tellEnded(all)
}

// tellEnded writes down and tells that these troubles are over.
func (r *Relay) tellEnded(all []ended) {
	for _, e := range all {
		r.remember(context.Background(), e.place)
	}
	for _, e := range all {
		r.tell(context.Background(), event.AccountResumed, e.transport, e.trouble)
	}
}

// The conditions of a State.
const (
	Up     = "up"
	Paused = "paused" // for a known time
	Parked = "parked" // a person must act
)

// State is how one transport of an account stands, for people.
type State struct {
	Account   string
	Transport string // "graph" or "smtp"
	Condition string // Up, Paused or Parked
	Since     time.Time
	Until     time.Time // when a message may probe; in the past: the next one does. Zero: when a person acted
	Why       string    // what the server said, or what happened
	Remedy    string    // "" where nothing need be done
	Drafts    string    // whether messages go as drafts: "yes", "no", "not known"; "" where the transport has none
}

// States lists all accounts' transports in the configuration's order.
func (r *Relay) States() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []State
	now := r.now()
	for _, name := range r.names {
		a := r.accounts[name]
		for _, w := range a.ways() {
			s := State{Account: name, Transport: w.name, Condition: Up}
			if t, _ := r.state(a, w.name, now); t != nil {
				s.Condition = Paused
				if t.parked {
					s.Condition = Parked
				}
				s.Since, s.Until, s.Why, s.Remedy = t.since, t.until, t.why(), t.outcome.Remedy
			}
			if d, ok := w.Transport.(Drafter); ok {
				s.Drafts = d.DraftsInUse()
			}
			all = append(all, s)
		}
	}
	return all
}

// Drafter is a Transport that can send by drafts.
type Drafter interface {
	// DraftsInUse says for people whether messages go as drafts: "yes", "no", or "not known" before it was tried; "" for a
	// transport that has none.
	DraftsInUse() string
}

// why says what the server's reply means, and the reply; where none came, what else is known.
func (t *trouble) why() string {
	said := t.outcome.Reply.String()
	switch {
	case said != "" && t.outcome.Means != "":
		return t.outcome.Means + " (" + said + ")"
	case said != "":
		return said
	}
	if t.outcome.Err != nil {
		return t.outcome.Err.Error()
	}
	return t.outcome.Owner.String()
}
