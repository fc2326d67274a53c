package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// maxRecipients is how many recipients one message of Exchange Online may have (Graph's message resource, and the
// default of a mailbox). A message with more is relayed in parts, each under a Message-ID of its own: the service refuses
// or drops a second message with one that it knows.
const maxRecipients = 500

// originalID keeps the application's Message-ID where the message had to leave under another one.
const originalID = "X-Postern-Original-Message-ID"

// part is those recipients that get one copy together.
type part struct {
	note       note
	recipients []envelope.Address
}

// note is what the queue keeps for relay with each recipient of a part.
type note struct {
	Part    string `json:"part,omitempty"`    // "" is the whole message; "2" its second 500, who was left out, or a half
	Renamed bool   `json:"renamed,omitempty"` // its Message-ID was known to the server: it has another one
	Memo    string `json:"memo,omitempty"`    // the transport's own
}

// parts says who gets it together. Recipients that were together at an earlier attempt stay together, since what is known
// of a copy is known of all of them. The others are parted by their place in the envelope, so that each attempt parts them
// alike.
func parts(out message.Outgoing) []part {
	var all []part
	at := map[note]int{}
	place := map[string]int{}
	for i, a := range out.Envelope.Recipients {
		place[a.Key()] = i
	}
	for _, a := range out.Recipients {
		n := noteOf(out, a, place[a.Key()])
		i, known := at[n]
		if !known {
			i = len(all)
			at[n] = i
			all = append(all, part{note: n})
		}
		all[i].recipients = append(all[i].recipients, a)
	}
	return all
}

// noteOf is what is noted of the recipient at that place of the envelope.
func noteOf(out message.Outgoing, a envelope.Address, place int) (n note) {
	text := out.Notes[a.Key()]
	if json.Unmarshal([]byte(text), &n) != nil || text == "" {
		n = note{}
		if block := place / maxRecipients; block > 0 {
			n.Part = strconv.Itoa(block + 1)
		}
	}
	return n
}

// relayParts relays each part and puts the outcomes together.
func (r *Relay) relayParts(ctx context.Context, a Account, out message.Outgoing) reply.Outcome {
	all := parts(out)
	out = following(out)
	if len(all) == 1 {
		return r.relayPart(ctx, a, out, all[0])
	}
	var o reply.Outcome
	each := map[string]reply.Outcome{}
	for i, p := range all {
		if first := p.recipients[0]; out.Notes[first.Key()] != "" {
			p.note = noteOf(out, first, 0) // a part before may have left it out
		}
		one := r.relayPart(ctx, a, out, p)
		for _, rcpt := range p.recipients {
			each[rcpt.Key()] = one.For(rcpt.Key())
		}
		if i < len(all)-1 {
			p.done(ctx, out, one)
		}
		if i == 0 || o.Verdict == reply.Relayed {
			o = one
		}
	}
	o.Recipients = each
	return o
}

// relayPart relays one part. Where the server knows its Message-ID already, it goes once more under another one. Where a
// recipient is invalid and nobody says which, halves of it go by themselves until the one is found.
func (r *Relay) relayPart(ctx context.Context, a Account, whole message.Outgoing, p part) reply.Outcome {
	out, err := p.outgoing(whole)
	if err != nil {
		return reply.Outcome{Owner: reply.Process, Reply: reply.Reply{Text: "the header cannot be edited as planned"}, Err: err}
	}
	out.Others = p.others(whole.Notes, whole.Others)
	if out.Look || out.Resend {
		if o, known := r.look(ctx, a, out); known {
			return o
		}
	}
	o := r.tryWays(ctx, a, r.order(a, out), out)
	r.learnSize(ctx, a, out, o)
	if o.Duplicate && o.Verdict == reply.Relayed {
		o = known(ctx, out, o)
	}
	switch {
	case o.Duplicate && o.Verdict == reply.Deferred && !p.note.Renamed && len(o.Recipients) == 0:
		p.note.Renamed = true
		if err := p.note.remember(ctx, whole, p.recipients); err != nil {
			return reply.Outcome{Owner: reply.Process, Transport: o.Transport, Reply: reply.Reply{Text: "the other Message-ID could not be noted down"}, Err: err}
		}
		return r.relayPart(ctx, a, whole, p)
	case o.Verdict == reply.Failed && o.Owner == reply.Recipient && len(o.Recipients) == 0 && len(p.recipients) > 1 && ctx.Err() == nil:
		p.done(ctx, whole, reply.Outcome{Owner: reply.Recipient}) // or the intent would name the other half too while one is under way
		return r.halves(ctx, a, whole, p)
	case o.Verdict == reply.InDoubt && canLook(a):
		o.CanLook = true
	}
	return o
}

