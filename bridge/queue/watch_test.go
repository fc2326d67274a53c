package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

func emptyBody() io.Reader { return strings.NewReader("body\r\n") }

var (
	closedFor = func(why string) queue.Gate { return queue.Gate{Waiting: why} }
	openGate  = queue.Gate{Limit: 100}
)

// reports is a Reporter that keeps what it was told.
type reports struct {
	mu   sync.Mutex
	fail error
	got  []string
}

func (r *reports) Report(_ context.Context, m queue.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	kind := "failed"
	if m.Late {
		kind = "late"
	}
	r.got = append(r.got, kind+" "+string(m.Entry.Item.State()))
	return nil
}

func (r *reports) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// TestAgeStandsStillWhileParked: only the time that an account was not parked makes its mail older.
func TestAgeStandsStillWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &reports{}
		w := newWorld(t, queue.Options{GiveUpAfter: 10 * hour, WarnAfter: 4 * hour, Reporter: told})
		w.setGate("erp", closedFor("parked"))
		w.Wake("")
		synctest.Wait()
		id := w.enqueue("erp")
		w.pass(50 * hour)
		if row := w.show(id); row.State != queue.Queued || len(told.told()) != 0 {
			t.Fatalf("parked for 50 hours: %s, reports %q", row.State, told.told())
		}
		w.setGate("erp", closedFor("pause"))
		w.Wake("")
		w.pass(3 * hour)
		if got := told.told(); len(got) != 0 {
			t.Errorf("3 hours after it was unparked: %q", got)
		}
		w.pass(3 * hour) // looked at within an hour while it stood still
		if got := told.told(); !slices.Equal(got, []string{"late queued"}) {
			t.Errorf("6 hours after it was unparked: %q; want that it is late", got)
		}
		w.setGate("erp", closedFor("parked"))
		w.Wake("")
		w.pass(50 * hour)
		w.setGate("erp", closedFor("pause"))
		w.Wake("")
		w.pass(3 * hour)
		if row := w.show(id); row.State != queue.Queued {
			t.Errorf("9 hours of age: %s", row.State)
		}
		w.pass(3 * hour)
		if row := w.show(id); row.State != queue.Failed || !row.HasBody {
			t.Errorf("12 hours of age: %s; want failed", row.State)
		}
		w.pass(mins)
		if d := cmp.Diff([]string{"late queued", "failed failed"}, told.told()); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}

// TestParkSurvivesARestart: the sum of parked time is the store's.
func TestParkSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		o := queue.Options{Store: store, GiveUpAfter: 10 * hour}
		first := newWorld(t, o)
		id := first.enqueueBehind("parked")
		first.pass(20 * hour)
		first.stop()
		<-first.ended
		time.Sleep(20 * hour) // nobody runs
		second := newWorldOf(t, o, func(w *world) { w.gates["erp"] = closedFor("parked") })
		second.pass(20 * hour)
		second.setGate("erp", closedFor("pause"))
		second.Wake("")
		second.pass(9 * hour)
		if row := second.show(id); row.State != queue.Queued {
			t.Errorf("9 hours of age: %s", row.State)
		}
		second.pass(3 * hour)
		if row := second.show(id); row.State != queue.Failed {
			t.Errorf("12 hours of age: %s", row.State)
		}
	})
}

// enqueueBehind keeps a message of an account whose gate is closed.
func (w *world) enqueueBehind(why string) envelope.ID {
	w.setGate("erp", closedFor(why))
	w.Wake("")
	synctest.Wait()
	return w.enqueue("erp")
}

func TestParkLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{ParkLimit: 48 * hour, Reporter: &reports{}})
		id := w.enqueueBehind("parked")
		w.pass(47 * hour)
		if row := w.show(id); row.State != queue.Queued {
			t.Errorf("after 47 hours: %s", row.State)
		}
		w.pass(3 * hour)
		if row := w.show(id); row.State != queue.Held || !strings.Contains(row.Item.Recipients[0].Last.Err, "park_limit") || !row.HasBody ||
			!strings.Contains(row.Item.Recipients[0].Last.Remedy, "run: postern queue release "+string(id)) {
			t.Errorf("after 50 hours: %s, %+v; want held and why", row.State, row.Item.Recipients[0].Last)
		}
		if !slices.Contains(w.told(), "ERROR message held") {
			t.Errorf("events %q", w.told())
		}
	})
}

// TestEverybodyAges: mail of a route that is down is not claimed but for one message; the others fail too.
func TestEverybodyAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &reports{}
		w := newWorld(t, queue.Options{GiveUpAfter: 5 * hour, Reporter: told})
		var all []envelope.ID
		all = append(all, w.enqueueBehind("pause"))
		for range 4 {
			all = append(all, w.enqueue("erp"))
		}
		w.pass(5*hour + 2*mins)
		for _, id := range all {
			if row := w.show(id); row.State != queue.Failed || row.Item.Recipients[0].Last.Err == "" {
				t.Errorf("%s, %+v", row.State, row.Item.Recipients[0].Last)
			}
		}
		if got := told.told(); len(got) != 5 {
			t.Errorf("reports %q; want one for each", got)
		}
	})
}

// TestDoubtNeverFails: a report that it failed would be a lie.
func TestDoubtNeverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &reports{}
		w := newWorld(t, queue.Options{GiveUpAfter: hour, Reporter: told})
		w.setRelay(func(context.Context, message.Outgoing) reply.Outcome {
			w.setGate("erp", closedFor("pause"))
			return reply.Outcome{Verdict: reply.InDoubt, Owner: reply.Route, Transport: "smtp"}
		})
		id := w.enqueue("erp")
		w.pass(2 * hour)
		if row := w.show(id); row.State != queue.Held || len(told.told()) != 0 {
			t.Errorf("%s, reports %q; want held and none", row.State, told.told())
		}
	})
}

// TestReports: each is made once, when all recipients are final, and again where the reporter could not take it.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &reports{fail: errors.New("no account is up")}
		w := newWorld(t, queue.Options{Reporter: told})
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome {
			o := reply.Outcome{Verdict: reply.Failed, Owner: reply.Recipient, Transport: "smtp"}
			if out.Attempt == 1 {
				o.Recipients = map[string]reply.Outcome{"later@fabrikam.test": deferred(reply.Recipient)}
			}
			return o
		})
		w.enqueue("erp", "never@fabrikam.test", "later@fabrikam.test")
		w.pass(30 * sec)
		if row := told.told(); len(row) != 0 {
			t.Errorf("reports before the end: %q", row)
		}
		w.pass(10 * mins)
		told.mu.Lock()
		told.fail = nil
		told.mu.Unlock()
		w.pass(10 * mins)
		if d := cmp.Diff([]string{"failed failed"}, told.told()); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}

// TestHistory: what is finished goes in its time, and its body before.
func TestHistory(t *testing.T) {
	day := 24 * hour
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{KeepHistory: 30 * day, KeepFailed: 14 * day})
		w.setRelay(func(_ context.Context, out message.Outgoing) reply.Outcome {
			if out.Recipients[0].Local == "never" {
				return reply.Outcome{Verdict: reply.Failed, Owner: reply.Message}
			}
			return relayed
		})
		went, failed := w.enqueue("erp"), w.enqueue("erp", "never@fabrikam.test")
		for _, tc := range []struct {
			after              time.Duration
			relayed, body, row bool
		}{{13 * day, true, true, true}, {2 * day, true, false, true}, {16 * day, false, false, false}} {
			w.pass(tc.after)
			row, err := w.Show(t.Context(), failed)
			if (err == nil) != tc.row || row.HasBody != tc.body {
				t.Errorf("the failed one after %v more: body %v, %v", tc.after, row.HasBody, err)
			}
			if row, err := w.Show(t.Context(), went); (err == nil) != tc.relayed || row.HasBody {
				t.Errorf("the relayed one after %v more: body %v, %v", tc.after, row.HasBody, err)
			}
		}
	})
}

