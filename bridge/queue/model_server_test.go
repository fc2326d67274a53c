package queue_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// What surrounds the queue in TestModel: a store whose process can die, a relayer that is watched, and next servers where
// everything goes wrong at times.

// mortal is the store as one process has it. Nothing is written once that is dead, nor while the disk is full.
type mortal struct {
	queue.Store
	dead, full atomic.Bool
}

func (s *mortal) writable() error {
	switch {
	case s.dead.Load():
		return queue.ErrClosed
	case s.full.Load():
		return queue.ErrFull
	}
	return nil
}

// Claim implements queue.Store.
func (s *mortal) Claim(ctx context.Context, c queue.Claim) ([]queue.Entry, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	return s.Store.Claim(ctx, c)
}

// Update implements queue.Store.
func (s *mortal) Update(ctx context.Context, id envelope.ID, change func(*queue.Item) error) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.Store.Update(ctx, id, change)
}

// UpdateAll implements queue.Store.
func (s *mortal) UpdateAll(ctx context.Context, ids []envelope.ID, change func(*queue.Item) error) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.Store.UpdateAll(ctx, ids, change)
}

// SetNote implements queue.Store.
func (s *mortal) SetNote(ctx context.Context, key, value string) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.Store.SetNote(ctx, key, value)
}

// Save implements relay.Memory.
func (s *mortal) Save(ctx context.Context, key, value string) error {
	return s.SetNote(ctx, modelNote+key, value)
}

// modelNote begins the keys of what relay remembers.
const modelNote = "trouble/"

// counting is the relayer, which notes when an attempt sends.
type counting struct {
	m     *model
	room  *relay.Relay
	store *mortal
}

func (c counting) Gate(account string, now time.Time) queue.Gate {
	return queue.Gate(c.room.Gate(account, now))
}

func (c counting) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	before, sends := out.BeforeSend, 0
	out.BeforeSend = func(ctx context.Context) {
		if sends++; sends == 1 && !c.store.dead.Load() {
			c.m.mu.Lock()
			c.m.begun[out.Plan.Account] = append(c.m.begun[out.Plan.Account], time.Now())
			c.m.mu.Unlock()
		}
		before(ctx)
	}
	return c.room.Relay(ctx, out)
}

// serverCopy is a copy that a next server took.
type serverCopy struct {
	messageID  string
	recipients []string // their keys
}

// invalid reports whether no server takes that recipient.
func invalid(a envelope.Address) bool { return a.Local == "invalid" }

// server is one transport of an account, as one process has it. It takes each Message-ID once, as Exchange does.
type server struct {
	*model
	name  string
	store *mortal
	looks bool // it is Graph: a look finds what was taken, and one invalid recipient refuses the whole request
}

func (s *server) CanLook() bool { return s.looks }

func (s *server) Look(_ context.Context, out message.Outgoing) reply.Outcome {
	time.Sleep(time.Second)
	if s.fails(0.3) {
		return reply.Outcome{Owner: reply.Route, Err: errors.New("nobody answers")}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.copies[out.ID] {
		if c.messageID == out.Plan.MessageID {
			s.log(out.ID, "a look finds %s", c.messageID)
			return reply.Outcome{Verdict: reply.Relayed}
		}
	}
	return reply.Outcome{Verdict: reply.InDoubt, CanLook: true}
}

func (s *server) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	time.Sleep(time.Duration(1+s.n(3000)) * time.Millisecond)
	if o, ended := s.greet(ctx, out); ended {
		return o
	}
	taken, refused := s.recipients(out)
	var err error
	switch {
	case len(taken) == 0:
		return s.nobody(out, refused)
	case len(refused) > 0:
		err = out.IntentBy(ctx, s.name, taken)
	default:
		err = out.Intent(ctx)
	}
	if err != nil {
		return s.answer(out, reply.Deferred, reply.Process, err.Error())
	}
	time.Sleep(time.Duration(1+s.n(1000)) * time.Millisecond)
	o := s.data(ctx, out, taken)
	if len(refused) > 0 {
		o.Recipients = refused
	}
	return o
}

// answer is an outcome other than success.
func (s *server) answer(out message.Outgoing, v reply.Verdict, owner reply.Owner, why string) reply.Outcome {
	s.log(out.ID, "%s tells %v: %v, %v, %s", s.name, out.Recipients, v, owner, why)
	return reply.Outcome{Verdict: v, Owner: owner, Transport: s.name, Reply: reply.Reply{Code: 450, Text: why}, Err: errors.New(why)}
}

