package bridge

import (
	"context"
	"log/slog"
	"net"
	"net/smtp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/notice"
	"postern/bridge/queue"
	"postern/bridge/relay"
	"postern/bridge/reply"
)

// reportWorld has one account for each transport, and somebody to tell.
const reportWorld = worldConfig + `
[notify]
to = ["it@contoso.test"]
`

// submitAs is submit with a reverse-path.
func (w *world) submitAs(user, reversePath string, to []string, text string) error {
	host, _, _ := net.SplitHostPort(w.addr)
	return smtp.SendMail(w.addr, smtp.PlainAuth("", user, w.password, host), reversePath, to, []byte(text))
}

// TestFailureIsReported: what fails comes back to who sent it, by the account's own mailbox, once, and is not reported
// again where the report itself fails.
func TestFailureIsReported(t *testing.T) {
	for _, via := range []string{"graph", "smtp"} {
		for _, tc := range []struct{ name, reversePath, to string }{
			{"to the sender in a domain of ours", "nav@contoso.test", "nav@contoso.test"},
			{"to [notify] for a stranger's address", "scanner@printer.local", "it@contoso.test"},
		} {
			t.Run(via+" "+tc.name, func(t *testing.T) {
				w := newWorld(t, worldOptions{config: reportWorld})
				text := "From: scanner@printer.local\r\nTo: invalid@example.test\r\nSubject: Invoice 4711\r\nX-Secret-Free: yes\r\n\r\nbody of the invoice\r\n"
				if err := w.submitAs(via, tc.reversePath, []string{"invalid@example.test"}, text); err != nil {
					t.Fatal(err)
				}
				r := w.wait(1)[0]
				raw := string(r.Raw)
				if len(r.Recipients) != 1 || r.Recipients[0] != tc.to {
					t.Errorf("the report went to %v; want %s", r.Recipients, tc.to)
				}
				mailbox := map[string]string{"graph": "erp@contoso.test", "smtp": "svc@contoso.test"}[via]
				for _, want := range []string{"From: Postern <" + mailbox + ">\r\n", "Subject: Not sent: Invoice 4711\r\n", "Auto-Submitted: auto-replied\r\n",
					"multipart/report; report-type=delivery-status", "Final-Recipient: rfc822; invalid@example.test\r\n", "Action: failed\r\n",
					"X-Secret-Free: yes\r\n", "postern queue retry"} {
					if !strings.Contains(raw, want) {
						t.Errorf("the report lacks %q:\n%s", want, raw)
					}
				}
				if strings.Contains(raw, "body of the invoice") {
					t.Error("the report has the body")
				}
				w.stop()
				if n := w.events.count(event.ReportQueued); n != 1 {
					t.Errorf("%d reports were queued; want 1\n%s", n, w.log())
				}
			})
		}
	}
}

// TestReportThatFailsIsNotReported: nobody is told of what becomes of a report.
func TestReportThatFailsIsNotReported(t *testing.T) {
	w := newWorld(t, worldOptions{config: reportWorld})
	if err := w.submitAs("smtp", "invalid@contoso.test", []string{"invalid@example.test"}, "From: a@b.test\r\nSubject: s\r\n\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.MessageFailed, 2); err != nil {
		t.Fatalf("the message and its report did not both fail: %v\n%s", err, w.log())
	}
	w.stop()
	if n := w.events.count(event.ReportQueued); n != 1 {
		t.Errorf("%d reports; want one, about the message", n)
	}
	if got := w.box.Received(); len(got) > 0 {
		t.Errorf("%d messages arrived", len(got))
	}
}

