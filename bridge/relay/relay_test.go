package relay

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/reply"
)

// Outcomes as the transports give them.
var (
	sent      = reply.Outcome{Verdict: reply.Relayed}
	badMIME   = reply.Outcome{Verdict: reply.Failed, Owner: reply.Message, Reply: reply.Reply{Code: 400, Text: "bad MIME"}}
	noRight   = reply.Outcome{Owner: reply.Sender, Reply: reply.Reply{Code: 403, Text: "no Send As"}}
	down      = reply.Outcome{Owner: reply.Route, Reply: reply.Reply{Text: "no connection"}}
	doubt     = reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Reply: reply.Reply{Code: 504}}
	full      = reply.Outcome{Owner: reply.Account, Reply: reply.Reply{Code: 403, Text: "mailbox full"}, Remedy: "make room"}
	stopping  = reply.Outcome{Owner: reply.Process, Reply: reply.Reply{Text: "stopped"}}
	noSignIn  = reply.Outcome{Owner: reply.Login, Remedy: "run: postern signin erp", Err: &token.Error{Person: true, Text: "no sign-in"}}
	tokenDown = reply.Outcome{Owner: reply.Login, Err: &token.Error{Text: "the token endpoint is down"}}
)

func throttled(d time.Duration) reply.Outcome {
	return reply.Outcome{Owner: reply.Route, RetryAfter: d, Reply: reply.Reply{Code: 429}}
}

// fake is a transport that answers what is due, and counts.
type fake struct {
	answers []reply.Outcome // the last repeats; none: sent
	calls   int
	last    message.Outgoing
	during  func(message.Outgoing) // runs inside Send
}

func (f *fake) Send(_ context.Context, out message.Outgoing) reply.Outcome {
	f.calls++
	f.last = out
	if f.during != nil {
		f.during(out)
	}
	if len(f.answers) == 0 {
		return sent
	}
	o := f.answers[0]
	if len(f.answers) > 1 {
		f.answers = f.answers[1:]
	}
	return o
}

// house is a relay with its clock, its transports and its events.
type house struct {
	t           *testing.T
	relay       *Relay
	now         time.Time
	graph, smtp fake
	events      []string
}

// Handle implements event.Sink.
func (h *house) Handle(_ context.Context, e event.Event) {
	s := e.Level.String() + " " + string(e.Kind)
	for _, a := range e.Attrs {
		if a.Key == "account" || a.Key == "transport" || a.Key == "remedy" {
			s += " " + a.Value.String()
		}
	}
	h.events = append(h.events, s)
}

func newHouse(t *testing.T, accounts ...Account) *house {
	h := &house{t: t, now: opened}
	for i := range accounts {
		a := &accounts[i]
		if a.Graph == nil && a.Mode != ModeSMTP {
			a.Graph = &h.graph
		}
		if a.SMTP == nil && a.Mode != ModeGraph {
			a.SMTP = &h.smtp
		}
	}
	r, err := New(Options{Accounts: accounts, Events: event.NewBus(h), Now: func() time.Time { return h.now }, GraphMaxMIME: 3_000_000})
	if err != nil {
		t.Fatal(err)
	}
	h.relay = r
	return h
}

func erp(m Mode) Account {
	return Account{Name: "erp", Login: "contoso/svc@contoso.test", Mailbox: "contoso/erp@contoso.test", Mode: m, Concurrency: 3}
}

const header = "From: erp@contoso.test\r\nTo: ann@example.test\r\nSubject: order\r\n\r\n"

// opened is when a house's clock begins.
var opened = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

func mail(t *testing.T, account string) message.Outgoing {
	to, err := envelope.ParseAddress("ann@example.test")
	if err != nil {
		t.Fatal(err)
	}
	return message.Outgoing{
		Message: message.Message{ID: "0123456789abcdef", Accepted: opened, Header: []byte(header),
			Plan: message.Plan{Account: account, Edits: []message.Edit{{Op: message.Set, Name: "From", Value: "noreply@contoso.test"}}}},
		Recipients: []envelope.Address{to}, BodySize: 4,
		Open:   func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hi\r\n")), nil },
		Intent: func(context.Context) error { return nil },
	}
}