// greet is what happens before a recipient is named. ended says that nothing more does.
func (s *server) greet(ctx context.Context, out message.Outgoing) (o reply.Outcome, ended bool) {
	switch {
	case s.store.dead.Load():
		<-ctx.Done()
		return s.answer(out, reply.Deferred, reply.Route, "killed"), true
	case s.fails(0.1):
		o = s.answer(out, reply.Deferred, reply.Route, "421")
		o.RetryAfter = time.Duration(s.n(2)*s.n(600)) * time.Second
		return o, true
	case s.fails(0.02):
		o = s.answer(out, reply.Deferred, reply.Account, "a mailbox in trouble")
		o.Guessed = s.chance(0.5)
		return o, true
	case s.fails(0.02):
		o = s.answer(out, reply.Deferred, reply.Login, "invalid_grant")
		o.Err = &token.Error{Person: true, Text: "sign in"}
		return o, true
	case s.fails(0.03):
		return s.answer(out, reply.Deferred, reply.Sender, "no right"), true
	case s.fails(0.05):
		return s.answer(out, reply.Deferred, reply.Message, "451"), true
	case s.fails(0.02):
		panic("before the intent")
	case s.fails(0.02):
		return s.killed(ctx, out), true
	case s.looks && (slices.ContainsFunc(out.Recipients, invalid) || s.fails(0.05)):
		return s.answer(out, reply.Failed, reply.Recipient, "one of them is invalid"), true
	case s.fails(0.02):
		time.Sleep(time.Duration(s.n(25)) * time.Minute)
	}
	return o, false
}

// killed is the end of the process within an attempt.
func (s *server) killed(ctx context.Context, out message.Outgoing) reply.Outcome {
	s.die(s.store)
	<-ctx.Done()
	return s.answer(out, reply.Deferred, reply.Route, "killed")
}

// recipients says which of them SMTP takes, and what it answers to the others.
func (s *server) recipients(out message.Outgoing) (taken []envelope.Address, refused map[string]reply.Outcome) {
	if s.looks {
		return out.Recipients, nil
	}
	refused = map[string]reply.Outcome{}
	for _, a := range out.Recipients {
		switch {
		case s.fails(0.15):
			refused[a.Key()] = s.answer(out, reply.Deferred, reply.Recipient, "450")
		case invalid(a) || s.fails(0.05):
			refused[a.Key()] = s.answer(out, reply.Failed, reply.Recipient, "550")
		default:
			taken = append(taken, a)
		}
	}
	return taken, refused
}

// nobody is the outcome where all were refused: Deferred where one of them was.
func (s *server) nobody(out message.Outgoing, refused map[string]reply.Outcome) reply.Outcome {
	v := reply.Failed
	for _, one := range refused {
		if one.Verdict == reply.Deferred {
			v = reply.Deferred
		}
	}
	o := s.answer(out, v, reply.Recipient, "nobody is left")
	o.Recipients = refused
	return o
}

// data is what happens after the intent.
func (s *server) data(ctx context.Context, out message.Outgoing, taken []envelope.Address) reply.Outcome {
	switch {
	case s.fails(0.03):
		return s.killed(ctx, out)
	case s.fails(0.04):
		return s.answer(out, reply.Deferred, reply.Message, "451 to the dot")
	case s.knows(out.Plan.MessageID):
		o := s.answer(out, reply.Deferred, reply.Message, "554 DuplicateDelivery")
		o.Duplicate = true
		if out.Resend {
			o.Verdict, o.Owner = reply.Relayed, reply.Nobody
		}
		return o
	case s.fails(0.05):
		return s.answer(out, reply.InDoubt, reply.Route, "no answer, not taken")
	}
	s.take(out, taken)
	switch {
	case s.fails(0.1):
		return s.answer(out, reply.InDoubt, reply.Route, "no answer, taken")
	case s.fails(0.03):
		panic("after the intent")
	case s.fails(0.04):
		return s.killed(ctx, out)
	}
	return reply.Outcome{Verdict: reply.Relayed, Transport: s.name}
}

func (s *server) knows(messageID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[messageID]
}

// take keeps the copy. Nobody gets a second one unless the first was in doubt, and nobody a third.
func (s *server) take(out message.Outgoing, to []envelope.Address) {
	if s.store.dead.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := serverCopy{messageID: out.Plan.MessageID}
	for _, a := range to {
		c.recipients = append(c.recipients, a.Key())
	}
	s.log(out.ID, "%s takes %s for %v, a resend: %v", s.name, c.messageID, c.recipients, out.Resend)
	for _, key := range c.recipients {
		has := slices.DeleteFunc(slices.Clone(s.copies[out.ID]), func(c serverCopy) bool { return !slices.Contains(c.recipients, key) })
		if len(has) > 1 || len(has) == 1 && !out.Resend {
			s.wrong(out.ID, "copy %d for %s, a resend: %v", len(has)+1, key, out.Resend)
		}
	}
	s.copies[out.ID], s.known[c.messageID] = append(s.copies[out.ID], c), true
}
