package queueadmin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

var start = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

const (
	noID    = "0123"
	nobody  = "00000000000000vv" // an ID that no message has
	isNoID  = `"0123" is not a queue ID: it has 16 characters of 0-9 and a-v`
	unfound = "no such message in the queue or its history"
)

// bench is an Admin on a queue that nobody relays from. It is the Desk, too.
type bench struct {
	*Admin
	t       *testing.T
	o       Options
	store   *queuetest.Memory
	ids     []string // in the order of acceptance, which is a minute apart
	plan    message.Plan
	refusal error    // of Replan
	asked   []string // header and body of what Replan was asked about
}

// newBench has a message for each state, of the account "erp".
func newBench(t *testing.T, states ...queue.State) *bench {
	b := &bench{t: t, store: queuetest.NewMemory()}
	b.o = Options{Open: b.open(b.store), Caller: func(context.Context) string { return "eva" },
		Desk: func(context.Context) (Desk, error) { return b, nil }}
	b.Admin = New(b.o)
	for _, s := range states {
		b.add("erp", s)
	}
	return b
}

// open returns an Options.Open of one queue on that store.
func (b *bench) open(s queue.Store) func(context.Context) (*queue.Queue, queue.Store, error) {
	q := queue.New(queue.Options{Store: s, Relayer: resting{}, Accounts: []queue.Account{{Name: "erp"}, {Name: "hr"}}, Now: func() time.Time { return start }})
	return func(context.Context) (*queue.Queue, queue.Store, error) { return q, s, nil }
}

// resting is a Relayer that is never asked to relay.
type resting struct{}

func (resting) Gate(string, time.Time) queue.Gate                         { return queue.Gate{} }
func (resting) Relay(context.Context, message.Outgoing) (o reply.Outcome) { return o }

func (b *bench) add(account string, s queue.State) {
	b.t.Helper()
	it, m := queuetest.NewMessage(account, start.Add(time.Duration(len(b.ids))*time.Minute))
	it.Recipients[0].State = s
	if s != queue.Queued {
		it.Recipients[0].Next = time.Time{}
	}
	if err := b.store.Add(b.t.Context(), it, m, strings.NewReader("body\r\n")); err != nil {
		b.t.Fatal(err)
	}
	b.ids = append(b.ids, string(it.ID))
}

// alter changes the item of the i-th message.
func (b *bench) alter(i int, change func(*queue.Item)) {
	b.t.Helper()
	if err := b.store.Update(b.t.Context(), envelope.ID(b.ids[i]), func(it *queue.Item) error { change(it); return nil }); err != nil {
		b.t.Fatal(err)
	}
}

// states are those of all messages, in the order of acceptance.
func (b *bench) states() string {
	b.t.Helper()
	rows, err := b.QueueRows(b.t.Context(), control.QueueQuery{All: true})
	if err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, r := range rows {
		all = append(all, r.State)
	}
	return strings.Join(all, " ")
}