// TestKeepBodies keeps those of relayed messages, until nobody wants them any more.
func TestKeepBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := queuetest.NewMemory()
		w := newWorld(t, queue.Options{Store: store, KeepBodies: true})
		id := w.enqueue("erp")
		w.pass(hour)
		if row := w.show(id); row.State != queue.Relayed || !row.HasBody {
			t.Errorf("%s, body %v", row.State, row.HasBody)
		}
		w.stop()
		<-w.ended
		w = newWorld(t, queue.Options{Store: store})
		w.pass(2 * mins)
		if row := w.show(id); row.HasBody {
			t.Error("the body stays although keep_bodies is off")
		}
	})
}

func TestLimits(t *testing.T) {
	refused := func(err error, want string) bool {
		var r *reply.Error
		return errors.As(err, &r) && strings.HasPrefix(fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text), want)
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		free := int64(100)
		w := newWorld(t, queue.Options{MinFree: 1000, MaxQueued: map[string]queue.Usage{"nav": {Messages: 2}}, Free: func() (int64, error) {
			mu.Lock()
			defer mu.Unlock()
			return free, nil
		}})
		w.setGate("erp", closedFor("pause"))
		try := func() error {
			_, m := queuetest.NewMessage("erp", time.Now())
			return w.Enqueue(t.Context(), m, emptyBody())
		}
		for range 2 {
			if err := try(); !refused(err, "452 4.3.1 insufficient system storage") {
				t.Errorf("on a full disk: %v", err)
			}
		}
		mu.Lock()
		free = 5000
		mu.Unlock()
		for range 2 {
			if err := try(); err != nil {
				t.Errorf("with room again: %v", err)
			}
		}
		if err := try(); !refused(err, "452 4.3.1 too much mail of this user") {
			t.Errorf("the third message of two: %v", err)
		}
		if d := cmp.Diff([]string{"ERROR disk short", "INFO disk has room again"}, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
		w.setGate("erp", openGate)
		w.Wake("")
		synctest.Wait()
		if err := try(); err != nil {
			t.Errorf("after the others were relayed: %v", err)
		}
	})
}

// TestRoomBesideTheQueue: what somebody keeps there counts like mail, and the queue tells that room is short.
func TestRoomBesideTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks, free := 0, int64(5<<20)
		w := newWorld(t, queue.Options{MinFree: 4 << 20, Free: func() (int64, error) { looks++; return free, nil }})
		const octets = 256 << 10
		for range 2 {
			if err := w.Room(t.Context(), octets); err != nil {
				t.Errorf("with room: %v", err)
			}
			free -= octets
		}
		if looks != 2 {
			t.Errorf("%d looks at the disk for %d octets; want 2", looks, 2*octets)
		}
		free = 1 << 20
		for range 2 {
			var r *reply.Error
			if err := w.Room(t.Context(), octets); !errors.As(err, &r) || r.Code != 452 || r.Enhanced != "4.3.1" {
				t.Errorf("without room: %v; want 452 4.3.1", err)
			}
		}
		if d := cmp.Diff([]string{"ERROR disk short"}, w.told()); d != "" {
			t.Errorf("events (-want +got):\n%s", d)
		}
	})
}