func (h *house) send() reply.Outcome { return h.relay.Relay(context.Background(), mail(h.t, "erp")) }

// gate is what the account's gate says but for since when: TestSinceWhenNothingGoes.
func (h *house) gate(account string) Gate {
	g := h.relay.Gate(account, h.now)
	g.Since = time.Time{}
	return g
}

func TestTroubleOfOneTransport(t *testing.T) {
	closed := func(d time.Duration, waiting string) Gate {
		return Gate{Again: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC).Add(d), Waiting: waiting}
	}
	open := Gate{Limit: 3}
	probe := func(waiting string) Gate { return Gate{Limit: 1, Waiting: waiting} }
	type step struct {
		after   time.Duration // the clock goes on, before the message
		before  Gate          // what the gate says then
		outcome reply.Outcome // of the message
		then    Gate
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"a relayed message leaves the account open", []step{{0, open, sent, open}}},
		{"a message's own failure leaves the account open", []step{{0, open, badMIME, open}}},
		{"a missing Send As right leaves the account open", []step{{0, open, noRight, open}}},
		{"our own trouble leaves the account open", []step{{0, open, stopping, open}}},
		{"trouble of the route pauses 30 seconds and doubles up to 15 minutes, and one success opens it", []step{
			{0, open, down, closed(30*time.Second, "pause")},
			{30 * time.Second, probe("pause"), down, closed(90*time.Second, "pause")},
			{time.Minute, probe("pause"), down, closed(210*time.Second, "pause")},
			{2 * time.Minute, probe("pause"), down, closed(450*time.Second, "pause")},
			{4 * time.Minute, probe("pause"), down, closed(930*time.Second, "pause")},
			{8 * time.Minute, probe("pause"), down, closed(1830*time.Second, "pause")},
			{15 * time.Minute, probe("pause"), down, closed(2730*time.Second, "pause")},
			{15 * time.Minute, probe("pause"), sent, open},
			{0, open, down, closed(3630*time.Second+30*time.Second-15*time.Minute, "pause")},
		}},
		{"Retry-After is waited for exactly", []step{
			{0, open, throttled(2128 * time.Millisecond), closed(2128*time.Millisecond, "pause")},
			{2128 * time.Millisecond, probe("pause"), sent, open},
		}},
		{"Retry-After of ten years is an hour", []step{
			{0, open, throttled(87600 * time.Hour), closed(time.Hour, "pause")},
		}},
		{"a probe's own failure shows that the route works", []step{
			{0, open, down, closed(30*time.Second, "pause")},
			{30 * time.Second, probe("pause"), badMIME, open},
		}},
		{"a doubt pauses the route, since no verdict came", []step{
			{0, open, doubt, closed(30*time.Second, "pause")},
		}},
		{"a probe that we stopped ourselves changes nothing", []step{
			{0, open, down, closed(30*time.Second, "pause")},
			{30 * time.Second, probe("pause"), stopping, probe("pause")},
		}},
		{"a token endpoint that is down pauses", []step{
			{0, open, tokenDown, closed(30*time.Second, "pause")},
			{30 * time.Second, probe("pause"), sent, open},
		}},
		{"a full mailbox is parked and probed after 15, 30 and 60 minutes", []step{
			{0, open, full, closed(15*time.Minute, "parked")},
			{15 * time.Minute, probe("parked"), full, closed(45*time.Minute, "parked")},
			{30 * time.Minute, probe("parked"), full, closed(105*time.Minute, "parked")},
			{time.Hour, probe("parked"), full, closed(165*time.Minute, "parked")},
			{time.Hour, probe("parked"), sent, open},
		}},
		{"a probe that never reached the full mailbox leaves it parked", []step{
			{0, open, full, closed(15*time.Minute, "parked")},
			{15 * time.Minute, probe("parked"), down, closed(30*time.Minute, "parked")},
		}},
		{"a message refused for itself does not show that the mailbox has room", []step{
			{0, open, full, closed(15*time.Minute, "parked")},
			{15 * time.Minute, probe("parked"), badMIME, probe("parked")},
			{0, probe("parked"), sent, open},
		}},
		{"a pause becomes a park when the probe meets the mailbox's trouble", []step{
			{0, open, down, closed(30*time.Second, "pause")},
			{30 * time.Second, probe("pause"), full, closed(30*time.Second+15*time.Minute, "parked")},
		}},
		{"a login that a person must renew is parked, and probed in case that he did it elsewhere", []step{
			{0, open, noSignIn, closed(15*time.Minute, "parked")},
			{15 * time.Minute, probe("parked"), noSignIn, closed(45*time.Minute, "parked")},
			{30 * time.Minute, probe("parked"), noSignIn, closed(105*time.Minute, "parked")},
			{time.Hour, probe("parked"), noSignIn, closed(165*time.Minute, "parked")},
			{time.Hour, probe("parked"), sent, open},
			{0, open, noSignIn, closed(180*time.Minute, "parked")},
		}},
		{"probes of a login that do not get as far come ever more seldom, until one does", []step{
			{0, open, noSignIn, closed(15*time.Minute, "parked")},
			{15 * time.Minute, probe("parked"), tokenDown, closed(930*time.Second, "parked")},
			{30 * time.Second, probe("parked"), tokenDown, closed(990*time.Second, "parked")},
			{time.Minute, probe("parked"), down, closed(1110*time.Second, "parked")},
			{2 * time.Minute, probe("parked"), stopping, closed(1350*time.Second, "parked")},
			{4 * time.Minute, probe("parked"), down, closed(1830*time.Second, "parked")},
			{8 * time.Minute, probe("parked"), down, closed(2730*time.Second, "parked")},
			{15 * time.Minute, probe("parked"), down, closed(3630*time.Second, "parked")},
			{15 * time.Minute, probe("parked"), noSignIn, closed(5430*time.Second, "parked")},
			{30 * time.Minute, probe("parked"), down, closed(5460*time.Second, "parked")},
		}},
		{"a probe of a login that does not get as far comes again soon, and does not make the next wait longer", []step{
			{0, open, noSignIn, closed(15*time.Minute, "parked")},
			{15 * time.Minute, probe("parked"), down, closed(15*time.Minute+30*time.Second, "parked")},
			{30 * time.Second, probe("parked"), noSignIn, closed(45*time.Minute+30*time.Second, "parked")},
			{30 * time.Minute, probe("parked"), stopping, closed(46*time.Minute, "parked")},
			{30 * time.Second, probe("parked"), badMIME, probe("pause")}, // the pause of the one that was down
			{0, probe("pause"), sent, open},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, erp(ModeGraph))
			for i, s := range tc.steps {
				h.now = h.now.Add(s.after)
				if got := h.gate("erp"); got != s.before {
					t.Fatalf("step %d: Gate before = %+v; want %+v", i, got, s.before)
				}
				h.graph.answers = []reply.Outcome{s.outcome}
				got, owner := h.send(), s.outcome.Owner
				if owner == reply.Login && s.then.Waiting == "pause" {
					owner = reply.Route // it passes by itself
				}
				if got.Verdict != s.outcome.Verdict || got.Owner != owner || got.Transport != "graph" {
					t.Fatalf("step %d: Relay = %+v; want %+v by graph", i, got, s.outcome)
				}
				if got := h.gate("erp"); got != s.then {
					t.Fatalf("step %d: Gate after = %+v; want %+v", i, got, s.then)
				}
			}
			if h.graph.calls != len(tc.steps) {
				t.Errorf("the transport was called %d times; want %d", h.graph.calls, len(tc.steps))
			}
		})
	}
}