// change asks for it and checks what comes back: how many, or else the error.
func (b *bench) change(c control.QueueChange, want control.QueueChanged, wantErr string) {
	b.t.Helper()
	done, err := b.QueueChange(b.t.Context(), c)
	if diff := cmp.Diff(want, done); diff != "" || text(err) != wantErr {
		b.t.Errorf("QueueChange = %q; want %q; and (-want +got)\n%s", text(err), wantErr, diff)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRows(t *testing.T) {
	b := newBench(t, queue.Queued, queue.Relayed, queue.Held, queue.Failed)
	b.add("hr", queue.Queued)
	for _, tc := range []struct {
		name string
		ask  control.QueueQuery
		want []int
		err  string
	}{
		{"without a wish all but what is relayed", control.QueueQuery{}, []int{0, 2, 3, 4}, ""},
		{"all", control.QueueQuery{All: true}, []int{0, 1, 2, 3, 4}, ""},
		{"of one account", control.QueueQuery{Account: "hr"}, []int{4}, ""},
		{"in one state", control.QueueQuery{State: "relayed"}, []int{1}, ""},
		{"in one state of one account", control.QueueQuery{State: "queued", Account: "erp"}, []int{0}, ""},
		{"after an ID", control.QueueQuery{After: b.ids[2]}, []int{3, 4}, ""},
		{"none is a list, too", control.QueueQuery{Account: "gone"}, []int{}, ""},
		{"those that are named, in that order and whatever their state", control.QueueQuery{IDs: []string{b.ids[4], b.ids[1]}}, []int{4, 1}, ""},
		{"a state that is none", control.QueueQuery{State: "lost"},
			nil, `"lost" is not a state: it is one of [sending queued deferred in-doubt held failed relayed]`},
		{"a name that is no ID", control.QueueQuery{IDs: []string{b.ids[0], noID}}, nil, isNoID},
		{"an ID that no message has selects none", control.QueueQuery{IDs: []string{b.ids[2], nobody, b.ids[0]}}, []int{2, 0}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, err := b.QueueRows(t.Context(), tc.ask)
			var got []int
			if rows != nil {
				got = []int{}
			}
			for _, r := range rows {
				got = append(got, slices.Index(b.ids, r.ID))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || text(err) != tc.err {
				t.Errorf("QueueRows = %v, %q; want %v, %q", got, text(err), tc.want, tc.err)
			}
		})
	}
}

// TestPageEnds: a page has the oldest, from whatever states they come, and the next one begins where it ends.
func TestPageEnds(t *testing.T) {
	b := newBench(t)
	for i := range control.RowsAtOnce + 3 {
		b.add("erp", []queue.State{queue.Queued, queue.Held, queue.Failed}[i%3])
	}
	for _, tc := range []struct {
		name string
		ask  control.QueueQuery
		want []string
	}{
		{"the first page", control.QueueQuery{}, b.ids[:control.RowsAtOnce]},
		{"the last page", control.QueueQuery{After: b.ids[control.RowsAtOnce-1]}, b.ids[control.RowsAtOnce:]},
		{"the page after it", control.QueueQuery{After: b.ids[len(b.ids)-1]}, nil},
		{"more names than a page has", control.QueueQuery{IDs: b.ids}, b.ids[:control.RowsAtOnce]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, err := b.QueueRows(t.Context(), tc.ask)
			var got []string
			for _, r := range rows {
				got = append(got, r.ID)
			}
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("%d messages, %v; want %d", len(got), err, len(tc.want))
			}
		})
	}
}

// moving is a store whose queued message is deferred as soon as it was listed.
type moving struct {
	*queuetest.Memory
	b *bench
}

func (m moving) List(ctx context.Context, f queue.Filter) ([]queue.Entry, error) {
	if f.Limit != control.RowsAtOnce {
		m.b.t.Errorf("%d messages are read for a page of %d", f.Limit, control.RowsAtOnce)
	}
	list, err := m.Memory.List(ctx, f)
	if f.State == queue.Queued {
		m.b.alter(0, func(it *queue.Item) { it.Recipients[0].State = queue.Deferred })
	}
	return list, err
}

func TestMessageThatMovesIsListedOnce(t *testing.T) {
	b := newBench(t, queue.Queued)
	b.o.Open = b.open(moving{b.store, b})
	rows, err := New(b.o).QueueRows(t.Context(), control.QueueQuery{})
	if err != nil || len(rows) != 1 {
		t.Errorf("%+v, %v; want one", rows, err)
	}
}

