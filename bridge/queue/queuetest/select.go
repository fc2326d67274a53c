package queuetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// The part of the suite about finding messages: claims, listings, counts.

func testClaimOrder(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	third := add(t, s, "erp", start.Add(3*time.Second), "3")
	first := add(t, s, "erp", start.Add(1*time.Second), "1")
	add(t, s, "crm", start, "another account's")
	second := add(t, s, "erp", start.Add(2*time.Second), "2")
	later := add(t, s, "erp", start.Add(time.Hour), "later")
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.Equal(first.Accepted) {
		t.Errorf("NextDue = %v, %v; want %v", next, err, first.Accepted)
	}
	var got []envelope.ID
	for range 3 {
		es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Minute), Limit: 2, Take: take})
		if err != nil {
			t.Fatalf("Claim: %v", err)
		}
		for _, e := range es {
			got = append(got, e.Item.ID)
			if e.Item.Lease != "suite" || e.Item.State() != queue.Sending || len(e.Message.Header) == 0 || e.Message.Plan.Account != "erp" {
				t.Errorf("claimed: %+v", e)
			}
		}
	}
	if d := cmp.Diff([]envelope.ID{first.ID, second.ID, third.ID}, got); d != "" {
		t.Errorf("claimed (-want +got):\n%s", d)
	}
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.Equal(later.Accepted) {
		t.Errorf("NextDue = %v, %v; want %v", next, err, later.Accepted)
	}
	if next, err := s.NextDue(t.Context(), "nobody"); err != nil || !next.IsZero() {
		t.Errorf("NextDue of an account without mail = %v, %v; want zero", next, err)
	}
}

func testClaimTurns(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	names := map[envelope.ID]string{}
	for n := range 12 {
		kind := "new"
		item := add(t, s, "erp", start.Add(time.Duration(n)*time.Second), "body")
		if n < 9 {
			kind = "tried"
			update(t, s, item.ID, func(it *queue.Item) { it.Attempts = 1 })
		}
		names[item.ID] = fmt.Sprint(kind, n)
	}
	late := add(t, s, "erp", start.Add(time.Hour), "body")
	update(t, s, late.ID, func(it *queue.Item) { it.Attempts = 1 })
	for _, tc := range []struct {
		limit int
		tried bool
		want  []string
	}{
		{1, false, []string{"new9"}},
		{3, true, []string{"tried0", "new10", "tried1"}},
		{6, false, []string{"new11", "tried2", "tried3", "tried4", "tried5", "tried6"}},
		{6, false, []string{"tried7", "tried8"}},
	} {
		es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Minute), Limit: tc.limit, Tried: tc.tried, Take: take})
		var got []string
		for _, e := range es {
			got = append(got, names[e.Item.ID])
		}
		if d := cmp.Diff(tc.want, got); err != nil || d != "" {
			t.Errorf("claim of %d: %v (-want +got):\n%s", tc.limit, err, d)
		}
	}
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.Equal(late.Accepted) {
		t.Errorf("NextDue = %v, %v; want %v, of what was tried", next, err, late.Accepted)
	}
	update(t, s, late.ID, func(it *queue.Item) { it.Attempts = 0 })
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.Equal(late.Accepted) {
		t.Errorf("NextDue = %v, %v; want %v, of what is new", next, err, late.Accepted)
	}
}

// testPrecision: a claim's time is of that precision, so what is due a little after it would never be taken by a lane that
// wakes when it is due.
func testPrecision(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	const little = 999 * time.Nanosecond
	item := add(t, s, "erp", start.Add(little), "body")
	want := item.Clone()
	want.Accepted, want.Recipients[0].Next = start, start.Add(time.Hour)
	want.Watch, want.Finished, want.Retried, want.Parked = start, start.Add(time.Minute), start.Add(time.Second), time.Minute
	err := s.Update(t.Context(), item.ID, func(it *queue.Item) error {
		it.Recipients[0].Next = it.Recipients[0].Next.Add(time.Hour + little)
		it.Watch, it.Finished, it.Retried, it.Parked = want.Watch.Add(little), want.Finished.Add(little), want.Retried.Add(little), want.Parked+little
		return nil
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
	e, err := s.Get(t.Context(), item.ID)
	if err != nil || !e.Message.Accepted.Equal(start) {
		t.Fatalf("Get: accepted %v, %v; want %v", e.Message.Accepted, err, start)
	}
	if d := cmp.Diff(want, e.Item); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Hour), Limit: 1, Take: take}); err != nil || len(es) != 1 {
		t.Errorf("Claim: %d messages, %v; want the one", len(es), err)
	}
}

