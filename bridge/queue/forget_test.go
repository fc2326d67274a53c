package queue_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// notes are the keys of all notes in the store, sorted.
func (w *world) notes() []string {
	w.t.Helper()
	all, err := w.store.Notes(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(all))
}

// TestAccountsThatAreGoneAreForgotten: mailboxes of a domain come and go by the thousand, and leave neither a lane nor a
// note; but one with mail has both as long as that waits.
func TestAccountsThatAreGoneAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		erp := queue.Account{Name: "erp", RatePerMinute: 30}
		w := newWorld(t, queue.Options{Accounts: []queue.Account{erp}})
		before := lanesRunning()
		w.enqueue("erp")
		const many = 250 // more than are forgotten at a look
		for n := range many {
			name := fmt.Sprintf("people/p%d", n)
			w.SetAccounts([]queue.Account{erp, {Name: name, Mailbox: name, RatePerMinute: 30}})
			w.enqueue(name)
			w.setGate(name, queue.Gate{Waiting: "parked"}) // as relay says of an account that it does not know
		}
		late := w.enqueue("people/p7")
		w.SetAccounts([]queue.Account{erp})
		w.pass(59 * mins)
		if lanes, notes := lanesRunning(), len(w.notes()); lanes != before+many || notes != 1+2*many {
			t.Errorf("within an hour %d lanes run, and there are %d notes; want all, %d and %d", lanes, notes, before+many, 1+2*many)
		}
		w.pass(10 * mins)
		if lanes, notes := lanesRunning(), w.notes(); lanes != before+1 || !slices.Equal(notes, []string{"parked/people/p7", "rate/account erp", "rate/mailbox people/p7"}) {
			t.Errorf("soon after that hour %d lanes run, %d before, and the notes are %q; want one more, and those of the account with mail", lanes, before, notes)
		}
		w.setGate("people/p7", queue.Gate{Limit: 1})
		w.SetAccounts([]queue.Account{erp, {Name: "people/p7", Mailbox: "people/p7", RatePerMinute: 30}})
		w.pass(time.Second)
		if s := w.show(late).State; s != queue.Relayed {
			t.Errorf("its mail is %s once it is back; want relayed", s)
		}
		again := "people/p8"
		w.setGate(again, queue.Gate{Limit: 1})
		w.SetAccounts([]queue.Account{erp, {Name: again, Mailbox: again}})
		if s := w.show(w.enqueue(again)).State; s != queue.Relayed {
			t.Errorf("mail of one that was forgotten is %s once it is back; want relayed", s)
		}
		w.pass(3 * hour)
		if lanes, notes := lanesRunning(), w.notes(); lanes != before+1 || !slices.Equal(notes, []string{"rate/account erp"}) {
			t.Errorf("in the end %d lanes run, %d before, and the notes are %q; want one more, and that of the account that stays", lanes, before, notes)
		}
	})
}

// TestARateIsKeptForItsMinute: another process may begin within it.
func TestARateIsKeptForItsMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", RatePerMinute: 30}}})
		w.pass(hour - 10*time.Second)
		w.enqueue("erp")
		w.SetAccounts([]queue.Account{{Name: "erp", Mailbox: "another", RatePerMinute: 30}})
		w.pass(20 * time.Second)
		if notes := w.notes(); !slices.Equal(notes, []string{"rate/account erp"}) {
			t.Errorf("20 s after it has sent the notes are %q; want its rate", notes)
		}
		w.pass(2 * hour)
		if notes := w.notes(); len(notes) != 0 {
			t.Errorf("hours later the notes are %q; want none", notes)
		}
	})
}

// TestMailThatComesBackWhileAccountsAreForgottenKeepsItsLane: it was not there when mail was counted.
func TestMailThatComesBackWhileAccountsAreForgottenKeepsItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &watchedStore{Store: queuetest.NewMemory()}
		w := newWorld(t, queue.Options{Store: store, GiveUpAfter: day, Accounts: []queue.Account{{Name: "erp"}, {Name: "people"}}})
		refused := deferred(reply.Message)
		refused.Verdict = reply.Failed
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return refused })
		id := w.enqueue("people")
		w.setGate("people", queue.Gate{Waiting: "parked"})
		w.SetAccounts([]queue.Account{{Name: "erp"}})
		w.pass(50 * mins)
		store.mu.Lock()
		store.afterCount = func() {
			if err := w.Change(t.Context(), id, queue.Order{Action: queue.Retry, By: "admin"}); err != nil {
				t.Error(err)
			}
		}
		store.mu.Unlock()
		w.pass(hour)
		if row := w.show(id); row.State != queue.Queued || row.WaitingFor != "parked" {
			t.Errorf("it is %s and waits for %q; want queued, parked", row.State, row.WaitingFor)
		}
		w.pass(5 * day)
		if s := w.show(id).State; s != queue.Queued {
			t.Errorf("it is %s after days; want queued: its age stands still", s)
		}
	})
}

// TestMailOfAForgottenAccountIsSeen: it waits parked as that of any account that is not configured, and its age stands still.
func TestMailOfAForgottenAccountIsSeen(t *testing.T) {
	for _, tc := range []struct {
		name string
		mail func(w *world, store *watchedStore, forget func()) queue.Row
	}{
		{"it was coming in meanwhile", func(w *world, store *watchedStore, forget func()) queue.Row {
			store.beforeAdd = forget
			return w.show(w.enqueue("people"))
		}},
		{"it had failed, and a person has it tried again", func(w *world, _ *watchedStore, forget func()) queue.Row {
			id := w.enqueue("people")
			if s := w.show(id).State; s != queue.Failed {
				w.t.Fatalf("it is %s; want failed", s)
			}
			forget()
			if err := w.Change(w.t.Context(), id, queue.Order{Action: queue.Retry, By: "admin"}); err != nil {
				w.t.Fatal(err)
			}
			synctest.Wait()
			return w.show(id)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &watchedStore{Store: queuetest.NewMemory()}
				w := newWorld(t, queue.Options{Store: store, GiveUpAfter: day, Accounts: []queue.Account{{Name: "erp"}, {Name: "people"}}})
				lanes := lanesRunning()
				refused := deferred(reply.Message)
				refused.Verdict = reply.Failed
				w.setRelay(func(context.Context, message.Outgoing) reply.Outcome { return refused })
				row := tc.mail(w, store, func() {
					store.beforeAdd = nil
					w.setGate("people", queue.Gate{Waiting: "parked"})
					w.SetAccounts([]queue.Account{{Name: "erp"}})
					w.pass(3 * hour)
					if n := lanesRunning(); n != lanes-1 {
						t.Errorf("%d lanes run, %d before; want one less", n, lanes)
					}
				})
				if row.State != queue.Queued || row.WaitingFor != "parked" {
					t.Errorf("it is %s and waits for %q; want queued, parked", row.State, row.WaitingFor)
				}
				w.pass(5 * day)
				if s := w.show(row.Item.ID).State; s != queue.Queued {
					t.Errorf("it is %s after days; want queued: its age stands still", s)
				}
			})
		})
	}
}