func TestShow(t *testing.T) {
	b := newBench(t)
	it, m := queuetest.NewMessage("erp", start, "a@fabrikam.test", "b@fabrikam.test", "c@fabrikam.test")
	next := start.Add(time.Hour)
	it.Attempts = 3
	it.Recipients[0].State, it.Recipients[0].Next = queue.Deferred, next
	it.Recipients[0].Last = queue.Last{Transport: "smtp", Reply: reply.Reply{Code: 451, Enhanced: "4.3.0", Text: "later"},
		Err: "panic in relay: x\nstack of ours", Remedy: "do this"}
	it.Recipients[1].State = queue.Relayed
	it.Recipients[1].Last = queue.Last{Transport: "graph"}
	m.Plan.Scenario = "invoices"
	if err := b.store.Add(t.Context(), it, m, strings.NewReader("body\r\n")); err != nil {
		t.Fatal(err)
	}
	got, err := b.QueueShow(t.Context(), string(it.ID))
	want := control.QueueDetail{
		QueueRow: control.QueueRow{ID: string(it.ID), MessageID: m.Plan.MessageID, User: "nav", Account: "erp", State: "queued", ReversePath: "nav@contoso.test",
			HeaderFrom: "nav@contoso.test", Size: int64(len(m.Header)) + 6, Attempts: 3, AcceptedAt: start, NextAttempt: &start,
			Recipients: []control.QueueRecipient{{Address: "a@fabrikam.test", State: "deferred", Reply: "451 4.3.0 later"},
				{Address: "b@fabrikam.test", State: "relayed"}, {Address: "c@fabrikam.test", State: "queued"}}},
		Scenario: "invoices", Listener: "127.0.0.1:25", Remote: "192.0.2.31", HasBody: true, Header: string(m.Header),
		Why: []control.Reason{{Address: "a@fabrikam.test", Transport: "smtp", Text: "panic in relay: x", Remedy: "do this"},
			{Address: "b@fabrikam.test", Transport: "graph"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("QueueShow: %v (-want +got)\n%s", err, diff)
	}
	for name, want := range map[string]string{noID: isNoID, nobody: nobody + ": " + unfound} {
		if _, err := b.QueueShow(t.Context(), name); text(err) != want {
			t.Errorf("QueueShow(%q) = %q; want %q", name, text(err), want)
		}
	}
}

// damaged is a store that cannot read a message back.
type damaged struct{ *queuetest.Memory }

func (d damaged) Get(ctx context.Context, id envelope.ID) (queue.Entry, error) {
	e, err := d.Memory.Get(ctx, id)
	e.Damage = errors.New("its header cannot be read")
	return e, err
}

func TestShowSaysWhatIsDamaged(t *testing.T) {
	b := newBench(t, queue.Held)
	b.o.Open = b.open(damaged{b.store})
	if d, err := New(b.o).QueueShow(t.Context(), b.ids[0]); err != nil || d.Damage != "its header cannot be read" {
		t.Errorf("QueueShow = %+v, %v", d, err)
	}
}

// TestChangeOfNamed: what is refused stands beside what was changed.
func TestChangeOfNamed(t *testing.T) {
	b := newBench(t, queue.Queued, queue.Relayed, queue.Queued)
	ask := control.QueueChange{Action: "hold", QueueQuery: control.QueueQuery{IDs: []string{b.ids[1], b.ids[0], noID, nobody, b.ids[2]}}}
	b.change(ask, control.QueueChanged{Changed: 2, Refused: []control.QueueRefused{
		{ID: b.ids[1], Text: "there is nothing to hold: it is relayed"}, {ID: noID, Text: isNoID}, {ID: nobody, Text: unfound}}}, "")
	if got := b.states(); got != "held relayed held" {
		t.Errorf("then they are %s", got)
	}
	d, err := b.QueueShow(t.Context(), b.ids[0])
	if err != nil || len(d.Why) != 1 || d.Why[0].Text != "held by eva" {
		t.Errorf("why: %+v, %v; want that eva held it", d.Why, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := b.QueueChange(ctx, ask); !errors.Is(err, context.Canceled) || done.Refused != nil {
		t.Errorf("for a client that has gone = %+v, %v; want that it was not finished", done, err)
	}
}

func TestChangeOfMany(t *testing.T) {
	for _, tc := range []struct {
		name    string
		ask     control.QueueChange
		changed int
		err     string
		states  string // then; "" as before
	}{
		{"of an account", control.QueueChange{Action: "hold", QueueQuery: control.QueueQuery{Account: "hr"}}, 1, "", "queued held held"},
		{"in a state", control.QueueChange{Action: "release", QueueQuery: control.QueueQuery{State: "held"}}, 1, "", "queued queued queued"},
		{"all", control.QueueChange{Action: "drop", QueueQuery: control.QueueQuery{All: true}}, 3, "", "failed failed failed"},
		{"which are meant must be said", control.QueueChange{Action: "drop"}, 0, "which messages? name IDs, an account, a state, or all", ""},
		{"a state that is none", control.QueueChange{Action: "drop", QueueQuery: control.QueueQuery{State: "lost"}},
			0, `"lost" is not a state: it is one of [sending queued deferred in-doubt held failed relayed]`, ""},
		{"an action that is none", control.QueueChange{Action: "burn", QueueQuery: control.QueueQuery{All: true}},
			0, `"burn" is not what can be done with mail: [retry hold release drop sent] are`, ""},
		{"a new plan to hold by", control.QueueChange{Action: "hold", Today: true, QueueQuery: control.QueueQuery{All: true}},
			0, "a new plan is made for retry alone", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, queue.Queued, queue.Held)
			b.add("hr", queue.Queued)
			before := b.states()
			b.change(tc.ask, control.QueueChanged{Changed: tc.changed}, tc.err)
			if tc.states == "" {
				tc.states = before
			}
			if got := b.states(); got != tc.states {
				t.Errorf("then they are %s; want %s", got, tc.states)
			}
		})
	}
}

// TestChangeOfManyNamesWhatItLeaves: with the first for each reason, and how many more; what the order does not speak of
// is not among them.
func TestChangeOfManyNamesWhatItLeaves(t *testing.T) {
	b := newBench(t, queue.Failed, queue.Failed, queue.Relayed)
	b.refusal = &reply.Error{Code: 550, Enhanced: "5.7.1", Text: "nav may not send to d.test"}
	b.change(control.QueueChange{Action: "retry", Today: true, QueueQuery: control.QueueQuery{State: "failed"}}, control.QueueChanged{
		Refused: []control.QueueRefused{{ID: b.ids[0], Text: "today's policy refuses it: 550 5.7.1 nav may not send to d.test", More: 1}}}, "")
	b.change(control.QueueChange{Action: "hold", QueueQuery: control.QueueQuery{All: true}}, control.QueueChanged{}, "")
}

// heeding is a store that ends where its caller has gone.
type heeding struct{ *queuetest.Memory }

func (h heeding) List(ctx context.Context, f queue.Filter) ([]queue.Entry, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return h.Memory.List(ctx, f)
}

func TestChangeOfManyOutlivesItsClient(t *testing.T) {
	b := newBench(t, queue.Queued)
	b.o.Open = b.open(heeding{b.store})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done, err := New(b.o).QueueChange(ctx, control.QueueChange{Action: "hold", QueueQuery: control.QueueQuery{All: true}})
	if err != nil || done.Changed != 1 || b.states() != "held" {
		t.Errorf("QueueChange = %+v, %v", done, err)
	}
}

// Replan implements Desk.
func (b *bench) Replan(_ context.Context, m message.Message, body io.Reader) (message.Plan, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		b.t.Error(err)
	}
	b.asked = append(b.asked, string(m.Header)+string(text))
	return b.plan, b.refusal
}

func TestRetryByTodaysPolicy(t *testing.T) {
	admit := func(_ context.Context, account string, from envelope.Address) (string, error) {
		if account != "people" || from.String() != "ann@contoso.test" {
			return "", errors.New("there are too many mailboxes")
		}
		return "hr", nil
	}
	from := envelope.Address{Local: "ann", Domain: "contoso.test"}
	for _, tc := range []struct {
		name    string
		plan    message.Plan
		refusal error
		admit   func(context.Context, string, envelope.Address) (string, error)
		refused string // "" where it is tried again
		account string // that it has then
	}{
		{"it goes by another account", message.Plan{Account: "hr"}, nil, nil, "", "hr"},
		{"it goes by its sender's mailbox", message.Plan{Account: "people", HeaderFrom: from}, nil, admit, "", "hr"},
		{"its sender's mailbox is one too many", message.Plan{Account: "people"}, nil, admit, "there are too many mailboxes", "erp"},
		{"an account that nobody has", message.Plan{Account: "gone"}, nil, nil, `there is no account "gone"`, "erp"},
		{"today's policy refuses it", message.Plan{}, &reply.Error{Code: 550, Enhanced: "5.7.1", Text: "nav may not send to d.test", Err: errors.New("a detail")}, admit,
			"today's policy refuses it: 550 5.7.1 nav may not send to d.test", "erp"},
		{"the desk does not work", message.Plan{}, errors.New("no room"), admit, "no room", "erp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, queue.Failed)
			b.plan, b.refusal, b.o.Admit = tc.plan, tc.refusal, tc.admit
			b.Admin = New(b.o)
			var want control.QueueChanged
			if want.Changed = 1; tc.refused != "" {
				want = control.QueueChanged{Refused: []control.QueueRefused{{ID: b.ids[0], Text: tc.refused}}}
			}
			b.change(control.QueueChange{Action: "retry", Today: true, QueueQuery: control.QueueQuery{IDs: b.ids}}, want, "")
			d, err := b.QueueShow(t.Context(), b.ids[0])
			if err != nil || d.Account != tc.account || (d.State == "queued") != (tc.refused == "") {
				t.Errorf("then it is %s, of account %s, %v; want %s", d.State, d.Account, err, tc.account)
			}
			if len(b.asked) != 1 || b.asked[0] != d.Header+"body\r\n" {
				t.Errorf("the desk was asked about %q; want the message as it came", b.asked)
			}
		})
	}
	t.Run("there is no policy today", func(t *testing.T) {
		b := newBench(t, queue.Failed)
		b.o.Desk = func(context.Context) (Desk, error) { return nil, errors.New("footer.html is missing") }
		b.Admin = New(b.o)
		b.change(control.QueueChange{Action: "retry", Today: true, QueueQuery: control.QueueQuery{IDs: b.ids}}, control.QueueChanged{}, "footer.html is missing")
	})
}

