package notice

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/event"
)

// Trouble needs a person, and is over some day: a parked account, a secret that is about to expire.
type Trouble struct {
	Key    string `json:"key"` // the same trouble has the same
	Text   string `json:"text"`
	Why    string `json:"why,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Current has [notify] told of the troubles whose keys begin with prefix, as they are now: of those that are new, and of
// the end of those that are not among them any more. Whoever looks at expiry dates calls it, and writes the Error lines.
func (d *Desk) Current(prefix string, all []Trouble) {
	if len(d.who().notify) == 0 {
		return
	}
	for _, t := range all {
		t.Key = prefix + t.Key
		d.open(note{Trouble: t})
	}
	d.close(func(n *note) bool {
		return strings.HasPrefix(n.Key, prefix) && !slices.ContainsFunc(all, func(t Trouble) bool { return prefix+t.Key == n.Key })
	})
}

// note is a trouble as it is remembered.
type note struct {
	Trouble
	Accounts  []string `json:"accounts,omitempty"`  // whose transport is stopped
	Transport string   `json:"transport,omitempty"` // "": of an account that is not configured, or of a token for any
	Token     bool     `json:"token,omitempty"`     // ends with a token
	Told      bool     `json:"told,omitempty"`
	Ended     bool     `json:"ended,omitempty"` // was told, is over, and that is to be told
}

// failed is a failed message as it is remembered.
type failed struct {
	dsn.Item
	Key string `json:"key,omitempty"` // the same failure has the same
}

// memory is what must outlive the process.
type memory struct {
	Troubles []note     `json:"troubles,omitempty"`
	Failed   []failed   `json:"failed,omitempty"` // to be told
	Held     []dsn.Item `json:"held,omitempty"`   // likewise
	More     [2]int     `json:"more,omitzero"`    // failed and held beyond maxListed
	LastSent time.Time  `json:"last_sent,omitzero"`
	Noted    []string   `json:"noted,omitempty"` // keys of the latest failures, told or not: the queue may not know yet that they are noted
}

const (
	maxListed = 50  // messages that a notice names
	maxNoted  = 500 // failures that are known when the queue asks again
)

func (m *memory) pending() bool {
	return len(m.Failed)+len(m.Held) > 0 || slices.ContainsFunc(m.Troubles, func(n note) bool { return !n.Told || n.Ended })
}

// know remembers that the failures of those keys are noted.
func (m *memory) know(keys ...string) {
	for _, key := range keys {
		if !slices.Contains(m.Noted, key) {
			m.Noted = append(m.Noted, key)
		}
	}
	m.Noted = m.Noted[max(0, len(m.Noted)-maxNoted):]
}

// open notes a trouble that is not known yet.
func (d *Desk) open(n note) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := slices.IndexFunc(d.memory.Troubles, func(o note) bool { return o.Key == n.Key || o.sameWay(n) })
	if known >= 0 {
		if n := &d.memory.Troubles[known]; n.Ended { // it came back before its end was told: as if it had not ended
			n.Ended = false
			d.ring()
		}
		return
	}
	d.memory.Troubles = append(d.memory.Troubles, n)
	d.ring()
}

// sameWay reports whether both stop the same transport of an account: a dead sign-in is met by the refresh and by the
// first message, and is one trouble.
func (n *note) sameWay(o note) bool {
	return n.Transport != "" && n.Transport == o.Transport && slices.ContainsFunc(n.Accounts, func(a string) bool { return slices.Contains(o.Accounts, a) })
}

// close ends the troubles that match. One that nobody was told of is forgotten.
func (d *Desk) close(match func(*note) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ended := false
	d.memory.Troubles = slices.DeleteFunc(d.memory.Troubles, func(n note) bool {
		if !n.Ended && match(&n) {
			ended = true
			return !n.Told
		}
		return false
	})
	for i := range d.memory.Troubles {
		if n := &d.memory.Troubles[i]; match(n) {
			n.Ended = true
		}
	}
	if ended {
		d.ring()
	}
}

func (d *Desk) ring() {
	select {
	case d.alarm <- struct{}{}:
	default:
	}
}

// noteFailure has [notify] told of a failed message, durably. The queue asks again after an error, and where it could not
// write down that there was none; perhaps when it was told.
func (d *Desk) noteFailure(ctx context.Context, f Failure) error {
	if len(d.who().notify) == 0 || len(f.Recipients) == 0 {
		return nil
	}
	var to []string
	for _, r := range f.Recipients {
		to = append(to, r.Address.String())
	}
	r := f.Recipients[0]
	why := r.Reply.String()
	if why == "" {
		why = r.Why
	}
	it := dsn.Item{Text: "message " + string(f.Original.ID) + " of user " + f.Original.User + " to " + shorten(to), Why: why, Remedy: r.Remedy}
	key := string(f.id())
	d.mu.Lock()
	switch {
	case d.unsaved[key] || slices.Contains(d.memory.Noted, key):
	case len(d.memory.Failed) < maxListed:
		d.memory.Failed = append(d.memory.Failed, failed{it, key})
	default:
		d.memory.More[0]++
	}
	d.unsaved[key] = true
	d.memory.know(key)
	d.mu.Unlock()
	d.ring()
	if err := d.save(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.unsaved, key)
	d.mu.Unlock()
	return nil
}

func shorten(all []string) string {
	const few = 5
	if len(all) <= few {
		return strings.Join(all, ", ")
	}
	return strings.Join(all[:few], ", ") + " and others"
}

// Handle implements event.Sink.
func (d *Desk) Handle(_ context.Context, e event.Event) {
	if len(d.who().notify) == 0 {
		return
	}
	switch e.Kind {
	case event.AccountParked, event.TokenFailed:
		if e.Level >= slog.LevelError {
			d.open(stopped(e))
		}
	case event.SenderParked:
		d.open(lacking(e))
	case event.SenderResumed:
		key := lackKey(attrsOf(e))
		d.close(func(n *note) bool { return n.Key == key })
	case event.AccountResumed, event.MessageRelayed:
		if d.calm() {
			return // as nearly always
		}
		a := attrsOf(e)
		key := lackKey(a)
		d.close(func(n *note) bool {
			return n.Key == key || n.Transport == a["transport"] && slices.Contains(n.Accounts, a["account"])
		})
	case event.TokenRefreshed, event.AccountSignedIn:
		a := attrsOf(e)
		accounts := strings.Split(a["account"], ",")
		d.close(func(n *note) bool {
			return n.Token && (a["resource"] == "" || n.Transport == a["resource"]) && slices.ContainsFunc(accounts, func(s string) bool { return slices.Contains(n.Accounts, s) })
		})
	case event.MessageHeld:
		d.noteHeld(e)
	}
}

// calm reports whether no trouble is known.
func (d *Desk) calm() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.memory.Troubles) == 0
}

// stopped is the trouble of an account that relay parked, or whose token needs a person.
func stopped(e event.Event) note {
	a := attrsOf(e)
	n := note{Accounts: strings.Split(a["account"], ","), Transport: a["transport"], Token: e.Kind == event.TokenFailed}
	if n.Token {
		n.Transport = a["resource"]
	}
	n.Key = string(e.Kind) + " " + a["account"] + " " + n.Transport
	n.Text = "account " + strings.Join(n.Accounts, ", ") + " is parked"
	if n.Transport != "" {
		n.Text += " on " + n.Transport
	}
	n.Text += ": its mail waits, and nothing of it is lost"
	n.Why, n.Remedy = a["reply"], a["remedy"]
	if n.Why == "" {
		n.Why = a["err"]
	}
	return n
}

// lacking is the trouble of an account that lacks the right to send as a From. It names no accounts: what ends an
// account's trouble does not end this.
func lacking(e event.Event) note {
	a := attrsOf(e)
	text := "account " + a["account"] + " may not send as " + a["header_from"] + ": that mail waits, and fails when it is too old"
	return note{Trouble: Trouble{Key: lackKey(a), Text: text, Why: a["reply"], Remedy: a["remedy"]}}
}

// lackKey is the trouble's key by the attributes of any event of the pair's.
func lackKey(a map[string]string) string {
	return string(event.SenderParked) + " " + a["account"] + " " + a["header_from"]
}

func (d *Desk) noteHeld(e event.Event) {
	a := attrsOf(e)
	if a["user"] == User {
		return
	}
	it := dsn.Item{Text: "message " + a["queue_id"] + " of user " + a["user"] + " by account " + a["account"], Why: a["err"], Remedy: a["remedy"]}
	if it.Why == "" {
		it.Why = a["reply"]
	}
	if it.Remedy == "" {
		it.Remedy = "postern queue show " + a["queue_id"] + ", then release, retry, sent or drop it"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.memory.Held) < maxListed {
		d.memory.Held = append(d.memory.Held, it)
	} else {
		d.memory.More[1]++
	}
	d.ring()
}

// User stands where other messages have the name of the local user who handed them in.
const User = "(postern)"

func attrsOf(e event.Event) map[string]string {
	m := make(map[string]string, len(e.Attrs))
	for _, a := range e.Attrs {
		m[a.Key] = a.Value.String()
	}
	return m
}

func (d *Desk) save(ctx context.Context) error {
	if d.o.Memory == nil {
		return nil
	}
	if err := d.load(ctx); err != nil {
		return err // or what the process before had not told would be lost
	}
	d.saving.Lock()
	defer d.saving.Unlock()
	d.mu.Lock()
	document, err := json.Marshal(&d.memory)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.o.Memory.Save(ctx, string(document))
}
