package relay

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// leastLimit is what a learned limit is never under: no mailbox of Exchange Online sends less, so that a refusal below it
// speaks of something else.
const leastLimit = 10_000_000

// Capacity is what an account carries now.
type Capacity struct {
	Max   int64                                     // octets that its mailbox was found to send at most; 0: not known
	Whole int64                                     // octets that go as they are, with the header that leaves; 0: all
	Parts func(header []byte, body io.Reader) error // of a larger one: an error names what would be lost; nil: none goes

	// Header is how many octets the header has when it leaves for these recipients, at most; nil: as many as it has.
	Header func(header []byte, recipients []envelope.Address) int64
}

// Splitter is a Transport that sends a message in parts where it is too large for one request.
type Splitter interface {
	// Splits reports whether the permissions allow it, as far as known.
	Splits() bool
	// CheckCarry reads the body and says what would be lost, in words for the application.
	CheckCarry(header []byte, body io.Reader) error
}

// Capacity says before a message is accepted what its account can carry. An account that is not configured carries all,
// since its mail waits for a person.
func (r *Relay) Capacity(account string) Capacity {
	a, ok := r.account(account)
	if !ok {
		return Capacity{}
	}
	ways := a.ways()
	c := Capacity{Max: r.learned(a)}
	if len(ways) != 1 || ways[0].name != string(ModeGraph) {
		return c
	}
	c.Whole = r.graphMaxMIME
	if s, ok := ways[0].Transport.(Splitter); ok && s.Splits() {
		c.Parts = s.CheckCarry
	} else {
		c.Header = withHidden
	}
	return c
}

// withHidden is the size of a header that also names the recipients whom no field names. A message to very many goes out
// in parts, of which the largest counts.
func withHidden(header []byte, recipients []envelope.Address) (size int64) {
	for some := range slices.Chunk(recipients, maxRecipients) {
		if out, _, _, err := message.ReconcileRecipients(header, some); err == nil {
			size = max(size, int64(len(out)))
		}
	}
	return size
}

// lesson is what refusals have taught about the size that a mailbox sends.
type lesson struct {
	smallest int64 // refused so far; only a second refusal over it is believed
	limit    int64 // 0: none
}

func (r *Relay) learned(a Account) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, route := a.places("")
	return r.lessons[route.key].limit
}

// ForgetSizes forgets what refusals have taught: the configuration was applied again, and its max_message counts.
func (r *Relay) ForgetSizes() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lessons = nil
}

// learnSize takes a refusal for size (ErrorMessageSizeExceeded). One may be the recipient's limit; a second message that
// is no smaller makes it the mailbox's, until the configuration is applied again.
func (r *Relay) learnSize(ctx context.Context, a Account, out message.Outgoing, o reply.Outcome) {
	size := int64(len(out.Final)) + out.BodySize
	if o.Size != reply.OverMailbox || o.Verdict != reply.Failed || size < leastLimit {
		return
	}
	_, route := a.places("")
	r.mu.Lock()
	l := r.lessons[route.key]
	news := l.smallest > 0 && size >= l.smallest && l.limit != l.smallest
	if news {
		l.limit = l.smallest
	}
	if l.smallest == 0 || size < l.smallest {
		l.smallest = size
	}
	if r.lessons == nil {
		r.lessons = map[string]lesson{}
	}
	r.lessons[route.key] = l
	r.mu.Unlock()
	if news {
		r.events.Emit(ctx, slog.LevelWarn, event.AccountLimited, slog.String("account", a.Name), slog.Int64("size", l.limit),
			slog.String("reply", o.Reply.String()), slog.String("remedy", "raise the mailbox's MaxSendSize in Exchange Online, or lower max_message of the account"))
	}
}
