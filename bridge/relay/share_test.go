package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// picky is a transport that takes the named recipients of each copy, all where none is named, and then answers.
type picky struct {
	takes  []string // for one copy after the other: "r0 r1", or "" for all
	answer []reply.Outcome
	sent   []string // "r0 r1 as <Message-ID>, marker"
}

func (p *picky) Send(ctx context.Context, out message.Outgoing) reply.Outcome {
	n := len(p.sent)
	takes, o := "", sent
	if n < len(p.takes) {
		takes = p.takes[n]
	}
	if n < len(p.answer) {
		o = p.answer[n]
	}
	var taken, names []string
	var those []envelope.Address
	for _, a := range out.Recipients {
		names = append(names, a.Local)
		if takes == "" || slices.Contains(strings.Fields(takes), a.Local) {
			those, taken = append(those, a), append(taken, a.Local)
			continue
		}
		if o.Recipients == nil {
			o.Recipients = map[string]reply.Outcome{}
		}
		o.Recipients[a.Key()] = reply.Outcome{Owner: reply.Recipient}
	}
	p.sent = append(p.sent, fmt.Sprintf("%s as %s, %s", strings.Join(taken, " "), field(out, "Message-ID"), field(out, "X-Postern-Id")))
	intend := out.Intent
	if len(taken) < len(names) {
		intend = func(ctx context.Context) error { return out.IntentBy(ctx, "smtp", those) }
	}
	if err := intend(ctx); err != nil {
		return reply.Outcome{Owner: reply.Process, Err: err}
	}
	return o
}

