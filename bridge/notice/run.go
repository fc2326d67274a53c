package notice

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"postern/bridge/dsn"
	"postern/bridge/envelope"
	"postern/bridge/event"
)

const (
	gather   = time.Minute      // from the first news to the notice: what happens together is told together
	interval = 15 * time.Minute // between two notices at least
	retry    = time.Minute      // while no account is up, or the notice could not be kept
)

// Run sends notices until ctx ends. It returns nil then; what was not told by then is kept in Memory.
func (d *Desk) Run(ctx context.Context) error {
	for {
		err := d.load(ctx)
		if err == nil {
			break
		}
		d.warn(ctx, err)
		if !d.sleep(ctx, retry) {
			return nil
		}
	}
	for {
		wait := time.Duration(-1)
		d.mu.Lock()
		if d.memory.pending() {
			// The clock may have been ahead when the last one was sent.
			wait = max(gather, min(interval, d.memory.LastSent.Add(interval).Sub(d.o.Now())))
		}
		d.mu.Unlock()
		if wait < 0 {
			select {
			case <-d.alarm:
				d.Keep(ctx)
				continue
			case <-ctx.Done():
				d.Keep(context.WithoutCancel(ctx))
				return nil
			}
		}
		if !d.sleep(ctx, wait) {
			return nil
		}
		for !d.send(ctx) {
			if !d.sleep(ctx, retry) {
				return nil
			}
		}
	}
}

// sleep waits, and keeps what there is to tell meanwhile: the process may not live to tell it. It returns false once ctx
// has ended.
func (d *Desk) sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-d.alarm:
			d.Keep(ctx)
		case <-ctx.Done():
			d.Keep(context.WithoutCancel(ctx))
			return false
		}
	}
}

// load joins, once, what the process before had not told with what this one has met since; after an error it is asked again.
// A stop does not cut it off.
func (d *Desk) load(ctx context.Context) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	if d.loaded || d.o.Memory == nil {
		return nil
	}
	document, err := d.o.Memory.Load(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("what was told before: %w", err)
	}
	var before memory
	if document != "" {
		if err := json.Unmarshal([]byte(document), &before); err != nil { // no later try would read it
			before = memory{}
			d.warn(ctx, fmt.Errorf("what was told before is lost: %w", err))
		}
	}
	d.join(before)
	d.loaded = true
	d.close(d.who().end) // the file may be another than when they were noted
	return nil
}

func (d *Desk) join(before memory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.memory
	d.memory = before
	for _, n := range now.Troubles {
		known := false
		for i := range d.memory.Troubles {
			if o := &d.memory.Troubles[i]; o.Key == n.Key || o.sameWay(n) {
				o.Ended, known = false, true
			}
		}
		if !known {
			d.memory.Troubles = append(d.memory.Troubles, n)
		}
	}
	for _, n := range now.Failed {
		if !slices.Contains(before.Noted, n.Key) {
			d.memory.Failed = append(d.memory.Failed, n)
		}
	}
	d.memory.know(now.Noted...)
	d.memory.Held = append(d.memory.Held, now.Held...)
	d.memory.More[0] += now.More[0]
	d.memory.More[1] += now.More[1]
}

// Keep keeps what Run has not told, and tells the log where that fails. Run does it while it runs; the hall does it once more
// when everybody has ended, for what they met after Run.
func (d *Desk) Keep(ctx context.Context) {
	if err := d.save(ctx); err != nil {
		d.warn(ctx, err)
	}
}

func (d *Desk) warn(ctx context.Context, err error) {
	d.o.Events.Emit(ctx, slog.LevelWarn, event.NoticeFailed, slog.Any("err", err))
}

// send sends one notice of all that is pending; false where it must be tried again.
func (d *Desk) send(ctx context.Context) bool {
	who := d.who()
	var via *Account
	for _, a := range d.who().sending("", envelope.Address{}) {
		if d.o.Up(a.Name) {
			via = &a
			break
		}
	}
	d.mu.Lock()
	told := d.memory
	told.Troubles = append([]note(nil), d.memory.Troubles...)
	d.mu.Unlock()
	if !told.pending() {
		return true // over before anybody was told
	}
	if via == nil {
		return false // the log's Error line is all there is; it is told once an account is up
	}
	n := dsn.Notice{ID: envelope.NewID(d.o.Now()), Hostname: d.o.Hostname, From: via.Mailbox, To: who.notify, Date: d.o.Now()}
	n.Subject, n.Sections = compose(d.o.Hostname, told)
	header, body := n.Build()
	err := d.o.Outbox.Send(ctx, Mail{ID: n.ID, Account: via.Name, From: via.Mailbox, To: who.notify, MessageID: n.MessageID(), Header: header, Body: body})
	if err != nil {
		d.o.Events.Emit(ctx, slog.LevelError, event.NoticeFailed, slog.Any("err", err))
		return false
	}
	d.forget(told)
	d.Keep(ctx)
	d.o.Events.Emit(ctx, slog.LevelInfo, event.NoticeQueued, slog.String("queue_id", string(n.ID)), slog.String("account", via.Name))
	return true
}

// forget takes out what was told; what came meanwhile stays.
func (d *Desk) forget(told memory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &d.memory
	var left []note
	for _, n := range m.Troubles {
		i := slices.IndexFunc(told.Troubles, func(o note) bool { return o.Key == n.Key })
		if i >= 0 && told.Troubles[i].Ended && n.Ended {
			continue
		}
		n.Told = n.Told || i >= 0
		left = append(left, n)
	}
	for _, o := range told.Troubles {
		if !o.Ended && !slices.ContainsFunc(left, func(n note) bool { return n.Key == o.Key }) {
			// It was over while it was being told for the first time.
			o.Told, o.Ended = true, true
			left = append(left, o)
		}
	}
	m.Troubles, m.LastSent = left, d.o.Now()
	m.Failed = slices.Clone(m.Failed[len(told.Failed):])
	m.Held = slices.Clone(m.Held[len(told.Held):])
	m.More[0] -= told.More[0]
	m.More[1] -= told.More[1]
}

// compose writes subject and text.
func compose(hostname string, m memory) (subject string, sections []dsn.Section) {
	var open, unsent, over []dsn.Item
	for _, n := range m.Troubles {
		switch {
		case n.Ended:
			over = append(over, dsn.Item{Text: n.Text})
		case !n.Told:
			open = append(open, dsn.Item{Text: n.Text, Why: n.Why, Remedy: n.Remedy})
		}
	}
	for _, f := range m.Failed {
		unsent = append(unsent, f.Item)
	}
	add := func(title string, items []dsn.Item, more int) {
		if len(items) > 0 {
			sections = append(sections, dsn.Section{Title: title, Items: items, More: more})
		}
	}
	add("Needs a person:", open, 0)
	add("These messages were not sent:", unsent, m.More[0])
	add("These messages are held, and wait for a person:", m.Held, m.More[1])
	add("Is over:", over, 0)
	switch failed, held := len(m.Failed)+m.More[0], len(m.Held)+m.More[1]; {
	case len(open) == 1:
		subject = open[0].Text
	case len(open) > 1:
		subject = fmt.Sprintf("%d things need a person", len(open))
	case failed > 0:
		subject = fmt.Sprintf("messages that were not sent: %d", failed)
	case held > 0:
		subject = fmt.Sprintf("messages that are held: %d", held)
	case len(over) == 1:
		subject = "over: " + over[0].Text
	default:
		subject = fmt.Sprintf("%d things are over", len(over))
	}
	return "Postern on " + hostname + ": " + subject, sections
}
