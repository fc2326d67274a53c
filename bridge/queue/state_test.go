package queue

import (
	"errors"
	"testing"
	"time"
)

func TestMoves(t *testing.T) {
	for _, tc := range []struct {
		name     string
		from, to State
		ok       bool
	}{
		{"a claim begins an attempt", Queued, Sending, true},
		{"an attempt may be relayed", Sending, Relayed, true},
		{"a message is never claimed twice", Sending, Sending, false},
		{"what was relayed is never sent again", Relayed, Queued, false},
		{"what was relayed never fails", Relayed, Failed, false},
		{"what failed is sent again only by way of the queue", Failed, Sending, false},
		{"what is held waits for a person", Held, Sending, false},
		{"nothing is relayed without an attempt", Queued, Relayed, false},
		{"a person may say that a doubtful message was relayed", InDoubt, Relayed, true},
		{"an unknown state goes nowhere", State("lost"), Queued, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.from.To(tc.to)
			want := tc.from
			if tc.ok {
				want = tc.to
			}
			if got != want || (err == nil) != tc.ok || !tc.ok && !errors.Is(err, ErrMove) {
				t.Errorf("%s.To(%s) = %s, %v; want %s", tc.from, tc.to, got, err, want)
			}
		})
	}
	for _, s := range finality {
		if _, ok := moves[s]; !ok {
			t.Errorf("the table has no row for %s", s)
		}
		if got, err := ParseState(string(s)); got != s || err != nil {
			t.Errorf("ParseState(%s) = %s, %v", s, got, err)
		}
	}
	if _, err := ParseState("unfinished"); err == nil {
		t.Error("ParseState takes what is no state")
	}
}

func TestMessageStateIsTheLeastFinal(t *testing.T) {
	for _, tc := range []struct {
		name       string
		recipients []State
		want       State
	}{
		{"one that is being sent", []State{Relayed, Sending, Failed}, Sending},
		{"one that waits", []State{Failed, Deferred, Relayed}, Deferred},
		{"one that a person must see", []State{Relayed, Held, Failed}, Held},
		{"one that failed among relayed", []State{Relayed, Failed}, Failed},
		{"all relayed", []State{Relayed, Relayed}, Relayed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var it Item
			for _, s := range tc.recipients {
				it.Recipients = append(it.Recipients, Recipient{State: s})
			}
			if got := it.State(); got != tc.want {
				t.Errorf("State() = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestNextAttempt(t *testing.T) {
	queued := time.Date(2026, 11, 6, 15, 30, 0, 0, time.UTC)
	for _, tc := range []struct {
		name        string
		attempt     int
		ended, want time.Duration // since queued
		ok          bool
	}{
		{"first retry comes after a minute", 1, 0, time.Minute, true},
		{"waits grow quadratically", 7, 0, 49 * time.Minute, true},
		{"the eighth wait is an hour", 8, 0, time.Hour, true},
		{"the last wait repeats", 500, 0, time.Hour, true},
		{"the last moment is still allowed", 8, time.Hour, 2 * time.Hour, true},
		{"gives up past the limit", 9, 90 * time.Minute, 150 * time.Minute, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at, ok := Schedule{GiveUpAfter: 2 * time.Hour}.NextAttempt(queued, queued.Add(tc.ended), tc.attempt)
			if got := at.Sub(queued); got != tc.want || ok != tc.ok {
				t.Errorf("NextAttempt(attempt %d) = %v, %v; want %v, %v", tc.attempt, got, ok, tc.want, tc.ok)
			}
		})
	}
}

func TestStorePauseGrowsToAMinute(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 1000: time.Minute} {
		if got := storePause(failures); got != want {
			t.Errorf("storePause(%d) = %v, want %v", failures, got, want)
		}
	}
}

func TestDefaultJitterIsSmall(t *testing.T) {
	q := New(Options{})
	for range 1000 {
		if d := q.jitter(time.Hour); d < 0 || d > 6*time.Minute {
			t.Fatalf("jitter(1h) = %v", d)
		}
	}
	q.jitter(0) // must not panic
}
