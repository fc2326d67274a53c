// Package queueadmin does what `postern queue` asks, in the daemon and on a stopped one: it finds, shows and exports
// messages, and has the queue carry out what a person wants done with them. It answers in control's words and decides
// nothing: what may be done with a message is the queue's to say, and what today's plan for it is, a desk's. It must not
// know the configuration, who relays, or whether a daemon runs: the hall hands it in, and shows an Admin to control. An
// error is for the person who asked, in plain words; a message that stays as it is is no error and is told of beside the
// others.
package queueadmin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
)

// Options is what an Admin needs. All of it is safe for concurrent use.
type Options struct {
	Open   func(ctx context.Context) (*queue.Queue, queue.Store, error) // the queue, and the store that it stands on
	Desk   func(ctx context.Context) (Desk, error)                      // of today's policy
	Caller func(ctx context.Context) string                             // the person who asks, for the audit line
	// Alone says that nobody sends from this queue: what was in flight when a process died is changed like any other.
	Alone bool
	// Admit returns the account that a plan is relayed as; nil where nobody relays, and then the next start does it.
	Admit func(ctx context.Context, account string, from envelope.Address) (string, error)
	// Recall has the mailboxes known of all mail that waits: of what is final nobody keeps them. nil like Admit.
	Recall func(ctx context.Context) error
}

// Desk makes plans.
type Desk interface {
	// Replan makes today's plan for a message as it came. A refusal is a *reply.Error.
	Replan(ctx context.Context, m message.Message, body io.Reader) (message.Plan, error)
}

// Admin implements control.Queue but for Backup. Safe for concurrent use.
type Admin struct{ o Options }

// New returns an Admin, and opens nothing: `secret` and `signin` must work where the queue is damaged.
func New(o Options) *Admin { return &Admin{o} }

// errUnknown is said of an ID that the store does not have.
var errUnknown = errors.New("no such message in the queue or its history")

// QueueRows implements control.Queue.
func (a *Admin) QueueRows(ctx context.Context, want control.QueueQuery) ([]control.QueueRow, error) {
	q, _, err := a.o.Open(ctx)
	if err != nil {
		return nil, err
	}
	found, err := rows(ctx, q, want)
	if err != nil {
		return nil, err
	}
	list := []control.QueueRow{}
	for _, r := range found {
		list = append(list, rowOf(r))
	}
	return list, nil
}

