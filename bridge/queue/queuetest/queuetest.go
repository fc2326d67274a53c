// Package queuetest is what tests of the queue share: the suite that every queue.Store passes, a store in memory, and
// messages to fill them with. Only tests import it. It must not know any store but its own.
package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// start is the time at which the suite's messages are accepted.
var start = time.Date(2026, 11, 6, 15, 30, 0, 123000, time.UTC)

// Opener opens one store; called again after Close it opens the same one, as the next process would.
type Opener func(t testing.TB) queue.Store

// Run holds a store to the words of queue.Store. open returns a fresh, empty store for each test.
func Run(t *testing.T, open func(t testing.TB) Opener) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, open Opener)
	}{
		{"a message comes back as it was added, also after a restart", testRoundTrip},
		{"bodies of every size come back octet for octet", testBodies},
		{"a body that breaks off leaves nothing", testBrokenBody},
		{"a slow body holds back no other message", testSlowBody},
		{"many messages at once are all kept", testConcurrentAdds},
		{"the same ID twice is refused and the first stays", testSameID},
		{"a claim takes what is due, the earliest first", testClaimOrder},
		{"what was tried before and what was not are claimed by turns", testClaimTurns},
		{"a claim that fails changes nothing", testClaimFails},
		{"concurrent claims never share a message", testConcurrentClaims},
		{"what a change made of an item is read back", testUpdate},
		{"times are kept to the microsecond", testPrecision},
		{"a change that fails changes nothing", testUpdateFails},
		{"a message without a body keeps its row", testDropBody},
		{"listing selects by account and state, page by page", testList},
		{"counts go by account and state", testCounts},
		{"a claim passes over what is put off", testClaimScan},
		{"messages are found by rule", testFind},
		{"many are changed together or not at all", testUpdateAll},
		{"what a user holds is counted", testUsage},
		{"what nobody needs any more is deleted", testPurge},
		{"notes are kept", testNotes},
		{"nothing is changed after Close", testClose},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

// NewMessage returns a message of the account, accepted at that time, and its item, due at once.
func NewMessage(account string, accepted time.Time, recipients ...string) (queue.Item, message.Message) {
	id := envelope.NewID(accepted)
	m := message.Message{
		ID: id, Accepted: accepted,
		Session:  envelope.Session{User: "nav", Listener: "127.0.0.1:25", Remote: netip.MustParseAddr("192.0.2.31"), Helo: "nav", Protocol: "ESMTPA"},
		Envelope: envelope.Envelope{ReversePath: envelope.Address{Local: "nav", Domain: "contoso.test"}, Body8Bit: true},
		Header:   []byte("From: <nav@contoso.test>\r\nSubject: order\r\n\r\n"),
		Plan: message.Plan{Account: account, MessageID: "<" + string(id) + "@bridge.contoso.test>",
			HeaderFrom: envelope.Address{Local: "nav", Domain: "contoso.test"},
			Edits:      []message.Edit{{Op: message.Prepend, Name: "Received", Value: "from nav"}}},
	}
	item := queue.Item{ID: id, Account: account, Accepted: accepted, Sender: m.Plan.HeaderFrom.Key()}
	if len(recipients) == 0 {
		recipients = []string{"buyer@fabrikam.test"}
	}
	for _, r := range recipients {
		a, err := envelope.ParseAddress(r)
		if err != nil {
			panic(err) // the test is wrong
		}
		m.Envelope.Recipients = append(m.Envelope.Recipients, a)
		item.Recipients = append(item.Recipients, queue.Recipient{Address: a, State: queue.Queued, Next: accepted})
	}
	return item, m
}

func add(t testing.TB, s queue.Store, account string, at time.Time, body string) queue.Item {
	t.Helper()
	item, m := NewMessage(account, at)
	if err := s.Add(t.Context(), item, m, bytes.NewReader([]byte(body))); err != nil {
		t.Fatalf("Add: %v", err)
	}
	return item
}

// take is the simplest claim: every recipient is being sent.
func take(it *queue.Item) (err error) {
	it.Lease = "suite"
	it.Attempts++
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State, err = r.State.To(queue.Sending); err != nil {
			return err
		}
		r.Next = time.Time{}
		r.Attempts++
	}
	return nil
}

func readBody(t testing.TB, s queue.Store, id envelope.ID) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), id)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return b
}

func reopen(t testing.TB, s queue.Store, open Opener) queue.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return open(t)
}