// TestWhoHasNoShareGetsAnotherPart: a recipient that a copy is not for never shares its Message-ID or marker from then on,
// whatever comes of the copy. That is noted before the intent.
func TestWhoHasNoShareGetsAnotherPart(t *testing.T) {
	refused := reply.Outcome{Owner: reply.Message, Reply: reply.Reply{Code: 451}}
	const first = " as <m@x.test>, Q123"
	part := func(n int) string { return fmt.Sprintf(" as <m.part-%d@x.test>, Q123.%d", n, n) }
	for _, tc := range []struct {
		name   string
		due    []string // at one attempt after the other; "" is all
		takes  []string
		answer []reply.Outcome
		want   []string
	}{
		{"all are taken", []string{"", "r0 r1 r2"}, nil, []reply.Outcome{refused}, []string{"r0 r1 r2" + first, "r0 r1 r2" + first}},
		{"one is not", []string{"", "r1"}, []string{"r0 r2"}, nil, []string{"r0 r2" + first, "r1" + part(2)}},
		{"some are not, and stay together", []string{"", "r1 r2"}, []string{"r0"}, nil, []string{"r0" + first, "r1 r2" + part(2)}},
		{"one after the other", []string{"", "r1 r2", "r2"}, []string{"r0", "r1"}, nil, []string{"r0" + first, "r1" + part(2), "r2" + part(3)}},
		{"who is left out later shares nothing with who was before", []string{"", "", "r1 r2"}, []string{"r0 r1", "r0"}, []reply.Outcome{refused},
			[]string{"r0 r1" + first, "r0" + first, "r2" + part(2), "r1" + part(3), "r2" + part(2)}},
		{"one that is not due with the others", []string{"r1", "r0 r2"}, nil, nil, []string{"r1" + first, "r0 r2" + part(2)}},
		{"the copy is in doubt", []string{"", "r1"}, []string{"r0 r2"}, []reply.Outcome{doubt}, []string{"r0 r2" + first, "r1" + part(2)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &picky{takes: tc.takes, answer: tc.answer}
			h := newHouse(t, Account{Name: "erp", Mode: ModeSMTP, SMTP: p})
			l := newLetter(t, 3)
			l.IntentBy = func(context.Context, string, []envelope.Address) error { return nil }
			for _, due := range tc.due {
				l.Recipients = slices.DeleteFunc(slices.Clone(l.Envelope.Recipients), func(a envelope.Address) bool {
					return due != "" && !slices.Contains(strings.Fields(due), a.Local)
				})
				h.now = h.now.Add(maxPause) // whatever was paused
				l.attempt(h.relay)
			}
			if !slices.Equal(p.sent, tc.want) {
				t.Errorf("sent\n%s\nwant\n%s", strings.Join(p.sent, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// TestLeavingOutIsNotedFirst: a copy of which nobody knows whom it is not for does not leave.
func TestLeavingOutIsNotedFirst(t *testing.T) {
	for _, fails := range []bool{false, true} {
		p := &picky{takes: []string{"r0"}}
		h := newHouse(t, Account{Name: "erp", Mode: ModeSMTP, SMTP: p})
		l := newLetter(t, 2)
		var log []string
		l.IntentBy = func(_ context.Context, by string, to []envelope.Address) error {
			log = append(log, fmt.Sprint("intent by ", by, " for ", to))
			return nil
		}
		l.Remember = func(_ context.Context, to []envelope.Address, note string) error {
			log = append(log, fmt.Sprint("note ", note, " for ", to))
			if fails {
				return errors.New("disk full")
			}
			return nil
		}
		o := l.attempt(h.relay)
		want := []string{`note {"part":"2"} for [r1@example.test]`, "intent by smtp for [r0@example.test]"}
		if fails {
			want = want[:1]
		}
		if !slices.Equal(log, want) || (o.Verdict == reply.Relayed) == fails {
			t.Errorf("the note fails %v: %q, %v; want %q", fails, log, o.Verdict, want)
		}
	}
}

// TestPartsThatAreLeftOut: names of parts are given once, beside those of 500 and the halves of before.
func TestPartsThatAreLeftOut(t *testing.T) {
	for _, tc := range []struct {
		notes []string
		want  string
	}{
		{[]string{"", ""}, "2"}, {[]string{"", `{"part":"2"}`}, "3"}, {[]string{"", `{"part":"b"}`}, "2"}, {[]string{"", `{"part":"7ab"}`, `{"part":"3"}`}, "8"},
		{[]string{`{"memo":"d"}`, "damaged"}, "2"},
	} {
		l := newLetter(t, 1+len(tc.notes))
		for i, n := range tc.notes {
			l.notes[l.Recipients[i].Key()] = n
		}
		last := l.Recipients[len(tc.notes)]
		l.Notes = l.notes
		p := part{recipients: l.Recipients[:1]}
		if err := p.leaveOut(t.Context(), l.Outgoing, p.recipients); err != nil {
			t.Fatal(err)
		}
		if got := noteOf(l.Outgoing, last, 0).Part; got != tc.want {
			t.Errorf("beside %q the last is put into part %q; want %q", tc.notes, got, tc.want)
		}
	}
}

// TestKnownFromAnother: that the server knows the Message-ID of a resend proves nothing where another message has it too. It
// leaves once more under another one.
func TestKnownFromAnother(t *testing.T) {
	arrived := reply.Outcome{Verdict: reply.Relayed, Duplicate: true, Reply: reply.Reply{Code: 554}}
	damaged := errors.New("the store is damaged")
	for _, tc := range []struct {
		name    string
		id      string
		note    string
		another bool
		err     error
		verdict reply.Verdict
		sent    []string
	}{
		{"no other message has it", "<m@x.test>", "", false, nil, reply.Relayed, []string{"<m@x.test>"}},
		{"another one has it", "<m@x.test>", "", true, nil, reply.Relayed, []string{"<m@x.test>", "<Q123@x.test>"}},
		{"another one has it, and perhaps a part of it too", "<m@x.test>", `{"part":"2"}`, true, nil, reply.Relayed, []string{"<m.part-2@x.test>", "<Q123.part-2@x.test>"}},
		{"it is ours", "<Q123@x.test>", "", true, nil, reply.Relayed, []string{"<Q123@x.test>"}},
		{"it was made for the message before", "<m@x.test>", `{"renamed":true}`, true, nil, reply.Relayed, []string{"<Q123@x.test>"}},
		{"nobody can tell", "<m@x.test>", "", false, damaged, reply.Deferred, []string{"<m@x.test>"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &picky{answer: []reply.Outcome{arrived}}
			h := newHouse(t, Account{Name: "erp", Mode: ModeSMTP, SMTP: p})
			l := newLetter(t, 1)
			l.Plan.MessageID, l.Resend, l.Transport = tc.id, true, "smtp"
			l.Header = []byte("From: erp@contoso.test\r\nMessage-ID: " + tc.id + "\r\n\r\n")
			l.notes[l.Recipients[0].Key()] = tc.note
			l.Namesake = func(context.Context) (bool, error) { return tc.another, tc.err }
			o := l.attempt(h.relay)
			var sent []string
			for _, s := range p.sent {
				_, id, _ := strings.Cut(s, " as ")
				id, _, _ = strings.Cut(id, ",")
				sent = append(sent, id)
			}
			if o.Verdict != tc.verdict || !slices.Equal(sent, tc.sent) || !errors.Is(o.Err, tc.err) {
				t.Errorf("%v, %v, sent as %q; want %v, %v, %q", o.Verdict, o.Err, sent, tc.verdict, tc.err, tc.sent)
			}
		})
	}
}