// halves relays a part that has an invalid recipient in two.
func (r *Relay) halves(ctx context.Context, a Account, whole message.Outgoing, p part) reply.Outcome {
	each := map[string]reply.Outcome{}
	var last reply.Outcome
	middle := len(p.recipients) / 2
	for i, some := range [][]envelope.Address{p.recipients[:middle], p.recipients[middle:]} {
		// What the transport noted of the whole stays, and leads it to what that left.
		half := part{note: note{Part: newName(whole), Renamed: p.note.Renamed, Memo: p.note.Memo}, recipients: some}
		if err := half.note.remember(ctx, whole, some); err != nil {
			last = reply.Outcome{Owner: reply.Process, Reply: reply.Reply{Text: "a part of the message could not be noted down"}, Err: err}
		} else {
			last = r.relayPart(ctx, a, whole, half)
		}
		if i == 0 { // the caller has more to do, or is at the end
			half.done(ctx, whole, last)
		}
		for _, rcpt := range some {
			each[rcpt.Key()] = last.For(rcpt.Key())
		}
	}
	last.Recipients = each
	return last
}

// remember commits the note for those recipients.
func (n note) remember(ctx context.Context, out message.Outgoing, recipients []envelope.Address) error {
	if out.Remember == nil {
		return nil
	}
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return out.Remember(ctx, recipients, string(b))
}

// done commits what became of the part.
func (p part) done(ctx context.Context, whole message.Outgoing, o reply.Outcome) {
	if whole.PartDone != nil {
		whole.PartDone(ctx, p.recipients, o)
	}
}

// outgoing is the attempt for one part: its recipients, its Message-ID and marker, and the transport's own memo, of which
// p.note has the latest.
func (p *part) outgoing(out message.Outgoing) (message.Outgoing, error) {
	whole := out
	out.Recipients = p.recipients
	out.Notes = map[string]string{}
	if p.note.Memo != "" {
		for _, a := range p.recipients {
			out.Notes[a.Key()] = p.note.Memo
		}
	}
	out.Remember = func(ctx context.Context, recipients []envelope.Address, memo string) error {
		p.note.Memo = memo
		return p.note.remember(ctx, whole, recipients)
	}
	if whole.IntentBy != nil {
		out.IntentBy = func(ctx context.Context, transport string, taken []envelope.Address) error {
			return p.intend(ctx, whole, transport, taken)
		}
	}
	original := out.Plan.MessageID
	if p.note.Renamed || strings.HasPrefix(original, "<"+string(out.ID)+"@") {
		out.Namesake = nil // it was made for this message alone
	}
	if p.note.Part == "" && !p.note.Renamed {
		return out, nil
	}
	out.Plan.MessageID = p.note.messageID(original, out.ID)
	edits := []message.Edit{{Op: message.Set, Name: "Message-ID", Value: out.Plan.MessageID}}
	if p.note.Part != "" {
		edits = append(edits, message.Edit{Op: message.Set, Name: message.MarkerField, Value: string(out.ID) + "." + p.note.Part})
	}
	if p.note.Renamed {
		edits = append(edits, message.Edit{Op: message.Set, Name: originalID, Value: original})
	}
	var err error
	if out.Final, err = message.Apply(out.Final, edits); err != nil {
		return out, fmt.Errorf("part %q of message %s: %w", p.note.Part, out.ID, err)
	}
	return out, nil
}

// following returns out with Notes that follow what is remembered.
func following(out message.Outgoing) message.Outgoing {
	notes, remember := maps.Clone(out.Notes), out.Remember
	if notes == nil {
		notes = map[string]string{}
	}
	out.Notes = notes
	out.Remember = func(ctx context.Context, recipients []envelope.Address, text string) error {
		for _, a := range recipients {
			notes[a.Key()] = text
		}
		if remember == nil {
			return nil
		}
		return remember(ctx, recipients, text)
	}
	return out
}

