package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/queue/sqlite"
	"postern/bridge/relay"
)

// TestModel lets some hours pass in which everything goes wrong at random: next servers, the disk, the process, and what
// people do. Then all is well, and whatever was accepted must have come to a right end. POSTERN_MODELS sets how many seeds
// there are, for the long form; every fifth is run on a store on disk too.
func TestModel(t *testing.T) {
	seeds := 10
	if n, err := strconv.Atoi(os.Getenv("POSTERN_MODELS")); err == nil {
		seeds = n
	}
	for _, store := range []string{"memory", "sqlite"} {
		t.Run(store, func(t *testing.T) {
			for seed := 1; seed <= seeds; seed++ {
				if store == "sqlite" && seed%5 != 0 {
					continue
				}
				t.Run(strconv.Itoa(seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						m := newModel(t, store, uint64(seed))
						m.run()
						if t.Failed() { // goroutines that are due at the same instant take turns as they like
							t.Logf("again, perhaps several times: POSTERN_MODELS=%d go test ./bridge/queue -run '%s$' -count 10\n%s", seed, t.Name(), m.story())
						}
					})
				})
			}
		})
	}
}

// model is a store with one process after the other, and what the next servers got from them.
type model struct {
	t        *testing.T
	stored   queue.Store
	accounts []queue.Account
	began    time.Time

	// The process that lives. Only the test's own goroutine has it, and the next two.
	*queue.Queue
	room  *relay.Relay
	stop  context.CancelFunc
	ended chan error // Run's
	lives int

	accepted map[envelope.ID][]envelope.Address
	shared   string // a Message-ID that several messages have

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	calm   bool // nothing goes wrong any more
	store  *mortal
	kill   context.CancelFunc
	copies map[envelope.ID][]serverCopy
	known  map[string]bool        // Message-IDs that were taken
	begun  map[string][]time.Time // by account, the attempts that sent

	logging sync.Mutex // guards what follows
	lines   []modelLine
	bad     map[envelope.ID]bool // something is wrong with them
}

// modelLine is a line of the story; without an ID it concerns all.
type modelLine struct {
	id   envelope.ID
	text string
}

func newModel(t *testing.T, store string, seed uint64) *model {
	m := &model{t: t, stored: queuetest.NewMemory(), began: time.Now(), rng: rand.New(rand.NewPCG(seed, 1)), accepted: map[envelope.ID][]envelope.Address{},
		copies: map[envelope.ID][]serverCopy{}, known: map[string]bool{}, begun: map[string][]time.Time{}, bad: map[envelope.ID]bool{}}
	if store == "sqlite" {
		s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "queue.db"))
		if err != nil {
			t.Fatal(err)
		}
		m.stored = s
	}
	m.accounts = []queue.Account{
		{Name: "smtp", Concurrency: 3, RatePerMinute: 6, DoubtWait: 10 * mins},
		{Name: "both", Concurrency: 2, RatePerMinute: 6, DoubtWait: 10 * mins},
		{Name: "both-shared-a", Mailbox: "shared", Concurrency: 2, DoubtWait: 10 * mins},
		{Name: "both-shared-b", Mailbox: "shared", Concurrency: 2, DoubtWait: 10 * mins},
		{Name: "held", Concurrency: 2, OnDoubt: queue.Hold, DoubtWait: 10 * mins},
	}
	return m
}

// run is the whole life of the model.
func (m *model) run() {
	defer m.stored.Close()
	m.live()
	for range 60 {
		time.Sleep(time.Duration(m.n(5)*m.n(120)) * time.Second)
		if m.chance(0.05) {
			time.Sleep(time.Duration(m.n(40)) * hour / 10)
		}
		m.revive()
		m.happen()
		for range 1 + m.n(4)*m.n(3) {
			m.submit()
		}
	}
	m.mu.Lock()
	m.calm = true
	m.mu.Unlock()
	m.log("", "calm, in life %d", m.lives)
	time.Sleep(30 * mins) // what hangs may still die
	m.revive()
	for _, a := range m.accounts {
		m.room.Unpark(a.Name)
	}
	m.Wake("")
	time.Sleep(4 * hour)
	m.checkEnds()
	m.checkRates()
	m.stop()
	<-m.ended
}

