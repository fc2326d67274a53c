package graph

import (
	"context"
	"errors"
	"fmt"

	"postern/bridge/message"
	"postern/bridge/reply"
)

// CanTidy reports that Tidy does something.
func (t *Transport) CanTidy() bool { return true }

// Tidy removes the drafts that earlier attempts left of a message which is not sent any more. It goes by out.Notes, and by
// our marker field where a draft may have been made whose id never came (also where out.Attempt is over 1). What out.Others
// name stays, and what is no draft any more: it was sent. That it was may show late, so that the look alone is not trusted.
// The error says why something may be left.
func (t *Transport) Tidy(ctx context.Context, out message.Outgoing) error {
	l, err := t.newLetter(out)
	if err != nil {
		return err
	}
	id := l.memo.Draft
	if l.others[id] {
		id = ""
	}
	if id == "" && out.Attempt <= 1 {
		return nil
	}
	if id != "" && id != unknownDraft {
		isDraft, o, found := l.look(ctx, id)
		switch {
		case found && !isDraft:
			return nil
		case found:
			return l.tidyAway(ctx, id)
		case !notThere(o):
			return whyLeft(o)
		}
	}
	left, o, known := l.inFolder(ctx, "drafts")
	if !known {
		return whyLeft(o)
	}
	var errs []error
	for _, id := range left {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		errs = append(errs, l.tidyAway(ctx, id))
	}
	return errors.Join(errs...)
}

func (l *letter) tidyAway(ctx context.Context, id string) error {
	if o, gone := l.remove(ctx, id); !gone {
		return whyLeft(o)
	}
	return nil
}

func whyLeft(o reply.Outcome) error {
	if o.Err != nil {
		return fmt.Errorf("a draft may be left: %w", o.Err)
	}
	return fmt.Errorf("a draft may be left: %s", o.Reply)
}
