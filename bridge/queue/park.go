package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"postern/bridge/event"
)

// parkNote is the beginning of the keys under which the store keeps how long accounts were parked.
const parkNote = "parked/"

// parks knows how long each account has been parked in all. A message remembers that sum from when it was accepted; what
// was added since is the time that its age stood still (design.md section 6, "Wait", 3).
type parks struct {
	q  *Queue
	mu sync.Mutex // guards the map and what it points to. Changes within the store ask for sums: never held while it writes
	of map[string]*park

	loaded bool // what the former process knew was taken up

	saving sync.Mutex // orders what is written down; taken before mu
}

type park struct {
	Total time.Duration `json:"total"` // of the parks that are over
	Since time.Time     `json:"since,omitzero"`
}

// Recall takes up how long the former process saw accounts parked, and which senders. The age of mail hangs on that: it is
// called before anything is taken, or changed by a person; where nobody did, Run does.
func (q *Queue) Recall(ctx context.Context) error {
	if q.parks.loaded {
		return nil
	}
	return errors.Join(q.parks.load(ctx), q.lacks.load(ctx))
}

// load takes up what the former process knew. A park that it saw begin goes on until somebody sees that it is over.
func (p *parks) load(ctx context.Context) error {
	notes, err := p.q.store.Notes(ctx, parkNote)
	if err != nil {
		return fmt.Errorf("how long accounts were parked: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, text := range notes {
		known := &park{}
		if err := json.Unmarshal([]byte(text), known); err != nil {
			// Its mail is the older for it, which is better than no mail at all.
			p.q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("account", strings.TrimPrefix(key, parkNote)),
				slog.Any("err", fmt.Errorf("how long the account was parked: %w: %w", ErrDamaged, err)))
			continue
		}
		p.of[strings.TrimPrefix(key, parkNote)] = known
	}
	p.loaded = true
	return nil
}

// total is how long the account has been parked in all.
func (p *parks) total(account string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.of[account]
	switch {
	case known == nil:
		return 0
	case known.Since.IsZero():
		return known.Total
	}
	return known.Total + max(0, now.Sub(known.Since))
}

// parked reports whether the account is parked, as far as was last seen.
func (p *parks) parked(account string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.of[account]
	return known != nil && !known.Since.IsZero()
}

// see notes whether the account is parked now. A store that does not take the note only makes the sum forget at a
// restart what is seen again then.
func (p *parks) see(ctx context.Context, account string, parked bool, now time.Time) {
	if !p.changes(account, parked, now) {
		return
	}
	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	text, err := json.Marshal(p.of[account])
	p.mu.Unlock()
	if err == nil {
		err = p.q.store.SetNote(ctx, parkNote+account, string(text))
	}
	if err != nil && ctx.Err() == nil {
		p.q.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.String("account", account), slog.Any("err", err))
	}
}

// changes takes up what was seen, and reports whether it is news.
func (p *parks) changes(account string, parked bool, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.of[account]
	if known == nil {
		known = &park{}
		p.of[account] = known
	}
	switch {
	case parked == !known.Since.IsZero():
		return false
	case parked:
		known.Since = now
	default:
		known.Total += max(0, now.Sub(known.Since))
		known.Since = time.Time{}
	}
	return true
}

// stands reports whether the message's age stands still and where, because its account is up, but all that it waits for is
// a transport that only a person brings back: one of an account with two.
func (it *Item) stands() (age time.Duration, stands bool) {
	for _, r := range it.Recipients {
		if !r.State.waiting() {
			continue
		}
		if r.Last.Age == 0 {
			return 0, false
		}
		age = max(age, r.Last.Age)
	}
	return age, age > 0
}

// goOn has the age of a message grow from where it stood, or from when its plan lets it go: it is claimed.
func (q *Queue) goOn(it *Item, now time.Time) {
	q.pullBackItem(it, now)
	if begun := it.Begun(); !begun.Equal(it.Accepted) {
		it.Retried = begun
	}
	if _, stands := it.stands(); stands {
		it.Parked = q.parks.total(it.Account, now) - q.stoodStill(it, now)
	}
}

// stoodStill is for how long the message's age did not grow.
func (q *Queue) stoodStill(it *Item, now time.Time) time.Duration {
	lived := max(0, now.Sub(it.Begun()))
	if age, stands := it.stands(); stands {
		return max(0, lived-age)
	}
	return min(max(0, q.parks.total(it.Account, now)-it.Parked), lived)
}

// born is when the message would have been accepted, had it never stood still since: its age counts from there.
func (q *Queue) born(it *Item, now time.Time) time.Time {
	return it.Begun().Add(q.stoodStill(it, now))
}

// Begun is when the message's age began, or begins: what its plan puts off is not late before its time.
func (it *Item) Begun() time.Time {
	begun := it.Accepted
	if !it.Retried.IsZero() {
		begun = it.Retried
	}
	for _, r := range it.Recipients {
		if r.planned() && r.Next.Sub(begun) > time.Minute { // else it is not worth a write of its own
			begun = r.Next
		}
	}
	return begun
}
