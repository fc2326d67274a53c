package graph

import (
	"context"
	"testing"

	"postern/bridge/reply"
	"postern/bridge/sandbox"
)

// TestTidy: what attempts left of mail that is not sent any more goes, and nothing else does.
func TestTidy(t *testing.T) {
	fault := func(where sandbox.Where, f sandbox.Fault) *sandbox.Fault { f.Where = where; return &f }
	for _, tc := range []struct {
		name        string
		fault       *sandbox.Fault // at the only attempt
		interrupted bool           // it ended with the process, before anything was noted
		drafts      int            // before
		received    int
	}{
		{"nothing was tried", nil, false, 0, 0},
		{"the draft that could not be sent yet", fault(sandbox.AtDot, sandbox.Fault{Outcome: "busy"}), false, 1, 0},
		{"a draft in doubt that was not sent", fault(sandbox.AtDot, sandbox.Fault{Outcome: "gateway"}), false, 1, 0},
		{"one whose id never came", fault(sandbox.AtCreate, sandbox.Fault{Drop: true, Late: true}), false, 1, 0},
		{"one that was noted nowhere", fault(sandbox.AtDot, sandbox.Fault{Outcome: "busy"}), true, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{}, nil)
			other := b.message(draftHeader, "another's\r\n", "ann@example.test")
			other.Final = []byte(draftHeader + "X-Postern-Id: fedcba9876543210\r\n\r\n")
			if err := b.box.Fault(*fault(sandbox.AtDot, sandbox.Fault{Outcome: "busy"})); err != nil {
				t.Fatal(err)
			}
			if o := b.next(other); o.Verdict != reply.Deferred {
				t.Fatalf("%+v", o)
			}
			q := b.message(draftHeader, "hello\r\n", "ann@example.test")
			if tc.fault != nil {
				if err := b.box.Fault(*tc.fault); err != nil {
					t.Fatal(err)
				}
				b.next(q)
			}
			if n := len(b.box.Drafts()); n != tc.drafts+1 {
				t.Fatalf("%d drafts before; want %d beside another's", n, tc.drafts)
			}
			if tc.interrupted {
				q.note, q.Attempt = "", 2
			}
			b.tidy(q)
			left := b.box.Drafts()
			if len(left) != 1 {
				t.Fatalf("%d drafts are left; want another's alone: %+v", len(left), left)
			}
			if o := b.next(other); o.Verdict != reply.Relayed {
				t.Errorf("another's message: %+v", o)
			}
		})
	}
}

// tidy is Tidy with the note as the queue keeps it.
func (b *draftBench) tidy(q *queued) {
	b.t.Helper()
	if err := b.tidied(q); err != nil {
		b.t.Error(err)
	}
}

func (b *draftBench) tidied(q *queued) error {
	q.Notes = map[string]string{}
	if q.note != "" {
		for _, r := range q.Recipients {
			q.Notes[r.Key()] = q.note
		}
	}
	return b.tr.Tidy(context.Background(), q.Outgoing)
}

// TestTidyLeavesSentMailAlone: an immutable id leads to the copy in Sent Items once the draft was sent.
func TestTidyLeavesSentMailAlone(t *testing.T) {
	b := newDraftBench(t, sandbox.Switches{}, nil)
	if err := b.box.Fault(sandbox.Fault{Where: sandbox.AtDot, Outcome: "doubt"}); err != nil {
		t.Fatal(err)
	}
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	b.next(q)
	if q.note == "" {
		t.Fatal("no id was noted, so this proves nothing")
	}
	b.tidy(q)
	q.Resend, q.Look = true, true
	if o := b.next(q); o.Verdict != reply.Relayed {
		t.Errorf("afterwards it is found to be %+v; want the copy in Sent Items", o)
	}
}

// TestTidyAgain: what could not be removed is said, and goes when it can.
func TestTidyAgain(t *testing.T) {
	for _, tc := range []struct {
		name  string
		where sandbox.Where
		fault sandbox.Fault
	}{
		{"Graph is down for the look", sandbox.AtLook, sandbox.Fault{Status: 503, Code: "serviceNotAvailable"}},
		{"Graph is down for the removal", sandbox.AtDelete, sandbox.Fault{Status: 503, Code: "serviceNotAvailable"}},
		{"the removal is throttled", sandbox.AtDelete, sandbox.Fault{Status: 429, Code: "TooManyRequests"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{}, nil)
			tc.fault.Where = tc.where
			for _, f := range []sandbox.Fault{{Where: sandbox.AtDot, Outcome: "busy"}, tc.fault} {
				if err := b.box.Fault(f); err != nil {
					t.Fatal(err)
				}
			}
			q := b.message(draftHeader, "hello\r\n", "ann@example.test")
			b.next(q)
			if err := b.tidied(q); err == nil || len(b.box.Drafts()) != 1 {
				t.Fatalf("Tidy = %v with %d drafts; want an error and one", err, len(b.box.Drafts()))
			}
			b.tidy(q)
			if d := b.box.Drafts(); len(d) != 0 {
				t.Errorf("drafts left behind: %+v", d)
			}
		})
	}
}