// TestRetryRecallsMailboxes: whatever became of a retry, mailboxes that have mail again are known.
func TestRetryRecallsMailboxes(t *testing.T) {
	for _, tc := range []struct {
		name, action string
		query        control.QueueQuery
		recall       error
		calls        int
		err          string
	}{
		{"after a retry", "retry", control.QueueQuery{All: true}, nil, 1, ""},
		{"after one that broke off", "retry", control.QueueQuery{IDs: []string{nobody}}, nil, 1, "context canceled"},
		{"it fails", "retry", control.QueueQuery{All: true}, errors.New("too many"), 1, "too many"},
		{"not after anything else", "hold", control.QueueQuery{All: true}, errors.New("too many"), 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, queue.Queued)
			calls := 0
			b.o.Recall = func(ctx context.Context) error {
				if calls++; ctx.Err() != nil {
					t.Error("it is given up with the client")
				}
				return tc.recall
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := New(b.o).QueueChange(ctx, control.QueueChange{Action: tc.action, QueueQuery: tc.query}); text(err) != tc.err || calls != tc.calls {
				t.Errorf("QueueChange = %q, recalled %d times; want %q, %d", text(err), calls, tc.err, tc.calls)
			}
		})
	}
}

// TestExport: the envelope stands before the message as it came, in ASCII whatever its users are called.
func TestExport(t *testing.T) {
	b := newBench(t)
	it, m := queuetest.NewMessage("ventes été", start, "a@fabrikam.test", `"b c"@fabrikam.test`, "d@bücher.test")
	it.Recipients[1].State = queue.Relayed
	m.Session.User = "jörg\r\nX-Evil: yes"
	m.Envelope.ReversePath = envelope.Address{}
	if err := b.store.Add(t.Context(), it, m, strings.NewReader("body\r\n")); err != nil {
		t.Fatal(err)
	}
	want := "X-Postern-Queue-ID: " + string(it.ID) + "\r\nX-Postern-State: queued\r\n" +
		`X-Postern-User: "j\u00f6rg\r\nX-Evil: yes"` + "\r\n" + `X-Postern-Account: "ventes \u00e9t\u00e9"` + "\r\n" +
		"X-Postern-Accepted: Fri, 20 Nov 2026 10:00:00 +0000\r\nX-Envelope-From: <>\r\n" +
		"X-Envelope-To: <a@fabrikam.test>; queued\r\n" + `X-Envelope-To: <"b c"@fabrikam.test>; relayed` + "\r\n" +
		"X-Envelope-To: <d@xn--bcher-kva.test>; queued\r\n" + string(m.Header) + "body\r\n"
	var got strings.Builder
	if err := b.QueueExport(t.Context(), string(it.ID), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestExportRefuses(t *testing.T) {
	b := newBench(t, queue.Relayed)
	b.alter(0, func(it *queue.Item) { it.DropBody = true })
	for _, tc := range []struct{ name, id, want string }{
		{"a text that is gone", b.ids[0], b.ids[0] + ": its text is not kept any more: it is relayed"},
		{"a name that is no ID", noID, isNoID},
		{"an ID that no message has", nobody, nobody + ": " + unfound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got strings.Builder
			if err := b.QueueExport(t.Context(), tc.id, &got); text(err) != tc.want || got.Len() > 0 {
				t.Errorf("QueueExport = %q after %q; want %q", text(err), got.String(), tc.want)
			}
		})
	}
}

// spoilt is a store of which Open gives that much of a body, and then an error.
type spoilt struct {
	queue.Store
	body      string
	open, end error
}

func (s spoilt) Open(context.Context, envelope.ID) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(s.body), iotest.ErrReader(s.end))), s.open
}

