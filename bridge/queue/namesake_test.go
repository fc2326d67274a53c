package queue_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// TestNamesake: another message counts that was tried and has the Message-ID, also where it is history; not the message
// itself, and none that nobody can have heard of.
func TestNamesake(t *testing.T) {
	for _, tc := range []struct {
		name   string
		others []string // Message-IDs of messages before it
		held   bool     // they were never tried
		want   bool
	}{
		{"no other", nil, false, false},
		{"others with their own", []string{"<a@x.test>", "<b@x.test>"}, false, false},
		{"one that was relayed", []string{"<a@x.test>", "<m@x.test>"}, false, true},
		{"one that was never tried", []string{"<m@x.test>"}, true, false},
		{"one of a thousand", append(make([]string, 1000), "<m@x.test>"), false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, queue.Options{Accounts: []queue.Account{{Name: "erp", Concurrency: 100}}})
				var got bool
				var err error
				asked := 0
				w.setRelay(func(ctx context.Context, out message.Outgoing) reply.Outcome {
					if out.Plan.Scenario == "last" {
						got, err = out.Namesake(ctx)
						asked++
					}
					return relayed
				})
				for i, id := range append(tc.others, "<m@x.test>") {
					_, m := queuetest.NewMessage("erp", time.Now())
					m.Plan.MessageID, m.Plan.Hold = id, tc.held
					if i == len(tc.others) {
						m.Plan.Scenario, m.Plan.Hold = "last", false
						synctest.Wait()
					}
					if err := w.Enqueue(t.Context(), m, strings.NewReader("")); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if asked != 1 || got != tc.want || err != nil {
					t.Errorf("asked %d times: %v, %v; want %v", asked, got, err, tc.want)
				}
			})
		})
	}
}
