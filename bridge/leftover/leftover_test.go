package leftover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
)

// shelf is a Store in memory.
type shelf struct {
	mu    sync.Mutex // guards what follows
	notes map[string]string
	err   error
}

func (s *shelf) SetNote(_ context.Context, key, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.notes == nil {
		s.notes = map[string]string{}
	}
	if s.notes[key] = value; value == "" {
		delete(s.notes, key)
	}
	return nil
}

func (s *shelf) Notes(_ context.Context, prefix string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := maps.Clone(s.notes)
	maps.DeleteFunc(found, func(key, _ string) bool { return !strings.HasPrefix(key, prefix) })
	return found, s.err
}

func (s *shelf) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.notes)
}

// bench is a Sweeper that runs, in a synctest bubble.
type bench struct {
	*Sweeper
	shelf  *shelf
	began  time.Time
	events atomic.Int32 // that the store failed

	mu    sync.Mutex // guards what follows
	err   error      // of the remover
	calls []string
	told  []string // what may be left behind
}

func newBench(t *testing.T, s *shelf) *bench {
	b := &bench{shelf: s, began: time.Now()}
	b.Sweeper = New(Options{Store: s, Events: event.NewBus(b), Remove: func(_ context.Context, l Left) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		call := fmt.Sprintf("%s after %v", l.ID, time.Since(b.began))
		if l.Broken {
			call += ", broken"
		}
		b.calls = append(b.calls, call)
		return b.err
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return b
}

// Handle implements event.Sink.
func (b *bench) Handle(_ context.Context, e event.Event) {
	if e.Kind == event.QueueFailed {
		b.events.Add(1)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	text := fmt.Sprintf("%s %s", e.Level, e.Kind)
	for _, a := range e.Attrs {
		text += " " + a.String()
	}
	b.told = append(b.told, text)
}

func (b *bench) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *bench) seen() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func (b *bench) wants(t *testing.T, left int, want ...string) {
	t.Helper()
	if got := b.seen(); !slices.Equal(got, want) {
		t.Errorf("asked for %q; want %q", got, want)
	}
	if n := b.shelf.left(); n != left {
		t.Errorf("%d notes are left; want %d", n, left)
	}
}

func TestWhatIsOverIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &shelf{})
		b.Note(t.Context(), "A", 0, true)
		b.wants(t, 0, "A after 0s, broken")
	})
}

func TestWhatMayBeOnItsWayIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &shelf{})
		b.Note(t.Context(), "A", 10*time.Minute, false)
		time.Sleep(10*time.Minute - 1)
		b.wants(t, 1)
		time.Sleep(time.Nanosecond)
		b.wants(t, 0, "A after 10m0s")
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &shelf{})
		b.set(errors.New("the mailbox cannot be reached"))
		b.Note(t.Context(), "A", 0, false)
		time.Sleep(2*time.Hour + 21*time.Minute)
		b.wants(t, 1, "A after 0s", "A after 1m0s", "A after 6m0s", "A after 21m0s", "A after 1h21m0s", "A after 2h21m0s")
		b.set(nil)
		time.Sleep(time.Hour)
		if b.seen(); b.shelf.left() != 0 {
			t.Error("it is noted still")
		}
		time.Sleep(24 * time.Hour)
		if n := len(b.seen()); n != 7 {
			t.Errorf("asked %d times; want no more than 7", n)
		}
	})
}

func TestItIsGivenUpInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &shelf{})
		b.set(errors.New("the account is not configured"))
		b.Note(t.Context(), "A", 0, false)
		time.Sleep(giveUpAfter)
		if b.seen(); b.shelf.left() != 1 {
			t.Error("it was given up early")
		}
		time.Sleep(time.Hour)
		if b.seen(); b.shelf.left() != 0 {
			t.Error("it is never given up")
		}
		first, last := b.told[0], b.told[len(b.told)-1]
		if want := "DEBUG message left behind queue_id=A attempt=1 err=the account is not configured next_attempt="; !strings.HasPrefix(first, want) {
			t.Errorf("the first failure is told by %q; want %q", first, want)
		}
		if want := "WARN message left behind queue_id=A remedy="; !strings.HasPrefix(last, want) || strings.Contains(strings.Join(b.told[:len(b.told)-1], ""), "WARN") {
			t.Errorf("the end is told by %q; want %q, and no warning before", last, want)
		}
		if len(b.told) != len(b.seen()) {
			t.Errorf("%d lines for %d tries that failed", len(b.told), len(b.seen()))
		}
	})
}

func TestARestartForgetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{notes: map[string]string{"other": "x"}}
		for _, id := range []envelope.ID{"A", "B"} {
			if err := Note(t.Context(), s, Left{ID: id, Due: time.Now().Add(time.Hour), Since: time.Now(), Broken: id == "B"}); err != nil {
				t.Fatal(err)
			}
		}
		b := newBench(t, s)
		time.Sleep(2 * time.Hour)
		got := b.seen()
		slices.Sort(got)
		if want := []string{"A after 1h0m0s", "B after 1h0m0s, broken"}; !slices.Equal(got, want) || s.left() != 1 {
			t.Errorf("asked for %q, %d notes left; want %q and the other's", got, s.left(), want)
		}
	})
}

// TestWhatWasNotedBeforeStaysTrue: recipients of one message end at different times.
func TestWhatWasNotedBeforeStaysTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &shelf{})
		b.Note(t.Context(), "A", 10*time.Minute, true)
		time.Sleep(time.Second)
		b.Note(t.Context(), "A", 0, false)
		time.Sleep(10*time.Minute - 2*time.Second)
		b.wants(t, 1)
		time.Sleep(time.Second)
		b.wants(t, 0, "A after 10m0s, broken")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &shelf{})
		b.set(errors.New("the mailbox cannot be reached"))
		b.Note(t.Context(), "A", 0, false)
		time.Sleep(giveUpAfter)
		b.Note(t.Context(), "A", 0, false) // somebody had it tried again
		time.Sleep(time.Hour)
		if b.seen(); b.shelf.left() != 0 {
			t.Error("its time to be given up begins with each note")
		}
	})
}

// TestTwoThatRemove: what somebody else has seen to is not done again.
func TestTwoThatRemove(t *testing.T) {
	s, now, calls := &shelf{}, time.Now(), 0
	w := New(Options{Store: s, Now: func() time.Time { return now }, Remove: func(ctx context.Context, l Left) error {
		calls++
		return s.SetNote(ctx, "leftover/"+string(l.ID), "")
	}})
	w.Note(t.Context(), "A", 0, false)
	if next := w.Sweep(t.Context()); calls != 1 || !next.IsZero() {
		t.Errorf("asked %d times, the next at %v; want once and never", calls, next)
	}
}

// TestANewNoteIsNotLost: the message was tried again and ended again while it was asked for.
func TestANewNoteIsNotLost(t *testing.T) {
	s, now := &shelf{}, time.Now()
	calls := 0
	var w *Sweeper
	w = New(Options{Store: s, Now: func() time.Time { return now }, Remove: func(ctx context.Context, l Left) error {
		if calls++; calls == 1 {
			w.Note(ctx, l.ID, time.Hour, false)
		}
		return nil
	}})
	w.Note(t.Context(), "A", 0, false)
	w.Sweep(t.Context())
	if s.left() != 1 {
		t.Fatal("the new note is lost")
	}
	now = now.Add(time.Hour)
	if next := w.Sweep(t.Context()); calls != 2 || s.left() != 0 || !next.IsZero() {
		t.Errorf("asked %d times, %d left, next %v; want twice, and nothing left", calls, s.left(), next)
	}
}

func TestACopyForgetsAll(t *testing.T) {
	s := &shelf{notes: map[string]string{"leftover/A": "{}", "leftover/B": "{}", "other": "x"}}
	if err := Forget(t.Context(), s); err != nil || s.left() != 1 {
		t.Errorf("Forget = %v, %d notes left; want the other's alone", err, s.left())
	}
}

func TestAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		b := newBench(t, s)
		b.Note(t.Context(), "A", time.Hour, false)
		synctest.Wait()
		s.mu.Lock()
		s.err = errors.New("disk full")
		s.mu.Unlock()
		b.Note(t.Context(), "B", 0, false)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		time.Sleep(time.Minute)
		if got := b.seen(); len(got) != 1 || !strings.HasPrefix(got[0], "A ") || b.events.Load() == 0 {
			t.Errorf("asked for %q with %d events; want A, after the store works again", got, b.events.Load())
		}
	})
}
