package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/bridge/backup"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/envelope"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/reply"
	"postern/bridge/submission"
)

// mailAdmin does what the command line asks of the queue, in the daemon and on a stopped one.
type mailAdmin struct {
	cfg  func() *config.Config
	open func(ctx context.Context) (*queue.Queue, backupStore, error)
	desk func(q submission.Enqueuer) (*submission.Desk, error) // today's policy
	// admit returns the account that a plan is relayed as; nil where nobody relays, and then the next start does it.
	admit func(ctx context.Context, account string, from envelope.Address) (string, error)
	// recall has the mailboxes known of all mail that waits: of what is final nobody keeps them. nil like admit.
	recall func(ctx context.Context) error
	// sealed returns the vault's files as they belong together; nil where the lock of data_dir keeps them so.
	sealed func() (map[string][]byte, error)
	by     string // who asks where no request came through control
}

// mailAdmin is the daemon's.
func (b *Bridge) mailAdmin() *mailAdmin {
	return &mailAdmin{cfg: b.live.Load, by: systemUser(), admit: b.mailboxes.Admit, recall: b.mailboxes.Recall, sealed: b.accounts.Snapshot,
		open: func(context.Context) (*queue.Queue, backupStore, error) { return b.queue, b.store, nil },
		desk: func(submission.Enqueuer) (*submission.Desk, error) { return b.newDesk(b.live.Load()) }}
}

// backupStore is what mailAdmin needs of the store beside the queue.
type backupStore interface {
	queue.Store
	backup.Store
}

// caller is for the audit line.
func (a *mailAdmin) caller(ctx context.Context) string {
	if name := control.Caller(ctx); name != "" {
		return name
	}
	return a.by
}

// QueueRows implements control.Queue.
func (a *mailAdmin) QueueRows(ctx context.Context, want control.QueueQuery) ([]control.QueueRow, error) {
	q, _, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	if len(want.IDs) > 0 {
		return namedRows(ctx, q, want.IDs)
	}
	states := []queue.State{""}
	switch {
	case want.State != "":
		s, err := queue.ParseState(want.State)
		if err != nil {
			return nil, err
		}
		states[0] = s
	case !want.All:
		states = []queue.State{queue.Sending, queue.Queued, queue.Deferred, queue.InDoubt, queue.Held, queue.Failed}
	}
	var found []queue.Row
	for _, s := range states {
		rows, err := q.List(ctx, queue.Filter{Account: want.Account, State: s, After: envelope.ID(want.After), Limit: control.RowsAtOnce})
		if err != nil {
			return nil, err
		}
		found = append(found, rows...)
	}
	slices.SortFunc(found, func(a, b queue.Row) int { return strings.Compare(string(a.Item.ID), string(b.Item.ID)) })
	found = slices.CompactFunc(found, func(a, b queue.Row) bool { return a.Item.ID == b.Item.ID }) // it moved meanwhile
	list := []control.QueueRow{}
	for _, r := range found[:min(len(found), control.RowsAtOnce)] {
		list = append(list, queueRow(r))
	}
	return list, nil
}

func namedRows(ctx context.Context, q *queue.Queue, ids []string) ([]control.QueueRow, error) {
	list := []control.QueueRow{}
	for _, text := range ids[:min(len(ids), control.RowsAtOnce)] {
		r, err := showByText(ctx, q, text)
		if err != nil {
			return nil, err
		}
		list = append(list, queueRow(r))
	}
	return list, nil
}

// showByText finds the message that a person named.
func showByText(ctx context.Context, q *queue.Queue, text string) (queue.Row, error) {
	id, err := envelope.ParseID(text)
	if err != nil {
		return queue.Row{}, err
	}
	r, err := q.Show(ctx, id)
	if errors.Is(err, queue.ErrNotFound) {
		return r, fmt.Errorf("%s: no such message in the queue or its history", id)
	}
	return r, err
}

func queueRow(r queue.Row) control.QueueRow {
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
func (a *mailAdmin) QueueShow(ctx context.Context, id string) (control.QueueDetail, error) {
	q, _, err := a.open(ctx)
	if err != nil {
		return control.QueueDetail{}, err
	}
	r, err := showByText(ctx, q, id)
	if err != nil {
		return control.QueueDetail{}, err
	}
	d := control.QueueDetail{QueueRow: queueRow(r), Scenario: r.Message.Plan.Scenario, Listener: r.Message.Session.Listener, HasBody: r.HasBody,
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
func (a *mailAdmin) QueueChange(ctx context.Context, c control.QueueChange) (done control.QueueChanged, err error) {
	o := queue.Order{By: a.caller(ctx)}
	if o.Action, err = queue.ParseAction(c.Action); err != nil {
		return done, err
	}
	q, store, err := a.open(ctx)
	if err != nil {
		return done, err
	}
	if c.Today {
		if o.Action != queue.Retry {
			return done, errors.New("a new plan is made for retry alone")
		}
		desk, err := a.desk(q)
		if err != nil {
			return done, err
		}
		o.Replan = func(ctx context.Context, e queue.Entry) (message.Plan, error) {
			plan, err := replan(ctx, desk, store, e)
			if err == nil && a.admit != nil {
				plan.Account, err = a.admit(ctx, plan.Account, plan.HeaderFrom)
			}
			return plan, err
		}
	}
	if a.recall != nil && o.Action == queue.Retry {
		defer func() { err = errors.Join(err, a.recall(context.WithoutCancel(ctx))) }()
	}
	if len(c.IDs) == 0 {
		return a.changeAll(ctx, q, c, o)
	}
	for _, text := range c.IDs {
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
			done.Refused = append(done.Refused, control.QueueRefused{ID: text, Text: "no such message in the queue or its history"})
		default:
			done.Refused = append(done.Refused, control.QueueRefused{ID: text, Text: err.Error()})
		}
	}
	return done, nil
}

func (a *mailAdmin) changeAll(ctx context.Context, q *queue.Queue, c control.QueueChange, o queue.Order) (done control.QueueChanged, err error) {
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
	done.Changed, err = q.ChangeAll(context.WithoutCancel(ctx), f, o)
	return done, err
}

// replan asks the desk about a message as it came. What it refuses is said as the application would read it.
func replan(ctx context.Context, desk *submission.Desk, store queue.Store, e queue.Entry) (message.Plan, error) {
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
	return plan, err
}

// QueueExport implements control.Queue.
func (a *mailAdmin) QueueExport(ctx context.Context, id string, to io.Writer) error {
	q, store, err := a.open(ctx)
	if err != nil {
		return err
	}
	r, err := showByText(ctx, q, id)
	if err != nil {
		return err
	}
	if !r.HasBody {
		return fmt.Errorf("%s: its text is not kept any more: it is %s", id, r.State)
	}
	body, err := store.Open(ctx, r.Item.ID)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(to, io.MultiReader(strings.NewReader(envelopeFields(r)), strings.NewReader(string(r.Message.Header)), body))
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
