package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// place is where trouble is kept: a login or a mailbox, at one transport. A token of a login is another one for each
// transport, and what one service refuses the other may take.
type place struct {
	login     bool
	key       string
	transport string
}

// places returns where trouble can stop this account's transport.
func (a Account) places(transport string) (login, route place) {
	login = place{login: true, key: a.Login, transport: transport}
	if a.Login == "" {
		login.key = "account " + a.Name
	}
	route = place{key: a.Mailbox, transport: transport}
	if a.Mailbox == "" {
		route.key = "account " + a.Name
	}
	return login, route
}

// trouble stops a place. It is there from the first failure until the first success, or until a person acted.
type trouble struct {
	parked   bool // a person must act; else it is paused and passes by itself
	since    time.Time
	until    time.Time // when one message may probe; zero: at once
	failures int       // in a row, of the probes; picks the next wait
	misses   int       // in a row, of the probes of a parked login that did not get as far as it
	round    int       // unique; changes with each failure: an attempt that began in another round proves nothing
	probing  bool      // one message is on its way to find out
	account  string    // whose message met it first; it is told of once, and once when it is over
	outcome  reply.Outcome
	cause    string // of a pause: what it hangs on, as Path says

	met []envelope.ID // the messages that parked a mailbox by a guess, and the probes that did not get through so
}

// try is one message on its way by one transport.
type try struct {
	id        envelope.ID
	transport string
	round     int // of the trouble when it began
}

// attempt sends the message by one transport and learns from the outcome. sent is false, and nothing was done, where the
// transport is stopped.
func (r *Relay) attempt(ctx context.Context, a Account, w way, out message.Outgoing) (o reply.Outcome, sent bool) {
	round, ok := r.begin(a, w.name)
	if !ok {
		return reply.Outcome{}, false
	}
	finished := false
	defer func() {
		if !finished { // a panic goes on to the worker; the probe must not stay open for ever
			r.end(ctx, a, try{out.ID, w.name, round}, reply.Outcome{Owner: reply.Process})
		}
	}()
	out.Intent = intentOf(out, w.name)
	if out.BeforeSend != nil {
		out.BeforeSend(ctx)
	}
	o = w.Send(ctx, out)
	if o.Transport == "" {
		o.Transport = w.name
	}
	finished = true
	r.end(ctx, a, try{out.ID, w.name, round}, o)
	return o, true
}

// begin says whether a message may go by this transport now, and notes that it probes where there was trouble.
func (r *Relay) begin(a Account, transport string) (round int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch t, s := r.state(a, transport, r.now()); s {
	case open:
		return 0, true
	case due:
		if t.probing {
			return 0, false
		}
		t.probing = true
		return t.round, true
	}
	return 0, false
}

// status is what a transport of an account can do.
type status int

const (
	stopped status = iota
	due            // stopped, and a probe may find out
	open
)

// state returns the trouble that decides for this account and transport, and what it allows now; nil where there is
// none. A login decides before a mailbox, but none of its probes goes to a mailbox whose own time has not come. r.mu is held.
func (r *Relay) state(a Account, transport string, now time.Time) (*trouble, status) {
	login, route := a.places(transport)
	t, mailbox := r.troubles[login], r.troubles[route]
	switch {
	case t == nil:
		t = mailbox
	case mailbox != nil && mailbox.until.After(t.until) && now.Before(mailbox.until):
		both := *t
		both.until = mailbox.until
		return &both, stopped
	}
	switch {
	case t == nil:
		return nil, open
	case now.Before(t.until):
		return t, stopped
	}
	return t, due
}

// parked reports whether only a person, or the vendor for him, brings this transport of the account back.
func (r *Relay) parked(a Account, transport string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, _ := r.state(a, transport, r.now())
	return t != nil && t.parked
}

// end learns from one attempt.
func (r *Relay) end(ctx context.Context, a Account, by try, o reply.Outcome) {
	r.mu.Lock()
	login, route := a.places(by.transport)
	t := r.troubles[route]
	if t != nil && t.round == by.round {
		t.probing = false
	}
	if relayed(o) {
		r.forget(by.id)
	}
	var all []told
	if over := r.probedLogin(login, by.round, o); over != nil {
		all = append(all, told{event.AccountResumed, *over})
	}
	var tell event.Kind
	learnt := []place{login, route}
	switch {
	case o.Owner == reply.Login && needsPerson(o):
		t, tell = r.park(login, a.Name, o)
	case o.Owner == reply.Account && !r.isOwn(route, by.id, o) || o.Owner == reply.Route || o.Owner == reply.Login:
		t, tell = r.fail(route, by, a, o)
	case o.Owner == reply.Process || t == nil || t.round != by.round:
		if len(all) == 0 {
			learnt = nil
		}
	case o.Owner == reply.Account && t.parked: // its own trouble shows nothing, but many such do not probe at a stroke
		t.until = r.now().Add(turnedBack)
	case !t.parked || relayed(o):
		// A pause ends with any answer about the message itself; a mailbox is shown to be in order only by a message
		// that went through it.
		delete(r.troubles, route)
		r.acquit(route, t, by.id)
		tell = event.AccountResumed
	}
	if tell != "" {
		all = append(all, told{tell, *t})
	}
	r.mu.Unlock()
	r.remember(ctx, learnt...)
	for _, one := range all {
		r.tell(ctx, one.kind, by.transport, one.trouble)
		if one.kind == event.AccountResumed && r.resumed != nil {
			r.resumed()
		}
	}
}

