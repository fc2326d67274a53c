package bridge

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/bridge/control"
	"postern/bridge/event"
	"postern/bridge/sandbox"
)

// TestSenderWithoutTheRightIsSeen: who administers hears of a From that an account may not send as, with the line that
// grants it: the log, [notify], and what `accounts` and `health` show; also after a restart, and until it is over.
func TestSenderWithoutTheRightIsSeen(t *testing.T) {
	for _, via := range []string{"graph", "smtp"} {
		t.Run(via, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{config: strings.ReplaceAll(reportWorld, "noreply@", "sales@")})
			login := map[string]string{"graph": "erp@contoso.test", "smtp": "svc@contoso.test"}[via]
			await := func(kind event.Kind, n int) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := w.events.await(ctx, kind, n); err != nil {
					t.Fatalf("%s: %v\n%s", kind, err, w.log())
				}
			}
			lacks := func() (all []control.Lack) {
				t.Helper()
				h, err := w.b.admin.Load().Health(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range h.Accounts {
					if a.Name == "by-"+via {
						all = append(all, a.Lacks...)
					} else if len(a.Lacks) > 0 {
						t.Errorf("account %s may not send: %v", a.Name, a.Lacks)
					}
				}
				return all
			}
			for range 2 {
				if err := w.submit(via, []string{"customer@example.test"}, "From: a@b.test\r\nSubject: s\r\n\r\nx\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			await(event.MessageDeferred, 2)
			await(event.SenderParked, 1)
			remedy := "Add-RecipientPermission -Identity 'sales@contoso.test' -Trustee '" + login + "' -AccessRights SendAs"
			for _, when := range []string{"at first", "after a restart"} {
				if got := lacks(); len(got) != 1 || got[0].From != "sales@contoso.test" || !strings.Contains(got[0].Remedy, remedy) || got[0].Why == "" {
					t.Errorf("%s: %+v; want sales@contoso.test, with the remedy %s", when, got, remedy)
				}
				if when == "at first" {
					w.stop()
					w.start()
				}
			}
			if told, err := (noticeMemory{w.b.store}).Load(t.Context()); err != nil || strings.Count(told, "may not send as sales@contoso.test: ") != 1 || !strings.Contains(told, "Add-RecipientPermission") {
				t.Errorf("[notify] is to be told, %v: %s", err, told)
			}
			w.box.SetMailbox(sandbox.Mailbox{Address: "sales@contoso.test", SendAs: []string{login}})
			if done, err := w.b.admin.Load().QueueChange(t.Context(), control.QueueChange{Action: "retry", QueueQuery: control.QueueQuery{All: true}}); err != nil || done.Changed != 2 {
				t.Fatalf("retry: %+v, %v", done, err)
			}
			w.wait(2)
			await(event.SenderResumed, 1)
			if got := lacks(); len(got) > 0 {
				t.Errorf("in the end %v", got)
			}
			if n := w.events.count(event.SenderParked); n != 1 {
				t.Errorf("it was told %d times", n)
			}
		})
	}
}

// TestNoNoticeLeavesWithoutTheRight: what tells of a missing right does not wait for it, where another account is up.
func TestNoNoticeLeavesWithoutTheRight(t *testing.T) {
	config := strings.Replace(reportWorld, `mailbox = "erp@contoso.test"`, "mailbox = \"sales@contoso.test\"\nlogin = \"erp@contoso.test\"", 1)
	w := newWorld(t, worldOptions{config: strings.ReplaceAll(config, "noreply@", "sales@")})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	want := func(when string, graph bool) {
		t.Helper()
		if got := w.b.up("by-graph"); got != graph || !w.b.up("by-smtp") {
			t.Errorf("%s: up %v and %v; want %v and true", when, got, w.b.up("by-smtp"), graph)
		}
	}
	want("before anybody knows", true)
	if err := w.submit("graph", []string{"customer@example.test"}, invoice); err != nil {
		t.Fatal(err)
	}
	if err := w.events.await(ctx, event.SenderParked, 1); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	want("without the right", false)
	w.box.SetMailbox(sandbox.Mailbox{Address: "sales@contoso.test", SendAs: []string{"erp@contoso.test"}})
	if _, err := w.b.admin.Load().QueueChange(t.Context(), control.QueueChange{Action: "retry", QueueQuery: control.QueueQuery{All: true}}); err != nil {
		t.Fatal(err)
	}
	if err := w.events.await(ctx, event.SenderResumed, 1); err != nil {
		t.Fatalf("%v\n%s", err, w.log())
	}
	want("with the right", true)
}
