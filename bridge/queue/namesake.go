package queue

import (
	"context"

	"postern/bridge/envelope"
)

// namesakePage is how many messages are read at once to find one.
const namesakePage = 500

// namesake reports whether another message of the queue, or of its history, that was tried has the Message-ID of e. It reads
// them all, which a store is not made for: it is asked after a doubt alone, of a Message-ID that the application gave.
func (q *Queue) namesake(ctx context.Context, e Entry) (bool, error) {
	for after := envelope.ID(""); ; {
		page, err := q.store.List(ctx, Filter{After: after, Limit: namesakePage})
		if err != nil || len(page) == 0 {
			return false, err
		}
		for _, other := range page {
			if other.Message.Plan.MessageID == e.Message.Plan.MessageID && other.Item.ID != e.Item.ID && other.Item.Attempts > 0 {
				return true, nil
			}
		}
		after = page[len(page)-1].Item.ID
	}
}