// told is something to tell once r.mu is free.
type told struct {
	kind event.Kind
	trouble
}

// probedLogin learns from an attempt that probed a parked login, and returns the park where it is over: the probe got past
// the login, so the cause is gone although nobody told us (a secret's file was changed, a consent was granted in Entra).
// r.mu is held.
func (r *Relay) probedLogin(login place, round int, o reply.Outcome) *trouble {
	t := r.troubles[login]
	if t == nil || t.round != round {
		return nil
	}
	t.probing = false
	switch {
	case o.Owner == reply.Login && needsPerson(o):
		t.outcome = o
		t.failures++
		t.misses = 0
		t.until = r.now().Add(t.wait(o.RetryAfter))
		r.rounds++
		t.round = r.rounds
		return nil
	case o.Owner == reply.Login, o.Owner == reply.Route, o.Owner == reply.Process:
		t.until = r.now().Add(max(wait(pauses, t.misses), min(o.RetryAfter, maxPause)))
		t.misses++
		return nil
	}
	delete(r.troubles, login)
	return t
}

// park stops a login at a transport until Unpark, or until a probe gets past it. Only the first message tells.
func (r *Relay) park(at place, account string, o reply.Outcome) (*trouble, event.Kind) {
	if t := r.troubles[at]; t != nil {
		return t, ""
	}
	r.rounds++
	t := &trouble{parked: true, since: r.now(), account: account, outcome: o, failures: 1, round: r.rounds}
	t.until = t.since.Add(t.wait(o.RetryAfter))
	r.troubles[at] = t
	return t, event.AccountParked
}

// fail notes a failure that the mailbox (reply.Account) or the way to it met, and sets the next wait.
func (r *Relay) fail(at place, by try, a Account, o reply.Outcome) (*trouble, event.Kind) {
	now := r.now()
	parks := o.Owner == reply.Account
	t := r.troubles[at]
	switch {
	case t == nil || parks && !t.parked:
		t = &trouble{parked: parks, since: now, account: a.Name}
		r.troubles[at] = t
	case t.round != by.round:
		// It began before the trouble was known and adds nothing, unless the server now wants a longer pause.
		if until := now.Add(min(o.RetryAfter, maxPause)); until.After(t.until) {
			t.until, t.cause = until, a.path(by.transport).cause(o)
		}
		return t, ""
	}
	if parks == t.parked { // a parked mailbox keeps its reason when the probe did not get that far
		t.outcome = o
		t.failures++
	}
	if parks && o.Guessed {
		t.metBy(by.id)
	}
	t.until, t.cause = now.Add(t.wait(o.RetryAfter)), a.path(by.transport).cause(o)
	r.rounds++
	t.round = r.rounds
	switch {
	case t.failures > 1 || parks != t.parked:
		return t, ""
	case parks:
		return t, event.AccountParked
	}
	return t, event.AccountPaused
}

// wait returns how long to wait after the latest failure, of which the server may have wished its own.
func (t *trouble) wait(wish time.Duration) time.Duration {
	wish = min(wish, maxPause)
	if t.parked {
		return max(wait(probes, t.failures-1), wish)
	}
	if wish > 0 {
		return wish
	}
	return wait(pauses, t.failures-1)
}

// waitIfItFails is how long to wait where the probe that is under way fails as the one before it did.
func (t *trouble) waitIfItFails() time.Duration {
	if t.parked {
		return wait(probes, t.failures)
	}
	return wait(pauses, t.failures)
}

// tell sends one event of a trouble: Error where a person must act, Warn where it may pass by itself.
func (r *Relay) tell(ctx context.Context, kind event.Kind, transport string, t trouble) {
	level := slog.LevelInfo
	switch kind {
	case event.AccountParked:
		level = slog.LevelError
	case event.AccountPaused:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("account", t.account), slog.String("transport", transport)}
	if kind == event.AccountResumed {
		attrs = append(attrs, slog.Duration("duration", r.now().Sub(t.since)))
		r.events.Emit(ctx, level, kind, attrs...)
		return
	}
	attrs = append(attrs, slog.String("reply", t.outcome.Reply.String()))
	if t.outcome.Means != "" {
		attrs = append(attrs, slog.String("means", t.outcome.Means))
	}
	if !t.until.IsZero() {
		attrs = append(attrs, slog.Time("next_attempt", t.until))
	}
	if t.outcome.Remedy != "" {
		attrs = append(attrs, slog.String("remedy", t.outcome.Remedy))
	}
	if t.outcome.Err != nil {
		attrs = append(attrs, slog.Any("err", t.outcome.Err))
	}
	r.events.Emit(ctx, level, kind, attrs...)
}

// relayed reports whether the next server took the message for anybody.
func relayed(o reply.Outcome) bool {
	for _, other := range o.Recipients {
		if other.Verdict == reply.Relayed {
			return true
		}
	}
	return o.Verdict == reply.Relayed
}

// needsPerson reports whether waiting does not help the token.
func needsPerson(o reply.Outcome) bool {
	var e *token.Error
	return errors.As(o.Err, &e) && e.Person
}
