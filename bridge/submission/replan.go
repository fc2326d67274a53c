package submission

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"postern/bridge/envelope"
	"postern/bridge/message"
)

// Replan makes today's plan for a message that was accepted before, from what came then. What identifies it stays: the
// queue ID with its field, Received, Date and Message-ID, and so do its recipients, those too that a scenario added then:
// nobody is added or left away after 250. It does not wait, for a scenario's hold or a rate. The error is a *reply.Error
// whose text names the rule that refuses the message today. SpoolDir must be one that may be written.
func (d *Desk) Replan(ctx context.Context, m message.Message, body io.Reader) (message.Plan, error) {
	env := m.Envelope
	env.Recipients = slices.DeleteFunc(slices.Clone(env.Recipients), func(a envelope.Address) bool {
		return slices.ContainsFunc(m.Plan.Bcc, func(b envelope.Address) bool { return a.Key() == b.Key() })
	})
	sub := &submission{Desk: d, message: message.Message{Session: m.Session, Envelope: env}}
	err := sub.settle(ctx, io.MultiReader(bytes.NewReader(m.Header), body))
	if err == nil {
		_, err = io.Copy(io.Discard, sub.body) // its size is judged at its end
		err = errors.Join(err, sub.close())
	}
	if err != nil {
		return message.Plan{}, asReply(err)
	}
	plan := sub.message.Plan
	plan.MessageID, plan.Bcc, plan.Hold = m.Plan.MessageID, m.Plan.Bcc, false
	stays := func(e message.Edit) bool {
		return slices.Contains([]string{message.MarkerField, "Received", "Date", "Message-ID"}, e.Name)
	}
	var edits []message.Edit
	for _, e := range m.Plan.Edits {
		if stays(e) {
			edits = append(edits, e)
		}
	}
	for _, e := range plan.Edits {
		if !stays(e) {
			edits = append(edits, e)
		}
	}
	plan.Edits = edits
	return plan, nil
}