// TestFailedMailIsAMatterUntilItIsDropped: health counts what can still be sent again, and no longer than that.
func TestFailedMailIsAMatterUntilItIsDropped(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for range 2 {
		if err := w.submit("smtp", []string{"invalid@example.test"}, invoice); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.events.await(ctx, event.MessageFailed, 2); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	rows, err := w.b.admin.Load().QueueRows(t.Context(), control.QueueQuery{State: "failed"})
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d have failed, %v", len(rows), err)
	}
	for want := 2; ; want-- {
		h, err := w.b.admin.Load().Health(t.Context())
		if err != nil || h.Queue["failed"] != 2 || h.Kept != want {
			t.Errorf("%d have failed, and %d of them are kept, %v; want 2 and %d", h.Queue["failed"], h.Kept, err, want)
		}
		if want == 0 {
			return
		}
		w.act(rows[want-1].ID, "drop")
	}
}

// kept is an outbox that remembers.
type kept struct{ mails []notice.Mail }

func (k *kept) Send(_ context.Context, m notice.Mail) error {
	k.mails = append(k.mails, m)
	return nil
}

// lateManager has something happen in the time that a stop may take, after notices have ended.
type lateManager struct {
	fakeManager
	stopping func()
}

func (m *lateManager) Stopping(time.Duration) { m.stopping() }

