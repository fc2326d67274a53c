package queuetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/queue"
)

// The part of the suite about many messages at once, notes, and what is deleted.

func update(t testing.TB, s queue.Store, id envelope.ID, change func(*queue.Item)) {
	t.Helper()
	if err := s.Update(t.Context(), id, func(it *queue.Item) error { change(it); return nil }); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func testClaimScan(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	for n := range 10 {
		add(t, s, "erp", start.Add(time.Duration(n)*time.Second), "body")
	}
	seen := 0
	later := start.Add(time.Hour)
	es, err := s.Claim(t.Context(), queue.Claim{Account: "erp", Now: start.Add(time.Minute), Limit: 2, Scan: 6, Take: func(it *queue.Item) error {
		if seen++; seen <= 3 {
			it.Recipients[0].State, it.Recipients[0].Next = queue.Deferred, later
			return nil
		}
		return take(it)
	}})
	if err != nil || len(es) != 5 {
		t.Fatalf("Claim: %d entries, %v; want three that were put off and two that were taken", len(es), err)
	}
	for i, e := range es {
		if leased := i >= 3; (e.Item.Lease != "") != leased || (len(e.Message.Header) > 0) != leased {
			t.Errorf("entry %d: lease %q, header of %d octets", i, e.Item.Lease, len(e.Message.Header))
		}
	}
	if l, err := s.List(t.Context(), queue.Filter{State: queue.Deferred}); err != nil || len(l) != 3 {
		t.Errorf("%d were put off, %v", len(l), err)
	}
}

func testFind(t *testing.T, open Opener) {
	s := open(t)
	var ids []envelope.ID
	for n := range 6 {
		ids = append(ids, add(t, s, "erp", start.Add(time.Duration(n)*time.Second), "body").ID)
	}
	update(t, s, ids[0], func(it *queue.Item) { it.Lease = "somebody" })
	update(t, s, ids[1], func(it *queue.Item) { it.Suspect, it.Deaths, it.Parked = true, 2, time.Hour })
	update(t, s, ids[2], func(it *queue.Item) { it.Watch, it.Warned = start.Add(2*time.Hour), true })
	update(t, s, ids[3], func(it *queue.Item) { it.Watch, it.Owed = start.Add(time.Hour), queue.OwedLate })
	for _, id := range ids[4:] {
		update(t, s, id, func(it *queue.Item) { it.Recipients[0].State = queue.Deferred })
	}
	s = reopen(t, s, open)
	defer s.Close()
	e, err := s.Get(t.Context(), ids[1])
	if it := e.Item; err != nil || !it.Suspect || it.Deaths != 2 || it.Parked != time.Hour || !it.Next().IsZero() {
		t.Errorf("read back: %+v, %v", it, err)
	}
	sender := e.Item.Sender
	for _, tc := range []struct {
		name string
		s    queue.Selection
		want []envelope.ID
	}{
		{"what is leased", queue.Selection{Which: queue.Leased, Limit: 9}, ids[:1]},
		{"an account's mail that is due later", queue.Selection{Which: queue.Ahead, Account: "erp", Before: start, Limit: 9}, ids[2:]},
		{"its second page", queue.Selection{Which: queue.Ahead, Account: "erp", Before: start, After: ids[3], Limit: 9}, ids[4:]},
		{"not what is due by then", queue.Selection{Which: queue.Ahead, Account: "erp", Before: start.Add(4 * time.Second), Limit: 9}, ids[5:]},
		{"nor another account's", queue.Selection{Which: queue.Ahead, Account: "crm", Before: start, Limit: 9}, nil},
		{"what is suspect", queue.Selection{Which: queue.Suspects, Limit: 9}, ids[1:2]},
		{"what is to be looked at, the earliest first", queue.Selection{Which: queue.Watched, Before: start.Add(2 * time.Hour), Limit: 9},
			[]envelope.ID{ids[3], ids[2]}},
		{"as much of it as is wanted", queue.Selection{Which: queue.Watched, Before: start.Add(2 * time.Hour), Limit: 1}, ids[3:4]},
		{"not what is to be looked at later", queue.Selection{Which: queue.Watched, Before: start, Limit: 9}, nil},
		{"what is owed", queue.Selection{Which: queue.Owing, Limit: 9}, ids[3:4]},
		{"a sender's deferred mail", queue.Selection{Which: queue.OfSender, Account: "erp", Sender: sender, Limit: 9}, ids[4:]},
		{"its second page", queue.Selection{Which: queue.OfSender, Account: "erp", Sender: sender, After: ids[4], Limit: 9}, ids[5:]},
		{"not another sender's", queue.Selection{Which: queue.OfSender, Account: "erp", Sender: "x@y", Limit: 9}, nil},
		{"not another account's", queue.Selection{Which: queue.OfSender, Account: "crm", Sender: sender, Limit: 9}, nil},
		{"an account's queued mail that is due later", queue.Selection{Which: queue.Later, Account: "erp", Before: start, Limit: 9}, ids[2:4]},
		{"its second page", queue.Selection{Which: queue.Later, Account: "erp", Before: start, After: ids[2], Limit: 9}, ids[3:4]},
		{"not what is due by then", queue.Selection{Which: queue.Later, Account: "erp", Before: start.Add(2 * time.Second), Limit: 9}, ids[3:4]},
		{"nor another account's", queue.Selection{Which: queue.Later, Account: "crm", Before: start, Limit: 9}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := s.Find(t.Context(), tc.s)
			if d := cmp.Diff(tc.want, got); err != nil || d != "" {
				t.Errorf("Find: %v (-want +got):\n%s", err, d)
			}
		})
	}
}