func TestMessagesUnderWayWhenTheTroubleBegins(t *testing.T) {
	t.Run("three failures at once are one pause", func(t *testing.T) {
		h := newHouse(t, erp(ModeSMTP))
		h.smtp.answers = []reply.Outcome{down}
		depth := 0
		h.smtp.during = func(message.Outgoing) {
			if depth++; depth < 3 {
				h.send()
			}
		}
		h.send()
		if g, want := h.gate("erp"), h.now.Add(30*time.Second); g.Again != want || g.Limit != 0 {
			t.Errorf("Gate = %+v; want closed until %v", g, want)
		}
	})
	t.Run("the longest Retry-After of several counts", func(t *testing.T) {
		h := newHouse(t, erp(ModeSMTP))
		h.smtp.answers = []reply.Outcome{throttled(10 * time.Second), throttled(20 * time.Second)}
		h.smtp.during = func(message.Outgoing) { h.smtp.during = nil; h.send() }
		h.send()
		if g, want := h.gate("erp"), h.now.Add(20*time.Second); g.Again != want {
			t.Errorf("Gate = %+v; want closed until %v", g, want)
		}
	})
	t.Run("a success that began before the pause does not end it", func(t *testing.T) {
		h := newHouse(t, erp(ModeSMTP))
		h.smtp.answers = []reply.Outcome{throttled(time.Minute), sent}
		h.smtp.during = func(message.Outgoing) { h.smtp.during = nil; h.send() }
		if o := h.send(); o.Verdict != reply.Relayed {
			t.Fatalf("the outer message: %+v", o)
		}
		if g := h.gate("erp"); g.Limit != 0 || g.Waiting != "pause" {
			t.Errorf("Gate = %+v; want the pause to go on", g)
		}
	})
	t.Run("a message claimed before the pause is handed back unsent", func(t *testing.T) {
		h := newHouse(t, erp(ModeSMTP))
		h.smtp.answers = []reply.Outcome{throttled(time.Minute)}
		h.send()
		o := h.send()
		if h.smtp.calls != 1 || o.Verdict != reply.Deferred || o.Owner != reply.Route || o.RetryAfter != time.Minute {
			t.Errorf("calls %d, outcome %+v", h.smtp.calls, o)
		}
	})
	t.Run("a second probe is handed back", func(t *testing.T) {
		h := newHouse(t, erp(ModeSMTP))
		h.smtp.answers = []reply.Outcome{down, sent}
		h.send()
		h.now = h.now.Add(30 * time.Second)
		h.smtp.during = func(message.Outgoing) {
			h.smtp.during = nil
			if o := h.send(); o.Owner != reply.Route || !o.TurnedBack || o.RetryAfter != time.Minute {
				t.Errorf("beside the probe: %+v", o)
			}
		}
		if o := h.send(); o.Verdict != reply.Relayed || h.smtp.calls != 2 {
			t.Errorf("probe: %+v, calls %d", o, h.smtp.calls)
		}
	})
	t.Run("the gate is closed while somebody probes, also to others of the login", func(t *testing.T) {
		info := erp(ModeSMTP)
		info.Name, info.Mailbox = "info", "contoso/info@contoso.test"
		h := newHouse(t, erp(ModeSMTP), info)
		h.smtp.answers = []reply.Outcome{noSignIn, sent}
		h.send()
		h.now = h.now.Add(15 * time.Minute)
		for _, account := range []string{"erp", "info"} {
			if g := h.gate(account); g != (Gate{Limit: 1, Waiting: "parked"}) {
				t.Errorf("Gate(%s) before = %+v", account, g)
			}
		}
		h.smtp.during = func(message.Outgoing) {
			for _, account := range []string{"erp", "info"} {
				if g := h.gate(account); g != (Gate{Waiting: "parked"}) {
					t.Errorf("Gate(%s) beside the probe = %+v", account, g)
				}
			}
		}
		h.send()
		for _, account := range []string{"erp", "info"} {
			if g := h.gate(account); g != (Gate{Limit: 3}) {
				t.Errorf("Gate(%s) after it = %+v", account, g)
			}
		}
	})
	t.Run("a panic in a transport does not leave the probe open", func(t *testing.T) {
		h := newHouse(t, erp(ModeSMTP))
		h.smtp.answers = []reply.Outcome{down, sent}
		h.send()
		h.now = h.now.Add(30 * time.Second)
		h.smtp.during = func(message.Outgoing) { h.smtp.during = nil; panic("a transport of the test") }
		func() {
			defer func() { recover() }()
			h.send()
		}()
		if o := h.send(); o.Verdict != reply.Relayed {
			t.Errorf("the next probe: %+v", o)
		}
	})
}