// TestWhatAttemptsMeetDuringAStopIsTold: by the next process, for relay tells of a park once.
func TestWhatAttemptsMeetDuringAStopIsTold(t *testing.T) {
	w := newWorld(t, worldOptions{config: reportWorld, unsigned: true})
	w.stop()
	cfg, err := config.Load(w.file)
	if err != nil {
		t.Fatal(err)
	}
	m := &lateManager{fakeManager: fakeManager{alive: make(chan struct{})}}
	b, err := New(t.Context(), cfg, Options{Manager: m})
	if err != nil {
		t.Fatal(err)
	}
	kept := func(store queue.Store) string {
		document, err := noticeMemory{store}.Load(context.Background())
		if err != nil {
			t.Error(err)
		}
		return document
	}
	if err := b.store.SetNote(t.Context(), noticeKey, ""); err != nil {
		t.Fatal(err)
	}
	m.stopping = func() {
		for kept(b.store) == "" { // they keep what they have when they end
			runtime.Gosched()
		}
		b.events.Emit(context.Background(), slog.LevelError, event.AccountParked, slog.String("account", "by-graph"), slog.String("transport", "graph"))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	w.start()
	if got := kept(w.b.store); !strings.Contains(got, "account by-graph is parked on graph") {
		t.Errorf("the next process knows nothing of it: %s", got)
	}
}

// TestNoticesKnowTheTransports: by the words that relay and the key cabinet tell of trouble with.
func TestNoticesKnowTheTransports(t *testing.T) {
	cfg := &config.Config{Providers: []config.Provider{{Name: "both", SMTP: "smtp.office365.com:587"}, {Name: "graph"}}, Accounts: []config.Account{
		{Name: "auto", Provider: "both", Mailbox: "a@contoso.test", Transport: "auto"}, {Name: "smtp", Provider: "both", Mailbox: "b@contoso.test", Transport: "smtp"},
		{Name: "no smarthost", Provider: "graph", Mailbox: "c@contoso.test", Transport: "auto"}}}
	o, err := noticeOptions(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"auto": {string(relay.ModeGraph), string(relay.ModeSMTP)}, "smtp": {string(relay.ModeSMTP)}, "no smarthost": {string(relay.ModeGraph)}}
	for _, a := range o.Accounts {
		if !slices.Equal(a.Transports, want[a.Name]) {
			t.Errorf("account %s: transports %q; want %q", a.Name, a.Transports, want[a.Name])
		}
	}
}

// TestReporterTellsWhatTheQueueKnows: the fate of each recipient, as the sender should read it.
func TestReporterTellsWhatTheQueueKnows(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	address := func(s string) envelope.Address {
		a, err := envelope.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	entry := queue.Entry{HasBody: true, Message: message.Message{Session: envelope.Session{User: "nav"}, Header: []byte("Subject: s\r\n\r\n"),
		Envelope: envelope.Envelope{ReversePath: address("nav@contoso.test")}}}
	entry.Item = queue.Item{ID: "0000000000000m01", Account: "erp", Accepted: at, Finished: at.Add(time.Hour), Recipients: []queue.Recipient{
		{Address: address("a@d.test"), State: queue.Relayed},
		{Address: address("b@d.test"), State: queue.Failed, Last: queue.Last{Transport: "smtp", Reply: reply.Reply{Code: 550, Enhanced: "5.1.1", Text: "unknown"}, At: at.Add(time.Minute)}},
		{Address: address("c@d.test"), State: queue.Deferred, Last: queue.Last{Err: "panic in relay: x\nstack of ours", Remedy: "do this"}},
		{Address: address("d@d.test"), State: queue.Held},
	}}
	cfg := &config.Config{Providers: []config.Provider{{Name: "p", SMTP: "smtp.office365.com:587", Graph: "https://graph.microsoft.com/v1.0"}},
		Accounts: []config.Account{{Name: "erp", Provider: "p"}},
		Queue:    config.Queue{GiveUpAfter: 5 * 24 * time.Hour, KeepFailed: 14 * 24 * time.Hour}}
	waiting := entry
	waiting.Item.Finished = time.Time{}
	told := waiting
	told.Item.Recipients = slices.Clone(told.Item.Recipients)
	told.Item.Recipients[1].Last.Told = true
	held := waiting
	held.Item.Recipients = append(slices.Clone(held.Item.Recipients[:2]), held.Item.Recipients[3])
	until := at.Add(7 * 24 * time.Hour) // parked for two days
	for _, tc := range []struct {
		name       string
		entry      queue.Entry
		late       bool
		want, lack []string
	}{
		{"late", waiting, true, []string{"Subject: Not sent: s", "Final-Recipient: rfc822; b@d.test", "Final-Recipient: rfc822; c@d.test\r\nAction: delayed", "do this",
			"panic in relay: x", "It was sent to 1 other recipient", "For 1 other recipient it still waits", "Will-Retry-Until: Fri, 27 Nov 2026 12:00:00 +0000"},
			[]string{"stack of ours", "a@d.test", "d@d.test"}},
		{"late, of whose failure was told before", told, true, []string{"Subject: Delayed: s", "Final-Recipient: rfc822; c@d.test\r\nAction: delayed"},
			[]string{"b@d.test"}},
		{"failed for some, and held for another", held, false, []string{"Subject: Not sent: s", "Final-Recipient: rfc822; b@d.test",
			"For 1 other recipient it still waits"}, []string{"d@d.test", "kept until"}},
		{"final", entry, false, []string{"Final-Recipient: rfc822; b@d.test", "Remote-MTA: dns; smtp.office365.com", "Diagnostic-Code: smtp; 550 5.1.1 unknown\r\nLast-Attempt-Date: Fri, 20 Nov 2026 12:01:00 +0000",
			"kept until Fri, 4 Dec 2026 13:00"}, []string{"c@d.test", "stack of ours"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := &kept{}
			desk := notice.New(notice.Options{Hostname: "b.test", Accounts: []notice.Account{{Name: "erp", Mailbox: address("erp@contoso.test")}},
				Up: func(string) bool { return true }, Outbox: out})
			if err := (reporter{func() *config.Config { return cfg }, desk}).Report(t.Context(), queue.Report{Entry: tc.entry, Late: tc.late, Until: until}); err != nil {
				t.Fatal(err)
			}
			if len(out.mails) != 1 {
				t.Fatalf("%d reports; want 1", len(out.mails))
			}
			text := string(out.mails[0].Header) + string(out.mails[0].Body)
			for _, s := range tc.want {
				if !strings.Contains(text, s) {
					t.Errorf("the report lacks %q:\n%s", s, text)
				}
			}
			for _, s := range tc.lack {
				if strings.Contains(text, s) {
					t.Errorf("the report has %q:\n%s", s, text)
				}
			}
		})
	}
}