// rows returns the page that was asked for: those that are named and there in the order of the names, others by their IDs.
func rows(ctx context.Context, q *queue.Queue, want control.QueueQuery) (found []queue.Row, err error) {
	for _, text := range want.IDs[:min(len(want.IDs), control.RowsAtOnce)] {
		r, err := find(ctx, q, text)
		if errors.Is(err, errUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	if len(want.IDs) > 0 {
		return found, nil
	}
	states := []queue.State{""}
	switch {
	case want.State != "":
		if states[0], err = queue.ParseState(want.State); err != nil {
			return nil, err
		}
	case !want.All:
		states = []queue.State{queue.Sending, queue.Queued, queue.Deferred, queue.InDoubt, queue.Held, queue.Failed}
	}
	for _, s := range states {
		some, err := q.List(ctx, queue.Filter{Account: want.Account, State: s, After: envelope.ID(want.After), Limit: control.RowsAtOnce})
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	slices.SortFunc(found, func(a, b queue.Row) int { return strings.Compare(string(a.Item.ID), string(b.Item.ID)) })
	found = slices.CompactFunc(found, func(a, b queue.Row) bool { return a.Item.ID == b.Item.ID }) // it moved meanwhile
	return found[:min(len(found), control.RowsAtOnce)], nil
}

// find returns the message that a person named.
func find(ctx context.Context, q *queue.Queue, text string) (queue.Row, error) {
	id, err := envelope.ParseID(text)
	if err != nil {
		return queue.Row{}, err
	}
	r, err := q.Show(ctx, id)
	if errors.Is(err, queue.ErrNotFound) {
		return r, fmt.Errorf("%s: %w", id, errUnknown)
	}
	return r, err
}

func rowOf(r queue.Row) control.QueueRow {
	m, it := r.Message, r.Item
	row := control.QueueRow{ID: string(it.ID), MessageID: m.Plan.MessageID, User: m.Session.User, Account: it.Account, State: string(r.State),
		WaitingFor: r.WaitingFor, ReversePath: m.Envelope.ReversePath.String(), HeaderFrom: m.Plan.HeaderFrom.String(),
		Recipients: []control.QueueRecipient{}, Size: r.HeaderSize + r.BodySize, Attempts: it.Attempts, AcceptedAt: it.Accepted}
	if !r.NextAttempt.IsZero() {
		row.NextAttempt = &r.NextAttempt
	}
	for _, rc := range it.Recipients {
		row.Recipients = append(row.Recipients, control.QueueRecipient{Address: rc.Address.String(), State: string(rc.State), Reply: rc.Last.Reply.String()})
	}
	return row
}

// QueueShow implements control.Queue.
func (a *Admin) QueueShow(ctx context.Context, id string) (control.QueueDetail, error) {
	q, _, err := a.o.Open(ctx)
	if err != nil {
		return control.QueueDetail{}, err
	}
	r, err := find(ctx, q, id)
	if err != nil {
		return control.QueueDetail{}, err
	}
	d := control.QueueDetail{QueueRow: rowOf(r), Scenario: r.Message.Plan.Scenario, Listener: r.Message.Session.Listener, HasBody: r.HasBody,
		Header: string(r.Message.Header)}
	if r.Message.Session.Remote.IsValid() {
		d.Remote = r.Message.Session.Remote.String()
	}
	if r.Damage != nil {
		d.Damage = r.Damage.Error()
	}
	for _, rc := range r.Item.Recipients {
		if rc.Last.Err == "" && rc.Last.Remedy == "" && rc.Last.Transport == "" {
			continue
		}
		text, _, _ := strings.Cut(rc.Last.Err, "\n")
		d.Why = append(d.Why, control.Reason{Address: rc.Address.String(), Transport: rc.Last.Transport, Text: text, Remedy: rc.Last.Remedy})
	}
	return d, nil
}

// QueueChange implements control.Queue.
func (a *Admin) QueueChange(ctx context.Context, c control.QueueChange) (done control.QueueChanged, err error) {
	o := queue.Order{By: a.o.Caller(ctx)}
	if o.Action, err = queue.ParseAction(c.Action); err != nil {
		return done, err
	}
	q, store, err := a.o.Open(ctx)
	if err != nil {
		return done, err
	}
	if c.Today {
		if o.Action != queue.Retry {
			return done, errors.New("a new plan is made for retry alone")
		}
		if o.Replan, err = a.replanner(ctx, store); err != nil {
			return done, err
		}
	}
	if a.o.Recall != nil && o.Action == queue.Retry {
		defer func() { err = errors.Join(err, a.o.Recall(context.WithoutCancel(ctx))) }()
	}
	if a.o.Alone {
		if c.IDs, err = void(ctx, q, c.QueueQuery); err != nil {
			return done, err
		}
	}
	if len(c.IDs) > 0 {
		return changeNamed(ctx, q, c.IDs, o)
	}
	return changeAll(ctx, q, c.QueueQuery, o)
}

// void ends the attempts of a process that is gone, and returns whom c names: of what it selects as being sent, as a person
// saw it listed, nothing is in that state any more.
func void(ctx context.Context, q *queue.Queue, c control.QueueQuery) (ids []string, err error) {
	ids = c.IDs
	if len(ids) == 0 && c.State == string(queue.Sending) {
		list, err := q.List(ctx, queue.Filter{Account: c.Account, State: queue.Sending})
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			ids = append(ids, string(r.Item.ID))
		}
	}
	return ids, q.VoidLeases(ctx)
}

func changeNamed(ctx context.Context, q *queue.Queue, ids []string, o queue.Order) (done control.QueueChanged, err error) {
	for _, text := range ids {
		id, err := envelope.ParseID(text)
		if err == nil {
			err = q.Change(ctx, id, o)
		}
		switch {
		case err == nil:
			done.Changed++
		case ctx.Err() != nil:
			return done, ctx.Err()
		case errors.Is(err, queue.ErrNotFound):
			done.Refused = append(done.Refused, control.QueueRefused{ID: text, Text: errUnknown.Error()})
		default:
			done.Refused = append(done.Refused, control.QueueRefused{ID: text, Text: err.Error()})
		}
	}
	return done, nil
}

func changeAll(ctx context.Context, q *queue.Queue, c control.QueueQuery, o queue.Order) (done control.QueueChanged, err error) {
	f := queue.Filter{Account: c.Account}
	if c.State != "" {
		if f.State, err = queue.ParseState(c.State); err != nil {
			return done, err
		}
	}
	if !c.All && c.Account == "" && c.State == "" {
		return done, errors.New("which messages? name IDs, an account, a state, or all")
	}
	// Half done is worse than done: a client that goes away does not stop it.
	changed, refused, err := q.ChangeAll(context.WithoutCancel(ctx), f, o)
	done.Changed = changed
	for _, r := range refused {
		done.Refused = append(done.Refused, control.QueueRefused{ID: string(r.ID), Text: r.Err.Error(), More: r.N - 1})
	}
	return done, err
}

// replanner asks a desk about each message as it came. What it refuses is said as the application would read it.
func (a *Admin) replanner(ctx context.Context, store queue.Store) (func(context.Context, queue.Entry) (message.Plan, error), error) {
	desk, err := a.o.Desk(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, e queue.Entry) (message.Plan, error) {
		body, err := store.Open(ctx, e.Item.ID)
		if err != nil {
			return message.Plan{}, err
		}
		defer body.Close()
		plan, err := desk.Replan(ctx, e.Message, body)
		var refusal *reply.Error
		if errors.As(err, &refusal) {
			return plan, fmt.Errorf("today's policy refuses it: %d %s %s", refusal.Code, refusal.Enhanced, refusal.Text)
		}
		if err == nil && a.o.Admit != nil {
			plan.Account, err = a.o.Admit(ctx, plan.Account, plan.HeaderFrom)
		}
		return plan, err
	}, nil
}

// QueueExport implements control.Queue.
func (a *Admin) QueueExport(ctx context.Context, id string, to io.Writer) error {
	q, store, err := a.o.Open(ctx)
	if err != nil {
		return err
	}
	r, err := find(ctx, q, id)
	if err != nil {
		return err
	}
	if !r.HasBody {
		return fmt.Errorf("%s: its text is not kept any more: it is %s", id, r.State)
	}
	from := []io.Reader{strings.NewReader(envelopeFields(r)), strings.NewReader(string(r.Message.Header))}
	body, err := store.Open(ctx, r.Item.ID)
	switch {
	case err == nil:
		defer body.Close()
		from = append(from, body)
	case !errors.Is(err, queue.ErrDamaged):
		return err
	}
	_, copied := io.Copy(to, io.MultiReader(from...))
	if err = cmp.Or(copied, err, r.Damage); errors.Is(err, queue.ErrDamaged) {
		return &control.Damaged{Text: id + ": " + strings.TrimPrefix(err.Error(), id+": ")}
	}
	return err
}

// envelopeFields writes down what the header does not say. Addresses were checked when they were parsed, and account and
// user are of the configuration, so that none can end its line.
func envelopeFields(r queue.Row) string {
	var b strings.Builder
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("X-Postern-Queue-ID", string(r.Item.ID))
	field("X-Postern-State", string(r.State))
	field("X-Postern-User", fmt.Sprintf("%+q", r.Message.Session.User))
	field("X-Postern-Account", fmt.Sprintf("%+q", r.Item.Account))
	field("X-Postern-Accepted", message.FormatDate(r.Item.Accepted))
	field("X-Envelope-From", "<"+r.Message.Envelope.ReversePath.Wire()+">")
	for _, rc := range r.Item.Recipients {
		field("X-Envelope-To", "<"+rc.Address.Wire()+">; "+string(rc.State))
	}
	return b.String()
}
