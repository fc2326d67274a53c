package relay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/event"
	"postern/bridge/reply"
)

// notes is a Memory in a map.
type notes map[string]string

func (n notes) Save(_ context.Context, key, value string) error {
	if value == "" {
		delete(n, key)
		return nil
	}
	n[key] = value
	return nil
}

// TestRestart: what a relay has learnt is known to the next one.
func TestRestart(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC).Add(d) }
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome // before the restart
		after   time.Duration // the restart
		gate    Gate          // then
		probe   reply.Outcome // of the first message after it, when there may be one
		then    Gate
		events  []string // after the restart
	}{
		{"Retry-After is waited for to its end", throttled(10 * time.Minute), time.Minute,
			Gate{Again: at(10 * time.Minute), Waiting: "pause"}, reply.Outcome{}, Gate{}, nil},
		{"a pause that ended meanwhile is probed", down, time.Hour, Gate{Limit: 1, Waiting: "pause"}, sent, Gate{Limit: 3},
			[]string{"INFO account resumed erp smtp"}},
		{"a parked login is probed by one message, and stays parked without another notice", noSignIn, time.Minute,
			Gate{Limit: 1, Waiting: "parked"}, noSignIn, Gate{Again: at(31 * time.Minute), Waiting: "parked"}, nil},
		{"a parked login goes on where somebody has signed in meanwhile", noSignIn, time.Minute,
			Gate{Limit: 1, Waiting: "parked"}, sent, Gate{Limit: 3}, []string{"INFO account resumed erp smtp"}},
		{"a message refused for itself shows that the login works", noSignIn, time.Minute,
			Gate{Limit: 1, Waiting: "parked"}, badMIME, Gate{Limit: 3}, []string{"INFO account resumed erp smtp"}},
		{"a probe that did not get as far proves nothing", noSignIn, time.Minute,
			Gate{Limit: 1, Waiting: "parked"}, stopping, Gate{Again: at(90 * time.Second), Waiting: "parked"}, nil},
		{"a full mailbox is probed at once, and goes on waiting as long as before", full, time.Minute,
			Gate{Limit: 1, Waiting: "parked"}, full, Gate{Again: at(31 * time.Minute), Waiting: "parked"}, nil},
		{"an account in order is open", sent, time.Minute, Gate{Limit: 3}, sent, Gate{Limit: 3}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			memory := notes{}
			h := newHouse(t, erp(ModeSMTP))
			start := func() {
				account := erp(ModeSMTP)
				account.SMTP = &h.smtp
				r, err := New(Options{Accounts: []Account{account}, Events: event.NewBus(h), Now: func() time.Time { return h.now },
					Memory: memory, Remembered: memory})
				if err != nil {
					t.Fatal(err)
				}
				h.relay, h.events = r, nil
			}
			start()
			h.smtp.answers = []reply.Outcome{tc.outcome}
			h.send()
			h.now = h.now.Add(tc.after)
			start()
			if d := cmp.Diff(tc.gate, h.gate("erp")); d != "" {
				t.Errorf("gate after the restart (-want +got):\n%s", d)
			}
			if tc.gate.Limit == 0 {
				return
			}
			h.smtp.answers = []reply.Outcome{tc.probe}
			h.send()
			if d := cmp.Diff(tc.then, h.gate("erp")); d != "" {
				t.Errorf("gate after the first message (-want +got):\n%s", d)
			}
			for i := range h.events {
				h.events[i] = h.events[i][:len("INFO account resumed erp smtp")]
			}
			if d := cmp.Diff(tc.events, h.events); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
			if tc.then.Limit == 3 && len(memory) != 0 {
				t.Errorf("remembered though it is over: %v", memory)
			}
		})
	}
}

// TestUnparkIsRemembered: what a person has ended does not come back with the next process.
func TestUnparkIsRemembered(t *testing.T) {
	memory := notes{}
	h := newHouse(t, erp(ModeSMTP))
	h.relay.memory = memory
	h.smtp.answers = []reply.Outcome{noSignIn}
	h.send()
	if len(memory) != 1 {
		t.Fatalf("remembered %v; want the login", memory)
	}
	h.relay.Unpark("erp")
	if len(memory) != 0 {
		t.Errorf("remembered %v; want nothing", memory)
	}
}

// TestARestartedPauseDoesNotGoByTheWallClock: that may be set back while it lasts. Here nobody can set it, but a time that has
// the monotonic part shows it in its text.
func TestARestartedPauseDoesNotGoByTheWallClock(t *testing.T) {
	h := newHouse(t, erp(ModeSMTP))
	memory := notes{}
	h.relay.now, h.relay.memory = time.Now, memory
	h.smtp.answers = []reply.Outcome{throttled(10 * time.Minute)}
	h.send()
	account := erp(ModeSMTP)
	account.SMTP = &h.smtp
	r, err := New(Options{Accounts: []Account{account}, Remembered: memory})
	if err != nil {
		t.Fatal(err)
	}
	if g := r.Gate("erp", time.Now()); g.Waiting != "pause" || !strings.Contains(g.Again.String(), " m=") {
		t.Errorf("Gate = %+v; want a pause by the monotonic clock", g)
	}
}