// TestLooksAtTheDisk: one look serves several messages, but not for long, not for many octets, and not while room is short.
func TestLooksAtTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks, free := 0, int64(5<<20)
		w := newWorld(t, queue.Options{MinFree: 1000, Free: func() (int64, error) {
			looks++
			return free, nil
		}})
		w.setGate("erp", closedFor("pause"))
		enqueue := func(messages, octets, want int, what string, ok bool) {
			t.Helper()
			looks = 0
			for range messages {
				_, m := queuetest.NewMessage("erp", time.Now())
				var pieces []io.Reader // as a client sends them, whatever the store could read at once
				for n := octets; n > 0; n -= 10 << 10 {
					pieces = append(pieces, strings.NewReader(strings.Repeat("x", min(n, 10<<10))))
				}
				if err := w.Enqueue(t.Context(), m, io.MultiReader(pieces...)); (err == nil) != ok {
					t.Errorf("%s: %v", what, err)
				}
			}
			if looks != want {
				t.Errorf("%s: %d looks, want %d", what, looks, want)
			}
		}
		enqueue(10, 10, 1, "small ones at once", true)
		w.pass(99 * time.Millisecond)
		enqueue(1, 10, 0, "one a little later", true)
		w.pass(time.Millisecond)
		enqueue(1, 10, 1, "one after a tenth of a second", true)
		w.pass(time.Second)
		enqueue(60, 10<<10, 3, "600 KB in small ones", true)
		w.pass(time.Second)
		enqueue(1, 1000<<10, 4, "a large one: before it, and in its midst", true)
		free = 1 << 20
		w.pass(time.Second)
		enqueue(1, 1000<<10, 3, "a large one that must be written twice, and has room for once", false)
		enqueue(1, 10, 0, "a small one after it", true)
		free = 100
		w.pass(time.Second)
		enqueue(3, 10, 3, "short of room", false)
		free = 5 << 20
		enqueue(3, 10, 1, "with room again", true)
	})
}

// TestShareOfOctets: a user's mail is refused once so much of it waits, also while it comes in, and taken again when some
// has left; one message alone is always taken.
func TestShareOfOctets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{MaxQueued: map[string]queue.Usage{"nav": {Bytes: 1000}}})
		try := func(octets int, what string, ok bool) {
			t.Helper()
			_, m := queuetest.NewMessage("erp", time.Now())
			err := w.Enqueue(t.Context(), m, strings.NewReader(strings.Repeat("x", octets-len(m.Header))))
			var r *reply.Error
			if ok && err != nil || !ok && (!errors.As(err, &r) || r.Code != 452 || r.Enhanced != "4.3.1" || !strings.Contains(r.Err.Error(), "max_queued_size")) {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.setGate("erp", closedFor("pause"))
		try(600, "the first", true)
		try(401, "one octet more than there is room for", false)
		try(400, "what there is room for", true)
		try(100, "beyond it", false)
		rows, err := w.List(t.Context(), queue.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		first := slices.IndexFunc(rows, func(r queue.Row) bool { return r.HeaderSize+r.BodySize == 600 })
		if err := w.Change(t.Context(), rows[first].Item.ID, queue.Order{Action: queue.Drop, By: "eva"}); err != nil {
			t.Fatal(err)
		}
		try(600, "what a person has made room for", true)
		try(100, "beyond that", false)
		w.setGate("erp", openGate)
		w.Wake("")
		synctest.Wait()
		w.setGate("erp", closedFor("pause"))
		try(5000, "one that is larger than the share, and alone", true)
		try(100, "one behind it", false)
		w.SetMaxQueued(map[string]queue.Usage{"nav": {Bytes: 10_000}})
		try(100, "under another limit", true)
		if rows, err := w.List(t.Context(), queue.Filter{}); err != nil || len(rows) != 5 {
			t.Errorf("%d messages are there, %v; want the five that were taken", len(rows), err)
		}
	})
}

