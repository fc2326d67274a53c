// Package relay takes one attempt of one message through its account's transport: it applies the plan to the header,
// picks the transport, bounds the time, and learns from the outcome whether the account can go on. What it learns is kept
// over a restart: a pause lasts as long as it was to last, and what waits for a person is probed once.
//
// Trouble is kept in two places. A route (a transport, and the mailbox whose limits count there) is paused for a known
// time, or parked until a person acted and a probe of one message shows it. A login at a transport is parked until a
// person signs in. The queue asks Gate before it claims a message, and hands what it claimed to Relay. Whoever replaces an
// account's transports hands them in as an Outlet, which knows when the old ones may be closed.
//
// It must not know SMTP, HTTP, the queue's states, or how a token is made. Nothing of it fails: a message always gets an
// outcome, and whose trouble it is decides what the queue does with it.
package relay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Transport is a way to the next server. It never blocks beyond its own deadlines, and is safe for concurrent use.
type Transport interface { // the hall hands in transport/graph and transport/smarthost
	// Send makes one attempt for all of out.Recipients. It calls out.Intent directly before the octets that may make the
	// next server accept the message; a Deferred outcome says that it was not accepted.
	Send(ctx context.Context, out message.Outgoing) reply.Outcome
}

// Mode says which transports an account may use.
type Mode string

// The modes, as in the configuration.
const (
	ModeGraph Mode = "graph"
	ModeSMTP  Mode = "smtp"
	ModeAuto  Mode = "auto" // Graph where it can carry the message as it is, else SMTP; each where the other is down
)

// Account is one account as relay needs it.
type Account struct {
	Name string // unique
	// Login is the key of who signs in, made of provider and login: accounts that share it share trouble with its token.
	// "": the account alone.
	Login string
	// Mailbox is the key of whose limits count, made of provider and the mailbox that authenticates or stands in the URL:
	// accounts that share it share pauses and trouble with the mailbox. "": the account alone.
	Mailbox     string
	Mode        Mode
	Graph, SMTP Transport // nil where not configured; Mode needs its own, auto at least one
	Concurrency int       // messages under way at a time; below 1 is 1

	GraphPath, SMTPPath Path // the same for all accounts that share Mailbox
}

// Options is what a Relay needs.
type Options struct {
	Accounts     []Account
	Events       *event.Bus       // nil: dropped
	Now          func() time.Time // nil: time.Now
	GraphMaxMIME int64            // octets of header and body that Graph takes as they are; 0: all

	Memory     Memory            // nil: a restart forgets all troubles
	Remembered map[string]string // what Memory was given by the former process, by key
	Resumed    func()            // called when a trouble is over: mail of any account may go on. It must not block
	Contents   message.Contents  // of footers and attachments; nil where no plan has any
}

// Relay is safe for concurrent use.
type Relay struct {
	events       *event.Bus
	now          func() time.Time
	graphMaxMIME int64
	memory       Memory
	resumed      func()
	contents     message.Contents

	mu       sync.Mutex         // guards what follows, and what troubles point to
	accounts map[string]Account // a new map with each change
	names    []string           // in the configuration's order
	troubles map[place]*trouble
	rounds   int
	owns     []own                 // messages whose trouble is their own, the oldest first
	lessons  map[string]lesson     // by the mailbox's key
	doors    map[envelope.ID]*door // of messages that somebody has

	saving sync.Mutex // orders what is given to memory; taken before mu
}

// New checks the accounts.
func New(o Options) (*Relay, error) {
	r := &Relay{events: o.Events, now: o.Now, graphMaxMIME: o.GraphMaxMIME, contents: o.Contents, memory: o.Memory, resumed: o.Resumed,
		troubles: make(map[place]*trouble), doors: make(map[envelope.ID]*door)}
	if r.now == nil {
		r.now = time.Now
	}
	r.recall(o.Remembered)
	if err := r.SetAccounts(o.Accounts); err != nil {
		return nil, err
	}
	return r, nil
}

func (a Account) check() error {
	missing := false
	switch a.Mode {
	case ModeGraph:
		missing = a.Graph == nil
	case ModeSMTP:
		missing = a.SMTP == nil
	case ModeAuto:
		missing = a.Graph == nil && a.SMTP == nil
	default:
		return fmt.Errorf("unknown transport %q: graph, smtp or auto", a.Mode)
	}
	if missing {
		return fmt.Errorf("transport %q is not configured", a.Mode)
	}
	return nil
}

// way is a transport of an account with its word.
type way struct {
	name string // "graph" or "smtp"
	Transport
}

// ways lists the account's transports, the preferred one first.
func (a Account) ways() []way {
	var all []way
	if a.Graph != nil && a.Mode != ModeSMTP {
		all = append(all, way{string(ModeGraph), a.Graph})
	}
	if a.SMTP != nil && a.Mode != ModeGraph {
		all = append(all, way{string(ModeSMTP), a.SMTP})
	}
	return all
}