// others are the memos of notes, but for the part's own, and of more.
func (p *part) others(notes map[string]string, more []string) (memos []string) {
	add := func(text string) {
		var n note
		if json.Unmarshal([]byte(text), &n) == nil && n.Memo != "" && !slices.Contains(memos, n.Memo) {
			memos = append(memos, n.Memo)
		}
	}
	own := map[string]bool{}
	for _, a := range p.recipients {
		own[a.Key()] = true
	}
	for key, text := range notes {
		if !own[key] {
			add(text)
		}
	}
	for _, text := range more {
		add(text)
	}
	slices.Sort(memos)
	return memos
}

// maxID keeps a Message-ID that was made of another one on its line.
const maxID = 900

// messageID is the part's own, the same at each attempt: the application's with the part's name, or where that is known
// to the server one made of the queue ID.
func (n note) messageID(original string, id envelope.ID) string {
	left, domain, ok := strings.Cut(strings.Trim(original, "<>"), "@")
	if !ok || len(original) > maxID {
		left, domain = string(id), "postern.invalid"
	}
	if n.Renamed {
		left = string(id)
	}
	if n.Part != "" {
		left += ".part-" + n.Part
	}
	return "<" + left + "@" + domain + ">"
}

// Looker is a Transport that can find out what became of a message in doubt.
type Looker interface {
	// CanLook reports whether the permissions allow it, as far as known.
	CanLook() bool
	// Look asks and sends nothing: Relayed, InDoubt while nobody can tell or where it is not allowed, or Deferred where
	// nobody could be asked.
	Look(ctx context.Context, out message.Outgoing) reply.Outcome
}

// looker is the account's transport that can look, with its word, also for messages that left by the other one: both leave a
// copy in Sent Items of the same mailbox. nil: none can.
func looker(a Account) (l Looker, transport string) {
	for _, w := range a.ways() {
		if l, ok := w.Transport.(Looker); ok && l.CanLook() {
			return l, w.name
		}
	}
	return nil, ""
}

// canLook reports whether a message of the account in doubt can be looked for.
func canLook(a Account) bool {
	l, _ := looker(a)
	return l != nil
}

// lookPatience is how old a message in doubt may be to wait for the end of a pause before somebody can be asked, where another
// way could send it: what keeps the one way from answering (a firewall that lets SMTP out alone) may never end.
const lookPatience = 2 * time.Hour

// look finds out what became of a message in doubt. known says that nothing is to be sent now: it was found, or it may
// only be looked for, or nobody could be asked before a pause is over. Where only a person could change that nobody may look,
// or the pause has kept it too long, it is sent again, by a transport that is open. At the last look the draft path looks for itself.
func (r *Relay) look(ctx context.Context, a Account, out message.Outgoing) (o reply.Outcome, known bool) {
	l, transport := looker(a)
	if l == nil {
		return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: out.Transport}, out.Look
	}
	o = r.ask(ctx, a, l, transport, out)
	o.Transport = out.Transport
	switch {
	case o.Verdict == reply.Relayed:
		return o, true
	case o.Verdict == reply.Deferred && out.Look: // nobody could be asked, which tells nothing
		o.Verdict, o.CanLook = reply.InDoubt, true
		return o, true
	case o.Verdict == reply.Deferred && (o.Owner == reply.Account || r.parked(a, transport)):
		return o, false
	case o.Verdict == reply.Deferred && out.Transport != transport && r.now().Sub(out.Accepted) > lookPatience:
		return o, false
	case o.Verdict == reply.Deferred:
		o.Owner, o.RetryAfter = reply.Route, max(o.RetryAfter, r.stoppedFor(a, transport))
		return o, true
	}
	return o, out.Look
}

// ask looks by one transport and learns from the outcome, as attempt does when it sends.
func (r *Relay) ask(ctx context.Context, a Account, l Looker, transport string, out message.Outgoing) (o reply.Outcome) {
	round, ok := r.begin(a, transport)
	if !ok {
		return r.turnBack(a, []way{{name: transport}})
	}
	learn := reply.Outcome{Owner: reply.Process} // of a panic
	defer func() { r.end(ctx, a, try{out.ID, transport, round}, learn) }()
	o = l.Look(ctx, out)
	learn = o
	if o.Verdict != reply.Deferred || o.Owner == reply.Account {
		// There was an answer, so that the way is open; whether the mailbox sends, or may send, a look does not show.
		learn = reply.Outcome{Owner: reply.Message}
	}
	return o
}