func TestLoginsAndMailboxesAreShared(t *testing.T) {
	info := Account{Name: "info", Login: erp("").Login, Mailbox: "contoso/info@contoso.test", Mode: ModeGraph, Concurrency: 3}
	twin := Account{Name: "twin", Login: "contoso/twin", Mailbox: erp("").Mailbox, Mode: ModeGraph, Concurrency: 3}
	alone := Account{Name: "alone", Mode: ModeGraph}
	alone2 := Account{Name: "alone2", Mode: ModeGraph}
	for _, tc := range []struct {
		name    string
		outcome reply.Outcome // of a message of account erp
		stopped []string
	}{
		{"a dead login stops all its accounts", noSignIn, []string{"erp", "info"}},
		{"a full mailbox stops all that send through it", full, []string{"erp", "twin"}},
		{"a throttled mailbox stops all that send through it", throttled(time.Minute), []string{"erp", "twin"}},
		{"a message's own failure stops nobody", badMIME, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, erp(ModeGraph), info, twin, alone, alone2)
			h.graph.answers = []reply.Outcome{tc.outcome}
			h.send()
			var stopped []string
			for _, name := range h.relay.names {
				if h.gate(name).Limit == 0 {
					stopped = append(stopped, name)
				}
			}
			if d := cmp.Diff(tc.stopped, stopped); d != "" {
				t.Errorf("stopped accounts (-want +got):\n%s", d)
			}
		})
	}
	t.Run("accounts without keys share nothing", func(t *testing.T) {
		h := newHouse(t, alone, alone2)
		h.graph.answers = []reply.Outcome{noSignIn}
		h.relay.Relay(context.Background(), mail(t, "alone"))
		if g := h.gate("alone2"); g != (Gate{Limit: 1}) {
			t.Errorf("Gate of the other account = %+v", g)
		}
	})
}