func testRoundTrip(t *testing.T, open Opener) {
	s := open(t)
	item, m := NewMessage("erp", start, "buyer@fabrikam.test", `"odd one"@fabrikam.test`, "müller@fabrikam.test")
	if err := s.Add(t.Context(), item, m, bytes.NewReader([]byte("Hello\r\n"))); err != nil {
		t.Fatalf("Add: %v", err)
	}
	for _, when := range []string{"before", "after"} {
		e, err := s.Get(t.Context(), item.ID)
		if err != nil {
			t.Fatalf("Get %s the restart: %v", when, err)
		}
		want := queue.Entry{Item: item, Message: m, BodySize: 7, HeaderSize: int64(len(m.Header)), HasBody: true}
		if d := cmp.Diff(want, e, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s the restart (-want +got):\n%s", when, d)
		}
		if got := string(readBody(t, s, item.ID)); got != "Hello\r\n" {
			t.Errorf("body %s the restart = %q", when, got)
		}
		s = reopen(t, s, open)
	}
	defer s.Close()
	if _, err := s.Get(t.Context(), envelope.NewID(start)); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("Get of an unknown ID: %v, want ErrNotFound", err)
	}
	if _, err := s.Open(t.Context(), envelope.NewID(start)); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("Open of an unknown ID: %v, want ErrNotFound", err)
	}
}

func testBodies(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	item, m := NewMessage("erp", start)
	header := len(m.Header)
	const chunk, memory = 64 << 10, 1 << 20 // where package sqlite has its seams
	for _, size := range []int{0, 1, chunk - header - 1, chunk - header, chunk - header + 1, memory - header - 1, memory - header,
		memory - header + 1, memory + chunk - header, 3*memory + 12345} {
		body := make([]byte, size)
		random := rand.NewChaCha8([32]byte{byte(size)})
		random.Read(body) // never fails
		item.ID = envelope.NewID(start)
		m.ID = item.ID
		if err := s.Add(t.Context(), item, m, iotest.HalfReader(bytes.NewReader(body))); err != nil {
			t.Fatalf("Add of %d octets: %v", size, err)
		}
		if got := readBody(t, s, item.ID); !bytes.Equal(got, body) {
			t.Errorf("a body of %d octets came back with %d, or other ones", size, len(got))
		}
		e, err := s.Get(t.Context(), item.ID)
		if err != nil || e.BodySize != int64(size) || !bytes.Equal(e.Message.Header, m.Header) || e.Damage != nil {
			t.Errorf("a body of %d octets: size %d, header %q, damage %v, %v", size, e.BodySize, e.Message.Header, e.Damage, err)
		}
	}
}

func testBrokenBody(t *testing.T, open Opener) {
	s := open(t)
	for _, broken := range []error{errors.New("connection reset"), io.ErrUnexpectedEOF} {
		for _, size := range []int{0, 100, 3 << 20} {
			item, m := NewMessage("erp", start)
			body := io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(broken))
			if err := s.Add(t.Context(), item, m, body); !errors.Is(err, broken) {
				t.Errorf("Add of a body that breaks after %d octets: %v, want %v", size, err, broken)
			}
			if _, err := s.Get(t.Context(), item.ID); !errors.Is(err, queue.ErrNotFound) {
				t.Errorf("after %d octets and %v: Get: %v, want ErrNotFound", size, broken, err)
			}
		}
	}
	s = reopen(t, s, open)
	defer s.Close()
	if l, err := s.List(t.Context(), queue.Filter{}); err != nil || len(l) != 0 {
		t.Errorf("List: %d entries, %v; want none", len(l), err)
	}
}

func testSlowBody(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	slow, m := NewMessage("erp", start)
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.Add(t.Context(), slow, m, pr) }()
	first := make([]byte, 2<<20)
	if _, err := pw.Write(first); err != nil { // returns when the store has read it, and it waits for more
		t.Fatal(err)
	}
	quick := add(t, s, "erp", start.Add(time.Second), "quick")
	l, err := s.List(t.Context(), queue.Filter{})
	if err != nil || len(l) != 1 || l[0].Item.ID != quick.ID {
		t.Errorf("List while a body comes in: %d entries, %v; want the quick one alone", len(l), err)
	}
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.Equal(quick.Accepted) {
		t.Errorf("NextDue while a body comes in: %v, %v; want the quick one's", next, err)
	}
	pw.Close()
	if err := <-ended; err != nil {
		t.Fatalf("Add: %v", err)
	}
	if got := readBody(t, s, slow.ID); !bytes.Equal(got, first) {
		t.Errorf("the slow body has %d octets, want %d", len(got), len(first))
	}
}

func testConcurrentAdds(t *testing.T, open Opener) {
	s := open(t)
	var mu sync.Mutex // guards want
	want := make(map[envelope.ID]string)
	var all sync.WaitGroup
	for sender := range 8 {
		all.Go(func() {
			for n := range 25 {
				item, m := NewMessage("erp", start)
				body := fmt.Sprintf("message %d of sender %d", n, sender)
				if err := s.Add(t.Context(), item, m, bytes.NewReader([]byte(body))); err != nil {
					t.Errorf("Add: %v", err)
				}
				mu.Lock()
				want[item.ID] = body
				mu.Unlock()
			}
		})
	}
	all.Wait()
	s = reopen(t, s, open)
	defer s.Close()
	for id, body := range want {
		if got := string(readBody(t, s, id)); got != body {
			t.Errorf("body of %s = %q, want %q", id, got, body)
		}
	}
}

