package graph

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// TestTidyLeavesSentMailAlone: an immutable id leads to the copy in Sent Items once the draft was sent, and until that
// shows to what looks like a draft.
func TestTidyLeavesSentMailAlone(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lag     int
		verdict string
		first   func(*draftBench, *queued) // before it is tidied
		then    func(*draftBench, *queued) error
	}{
		{"in doubt, and it shows", 0, "doubt", nil, (*draftBench).tidied},
		{"202, and it shows late", 9, "", nil, (*draftBench).tidiedAsSent},
		{"202, and it shows late, after an attempt that died", 9, "", nil, func(b *draftBench, q *queued) error {
			q.Attempt = 2
			return b.tidiedAsSent(q)
		}},
		{"202, and it shows late, beside what an attempt left that died", 9, "", (*draftBench).orphan, func(b *draftBench, q *queued) error {
			q.Attempt = 2
			return b.tidiedAsSent(q)
		}},
		{"202, and it shows late, and another recipient's draft is looked for", 9, "", nil, func(b *draftBench, q *queued) error {
			other := b.message(draftHeader, "hello\r\n", "bob@example.test")
			other.Attempt, other.Others, other.note = 2, []string{q.note}, q.note
			if o := b.next(other); o.Verdict != reply.Relayed {
				b.t.Errorf("another recipient's: %+v", o)
			}
			return nil
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newDraftBench(t, sandbox.Switches{SentLag: tc.lag}, nil)
			q := b.message(draftHeader, "hello\r\n", "ann@example.test")
			if tc.first != nil {
				tc.first(b, q)
			}
			if err := b.box.Fault(sandbox.Fault{Where: sandbox.AtDot, Outcome: tc.verdict, Delay: sandbox.Duration{Duration: 1}}); err != nil {
				t.Fatal(err)
			}
			if o := b.next(q); tc.lag > 0 && o.Verdict != reply.Relayed {
				t.Fatalf("%+v", o)
			}
			if q.note == "" {
				t.Fatal("no id was noted, so this proves nothing")
			}
			if err := tc.then(b, q); err != nil {
				t.Error(err)
			}
			removals := 0
			if tc.first != nil {
				removals = 1
			}
			if n := b.removals(); n != removals {
				t.Errorf("%d messages were removed; want %d\n%s", n, removals, strings.Join(b.sink.lines, "\n"))
			}
			if d := b.box.Drafts(); len(d) != 0 {
				t.Errorf("drafts left behind: %+v", d)
			}
			q.Resend, q.Look = true, true
			o := b.next(q)
			for range tc.lag {
				o = b.next(q)
			}
			if o.Verdict != reply.Relayed {
				t.Errorf("afterwards it is found to be %+v; want the copy in Sent Items\n%s", o, strings.Join(b.sink.lines, "\n"))
			}
		})
	}
}

// tidiedAsSent is Tidy of a message whose recipients got what the note names.
func (b *draftBench) tidiedAsSent(q *queued) error {
	q.Others = []string{q.note}
	return b.tidied(q)
}

// orphan leaves a draft of the message that is noted nowhere.
func (b *draftBench) orphan(q *queued) {
	intent := q.Intent
	q.Intent = func(context.Context) error { return errors.New("the process dies here") }
	b.next(q)
	q.Intent, q.note = intent, ""
	if n := len(b.box.Drafts()); n != 1 {
		b.t.Fatalf("%d drafts; want one, or this proves nothing", n)
	}
}

// TestAnothersCopyIsNotThisOne: one recipient got the message as a draft, while SMTP may have taken it for another one.
func TestAnothersCopyIsNotThisOne(t *testing.T) {
	b := newDraftBench(t, sandbox.Switches{}, nil)
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	if o := b.next(q); o.Verdict != reply.Relayed {
		t.Fatalf("%+v", o)
	}
	for _, tc := range []struct {
		name   string
		others []string
		want   reply.Verdict
	}{{"it is noted for the other one", []string{q.note}, reply.InDoubt}, {"it is nobody's", nil, reply.Relayed}} {
		other := b.message(draftHeader, "hello\r\n", "bob@example.test")
		other.Resend, other.Look, other.Transport, other.Others = true, true, "smtp", tc.others
		if o := b.next(other); o.Verdict != tc.want {
			t.Errorf("%s: %+v; want %v", tc.name, o, tc.want)
		}
	}
}