// live begins a process, which ends when it dies or is stopped.
func (m *model) live() {
	m.lives++
	var ctx context.Context
	ctx, m.stop = context.WithCancel(m.t.Context())
	s := &mortal{Store: m.stored}
	m.mu.Lock()
	m.store, m.kill = s, m.stop
	m.mu.Unlock()
	known, err := m.stored.Notes(m.t.Context(), modelNote)
	if err != nil {
		m.t.Fatal(err)
	}
	var q *queue.Queue
	m.room, err = relay.New(relay.Options{Accounts: m.routes(m.accounts), Events: event.NewBus(m), Memory: s, Remembered: known,
		Resumed: func() { q.Wake("") }, GraphMaxMIME: 1000})
	if err != nil {
		m.t.Fatal(err)
	}
	q = queue.New(queue.Options{Store: s, Relayer: counting{m, m.room, s}, Accounts: m.accounts, Events: event.NewBus(m), StopGrace: time.Second,
		Jitter: func(wait time.Duration) time.Duration { return time.Duration(m.n(int(wait)/10 + 1)) }})
	ended := make(chan error, 1)
	m.Queue, m.ended = q, ended
	go func() { ended <- q.Run(ctx) }()
}

// routes are the accounts with their transports, for the process that lives.
func (m *model) routes(accounts []queue.Account) (routes []relay.Account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range accounts {
		r := relay.Account{Name: a.Name, Mailbox: a.Mailbox, Concurrency: a.Concurrency, Mode: relay.ModeAuto, SMTP: &server{m, "smtp", m.store, false}}
		if strings.HasPrefix(a.Name, "both") {
			r.Graph = &server{m, "graph", m.store, true}
		}
		routes = append(routes, r)
	}
	return routes
}

// die kills the process whose store that is.
func (m *model) die(s *mortal) {
	m.log("", "the process dies")
	s.dead.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.store == s {
		m.kill()
	}
}

// revive begins the next process where the last has died.
func (m *model) revive() {
	select {
	case err := <-m.ended:
		m.log("", "Run: %v", err)
		m.live()
	default:
	}
}

// happen is what befalls the process, or what a person does to it.
func (m *model) happen() {
	some := m.accounts[m.n(len(m.accounts))].Name
	switch {
	case m.chance(0.03):
		m.log("", "a restart")
		m.stop()
		<-m.ended
		m.live()
	case m.chance(0.05):
		m.log("", "accounts go and come back")
		left := m.accounts
		if m.chance(0.5) {
			left = left[1+m.n(2):]
		}
		m.configure(left)
		time.Sleep(time.Duration(m.n(300)) * time.Second)
		m.configure(m.accounts)
	case m.chance(0.05):
		m.log("", "the disk is full")
		m.mu.Lock()
		s := m.store
		m.mu.Unlock()
		s.full.Store(true)
		time.Sleep(time.Duration(m.n(60)) * time.Second)
		s.full.Store(false)
	case m.chance(0.05):
		m.order(queue.Retry, some)
	case m.chance(0.05):
		m.order(queue.HoldBack, some)
		time.Sleep(time.Duration(m.n(300)) * time.Second)
		m.order(queue.Release, "")
	case m.chance(0.05):
		m.log("", "%s is unparked", some)
		m.room.Unpark(some)
		m.Wake("")
	}
}

// configure is a reload with these accounts.
func (m *model) configure(accounts []queue.Account) {
	if err := m.room.SetAccounts(m.routes(accounts)); err != nil {
		m.t.Fatal(err)
	}
	m.SetAccounts(accounts)
}

// order is a person's, which a full disk or a dead process may refuse.
func (m *model) order(action queue.Action, account string) {
	n, _, err := m.ChangeAll(m.t.Context(), queue.Filter{Account: account}, queue.Order{Action: action, By: "root"})
	m.log("", "%s account %q: %d, %v", action, account, n, err)
}

