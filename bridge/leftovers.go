package bridge

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/leftover"
	"postern/bridge/message"
	"postern/bridge/origin"
	"postern/bridge/queue"
	"postern/bridge/relay"
)

// inFlight is how long a message in doubt may be on its way where no account says so: the default of doubt_wait.
const inFlight = 10 * time.Minute

// sentByDraft reports that what the recipient's note names is what was sent, and no draft, whatever the mailbox shows: it
// may take a while.
func sentByDraft(r queue.Recipient) bool {
	return r.State == queue.Relayed && r.Last.Transport == string(relay.ModeGraph) && !r.Last.ByPerson
}

// leavesSomething reports whether attempts may have left a draft that nobody sends any more, and how long something of the
// message may be on its way still.
func leavesSomething(cfg *config.Config, e queue.Ended) (after time.Duration, ok bool) {
	ok = e.Broken || slices.ContainsFunc(e.Recipients, func(r queue.Recipient) bool {
		return !sentByDraft(r) && relay.Leaves(r.Last.Note)
	})
	if !ok || !e.InDoubt && !slices.ContainsFunc(e.All, sentByDraft) {
		return 0, ok
	}
	after = inFlight
	for _, a := range cfg.Accounts {
		if a.Name == accountOf(e.Account) {
			after = a.DoubtWait
		}
	}
	return after, true
}

// ended keeps in mind what the daemon has to have removed.
func (b *Bridge) ended(ctx context.Context, e queue.Ended) {
	if after, ok := leavesSomething(b.live.Load(), e); ok {
		b.leftovers.Note(ctx, e.ID, after, e.Broken)
	}
}

// endedWhileStopped keeps it in mind for the next start.
func endedWhileStopped(cfg *config.Config, store leftover.Store, events *event.Bus) func(context.Context, queue.Ended) {
	return func(ctx context.Context, e queue.Ended) {
		after, ok := leavesSomething(cfg, e)
		if !ok {
			return
		}
		now := time.Now().UTC()
		if err := leftover.Note(ctx, store, leftover.Left{ID: e.ID, Due: now.Add(after), Since: now, Broken: e.Broken}); err != nil {
			events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.String("queue_id", string(e.ID)), slog.Any("err", err))
		}
	}
}

// removeLeft has removed what was left of a message, unless it is sent again.
func (b *Bridge) removeLeft(ctx context.Context, l leftover.Left) error {
	return b.relay.Tidy(ctx, l.ID, func(ctx context.Context) (message.Outgoing, bool, error) {
		out, ok, err := b.queue.Over(ctx, l.ID, sentByDraft)
		if err != nil || !ok {
			return out, ok, err
		}
		if out.Attempt = 1; l.Broken {
			out.Attempt = 2
		}
		// A single mailbox of an account of many is only known while it has mail.
		out.Plan.Account, err = b.mailboxes.Admit(ctx, accountOf(out.Plan.Account), out.Plan.HeaderFrom)
		return out, true, err
	})
}

// copied holds the mail of a store that is a copy, and leaves to the other one what its attempts have left.
type copied struct {
	*queue.Queue
	store leftover.Store
}

// HoldEverything implements origin.Holder.
func (c copied) HoldEverything(ctx context.Context, why string) (int, error) {
	if err := leftover.Forget(ctx, c.store); err != nil {
		return 0, err
	}
	return c.Queue.HoldEverything(ctx, why)
}

var (
	_ origin.Holder  = copied{}
	_ leftover.Store = queue.Store(nil)
)
