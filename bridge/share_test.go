package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/auth/token"
	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/relay"
	"postern/bridge/reply"
	"postern/bridge/sandbox"
	"postern/bridge/transport/smarthost"
	"postern/bridge/transport/smarthost/smarthosttest"
)

// exchange is a smarthost that takes a Message-ID once, as Exchange Online does.
type exchange struct {
	later map[string][]int // when a recipient is refused for now, of the times that he is named, counted from 1
	most  int              // recipients in one transaction; 0: any
	cut   []int            // the dots, counted from 1, at which the connection ends and nothing is taken
	lost  []int            // the dots whose 250 does not arrive

	mu    sync.Mutex     // guards what follows
	names map[string]int // how often each was named
	named int            // recipients since MAIL
	dots  int
	known map[string]bool
}

func (x *exchange) on(e smarthosttest.Exchange) *smarthosttest.Action {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch e.Step {
	case smarthosttest.MAIL:
		x.named = 0
	case smarthosttest.RCPT:
		local, _, _ := strings.Cut(strings.TrimPrefix(e.Line, "RCPT TO:<"), "@")
		if x.names[local]++; slices.Contains(x.later[local], x.names[local]) {
			return &smarthosttest.Action{Reply: "451 4.7.1 greylisted\r\n"}
		}
		if x.named++; x.most > 0 && x.named > x.most {
			return &smarthosttest.Action{Reply: "452 4.5.3 Too many recipients\r\n"}
		}
	case smarthosttest.Dot:
		x.dots++
		h, err := message.ParseHeader(e.Data[:strings.Index(string(e.Data), "\r\n\r\n")+4])
		if err != nil {
			return &smarthosttest.Action{Reply: "554 5.6.0 " + err.Error() + "\r\n"}
		}
		id := h.Get("Message-ID")
		switch {
		case slices.Contains(x.cut, x.dots):
			return &smarthosttest.Action{Drop: true}
		case x.known[id]:
			return &smarthosttest.Action{Reply: "554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException.MapiExceptionDuplicateDelivery\r\n"}
		}
		x.known[id] = true
		if slices.Contains(x.lost, x.dots) {
			return &smarthosttest.Action{Reply: "2", Drop: true}
		}
	}
	return nil
}

// oneToken is a token source.
type oneToken struct{}

func (oneToken) Token(context.Context, token.Resource) (token.Secret, error) { return "access", nil }
func (oneToken) Refused(token.Resource, token.Secret)                        {}

// dying is a relayer whose process ends after the server's answer and before what came of it is written down.
type dying struct {
	queue.Relayer
	ever <-chan struct{}
}

func (d dying) Relay(ctx context.Context, out message.Outgoing) reply.Outcome {
	o := d.Relayer.Relay(ctx, out)
	<-d.ever
	return o
}

// TestRelayedIsTaken: what the server says of one recipient's copy, after a doubt, ends nobody who had no share in it. Who
// is recorded as relayed was taken, and nobody twice: this server knows what it has.
func TestRelayedIsTaken(t *testing.T) {
	many := func(n int) (to []string) {
		for i := range n {
			to = append(to, fmt.Sprintf("r%d@example.test", i))
		}
		return to
	}
	all := func(to []string) [][]string { return [][]string{to} }
	each := func(to []string) (alone [][]string) {
		for _, r := range to {
			alone = append(alone, []string{r})
		}
		return alone
	}
	couple := []string{"ann@example.test", "bob@example.test"}
	for _, tc := range []struct {
		name   string
		to     [][]string // of each message
		server *exchange
		dies   bool // after the first answer
		doubts int  // recipients that were in doubt
	}{
		{"one is refused at RCPT, and the process dies after the 250", all(couple), &exchange{later: map[string][]int{"bob": {1}}}, true, 1},
		{"one gets it, and the retry for the other is cut off", all(couple), &exchange{later: map[string][]int{"bob": {1}}, cut: []int{2}}, false, 1},
		{"the first is cut off, and the retry for the other taken", all(couple), &exchange{later: map[string][]int{"bob": {1}}, cut: []int{1}}, false, 1},
		{"the 250 to the first is lost, and the retry for the other taken", all(couple), &exchange{later: map[string][]int{"bob": {1}}, lost: []int{1}}, false, 1},
		{"both are cut off", all(couple), &exchange{later: map[string][]int{"bob": {1}}, cut: []int{1, 2}}, false, 2},
		{"both are cut off, and one is refused at the resend", all(couple), &exchange{later: map[string][]int{"bob": {2}}, cut: []int{1}}, false, 2},
		{"one after the other is refused, and then cut off", all(couple), &exchange{later: map[string][]int{"ann": {1}, "bob": {1, 2}}, cut: []int{1}}, false, 1},
		{"too many recipients, and the process dies after the 250", all(many(250)), &exchange{most: 100}, true, 100},
		{"too many recipients, and the rest is cut off", all(many(250)), &exchange{most: 100, cut: []int{2}}, false, 100},
		{"too many recipients in both parts of a large message", all(many(700)), &exchange{most: 300, cut: []int{1, 3}}, false, 500},
		{"two messages have one Message-ID, and the second is cut off", each(couple), &exchange{cut: []int{2}}, false, 1},
		{"two messages have one Message-ID, and the 250 to the second is lost", each(couple), &exchange{lost: []int{3}}, false, 1},
		{"the application gave the Message-ID, and the 250 is lost", each(couple[:1]), &exchange{lost: []int{1}}, false, 1},
		{"nothing goes wrong but the refusal", all(couple), &exchange{later: map[string][]int{"ann": {1, 2, 3}, "bob": {1}}}, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.server.known, tc.server.names = map[string]bool{}, map[string]int{}
				s := newShare(t, tc.server)
				defer s.close()
				recipients := s.walk(tc.to, tc.dies)
				took := map[string]int{}
				for _, m := range s.server.Messages() {
					for _, line := range m.Rcpt {
						took[strings.Trim(strings.TrimPrefix(line, "RCPT TO:"), "<>")]++
					}
				}
				doubts := 0
				for _, r := range recipients {
					if r.State != queue.Relayed || took[r.Address.String()] != 1 {
						t.Fatalf("%s is %s, and the server took it %d times; want it relayed and taken once", r.Address, r.State, took[r.Address.String()])
					}
					doubts += min(r.Doubts, 1)
				}
				if doubts != tc.doubts {
					t.Errorf("%d recipients were in doubt; want %d", doubts, tc.doubts)
				}
			})
		})
	}
}