// TestTroubleOfATransportThatIsGone: who goes by it again finds out anew, and it is told again.
func TestTroubleOfATransportThatIsGone(t *testing.T) {
	other := erp(ModeSMTP)
	other.Name = "other"
	for _, tc := range []struct {
		name  string
		then  []Account
		stays bool
	}{
		{"the account goes without it", []Account{erp(ModeGraph)}, false},
		{"the account goes by it still", []Account{erp(ModeAuto)}, true},
		{"another account of the mailbox goes by it still", []Account{erp(ModeGraph), other}, true},
		{"the account is gone, and may come back", nil, true},
	} {
		for _, restarted := range []bool{false, true} {
			for what, outcome := range map[string]reply.Outcome{"login": noSignIn, "mailbox": full} {
				t.Run(fmt.Sprintf("%s, %s, restarted %v", tc.name, what, restarted), func(t *testing.T) {
					memory := notes{}
					h := newHouse(t, erp(ModeSMTP))
					h.relay.memory = memory
					h.smtp.answers = []reply.Outcome{outcome}
					h.send()
					then := slices.Clone(tc.then)
					for i := range then {
						then[i].Graph, then[i].SMTP = &h.graph, &h.smtp
					}
					if restarted {
						r, err := New(Options{Accounts: then, Events: event.NewBus(h), Now: func() time.Time { return h.now }, Memory: memory, Remembered: maps.Clone(memory)})
						if err != nil {
							t.Fatal(err)
						}
						h.relay = r
					} else if err := h.relay.SetAccounts(then); err != nil {
						t.Fatal(err)
					}
					back := erp(ModeSMTP)
					back.SMTP = &h.smtp
					if err := h.relay.SetAccounts([]Account{back}); err != nil {
						t.Fatal(err)
					}
					if stays := h.gate("erp").Waiting == "parked"; stays != tc.stays || len(memory) == 1 != tc.stays {
						t.Errorf("parked %v, remembered %v; want it to stay: %v", stays, memory, tc.stays)
					}
					if h.events = nil; tc.stays {
						return
					}
					h.smtp.answers = []reply.Outcome{outcome}
					if h.send(); len(h.events) != 1 || !strings.HasPrefix(h.events[0], "ERROR account parked erp smtp") {
						t.Errorf("events %q; want that it is parked", h.events)
					}
				})
			}
		}
	}
}

// TestAPauseOfAnotherPath: mail does not wait for a server that it does not go to any more, nor for a proxy; but who asked
// for the pause and is still there is obeyed.
func TestAPauseOfAnotherPath(t *testing.T) {
	was := Path{Server: "smtp.contoso.test:587", SignIn: "login.contoso.test", By: "proxy"}
	otherServer, otherSignIn, otherProxy := was, was, was
	otherServer.Server, otherSignIn.SignIn, otherProxy.By = "smtp.fabrikam.test:587", "login.fabrikam.test", "no proxy"
	tokenThrottled := tokenDown
	tokenThrottled.RetryAfter = time.Hour
	busy := reply.Outcome{Owner: reply.Route, Reply: reply.Reply{Code: 421}}
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome
		was, is Path
		stays   bool
	}{
		{"nobody answered, and it goes the same way", down, was, was, true},
		{"nobody answered, and it goes to another server", down, was, otherServer, false},
		{"nobody answered, and it goes by another proxy", down, was, otherProxy, false},
		{"nobody gave a token, and another does", tokenDown, was, otherSignIn, false},
		{"the server is busy, and it goes to another", busy, was, otherServer, false},
		{"the server asked for a pause, and it goes there by another proxy", throttled(time.Hour), was, otherProxy, true},
		{"the server asked for a pause, and another gives the tokens", throttled(time.Hour), was, otherSignIn, true},
		{"the server asked for a pause, and it goes to another", throttled(time.Hour), was, otherServer, false},
		{"the sign-in asked for a pause, and it goes to another server", tokenThrottled, was, otherServer, true},
		{"the sign-in asked for a pause, and another gives the tokens", tokenThrottled, was, otherSignIn, false},
		{"a park waits for a person", full, was, otherServer, true},
		{"nobody knows where it was met", down, Path{}, was, true},
		{"nobody knows where it goes", down, was, Path{}, true},
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", tc.name, restarted), func(t *testing.T) {
				memory := notes{}
				before := erp(ModeSMTP)
				before.SMTPPath = tc.was
				h := newHouse(t, before)
				h.relay.memory = memory
				h.smtp.answers = []reply.Outcome{tc.outcome}
				h.send()
				h.events = nil
				after := erp(ModeSMTP)
				after.SMTP, after.SMTPPath = &h.smtp, tc.is
				if restarted {
					r, err := New(Options{Accounts: []Account{after}, Events: event.NewBus(h), Now: func() time.Time { return h.now }, Memory: memory, Remembered: maps.Clone(memory)})
					if err != nil {
						t.Fatal(err)
					}
					h.relay = r
				} else if err := h.relay.SetAccounts([]Account{after}); err != nil {
					t.Fatal(err)
				}
				var told []string
				if !tc.stays {
					told = []string{"INFO account resumed erp smtp"}
				}
				if stays := h.gate("erp").Waiting != ""; stays != tc.stays || len(memory) == 1 != tc.stays || !slices.Equal(h.events, told) {
					t.Errorf("it stays: %v, remembered %v, events %q; want it to stay: %v", stays, memory, h.events, tc.stays)
				}
			})
		}
	}
}

// TestDoubtOfATransportThatIsGone: a copy by another transport could not be recognised.
func TestDoubtOfATransportThatIsGone(t *testing.T) {
	h := newHouse(t, erp(ModeGraph))
	out := mail(t, "erp")
	out.Resend, out.Transport = true, "smtp"
	if o := h.relay.Relay(context.Background(), out); o.Verdict != reply.InDoubt || o.Transport != "smtp" || h.graph.calls != 0 {
		t.Errorf("Relay = %+v after %d calls; want in doubt by smtp, and nothing sent", o, h.graph.calls)
	}
}