// Relay makes one attempt for out.Recipients. It needs no Final: it applies out.Plan to out.Header. Where a transport
// takes nothing because of its own, its account's or its login's trouble, another transport of the account is tried in
// the same attempt.
//
// Whether the owner is Route, Account or Login, the attempt is not the message's fault and Gate says when the account
// goes on. Where it is open although this message could not leave (too large for the transport that is up), RetryAfter
// says when to try this message again.
func (r *Relay) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	defer r.attemptOf(out.ID)()
	a, ok := r.account(out.Plan.Account)
	if !ok {
		return reply.Outcome{Owner: reply.Account, RetryAfter: turnedBack,
			Reply:  reply.Reply{Text: "the message's account is not configured any more"},
			Remedy: fmt.Sprintf("configure account %q again, or make a new plan: postern queue retry --policy today", out.Plan.Account)}
	}
	if out.Resend && out.Transport != "" && !slices.ContainsFunc(a.ways(), func(w way) bool { return w.name == out.Transport }) {
		// By another transport the copy could never be recognised: a person decides.
		return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Process, Transport: out.Transport,
			Reply: reply.Reply{Text: "the transport that may have taken it is not configured any more"}}
	}
	final, err := message.Apply(out.Header, out.Plan.Edits)
	if err != nil {
		return reply.Outcome{Owner: reply.Process, Reply: reply.Reply{Text: "the header cannot be edited as planned"},
			Err: fmt.Errorf("plan of message %s: %w", out.ID, err)}
	}
	out.Final = final
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	if out, err = out.Extend(ctx, r.contents); err != nil {
		return reply.Outcome{Owner: reply.Process, Reply: reply.Reply{Text: "the footer or the attachments of its scenario cannot be added"}, Err: err,
			Remedy: "put the folder contents of data_dir back, or make a new plan: postern queue retry --policy today"}
	}
	return r.relayParts(ctx, a, out)
}

// tryWays goes through the transports until one has an answer that is not about itself. One that cannot carry the message
// does not speak for another that is stopped.
func (r *Relay) tryWays(ctx context.Context, a Account, ways []way, out message.Outgoing) reply.Outcome {
	var last *reply.Outcome
	var waiting []way
	for _, w := range ways {
		o, sent := r.attempt(ctx, a, w, out)
		switch {
		case !sent:
			waiting = append(waiting, w)
			continue
		case !another(o) || ctx.Err() != nil:
			return r.blame(a, out, o)
		}
		if last == nil || o.Verdict != reply.Failed {
			o = r.blame(a, out, o)
			last = &o
		}
	}
	switch {
	case last == nil:
		return r.turnBack(a, ways)
	case last.Verdict == reply.Failed && len(waiting) > 0:
		return r.turnBack(a, waiting) // this one may carry it, later
	}
	return *last
}

// another reports whether a second transport may be tried at once: nothing was accepted for anybody, and it was the
// transport's trouble and not the message's.
func another(o reply.Outcome) bool {
	if o.Verdict == reply.Failed && o.Size == reply.OverRequest && len(o.Recipients) == 0 {
		return true // one request of Graph cannot carry it; SMTP may
	}
	if o.Verdict != reply.Deferred || len(o.Recipients) > 0 {
		return false
	}
	return o.Owner == reply.Account || o.Owner == reply.Login || o.Owner == reply.Route
}

// order lists the transports that may take this message, the preferred one first. A message in doubt keeps the transport
// of the doubt: by the other one a copy could never be recognised.
func (r *Relay) order(a Account, out message.Outgoing) []way {
	ways := a.ways()
	if out.Resend {
		for _, w := range ways {
			if w.name == out.Transport {
				return []way{w}
			}
		}
	}
	if len(ways) < 2 {
		return ways
	}
	graph, smtp := ways[0], ways[1]
	switch {
	case r.graphMaxMIME > 0 && int64(len(out.Final))+out.BodySize > r.graphMaxMIME:
		if s, ok := graph.Transport.(Splitter); ok && s.Splits() && r.parked(a, smtp.name) {
			return []way{smtp, graph} // rebuilt at Graph rather than waiting for a person
		}
		return []way{smtp} // as it is, even if that takes a pause
	case needsEnvelope(out):
		return []way{smtp, graph}
	}
	return []way{graph, smtp}
}

// needsEnvelope reports whether the header names other people than the envelope. Graph has no envelope: it would need a
// Bcc field, which nobody has shown to be taken off, or lose people from To and Cc. A header that cannot be read needs
// the envelope too.
func needsEnvelope(out message.Outgoing) bool {
	_, hidden, lost, err := message.ReconcileRecipients(out.Final, out.Recipients)
	return err != nil || len(hidden) > 0 || lost > 0
}

// intentOf is the Intent of one transport, which the record names where the queue can. It works again for the next
// transport in the same attempt.
func intentOf(out message.Outgoing, transport string) func(context.Context) error {
	if out.IntentBy == nil {
		return out.Intent
	}
	return func(ctx context.Context) error { return out.IntentBy(ctx, transport, nil) }
}