func TestUnpark(t *testing.T) {
	info := Account{Name: "info", Login: erp("").Login, Mailbox: "contoso/info@contoso.test", Mode: ModeAuto, Concurrency: 3}
	h := newHouse(t, erp(ModeAuto), info)
	h.graph.answers, h.smtp.answers = []reply.Outcome{noSignIn}, []reply.Outcome{noSignIn}
	h.send()
	if g := h.gate("info"); g != (Gate{Again: h.now.Add(15 * time.Minute), Waiting: "parked"}) {
		t.Fatalf("Gate of the login's other account = %+v", g)
	}
	h.now = h.now.Add(48 * time.Hour)
	if g := h.gate("erp"); g != (Gate{Limit: 1, Waiting: "parked"}) {
		t.Fatalf("Gate after two days = %+v; want it parked but for a probe", g)
	}
	h.relay.Unpark("info")
	for _, name := range []string{"erp", "info"} {
		if g := h.gate(name); g != (Gate{Limit: 3}) {
			t.Errorf("Gate(%s) after Unpark = %+v", name, g)
		}
	}
	h.relay.Unpark("info") // nothing to end, nothing to tell
	h.relay.Unpark("nobody")
	want := []string{
		"ERROR account parked erp graph run: postern signin erp",
		"ERROR account parked erp smtp run: postern signin erp",
		"INFO account resumed erp graph",
		"INFO account resumed erp smtp",
	}
	if d := cmp.Diff(want, h.events); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// TestALoginsProbeLeavesAPausedMailboxAlone: a mailbox keeps the server's wish although the login that it shares is parked,
// which another mailbox's message may probe.
func TestALoginsProbeLeavesAPausedMailboxAlone(t *testing.T) {
	info := Account{Name: "info", Login: erp("").Login, Mailbox: "contoso/info@contoso.test", Mode: ModeGraph, Concurrency: 3}
	h := newHouse(t, erp(ModeGraph), info)
	h.graph.answers = []reply.Outcome{throttled(time.Hour), noSignIn, sent}
	h.send()
	h.relay.Relay(context.Background(), mail(t, "info"))
	h.now = h.now.Add(15 * time.Minute)
	if g := h.gate("erp"); g != (Gate{Again: opened.Add(time.Hour), Waiting: "parked"}) {
		t.Errorf("Gate of the paused mailbox = %+v; want it closed for the rest of the hour, and parked", g)
	}
	if o := h.send(); !o.TurnedBack || o.RetryAfter != 45*time.Minute || h.graph.calls != 2 {
		t.Errorf("a message of it: %+v after %d calls; want it turned back", o, h.graph.calls)
	}
	if g := h.gate("info"); g != (Gate{Limit: 1, Waiting: "parked"}) {
		t.Errorf("Gate of the other mailbox = %+v; want a probe", g)
	}
	h.relay.Relay(context.Background(), mail(t, "info"))
	if g := h.gate("erp"); g != (Gate{Again: opened.Add(time.Hour), Waiting: "pause"}) {
		t.Errorf("Gate of the paused mailbox once the login is back = %+v; want its pause", g)
	}
}

func TestUnparkLeavesPauses(t *testing.T) {
	h := newHouse(t, erp(ModeGraph))
	h.graph.answers = []reply.Outcome{throttled(time.Minute)}
	h.send()
	h.relay.Unpark("erp")
	if g := h.gate("erp"); g.Limit != 0 || g.Waiting != "pause" {
		t.Errorf("Gate = %+v; want the server's wish kept", g)
	}
}

func TestEachTroubleIsToldOnce(t *testing.T) {
	h := newHouse(t, erp(ModeGraph))
	for _, o := range []reply.Outcome{full, full, full, sent, down, down, full, sent} {
		h.graph.answers = []reply.Outcome{o}
		h.send()
		h.now = h.now.Add(time.Hour)
	}
	want := []string{
		"ERROR account parked erp graph make room",
		"INFO account resumed erp graph",
		"WARN account paused erp graph",
		"ERROR account parked erp graph make room",
		"INFO account resumed erp graph",
	}
	if d := cmp.Diff(want, h.events); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func TestStates(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.graph.answers, h.smtp.answers = []reply.Outcome{full}, []reply.Outcome{throttled(time.Minute)}
	began := h.now
	h.send()
	want := []State{
		{Account: "erp", Transport: "graph", Condition: Parked, Since: began, Until: began.Add(15 * time.Minute), Why: "403 mailbox full", Remedy: "make room"},
		{Account: "erp", Transport: "smtp", Condition: Paused, Since: began, Until: began.Add(time.Minute), Why: "429"},
	}
	if d := cmp.Diff(want, h.relay.States()); d != "" {
		t.Errorf("States (-want +got):\n%s", d)
	}
	// Both stopped: the earlier end opens the account, and it is not parked while one transport only pauses.
	if g := h.gate("erp"); g != (Gate{Again: began.Add(time.Minute), Waiting: "pause"}) {
		t.Errorf("Gate = %+v", g)
	}
	h.now = began.Add(time.Minute)
	h.smtp.answers = nil
	h.send()
	if got := h.relay.States()[1]; got != (State{Account: "erp", Transport: "smtp", Condition: Up}) {
		t.Errorf("State of smtp after a success = %+v", got)
	}
}

func TestWhatTheTransportGets(t *testing.T) {
	h := newHouse(t, erp(ModeAuto))
	h.graph.answers = []reply.Outcome{full}
	var commits []string
	out := mail(t, "erp")
	out.IntentBy = func(_ context.Context, transport string, _ []envelope.Address) error {
		commits = append(commits, transport)
		if len(commits) == 1 {
			return errors.New("the store is busy")
		}
		return nil
	}
	h.graph.during = func(o message.Outgoing) {
		if o.Intent(context.Background()) == nil || o.Intent(context.Background()) != nil {
			t.Error("a failed Intent is not tried again")
		}
	}
	h.smtp.during = func(o message.Outgoing) {
		if err := o.Intent(context.Background()); err != nil {
			t.Error(err)
		}
	}
	h.relay.Relay(context.Background(), out)
	if d := cmp.Diff([]string{"graph", "graph", "smtp"}, commits); d != "" {
		t.Errorf("intents name their transport (-want +got):\n%s", d)
	}
	if want := strings.Replace(header, "erp@contoso.test", "noreply@contoso.test", 1); string(h.smtp.last.Final) != want {
		t.Errorf("Final = %q; want %q", h.smtp.last.Final, want)
	}
}

func TestWhatNeverReachesATransport(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*message.Outgoing)
		owner  reply.Owner
	}{
		{"an account that is gone keeps its mail", func(o *message.Outgoing) { o.Plan.Account = "gone" }, reply.Account},
		{"a plan that cannot be applied is our trouble", func(o *message.Outgoing) {
			o.Plan.Edits = []message.Edit{{Op: "no such operation", Name: "X"}}
		}, reply.Process},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, erp(ModeGraph))
			out := mail(t, "erp")
			tc.change(&out)
			got := h.relay.Relay(context.Background(), out)
			if got.Verdict != reply.Deferred || got.Owner != tc.owner || got.Reply.Text == "" || h.graph.calls != 0 {
				t.Errorf("Relay = %+v, calls %d; want deferred for %v, unsent", got, h.graph.calls, tc.owner)
			}
		})
	}
	if g := newHouse(t, erp(ModeGraph)).gate("gone"); g != (Gate{Waiting: "parked"}) {
		t.Errorf("Gate of an account that is gone = %+v", g)
	}
}

func TestNewRefusesImpossibleAccounts(t *testing.T) {
	f := &fake{}
	for _, tc := range []struct {
		name     string
		accounts []Account
	}{
		{"graph without Graph", []Account{{Name: "a", Mode: ModeGraph, SMTP: f}}},
		{"smtp without SMTP", []Account{{Name: "a", Mode: ModeSMTP, Graph: f}}},
		{"auto without anything", []Account{{Name: "a", Mode: ModeAuto}}},
		{"a mode that does not exist", []Account{{Name: "a", Mode: "pigeon", SMTP: f}}},
		{"no name", []Account{{Mode: ModeSMTP, SMTP: f}}},
		{"a name twice", []Account{{Name: "a", Mode: ModeSMTP, SMTP: f}, {Name: "a", Mode: ModeSMTP, SMTP: f}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := New(Options{Accounts: tc.accounts}); err == nil {
				t.Error("New took it")
			}
		})
	}
	if _, err := New(Options{Accounts: []Account{{Name: "a", Mode: ModeAuto, SMTP: f}}}); err != nil {
		t.Errorf("auto with one transport: %v", err)
	}
}