// submit enqueues a message.
func (m *model) submit() {
	var to []string
	for i := range 1 + m.n(4) {
		to = append(to, fmt.Sprintf("r%d@fabrikam.test", i))
	}
	if m.chance(0.2) {
		to = append(to, "invalid@fabrikam.test")
	}
	_, msg := queuetest.NewMessage(m.accounts[m.n(len(m.accounts))].Name, time.Now(), to...)
	if m.chance(0.5) { // else they are hidden
		msg.Header = append([]byte("To: "+strings.Join(to, ", ")+"\r\n"), msg.Header...)
	}
	switch {
	case m.chance(0.2) && m.shared != "":
		msg.Plan.MessageID = m.shared
	case m.chance(0.3):
		m.shared = fmt.Sprintf("<app-%d@contoso.test>", len(m.accepted))
		msg.Plan.MessageID = m.shared
	}
	msg.Plan.HeaderFrom.Local = fmt.Sprintf("nav%d", m.n(3))
	body := "body\r\n"
	if m.chance(0.3) { // too large for Graph
		body = strings.Repeat("large\r\n", 300)
	}
	if err := m.Enqueue(m.t.Context(), msg, strings.NewReader(body)); err == nil {
		m.accepted[msg.ID] = msg.Envelope.Recipients
	}
}

// checkEnds says what became of all that was accepted.
func (m *model) checkEnds() {
	for id, to := range m.accepted {
		row, err := m.Show(m.t.Context(), id)
		if err != nil || len(row.Item.Recipients) != len(to) {
			m.wrong(id, "%d of %d recipients, %v", len(row.Item.Recipients), len(to), err)
			continue
		}
		for _, r := range row.Item.Recipients {
			m.checkEnd(row, r)
		}
	}
}

func (m *model) checkEnd(row queue.Row, r queue.Recipient) {
	m.mu.Lock()
	got := slices.ContainsFunc(m.copies[row.Item.ID], func(c serverCopy) bool { return slices.Contains(c.recipients, r.Address.Key()) })
	m.mu.Unlock()
	wrong := ""
	switch {
	case r.State == queue.Relayed && !got:
		wrong = "relayed, and nobody took it"
	case r.State == queue.Failed && got && r.Doubts == 0:
		wrong = "failed, and somebody took it"
	case r.State == queue.Held && r.Doubts == 0 && !strings.Contains(r.Last.Err, "died") && !strings.Contains(r.Last.Err, "held by"):
		wrong = "held for no reason"
	case !r.State.Final() && r.State != queue.Held:
		wrong = fmt.Sprintf("not at an end, waiting for %q until %v", row.WaitingFor, row.NextAttempt.Sub(m.began))
	}
	if wrong != "" {
		m.wrong(row.Item.ID, "%s: %s: %+v", r.Address, wrong, r)
	}
}

// checkRates: no minute sees more attempts than the account's rate.
func (m *model) checkRates() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.accounts {
		times, most := m.begun[a.Name], a.RatePerMinute
		for i := most; most > 0 && i < len(times); i++ {
			if within := times[i].Sub(times[i-most]); within < time.Minute {
				m.wrong("", "%s began %d attempts within %v, until %v", a.Name, most+1, within, times[i].Sub(m.began))
			}
		}
	}
}

// chance is true that often.
func (m *model) chance(p float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.Float64() < p
}

// fails is chance, until all is well.
func (m *model) fails(p float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.calm && m.rng.Float64() < p
}

// n is a number below n.
func (m *model) n(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

// Handle puts an event into the story.
func (m *model) Handle(_ context.Context, e event.Event) {
	var id envelope.ID
	var attrs []slog.Attr
	for _, a := range e.Attrs {
		if a.Key == "queue_id" {
			id = envelope.ID(a.Value.String())
			continue
		}
		attrs = append(attrs, a)
	}
	m.log(id, "%v %s %v", e.Level, e.Kind, attrs)
}

func (m *model) log(id envelope.ID, format string, args ...any) {
	m.logging.Lock()
	defer m.logging.Unlock()
	m.lines = append(m.lines, modelLine{id, fmt.Sprintf("%v %s "+format, append([]any{time.Since(m.began), id}, args...)...)})
}

// wrong is Errorf about a message.
func (m *model) wrong(id envelope.ID, format string, args ...any) {
	m.t.Errorf("%s "+format, append([]any{id}, args...)...)
	m.logging.Lock()
	defer m.logging.Unlock()
	m.bad[id] = true
}

// story is what happened to the messages with which something is wrong.
func (m *model) story() string {
	m.logging.Lock()
	defer m.logging.Unlock()
	var b strings.Builder
	for _, l := range m.lines {
		if l.id == "" || m.bad[l.id] {
			fmt.Fprintln(&b, l.text)
		}
	}
	return b.String()
}