func testSameID(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	first := add(t, s, "erp", start, "first")
	item, m := NewMessage("erp", start)
	item.ID, m.ID = first.ID, first.ID
	for _, size := range []int{6, 3 << 20} {
		if err := s.Add(t.Context(), item, m, bytes.NewReader(make([]byte, size))); !errors.Is(err, queue.ErrExists) {
			t.Errorf("Add of %d octets under the same ID: %v, want ErrExists", size, err)
		}
	}
	if got := string(readBody(t, s, first.ID)); got != "first" {
		t.Errorf("body = %q, want the first", got)
	}
}

func testUpdate(t *testing.T, open Opener) {
	s := open(t)
	item, m := NewMessage("erp", start, "buyer@fabrikam.test", "seller@fabrikam.test")
	if err := s.Add(t.Context(), item, m, bytes.NewReader(nil)); err != nil {
		t.Fatalf("Add: %v", err)
	}
	want := item.Clone()
	want.Attempts, want.Lease, want.Intent = 3, "somebody", true
	want.Recipients[0] = queue.Recipient{Address: item.Recipients[0].Address, State: queue.Sending, Attempts: 3, SenderWaits: 2, Doubts: 1,
		Last: queue.Last{Reply: reply.Reply{Code: 451, Enhanced: "4.3.0", Text: "later", ID: "x"}, Transport: "smtp", Owner: reply.Sender, Remedy: "wait", Err: "why", At: start.Add(time.Minute + time.Microsecond)}}
	want.Recipients[1].State, want.Recipients[1].Next = queue.Deferred, start.Add(time.Hour+time.Microsecond)
	if err := s.Update(t.Context(), item.ID, func(it *queue.Item) error { *it = want.Clone(); return nil }); err != nil {
		t.Fatalf("Update: %v", err)
	}
	s = reopen(t, s, open)
	defer s.Close()
	e, err := s.Get(t.Context(), item.ID)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if d := cmp.Diff(want, e.Item); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if next, err := s.NextDue(t.Context(), "erp"); err != nil || !next.IsZero() {
		t.Errorf("NextDue of a leased message = %v, %v; want zero", next, err)
	}
}

func testUpdateFails(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	item := add(t, s, "erp", start, "body")
	wrong := errors.New("wrong")
	err := s.Update(t.Context(), item.ID, func(it *queue.Item) error {
		it.Attempts, it.Recipients[0].State, it.DropBody = 9, queue.Held, true
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Errorf("Update: %v, want %v", err, wrong)
	}
	e, err := s.Get(t.Context(), item.ID)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if d := cmp.Diff(item, e.Item); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := s.Update(t.Context(), envelope.NewID(start), func(*queue.Item) error { return nil }); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("Update of an unknown ID: %v, want ErrNotFound", err)
	}
}

func testDropBody(t *testing.T, open Opener) {
	s := open(t)
	defer s.Close()
	before := add(t, s, "erp", start, "its neighbour")
	item := add(t, s, "erp", start, string(make([]byte, 2<<20)))
	after := add(t, s, "erp", start, "its other neighbour")
	if err := s.Update(t.Context(), item.ID, func(it *queue.Item) error { it.DropBody = true; return nil }); err != nil {
		t.Fatalf("Update: %v", err)
	}
	e, err := s.Get(t.Context(), item.ID)
	if err != nil || e.HasBody || e.Damage != nil || len(e.Message.Header) != 0 || e.BodySize != 2<<20 {
		t.Errorf("Get = has body %v, damage %v, header %q, size %d, %v", e.HasBody, e.Damage, e.Message.Header, e.BodySize, err)
	}
	if _, err := s.Open(t.Context(), item.ID); !errors.Is(err, queue.ErrNoBody) {
		t.Errorf("Open: %v, want ErrNoBody", err)
	}
	if got := string(readBody(t, s, before.ID)) + ", " + string(readBody(t, s, after.ID)); got != "its neighbour, its other neighbour" {
		t.Errorf("the neighbours' bodies = %q", got)
	}
}

func testClose(t *testing.T, open Opener) {
	s := open(t)
	item := add(t, s, "erp", start, "body")
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	other, m := NewMessage("erp", start)
	if err := s.Add(context.Background(), other, m, bytes.NewReader(nil)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Add: %v, want ErrClosed", err)
	}
	if err := s.Update(context.Background(), item.ID, func(*queue.Item) error { return nil }); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Update: %v, want ErrClosed", err)
	}
	if _, err := s.Claim(context.Background(), queue.Claim{Account: "erp", Now: start, Limit: 1, Take: take}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Claim: %v, want ErrClosed", err)
	}
	open(t).Close()
}
