package submission

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Scenario is mail that goes another way. The first whose Match holds decides; what it leaves open is the user's.
type Scenario struct {
	Name      string
	Match     Match
	Account   string             // "" is the user's
	Sender    *Sender            // nil is the user's
	ReplyTo   envelope.Address   // null leaves it to Sender
	Bcc       []envelope.Address // get the message too; they stand in no header and are not judged by MaySendTo
	Additions message.Additions  // not to what is signed or encrypted
	Hold      bool
}

// Match is what a scenario looks for. All of it must hold; of a list any one. The lists are globs: * is any text, ? one
// character, case does not matter.
type Match struct {
	User     []string            // the name
	Listener []string            // its address as configured
	From     []string            // the header From as the application wrote it: the address, or the text where it is none
	To       []string            // a recipient of the envelope
	Subject  []string            // decoded
	Header   map[string][]string // a field of that name, decoded
	Larger   int64               // octets as they came, more than that; 0 is no limit
	Smaller  int64               // fewer than that
}

// scenario is a Scenario with its globs made and the users resolved that it can be for.
type scenario struct {
	Scenario
	user, listener, from, to, subject []glob
	header                            []headerMatch
	users                             map[string]*user // by name: what he is under this scenario
}

type headerMatch struct {
	name  string
	globs []glob
}

func newScenario(s Scenario) *scenario {
	m := s.Match
	r := &scenario{Scenario: s, users: map[string]*user{},
		user: newGlobs(m.User, newGlob), listener: newGlobs(m.Listener, newGlob), from: newGlobs(m.From, newAddressGlob),
		to: newGlobs(m.To, newAddressGlob), subject: newGlobs(m.Subject, newGlob)}
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		r.header = append(r.header, headerMatch{name, newGlobs(m.Header[name], newGlob)})
	}
	return r
}

// resolve makes what each user is under the scenario. Pairs that cannot be are found now and not when mail comes.
func (s *scenario) resolve(users []User, accounts map[string]*Account, fallback string) error {
	if s.Account != "" && accounts[s.Account] == nil {
		return fmt.Errorf("there is no account %q", s.Account)
	}
	var wrong []error
	for _, cfg := range users {
		if len(s.user) > 0 && !anyMatch(s.user, cfg.Name) {
			continue
		}
		if s.Account != "" {
			cfg.Account = s.Account
		} else if cfg.Account == "" {
			cfg.Account = fallback
		}
		if s.Sender != nil {
			cfg.Sender = s.Sender
		}
		if !s.ReplyTo.IsNull() {
			sender := Sender{}
			if cfg.Sender != nil {
				sender = *cfg.Sender
			}
			sender.ReplyTo = s.ReplyTo.String()
			cfg.Sender = &sender
		}
		u, err := newUser(cfg, accounts[cfg.Account])
		if err != nil {
			wrong = append(wrong, fmt.Errorf("for user %q: %w", cfg.Name, err))
			continue
		}
		s.users[u.Name] = u
	}
	return errors.Join(wrong...)
}

// facts are what a scenario is compared with.
type facts struct {
	session envelope.Session
	header  message.Header
	from    []string // how the From can be written
	to      []string
	// larger reports whether the message has more octets than n; it may have to read on to find out.
	larger func(n int64) (bool, error)
}

func newFacts(s envelope.Session, h message.Header, defaultDomain string, recipients []envelope.Address, larger func(int64) (bool, error)) facts {
	f := facts{session: s, header: h, larger: larger}
	for _, field := range h.All("From") {
		f.from = append(f.from, fromText(field, defaultDomain))
	}
	if len(f.from) == 0 {
		f.from = []string{""}
	}
	for _, r := range recipients {
		f.to = append(f.to, r.Key())
	}
	return f
}

// fromText is what a scenario's from is compared with: the address that policy judges, else the text.
func fromText(field message.Field, defaultDomain string) string {
	if entries := field.Addresses().Entries(); len(entries) == 1 {
		if a, err := entries[0].In(defaultDomain); err == nil {
			return a.Key()
		}
	}
	return field.Text()
}