// TestALookSpeaksForNobodyElse: one recipient has got it by SMTP, the retry for the other is lost, and the copy that lies in
// Sent Items is not his.
func TestALookSpeaksForNobodyElse(t *testing.T) {
	w := newWorld(t, worldOptions{config: strings.Replace(exactConfig, "mailbox = \"sales@contoso.test\"\n", "mailbox = \"sales@contoso.test\"\ndoubt_wait = \"1s\"\n", 1)})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	await := func(k event.Kind, n int) {
		t.Helper()
		if err := w.events.await(ctx, k, n); err != nil {
			t.Fatalf("%d of %d %q: %v\n%s", w.events.count(k), n, k, err, w.log())
		}
	}
	to := []string{"one@example.test", "later@example.test"} // the sandbox refuses it once at RCPT
	if err := w.hand("auto", to, []byte("From: a@erp.local\r\nTo: one@example.test\r\nSubject: s\r\n\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	await(event.MessageRelayed, 1)
	await(event.MessageDeferred, 1)
	if err := w.box.Fault(sandbox.Fault{Where: sandbox.AtDot, Outcome: "drop-before"}); err != nil {
		t.Fatal(err)
	}
	if n, _, err := w.b.queue.ChangeAll(ctx, queue.Filter{}, queue.Order{Action: queue.Retry, By: "x"}); n != 1 || err != nil {
		t.Fatalf("ChangeAll = %d, %v", n, err)
	}
	await(event.MessageInDoubt, 2) // and after a look
	for _, r := range w.box.Received() {
		if slices.Contains(r.Recipients, to[1]) || w.events.count(event.MessageRelayed) != 1 {
			t.Errorf("%v have a copy, and %d are relayed; want the first alone\n%s", r.Recipients, w.events.count(event.MessageRelayed), w.log())
		}
	}
}

// share is a queue, its relay and its smarthost on a store in memory, in a synctest bubble.
type share struct {
	t      *testing.T
	server *smarthosttest.Server
	smtp   *smarthost.Transport
	store  queue.Store
}

func newShare(t *testing.T, x *exchange) *share {
	v := smarthosttest.StartPipe(t, smarthosttest.Script{On: x.on})
	return &share{t: t, server: v, store: queuetest.NewMemory(), smtp: smarthost.New(smarthost.Options{Account: "erp", Address: v.Address(),
		RootCAs: v.RootCAs(), Login: "svc@contoso.test", Tokens: oneToken{}, Dial: v.Dial})}
}

func (s *share) close() {
	s.smtp.Close()
	s.server.Close()
}

// relayer is a new process's.
func (s *share) relayer() queue.Relayer {
	room, err := relay.New(relay.Options{Events: event.NewBus(), Accounts: []relay.Account{{Name: "erp", Mode: relay.ModeSMTP, SMTP: s.smtp, Concurrency: 3}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return relayer{room: room}
}

// walk hands the messages in, all under one Message-ID of the application, and returns their recipients some hours later.
// dies says that the first process does after its first answer.
func (s *share) walk(to [][]string, dies bool) (all []queue.Recipient) {
	r, ever := s.relayer(), make(chan struct{})
	first := r
	if dies {
		first = dying{r, ever}
	}
	q, stop := s.run(first)
	var ids []envelope.ID
	for _, to := range to {
		_, m := queuetest.NewMessage("erp", time.Now(), to...)
		m.Plan.MessageID = "<order@erp.local>"
		m.Header = []byte("From: <nav@contoso.test>\r\nMessage-ID: <order@erp.local>\r\n\r\n")
		if err := q.Enqueue(s.t.Context(), m, strings.NewReader("order\r\n")); err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, m.ID)
		synctest.Wait()
	}
	if dies {
		stop()
		q, stop = s.run(s.relayer())
	}
	time.Sleep(10 * time.Hour)
	synctest.Wait()
	for _, id := range ids {
		row, err := q.Show(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, row.Item.Recipients...)
	}
	stop()
	close(ever)
	synctest.Wait()
	return all
}

// run starts a queue. An attempt that is stuck when it is stopped is left behind, as by a crash.
func (s *share) run(r queue.Relayer) (*queue.Queue, func()) {
	var waits atomic.Int64 // no two are alike
	q := queue.New(queue.Options{Store: s.store, Relayer: r, Events: event.NewBus(), Accounts: []queue.Account{{Name: "erp", Concurrency: 3, DoubtWait: 10 * time.Minute}},
		StopGrace: time.Millisecond, Jitter: func(time.Duration) time.Duration { return time.Duration(waits.Add(1)) * time.Second }})
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	synctest.Wait()
	return q, func() { cancel(); <-ended }
}