func testClaimFails(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	add(t, s, "erp", start, "1")
	add(t, s, "erp", start.Add(time.Second), "2")
	wrong := errors.New("wrong")
	calls := 0
	_, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Minute), Limit: 2, Take: func(it *queue.Item) error {
		if calls++; calls%2 == 0 {
			return wrong
		}
		return take(it)
	}})
	if !errors.Is(err, wrong) {
		t.Errorf("Claim: %v, want %v", err, wrong)
	}
	if l, err := s.List(t.Context(), queue.Filter{State: queue.Queued}); err != nil || len(l) != 2 {
		t.Errorf("queued after it: %d, %v; want both", len(l), err)
	}
}

func testConcurrentClaims(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	const messages = 60
	for n := range messages {
		add(t, s, "erp", start.Add(time.Duration(n)*time.Millisecond), "body")
	}
	var mu sync.Mutex // guards seen
	seen := make(map[envelope.ID]int)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for {
				es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Minute), Limit: 3, Take: take})
				if err != nil {
					t.Errorf("Claim: %v", err)
				}
				if len(es) == 0 {
					return
				}
				mu.Lock()
				for _, e := range es {
					seen[e.Item.ID]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	if len(seen) != messages {
		t.Errorf("%d messages were claimed, want %d", len(seen), messages)
	}
}

func testList(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	a := add(t, s, "erp", start.Add(1*time.Second), "a")
	b := add(t, s, "crm", start.Add(2*time.Second), "b")
	c := add(t, s, "erp", start.Add(3*time.Second), "c")
	if _, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Minute), Limit: 1, Take: take}); err != nil {
		t.Fatalf("Claim: %v", err)
	}
	for _, tc := range []struct {
		name   string
		filter queue.Filter
		want   []envelope.ID
	}{
		{"everything", queue.Filter{}, []envelope.ID{a.ID, b.ID, c.ID}},
		{"one account", queue.Filter{Account: "erp"}, []envelope.ID{a.ID, c.ID}},
		{"one state", queue.Filter{State: queue.Sending}, []envelope.ID{a.ID}},
		{"both", queue.Filter{Account: "crm", State: queue.Sending}, nil},
		{"the first page", queue.Filter{Limit: 2}, []envelope.ID{a.ID, b.ID}},
		{"the second page", queue.Filter{Limit: 2, After: b.ID}, []envelope.ID{c.ID}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := s.List(t.Context(), tc.filter)
			if err != nil {
				t.Fatalf("List: %v", err)
			}
			var got []envelope.ID
			for _, e := range l {
				got = append(got, e.Item.ID)
				if len(e.Item.Recipients) != 1 || e.Message.Session.User != "nav" {
					t.Errorf("entry %+v", e)
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func testCounts(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	add(t, s, "erp", start, "a")
	add(t, s, "erp", start.Add(time.Second), "b")
	add(t, s, "crm", start, "c")
	if _, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start, Limit: 1, Take: take}); err != nil {
		t.Fatalf("Claim: %v", err)
	}
	for i, drop := range []bool{false, true, false} {
		it := add(t, s, "hr", start.Add(time.Duration(i)*time.Second), "d")
		fail := func(it *queue.Item) error {
			it.Recipients[0].State, it.Recipients[0].Next, it.Finished, it.DropBody = queue.Failed, time.Time{}, start, drop
			return nil
		}
		if err := s.Update(t.Context(), it.ID, fail); err != nil {
			t.Fatalf("Update: %v", err)
		}
	}
	got, err := s.Counts(t.Context())
	want := []queue.Count{{Account: "crm", State: queue.Queued, N: 1}, {Account: "erp", State: queue.Queued, N: 1}, {Account: "erp", State: queue.Sending, N: 1},
		{Account: "hr", State: queue.Failed, N: 3, Kept: 2}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("Counts: %v (-want +got):\n%s", err, d)
	}
}
