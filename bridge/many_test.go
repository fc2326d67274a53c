package bridge

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope/envelopetest"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/quota"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/sandbox"
)

// peopleConfig has one account for every mailbox of the domain.
const peopleConfig = `
[bridge]
hostname = "bridge.contoso.test"
data_dir = "data"
[[listener]]
address = "127.0.0.1:0"
{CONFIDENTIAL}
[[account]]
name = "people"
provider = "contoso"
mailbox = "*@contoso.test"
signin = "app-only"
transport = "{VIA}"
rate_per_minute = 2
[[user]]
name = "nav"
password = '{HASH}'
address = "svc@contoso.test"
sender = { mode = "current-user" }
`

// TestEveryoneFromHisOwnMailbox: one login of the application, and each message leaves through the mailbox of its From,
// with that mailbox's Sent Items and rate.
func TestEveryoneFromHisOwnMailbox(t *testing.T) {
	for _, via := range []string{"graph", "smtp"} {
		t.Run(via, func(t *testing.T) {
			w := newWorld(t, worldOptions{config: strings.Replace(peopleConfig, "{VIA}", via, 1)})
			send := func(from string) error {
				return w.submit("nav", []string{"customer@example.test"}, "From: "+from+"\r\nTo: customer@example.test\r\nSubject: s\r\n\r\nx\r\n")
			}
			for _, from := range []string{"erp@contoso.test", "Nav <NAV@contoso.test>", "erp@contoso.test"} {
				if err := send(from); err != nil {
					t.Fatal(err)
				}
			}
			// A mailbox that is not there stops itself, and nobody else.
			if err := send("ghost@contoso.test"); err != nil {
				t.Fatal(err)
			}
			// Two a minute: the third of erp waits, and nav goes.
			if err := send("erp@contoso.test"); err != nil {
				t.Fatal(err)
			}
			if err := send("nav@contoso.test"); err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for _, r := range w.wait(4) {
				from, err := mail.ParseAddress(r.From)
				if err != nil || !strings.EqualFold(from.Address, r.Mailbox) || r.Via != via || r.Login != "" {
					t.Errorf("From %q left by %s through mailbox %q of login %q", r.From, r.Via, r.Mailbox, r.Login)
				}
				got[strings.ToLower(from.Address)]++
			}
			if got["erp@contoso.test"] != 2 || got["nav@contoso.test"] != 2 {
				t.Errorf("arrived: %v; want two of each", got)
			}
			if err := w.events.await(t.Context(), event.MessageRelayed, 4); err != nil {
				t.Fatal(err)
			}
			if err := w.events.await(t.Context(), event.AccountParked, 1); err != nil {
				t.Fatal(err)
			}
			list, err := w.b.Accounts(t.Context())
			if err != nil || len(list) != 1 || list[0].Waiting != 2 ||
				!slices.ContainsFunc(list[0].Transports, func(c control.Transport) bool { return strings.HasPrefix(c.Why, "ghost@contoso.test: ") }) {
				t.Errorf("accounts = %+v, %v; want one with two messages waiting", list, err)
			}
			// Somebody whose mailbox was not used before still gets through.
			if err := send("svc@contoso.test"); err != nil {
				t.Fatal(err)
			}
			if r := w.wait(5)[4]; r.Mailbox != "svc@contoso.test" {
				t.Errorf("the fifth left through %q", r.Mailbox)
			}
			if err := send("boss@fabrikam.test"); err == nil || !strings.Contains(err.Error(), "5.7.1") {
				t.Errorf("a From of another domain = %v; want 550 5.7.1", err)
			}
			// After a restart what waits is found again.
			w.stop()
			w.start()
			for _, name := range []string{"people/erp@contoso.test", "people/ghost@contoso.test"} {
				if all := w.b.relay.States(); !slices.ContainsFunc(all, func(s relay.State) bool { return s.Account == name }) {
					t.Errorf("after the restart relay knows %v, and not %s", all, name)
				}
			}
		})
	}
}