// match returns "" where all of the scenario holds, else why the first that does not hold does not. The size is looked
// at last, because it may have to be waited for.
func (s *scenario) match(f facts) (why string, err error) {
	for _, c := range []struct {
		key   string
		globs []glob
		texts []string
	}{
		{"user", s.user, []string{f.session.User}}, {"listener", s.listener, []string{f.session.Listener}},
		{"from", s.from, f.from}, {"to", s.to, f.to},
	} {
		if len(c.globs) > 0 && !anyMatch(c.globs, c.texts...) {
			return reason(c.key, c.globs, c.texts), nil
		}
	}
	if len(s.subject) > 0 {
		if texts := fieldTexts(f.header, "Subject"); !anyMatch(s.subject, texts...) {
			return reason("subject", s.subject, texts), nil
		}
	}
	for _, h := range s.header {
		if texts := fieldTexts(f.header, h.name); !anyMatch(h.globs, texts...) {
			return reason("header "+h.name, h.globs, texts), nil
		}
	}
	return s.matchSize(f)
}

func (s *scenario) matchSize(f facts) (string, error) {
	if s.Match.Larger > 0 {
		over, err := f.larger(s.Match.Larger)
		if err != nil || !over {
			return fmt.Sprintf("size: not more than %d octets", s.Match.Larger), err
		}
	}
	if s.Match.Smaller > 0 {
		over, err := f.larger(s.Match.Smaller - 1)
		if err != nil || over {
			return fmt.Sprintf("size: not fewer than %d octets", s.Match.Smaller), err
		}
	}
	return "", nil
}

func fieldTexts(h message.Header, name string) []string {
	var all []string
	for _, f := range h.All(name) {
		all = append(all, f.Text())
	}
	return all
}

// reason says in one line what was there and what was looked for.
func reason(key string, globs []glob, texts []string) string {
	wanted := make([]string, len(globs))
	for i, g := range globs {
		wanted[i] = fmt.Sprintf("%q", g.text)
	}
	is := "there is none"
	if len(texts) > 0 {
		is = fmt.Sprintf("%.80q is not", texts[0])
		if len(texts) > 1 {
			is = fmt.Sprintf("%.80q and %d more are not", texts[0], len(texts)-1)
		}
		return fmt.Sprintf("%s: %s %s", key, is, strings.Join(wanted, " or "))
	}
	return fmt.Sprintf("%s: %s, wanted is %s", key, is, strings.Join(wanted, " or "))
}

// passed is a scenario that does not hold.
type passed struct{ name, why string }

// pick finds the scenario; nil where none holds, and the user is as he is. before are those that were passed over.
func (s *submission) pick() (under *user, which *scenario, before []passed, err error) {
	if len(s.scenarios) == 0 {
		return s.user, nil, nil, nil
	}
	f := newFacts(s.message.Session, s.header, s.domain, s.message.Envelope.Recipients, s.larger)
	for _, c := range s.scenarios {
		why, err := c.match(f)
		if err != nil {
			return nil, nil, before, err
		}
		if why == "" {
			return c.users[s.user.Name], c, before, nil
		}
		before = append(before, passed{c.Name, why})
	}
	return s.user, nil, before, nil
}

// add puts what the scenario adds into the plan.
func (s *scenario) add(m *message.Message, h message.Header) (leftOut bool) {
	p := &m.Plan
	p.Scenario, p.Hold = s.Name, s.Hold
	seen := map[string]bool{}
	for _, r := range m.Envelope.Recipients {
		seen[r.Key()] = true
	}
	for _, r := range s.Bcc {
		if !seen[r.Key()] {
			seen[r.Key()] = true
			p.Bcc = append(p.Bcc, r)
		}
	}
	m.Envelope.Recipients = append(slices.Clip(m.Envelope.Recipients), p.Bcc...)
	if h.IsProtected() {
		return !s.Additions.IsZero()
	}
	p.Additions = s.Additions
	return false
}
