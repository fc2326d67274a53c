package submission

import (
	"strings"
	"testing"
	"time"

	"postern/bridge/message"
)

// TestReplanKeepsWhatIdentifies: today's policy decides the sender and the account; ID, trace, Date, Message-ID and
// recipients stay.
func TestReplanKeepsWhatIdentifies(t *testing.T) {
	q := &queue{}
	then := newDesk(t, q, User{Sender: &Sender{Mode: SendAs, Address: address(t, "noreply@c.test")}})
	if _, err := then.Submit(t.Context(), session, envelopeTo(t, "to@d.test"), strings.NewReader("From: app@c.test\r\nSubject: x\r\n\r\nbody\r\n")); err != nil {
		t.Fatal(err)
	}
	m := q.messages[0]
	m.Plan.Bcc = append(m.Plan.Bcc, address(t, "archive@c.test")) // as a scenario of then would have
	m.Envelope.Recipients = append(m.Envelope.Recipients, m.Plan.Bcc...)

	o := options(t, q)
	o.Hostname, o.Now = "moved.c.test", func() time.Time { return time.Date(2026, 11, 9, 8, 0, 0, 0, time.UTC) }
	o.Users = []User{{Name: "nav", Account: "svc", Sender: &Sender{Mode: AsAccount}, MaySendTo: []string{"*@d.test"}}}
	today, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := today.Replan(t.Context(), m, strings.NewReader(q.bodies[0]))
	if err != nil {
		t.Fatal(err)
	}
	if plan.Account != "svc" || plan.HeaderFrom.String() != "shared@c.test" || plan.ReversePath.String() != "shared@c.test" {
		t.Errorf("by %s as %s (%s); want svc, shared@c.test", plan.Account, plan.HeaderFrom, plan.ReversePath)
	}
	if plan.MessageID != m.Plan.MessageID || len(plan.Bcc) != 1 || plan.Hold || !plan.NotBefore.IsZero() {
		t.Errorf("plan %+v", plan)
	}
	fields := func(p message.Plan) string {
		final, err := message.Apply(m.Header, p.Edits)
		if err != nil {
			t.Fatal(err)
		}
		h, err := message.ParseHeader(final)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range h.Fields {
			if !f.Is("From") {
				all = append(all, string(f.Raw))
			}
		}
		return strings.Join(all, "")
	}
	if was, is := fields(m.Plan), fields(plan); was != is {
		t.Errorf("more than From changed:\n%s\n%s", was, is)
	}
	if len(q.messages) != 1 {
		t.Error("a plan alone queued a message")
	}
}

func TestReplanRefusesWhatTodayForbids(t *testing.T) {
	q := &queue{}
	then := newDesk(t, q, User{})
	if _, err := then.Submit(t.Context(), session, envelopeTo(t, "to@d.test"), strings.NewReader("From: erp@c.test\r\n\r\nbody\r\n")); err != nil {
		t.Fatal(err)
	}
	m := q.messages[0]
	for _, tc := range []struct {
		name string
		user User
		want string
	}{
		{"a sender that is not allowed any more", User{MaySendAs: []string{"boss@c.test"}}, "550 5.7.1"},
		{"a recipient that is not allowed any more", User{MaySendTo: []string{"*@c.test"}}, "550 5.7.1"},
		{"a size that is not allowed any more", User{MaxMessage: 10}, "552 5.3.4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newDesk(t, q, tc.user).Replan(t.Context(), m, strings.NewReader(q.bodies[0]))
			checkReply(t, err, tc.want)
		})
	}
	gone := m
	gone.Session.User = "old"
	_, err := then.Replan(t.Context(), gone, strings.NewReader(""))
	checkReply(t, err, "451 4.3.5")
}