// TestAnUnmarkedCopyMayBeAnothers: an application may use a Message-ID for several messages, and a server lose our marker.
func TestAnUnmarkedCopyMayBeAnothers(t *testing.T) {
	for _, tc := range []struct {
		name     string
		namesake func(context.Context) (bool, error)
		want     reply.Verdict
	}{
		{"no other message has its Message-ID", func(context.Context) (bool, error) { return false, nil }, reply.Relayed},
		{"another one has it", func(context.Context) (bool, error) { return true, nil }, reply.InDoubt},
		{"nobody can tell", func(context.Context) (bool, error) { return false, errors.New("damaged") }, reply.Deferred},
		{"it was made for it alone", nil, reply.Relayed},
	} {
		b := newDraftBench(t, sandbox.Switches{}, nil)
		q := b.message(draftHeader, "hello\r\n", "ann@example.test")
		q.Final = []byte(draftHeader + "\r\n")
		if o := b.next(q); o.Verdict != reply.Relayed {
			t.Fatalf("%+v", o)
		}
		other := b.message(draftHeader, "hello\r\n", "bob@example.test")
		other.Resend, other.Look, other.Transport, other.Namesake = true, true, "smtp", tc.namesake
		if o := b.next(other); o.Verdict != tc.want {
			t.Errorf("%s: %+v; want %v", tc.name, o, tc.want)
		}
	}
}

// TestSentAgainInDoubtIsNotRemoved: the send before may have been taken, and what Graph says of the second one is not said
// of that.
func TestSentAgainInDoubtIsNotRemoved(t *testing.T) {
	b := newDraftBench(t, sandbox.Switches{SentLag: 9}, nil)
	q := b.message(draftHeader, "hello\r\n", "ann@example.test")
	for _, f := range []sandbox.Fault{{Where: sandbox.AtDot, Outcome: "doubt"}, {Where: sandbox.AtSend, Status: 403, Code: "ErrorAccessDenied"}} {
		if err := b.box.Fault(f); err != nil {
			t.Fatal(err)
		}
		b.next(q)
		q.Resend = true
	}
	if n := b.removals(); n != 0 || q.note == "" {
		t.Errorf("%d messages were removed, and the note is %q; want none, and the draft noted\n%s", n, q.note, strings.Join(b.sink.lines, "\n"))
	}
}

// removals counts the messages that were deleted.
func (b *draftBench) removals() (n int) {
	for _, line := range b.sink.lines {
		if strings.Contains(line, "204 DELETE") {
			n++
		}
	}
	return n
}

// TestADraftIsOursByItsMarkerAlone: a server that makes nothing of the filter shows all drafts of the mailbox.
func TestADraftIsOursByItsMarkerAlone(t *testing.T) {
	const property = `"singleValueExtendedProperties":[{"id":"String {00020386-0000-0000-C000-000000000046} Name X-Postern-Id","value":"0123456789abcdef"}]`
	for _, tc := range []struct {
		name, final string
		removed     string
	}{
		{"beside another's", "X-Postern-Id: 0123456789abcdef\r\n\r\n", "/v1.0/me/messages/ours"},
		{"of a message without one", "Subject: s\r\n\r\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var removed []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodDelete {
					removed = append(removed, r.URL.Path)
					w.WriteHeader(http.StatusNoContent)
					return
				}
				io.WriteString(w, `{"value":[{"id":"somebodys"},{"id":"ours",`+property+`}]}`)
			}))
			defer s.Close()
			b := newBench(t, s.URL+"/v1.0", func(o *Options) { o.Drafts = DraftsAlways })
			m := mail(t, "x\r\n")
			m.Final, m.Attempt = []byte(tc.final), 2
			if err := b.Tidy(t.Context(), m.Outgoing); err != nil {
				t.Error(err)
			}
			if got := strings.Join(removed, " "); got != tc.removed {
				t.Errorf("removed %q; want %q", got, tc.removed)
			}
		})
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
		{"a proxy answers the look", sandbox.AtLook, sandbox.Fault{Status: 404}},
		{"a proxy answers the removal", sandbox.AtDelete, sandbox.Fault{Status: 404}},
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
