// Package leftover has removed what attempts left at the next server of mail that is not sent any more: drafts in a
// mailbox, mostly. It notes each such message in the store, so that a restart forgets none, and asks its Remover until
// nothing is left: at once, and again after a minute, five minutes, a quarter of an hour and then every hour, where the
// next server cannot be reached. What may be on its way at that moment is waited for. It must not know what was left, nor
// how it is removed. The hall makes a Note when a message is over, and runs Run. A failure is no trouble of the message,
// and a line for debugging in the log; after giveUpAfter it is left where it is, and a warning names the message.
package leftover

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

const (
	prefix = "leftover/" // of the store's notes; the queue ID follows

	giveUpAfter = 30 * 24 * time.Hour
	lookAgain   = time.Minute // the longest that Run sleeps
)

// waits are those after the first tries that failed; the last one repeats.
var waits = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// Store keeps notes; the queue's store is one.
type Store interface {
	SetNote(ctx context.Context, key, value string) error
	// Notes returns those whose keys begin with prefix.
	Notes(ctx context.Context, prefix string) (map[string]string, error)
}

// Left is a message that is over.
type Left struct {
	ID     envelope.ID `json:"-"`
	Due    time.Time   `json:"due"`              // not asked for before
	Since  time.Time   `json:"since"`            // when it was noted
	Broken bool        `json:"broken,omitempty"` // an attempt ended with its process: there may be more than it noted
	Tries  int         `json:"tries,omitempty"`  // that failed
}

// Note keeps a message in mind, also for a Sweeper of a later process. What was noted of it before stays true: it is asked
// for at the later of both times. Nobody else may note the same message meanwhile.
func Note(ctx context.Context, s Store, l Left) error {
	key := prefix + string(l.ID)
	notes, err := s.Notes(ctx, key)
	if err != nil {
		return err
	}
	var before Left
	if text := notes[key]; text != "" && json.Unmarshal([]byte(text), &before) == nil {
		l.Broken = l.Broken || before.Broken
		if before.Due.After(l.Due) {
			l.Due = before.Due
		}
		if !before.Since.IsZero() && before.Since.Before(l.Since) {
			l.Since = before.Since
		}
	}
	return put(ctx, s, l)
}

func put(ctx context.Context, s Store, l Left) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return s.SetNote(ctx, prefix+string(l.ID), string(b))
}

// Forget drops all notes: what another copy of the store has made of the messages since, nobody knows.
func Forget(ctx context.Context, s Store) error {
	notes, err := s.Notes(ctx, prefix)
	if err != nil {
		return err
	}
	for key := range notes {
		if err := s.SetNote(ctx, key, ""); err != nil {
			return err
		}
	}
	return nil
}

// Remover removes what was left of a message, unless it is sent again. An error says that something may be left.
type Remover func(ctx context.Context, l Left) error

// Options are what a Sweeper needs.
type Options struct {
	Store  Store
	Remove Remover
	Events *event.Bus       // hears what may be left, and that the store failed
	Now    func() time.Time // nil: time.Now
}

// Sweeper asks for what is due. Safe for concurrent use.
type Sweeper struct {
	o       Options
	wake    chan struct{} // holds one token: there is a new note
	writing sync.Mutex    // held from reading a note to writing it
}

// New returns a Sweeper that has done nothing.
func New(o Options) *Sweeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sweeper{o: o, wake: make(chan struct{}, 1)}
}

// Note keeps a message in mind, to be asked for after a while: what may be on its way is waited for.
func (s *Sweeper) Note(ctx context.Context, id envelope.ID, after time.Duration, broken bool) {
	now := s.o.Now().UTC()
	s.writing.Lock()
	err := Note(ctx, s.o.Store, Left{ID: id, Due: now.Add(after), Since: now, Broken: broken})
	s.writing.Unlock()
	if err != nil {
		s.fail(ctx, err)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run asks for what is due until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		next := s.Sweep(ctx)
		sleep := lookAgain
		if !next.IsZero() {
			sleep = min(sleep, max(0, next.Sub(s.o.Now())))
		}
		t := time.NewTimer(sleep)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// Sweep asks once for all that is due, one after the other, and returns when the next is, zero where nothing is left. It
// is for Run and for tests.
func (s *Sweeper) Sweep(ctx context.Context) (next time.Time) {
	notes, err := s.o.Store.Notes(ctx, prefix)
	if err != nil {
		s.fail(ctx, err)
		return s.o.Now().Add(lookAgain)
	}
	for key, text := range notes {
		if ctx.Err() != nil {
			return next
		}
		l := Left{ID: envelope.ID(strings.TrimPrefix(key, prefix))}
		if json.Unmarshal([]byte(text), &l) != nil || !l.Due.After(s.o.Now()) {
			if l = s.try(ctx, l, text); l.Due.IsZero() {
				continue
			}
		}
		if next.IsZero() || l.Due.Before(next) {
			next = l.Due
		}
	}
	return next
}

// try asks for one message, and notes what came of it, unless the message was noted anew meanwhile.
func (s *Sweeper) try(ctx context.Context, l Left, text string) Left {
	failed := s.o.Remove(ctx, l)
	if ctx.Err() != nil {
		return l // the program ends
	}
	now := s.o.Now().UTC()
	key := prefix + string(l.ID)
	s.writing.Lock()
	defer s.writing.Unlock()
	switch notes, err := s.o.Store.Notes(ctx, key); {
	case err == nil && notes[key] == "":
		return Left{} // somebody else has seen to it
	case err == nil && notes[key] != text:
		return Left{Due: now}
	}
	var err error
	givenUp := now.Sub(l.Since) > giveUpAfter
	if failed == nil || givenUp {
		err = s.o.Store.SetNote(ctx, key, "")
		l.Due = time.Time{}
	} else {
		l.Due = now.Add(waits[min(l.Tries, len(waits)-1)])
		l.Tries++
		err = put(ctx, s.o.Store, l)
	}
	if failed != nil {
		s.tell(ctx, l, failed, givenUp)
	}
	if err != nil {
		s.fail(ctx, err)
		return Left{Due: now.Add(lookAgain)}
	}
	return l
}

// tell tells that something may be left of a message, and louder where nobody tries to remove it any more.
func (s *Sweeper) tell(ctx context.Context, l Left, why error, givenUp bool) {
	level, attrs := slog.LevelDebug, []slog.Attr{slog.String("queue_id", string(l.ID)), slog.Int("attempt", l.Tries), slog.Any("err", why)}
	if givenUp {
		level, attrs[1] = slog.LevelWarn, slog.String("remedy", "look for a draft of this message in the mailbox, and delete it")
	} else {
		attrs = append(attrs, slog.Time("next_attempt", l.Due))
	}
	s.o.Events.Emit(ctx, level, event.MessageLeft, attrs...)
}

// fail tells that the store failed. What was left stays in the mailbox at worst.
func (s *Sweeper) fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		s.o.Events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.Any("err", err))
	}
}