func testUpdateAll(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	a, b := add(t, s, "erp", start, "a"), add(t, s, "erp", start.Add(time.Second), "b")
	all := []envelope.ID{a.ID, envelope.NewID(start), b.ID}
	if err := s.UpdateAll(t.Context(), all, func(it *queue.Item) error { it.Attempts = 7; return nil }); err != nil {
		t.Errorf("UpdateAll: %v", err)
	}
	wrong := errors.New("wrong")
	err := s.UpdateAll(t.Context(), all, func(it *queue.Item) error {
		it.Attempts = 9
		if it.ID == b.ID {
			return wrong
		}
		return nil
	})
	if !errors.Is(err, wrong) {
		t.Errorf("UpdateAll: %v, want %v", err, wrong)
	}
	for _, id := range []envelope.ID{a.ID, b.ID} {
		if e, err := s.Get(t.Context(), id); err != nil || e.Item.Attempts != 7 {
			t.Errorf("%d attempts, %v; want the first change alone", e.Item.Attempts, err)
		}
	}
}

func finish(t testing.TB, s queue.Store, id envelope.ID, state queue.State, at time.Time) {
	update(t, s, id, func(it *queue.Item) {
		it.Recipients[0].State, it.Recipients[0].Next, it.Finished = state, time.Time{}, at
	})
}

func testUsage(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	_, m := NewMessage("erp", start)
	add(t, s, "erp", start, "12345")
	add(t, s, "crm", start, "123")
	done := add(t, s, "erp", start, "relayed")
	finish(t, s, done.ID, queue.Relayed, start.Add(time.Hour))
	got, err := s.Usage(t.Context())
	if d := cmp.Diff(map[string]queue.Usage{"nav": {Messages: 2, Bytes: 8 + 2*int64(len(m.Header))}}, got); err != nil || d != "" {
		t.Errorf("Usage: %v (-want +got):\n%s", err, d)
	}
}

func testPurge(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	day := 24 * time.Hour
	ids := map[string]envelope.ID{}
	for i, c := range []struct {
		name  string
		state queue.State
		age   time.Duration
	}{{"failed, old", queue.Failed, 40 * day}, {"failed, kept as a row", queue.Failed, 20 * day}, {"failed, kept whole", queue.Failed, day},
		{"relayed, old", queue.Relayed, 40 * day}, {"relayed, young", queue.Relayed, day}, {"waiting", queue.Queued, 0}} {
		item := add(t, s, "erp", start.Add(-50*day+time.Duration(i)*time.Second), c.name+strings.Repeat(" ", 100_000))
		ids[c.name] = item.ID
		if c.state.Final() {
			finish(t, s, item.ID, c.state, start.Add(-c.age))
		}
	}
	for more, n := true, 0; more; n++ {
		var err error
		if more, err = s.Purge(t.Context(), queue.Purge{History: start.Add(-30 * day), Failed: start.Add(-14 * day), Relayed: start}); err != nil || n > 100 {
			t.Fatalf("Purge, step %d: %v", n, err)
		}
	}
	got := map[string]string{}
	for name, id := range ids {
		e, err := s.Get(t.Context(), id)
		if err != nil && !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		got[name] = fmt.Sprint(err == nil, " ", e.HasBody)
		if e.HasBody && !strings.HasPrefix(string(readBody(t, s, id)), name) {
			t.Errorf("%s: another body", name)
		}
	}
	want := map[string]string{"failed, old": "false false", "failed, kept as a row": "true false", "failed, kept whole": "true true",
		"relayed, old": "false false", "relayed, young": "true false", "waiting": "true true"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("row and body (-want +got):\n%s", d)
	}
}

func testNotes(t *testing.T, open Opener) {
	s := open(t)
	for key, value := range map[string]string{"a/1": "one", "a/2": "two", "b": "three", "a%": "four"} {
		if err := s.SetNote(t.Context(), key, "old"); err != nil {
			t.Fatalf("SetNote: %v", err)
		}
		if err := s.SetNote(t.Context(), key, value); err != nil {
			t.Fatalf("SetNote: %v", err)
		}
	}
	if err := s.SetNote(t.Context(), "a/2", ""); err != nil {
		t.Fatalf("SetNote: %v", err)
	}
	s = reopen(t, s, open)
	defer s.Close()
	for prefix, want := range map[string]map[string]string{"a/": {"a/1": "one"}, "a%": {"a%": "four"}, "c": {},
		"": {"a/1": "one", "b": "three", "a%": "four"}} {
		got, err := s.Notes(t.Context(), prefix)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("Notes(%q): %v (-want +got):\n%s", prefix, err, d)
		}
	}
}