// TestANewPlanIsTheMailboxesToo: mail that was held and gets a new plan goes through the mailbox of its From.
func TestANewPlanIsTheMailboxesToo(t *testing.T) {
	text := strings.Replace(peopleConfig, "{VIA}", "graph", 1) + "\n[[scenario]]\nname = \"hold\"\nhold = true\n"
	w := newWorld(t, worldOptions{config: text})
	if err := w.submit("nav", []string{"customer@example.test"}, "From: erp@contoso.test\r\nTo: customer@example.test\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	ask := control.QueueQuery{All: true}
	rows, err := w.b.admin.Load().QueueRows(t.Context(), ask)
	if err != nil || len(rows) != 1 || rows[0].State != "held" {
		t.Fatalf("queue = %+v, %v", rows, err)
	}
	change := control.QueueChange{Action: "retry", Today: true, QueueQuery: control.QueueQuery{IDs: []string{rows[0].ID}}}
	if done, err := w.b.admin.Load().QueueChange(t.Context(), change); err != nil || done.Changed != 1 {
		t.Fatalf("retry = %+v, %v", done, err)
	}
	if r := w.wait(1)[0]; r.Mailbox != "erp@contoso.test" {
		t.Errorf("it left through %q", r.Mailbox)
	}
	if err := w.events.await(t.Context(), event.MessageRelayed, 1); err != nil {
		t.Fatal(err)
	}
	if rows, err = w.b.admin.Load().QueueRows(t.Context(), ask); err != nil || len(rows) != 1 || rows[0].Account != "people/erp@contoso.test" {
		t.Errorf("queue = %+v, %v", rows, err)
	}
}

// TestAMailboxIsRecalled: nobody keeps the mailbox of mail that has failed, and when a person has it tried again it goes.
func TestAMailboxIsRecalled(t *testing.T) {
	w := newWorld(t, worldOptions{config: strings.Replace(peopleConfig, "{VIA}", "graph", 1)})
	if err := w.box.Fault(sandbox.Fault{Where: sandbox.AtSend, Status: 400, Code: "ErrorMimeContentInvalid"}); err != nil {
		t.Fatal(err)
	}
	if err := w.submit("nav", []string{"customer@example.test"}, "From: erp@contoso.test\r\nTo: customer@example.test\r\nSubject: s\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.events.await(t.Context(), event.MessageFailed, 1); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start()
	known := func() bool {
		return slices.ContainsFunc(w.b.relay.States(), func(s relay.State) bool { return s.Account == "people/erp@contoso.test" })
	}
	if known() {
		t.Error("after a restart the mailbox of the failed message is known; want it forgotten, or many of them keep others out")
	}
	rows, err := w.b.admin.Load().QueueRows(t.Context(), control.QueueQuery{State: "failed"})
	if err != nil || len(rows) != 1 {
		t.Fatalf("queue = %+v, %v", rows, err)
	}
	change := control.QueueChange{Action: "retry", QueueQuery: control.QueueQuery{IDs: []string{rows[0].ID}}}
	if done, err := w.b.admin.Load().QueueChange(t.Context(), change); err != nil || done.Changed != 1 {
		t.Fatalf("retry = %+v, %v", done, err)
	}
	if !known() {
		t.Fatal("the mailbox of a message that is tried again is not known")
	}
	if r := w.wait(1)[0]; r.Mailbox != "erp@contoso.test" {
		t.Errorf("it left through %q", r.Mailbox)
	}
}

// mailboxFake is the transport of one mailbox, which counts those that are open.
type mailboxFake struct {
	send func(out message.Outgoing)
	open *atomic.Int32
}

func (m mailboxFake) Send(_ context.Context, out message.Outgoing) reply.Outcome {
	m.send(out)
	return reply.Outcome{Verdict: reply.Relayed}
}

func (m mailboxFake) Close() error {
	m.open.Add(-1)
	return nil
}

// TestTransportsOfMailboxesHaveABound: those that nobody has used for the longest are closed, and none that is in use.
func TestTransportsOfMailboxesHaveABound(t *testing.T) {
	var open atomic.Int32
	opened := map[string]int{}
	during := func(message.Outgoing) {}
	p := &perMailbox{open: func(mailbox string) (closingTransport, error) {
		opened[mailbox]++
		open.Add(1)
		return mailboxFake{func(out message.Outgoing) { during(out) }, &open}, nil
	}}
	send := func(from string) {
		out := message.Outgoing{}
		out.Plan.HeaderFrom = envelopetest.Address(t, from)
		if o := p.Send(t.Context(), out); o.Verdict != reply.Relayed {
			t.Errorf("%s: %+v", from, o)
		}
	}
	begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	during = func(message.Outgoing) { close(begun); <-end }
	go func() { send("slow@contoso.test"); close(ended) }()
	<-begun
	during = func(message.Outgoing) {}
	send("idle@contoso.test")
	for i := range 2 * mostTransports {
		send(fmt.Sprintf("p%d@contoso.test", i))
		send("busy@contoso.test")
	}
	p.closing.Wait()
	if n := open.Load(); n != mostTransports {
		t.Errorf("%d are open; want %d", n, mostTransports)
	}
	close(end)
	<-ended
	for _, from := range []string{"slow@contoso.test", "busy@contoso.test", "idle@contoso.test"} {
		send(from)
	}
	for from, want := range map[string]int{"slow@contoso.test": 1, "busy@contoso.test": 1, "idle@contoso.test": 2} {
		if opened[from] != want {
			t.Errorf("%s was opened %d times; want %d", from, opened[from], want)
		}
	}
	if err := p.Close(); err != nil || open.Load() != 0 {
		t.Errorf("Close = %v, and %d are open", err, open.Load())
	}
}

// TestQuotaOf: what Exchange counts together has one key.
func TestQuotaOf(t *testing.T) {
	b := &Bridge{}
	b.live.Store(&config.Config{Accounts: []config.Account{
		{Name: "erp", Provider: "contoso", Login: "erp@contoso.test", RecipientsPerDay: 100},
		{Name: "shared", Provider: "contoso", Login: "ERP@contoso.test", RecipientsPerDay: 200},
		{Name: "people", Provider: "contoso", SignIn: "app-only", Mailbox: "*@contoso.test", RecipientsPerDay: 300},
	}})
	for _, tc := range []struct {
		name, account string
		want          quota.Mailbox
		ok            bool
	}{
		{"an account counts for its login", "erp", quota.Mailbox{Key: "contoso erp@contoso.test", PerDay: 100}, true},
		{"another account of the login counts with it", "shared", quota.Mailbox{Key: "contoso erp@contoso.test", PerDay: 200}, true},
		{"each mailbox of a domain counts alone", "people/ann@contoso.test", quota.Mailbox{Key: "contoso ann@contoso.test", PerDay: 300}, true},
		{"an account that a reload has taken away is not counted", "gone", quota.Mailbox{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, ok := b.quotaOf(tc.account); got != tc.want || ok != tc.ok {
				t.Errorf("quotaOf(%q) = %v, %v; want %v, %v", tc.account, got, ok, tc.want, tc.ok)
			}
		})
	}
}