// TestExportOfDamage: all that can be read is written, and what is wrong is said.
func TestExportOfDamage(t *testing.T) {
	damage := fmt.Errorf("%w: 3 octets are missing", queue.ErrDamaged)
	for _, tc := range []struct {
		name    string
		store   spoilt
		damaged bool
		want    string // the end of what is written
	}{
		{"its body ends too early", spoilt{body: "bod", end: damage}, true, "\r\n\r\nbod"},
		{"its body is gone", spoilt{open: damage}, true, "\r\n\r\n"},
		{"the disk cannot be read", spoilt{body: "bod", end: errors.New("I/O error")}, false, "bod"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, queue.Held)
			tc.store.Store = b.store
			open := b.o.Open
			b.o.Open = func(ctx context.Context) (*queue.Queue, queue.Store, error) {
				q, _, err := open(ctx)
				return q, tc.store, err
			}
			var got strings.Builder
			err := New(b.o).QueueExport(t.Context(), b.ids[0], &got)
			var damaged *control.Damaged
			if err == nil || errors.As(err, &damaged) != tc.damaged || tc.damaged && text(err) != b.ids[0]+": "+damage.Error() {
				t.Errorf("QueueExport = %v", err)
			}
			if !strings.HasPrefix(got.String(), "X-Postern-Queue-ID: "+b.ids[0]) || !strings.HasSuffix(got.String(), tc.want) {
				t.Errorf("it wrote %q", got.String())
			}
		})
	}
}

// TestQueueThatCannotBeOpened: each answer is why.
func TestQueueThatCannotBeOpened(t *testing.T) {
	why := errors.New("there is no queue")
	a := New(Options{Caller: func(context.Context) string { return "eva" },
		Open: func(context.Context) (*queue.Queue, queue.Store, error) { return nil, nil, why }})
	ctx := t.Context()
	_, rows := a.QueueRows(ctx, control.QueueQuery{})
	_, show := a.QueueShow(ctx, nobody)
	_, change := a.QueueChange(ctx, control.QueueChange{Action: "hold"})
	for name, err := range map[string]error{"QueueRows": rows, "QueueShow": show, "QueueChange": change, "QueueExport": a.QueueExport(ctx, nobody, io.Discard)} {
		if err != why {
			t.Errorf("%s = %v", name, err)
		}
	}
}
