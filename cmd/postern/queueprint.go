package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"postern/bridge/control"
)

// queuePrinter prints rows page by page, so that a long queue takes no memory.
type queuePrinter struct {
	out     io.Writer
	json    bool
	now     time.Time
	n       int
	unknown []string // of the IDs that were named
}

func (p *queuePrinter) print(ctx context.Context, svc control.Service, q control.QueueQuery) (err error) {
	if p.json {
		err = p.printJSON(ctx, svc, q)
	} else {
		err = p.each(ctx, svc, q, p.row)
	}
	if err == nil {
		err = p.end()
	}
	return err
}

// end says what is not there.
func (p *queuePrinter) end() (err error) {
	switch {
	case len(p.unknown) > 0:
		return fmt.Errorf("%s: no such message in the queue or its history", strings.Join(p.unknown, ", "))
	case p.n == 0 && !p.json:
		_, err = fmt.Fprintln(p.out, "no messages")
	}
	return err
}

// printJSON prints one array, a row in a line.
func (p *queuePrinter) printJSON(ctx context.Context, svc control.Service, q control.QueueQuery) error {
	err := p.each(ctx, svc, q, func(r control.QueueRow) error {
		before := ",\n"
		if p.n == 0 {
			before = "[\n"
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(r); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.out, "%s  %s", before, bytes.TrimSpace(b.Bytes()))
		return err
	})
	if err != nil {
		return err
	}
	end := "\n]"
	if p.n == 0 {
		end = "[]"
	}
	_, err = fmt.Fprintln(p.out, end)
	return err
}

// each calls do for every row.
func (p *queuePrinter) each(ctx context.Context, svc control.Service, q control.QueueQuery, do func(control.QueueRow) error) error {
	ids := q.IDs
	for {
		if len(ids) > 0 {
			n := min(len(ids), control.RowsAtOnce)
			q.IDs, ids = ids[:n], ids[n:]
		}
		rows, err := svc.QueueRows(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := do(r); err != nil {
				return err
			}
			p.n++
		}
		for _, id := range q.IDs {
			if !slices.ContainsFunc(rows, func(r control.QueueRow) bool { return r.ID == id }) {
				p.unknown = append(p.unknown, id)
			}
		}
		if len(q.IDs) > 0 && len(ids) == 0 || len(q.IDs) == 0 && len(rows) < control.RowsAtOnce {
			return nil
		}
		if len(q.IDs) == 0 {
			q.After = rows[len(rows)-1].ID
		}
	}
}

// row prints a message in lines of at most 80 columns.
func (p *queuePrinter) row(r control.QueueRow) error {
	if p.n == 0 {
		fmt.Fprintf(p.out, "%-16s  %-16s  %-6s  %-10s  %s\n", "ID", "STATE", "AGE", "ACCOUNT", "RECIPIENTS")
	}
	to, answer := "", ""
	if len(r.Recipients) > 0 {
		i := slices.IndexFunc(r.Recipients, func(rc control.QueueRecipient) bool { return rc.State == r.State })
		rc := r.Recipients[max(i, 0)]
		to, answer = rc.Address, rc.Reply
	}
	if n := len(r.Recipients); n > 1 {
		more := fmt.Sprintf(" +%d", n-1)
		to = clip(to, 24-len(more)) + more
	}
	if _, err := fmt.Fprintf(p.out, "%-16s  %-16s  %-6s  %-10s  %s\n", r.ID, stateWord(r), span(p.now.Sub(r.AcceptedAt)), clip(r.Account, 10), clip(to, 24)); err != nil {
		return err
	}
	if answer != "" && r.State != "relayed" {
		fmt.Fprintf(p.out, "  %s\n", clip(answer, 78))
	}
	return nil
}

// stateWord is the state with what it waits for, where that says more.
func stateWord(r control.QueueRow) string {
	if r.WaitingFor == "" || r.WaitingFor == "doubt" {
		return r.State
	}
	return r.State + ", " + r.WaitingFor
}

// clip makes printable text that is at most so wide.
func clip(s string, width int) string {
	runes := []rune(printable(s))
	if len(runes) <= width {
		return string(runes)
	}
	return string(runes[:max(0, width-3)]) + "..."
}

// printable keeps a server's text from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func printDetail(out io.Writer, d control.QueueDetail, now time.Time) error {
	var errs []error
	line := func(name, value string) {
		if value != "" {
			_, err := fmt.Fprintf(out, "%-12s  %s\n", name, printable(value))
			errs = append(errs, err)
		}
	}
	line("id", d.ID)
	line("state", stateWord(d.QueueRow))
	line("damage", d.Damage)
	line("accepted", fmt.Sprintf("%s, %s ago", d.AcceptedAt.Local().Format("2006-01-02 15:04:05 MST"), span(now.Sub(d.AcceptedAt))))
	if d.NextAttempt != nil {
		line("next attempt", d.NextAttempt.Local().Format("2006-01-02 15:04:05 MST"))
	}
	attempts := fmt.Sprint(d.Attempts)
	if d.WaitingFor == "parked" || d.WaitingFor == "pause" {
		attempts += ", without those that its account's trouble ended"
	}
	line("attempts", attempts)
	line("user", d.User)
	line("from", strings.TrimSpace(d.Remote+" on "+d.Listener))
	line("account", d.Account)
	line("scenario", d.Scenario)
	line("header from", d.HeaderFrom)
	line("reverse-path", "<"+d.ReversePath+">")
	line("message-id", d.MessageID)
	kept := ""
	if !d.HasBody {
		kept = ", text not kept any more"
	}
	line("size", fmt.Sprintf("%d octets%s", d.Size, kept))
	for _, r := range d.Recipients {
		line("recipient", fmt.Sprintf("%s  %s", r.Address, r.State))
		line("  reply", r.Reply)
		for _, w := range d.Why {
			if w.Address == r.Address {
				line("  by", w.Transport)
				line("  why", w.Text)
				line("  what to do", w.Remedy)
			}
		}
	}
	if d.Header != "" {
		fmt.Fprintln(out)
		for l := range strings.Lines(d.Header) {
			if l = strings.TrimRight(l, "\r\n"); l != "" {
				_, err := fmt.Fprintln(out, "  "+printable(strings.ReplaceAll(l, "\t", " ")))
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