// TestShareOfManyAtOnce: whoever opens connections in parallel gets no larger share, and what was not kept takes none.
func TestShareOfManyAtOnce(t *testing.T) {
	const octets = 90_000
	for _, tc := range []struct {
		name        string
		most        queue.Usage
		least, more int // how many are taken
	}{
		{"so many messages", queue.Usage{Messages: 2}, 2, 2},
		{"so many octets", queue.Usage{Bytes: octets + 1000}, 1, 1},
		{"octets for some", queue.Usage{Bytes: 5 * (octets + 1000)}, 1, 5},
		{"one that is larger than the share", queue.Usage{Bytes: 50_000}, 1, 1},
		{"both", queue.Usage{Messages: 3, Bytes: octets + 1000}, 1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorldOf(t, queue.Options{MaxQueued: map[string]queue.Usage{"nav": tc.most}}, func(w *world) {
					w.gates["erp"] = closedFor("pause")
				})
				results := make(chan error)
				for range 200 {
					_, m := queuetest.NewMessage("erp", time.Now())
					r, to := io.Pipe()
					go func() {
						time.Sleep(sec)
						io.WriteString(to, strings.Repeat("x", octets))
						time.Sleep(sec) // all octets are there before the first is kept
						to.Close()
					}()
					go func() {
						defer r.Close()
						results <- w.Enqueue(t.Context(), m, r)
					}()
				}
				taken := 0
				for range 200 {
					if err := <-results; err == nil {
						taken++
					} else if r := (*reply.Error)(nil); !errors.As(err, &r) || r.Code != 452 {
						t.Errorf("refused by %v; want 452", err)
					}
				}
				if taken < tc.least || taken > tc.more {
					t.Errorf("%d were taken; want %d to %d", taken, tc.least, tc.more)
				}
				w.setGate("erp", openGate)
				w.Wake("")
				synctest.Wait()
				_, m := queuetest.NewMessage("erp", time.Now())
				if err := w.Enqueue(t.Context(), m, strings.NewReader(strings.Repeat("x", octets))); err != nil {
					t.Errorf("once they have left: %v", err)
				}
			})
		})
	}
}

// TestShareOutlivesACount: what is on its way in keeps its place when the store is counted again, and gives it back when
// it does not arrive.
func TestShareOutlivesACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, queue.Options{MaxQueued: map[string]queue.Usage{"nav": {Messages: 1}}})
		try := func() error {
			_, m := queuetest.NewMessage("erp", time.Now())
			return w.Enqueue(t.Context(), m, emptyBody())
		}
		slow, to := io.Pipe()
		ended := make(chan error)
		go func() {
			_, m := queuetest.NewMessage("erp", time.Now())
			ended <- w.Enqueue(t.Context(), m, slow)
		}()
		for range 3 {
			w.pass(10 * mins)
			if try() == nil {
				t.Error("a second message of one is taken while the first comes in")
			}
		}
		w.SetMaxQueued(map[string]queue.Usage{"nav": {Messages: 1, Bytes: 1000}})
		if try() == nil {
			t.Error("it is taken under another configuration")
		}
		to.CloseWithError(io.ErrUnexpectedEOF)
		if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the first: %v", err)
		}
		if err := try(); err != nil {
			t.Errorf("once the first is given up: %v", err)
		}
	})
}

// asking is a store whose notes are slow: mail comes in while one is written.
type asking struct {
	*queuetest.Memory
	during func()
}

func (a *asking) SetNote(ctx context.Context, key, value string) error {
	if a.during != nil {
		a.during()
	}
	return a.Memory.SetNote(ctx, key, value)
}

// TestParkingBlocksNobody: while it is written down that an account is parked, changes within the store may ask for how
// long it was; held up by each other, both would wait for ever.
func TestParkingBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &asking{Memory: queuetest.NewMemory()}
		w := newWorld(t, queue.Options{Store: store, Accounts: []queue.Account{{Name: "erp"}, {Name: "crm"}}})
		store.during = func() {
			store.during = nil
			_, m := queuetest.NewMessage("crm", time.Now())
			if err := w.Enqueue(context.Background(), m, emptyBody()); err != nil {
				t.Errorf("Enqueue: %v", err)
			}
		}
		w.setGate("erp", closedFor("parked"))
		w.Wake("erp")
		w.pass(mins)
		if rows, err := w.List(t.Context(), queue.Filter{State: queue.Relayed}); err != nil || len(rows) != 1 {
			t.Errorf("%d relayed, %v; want the other account's", len(rows), err)
		}
	})
}
