package queue

import (
	"context"
	"fmt"
	"time"
)

// stuckAfter is how long a lane may take for one step: the store's own patience with a lock is far shorter.
const stuckAfter = 3 * lookAgain

// Alive reports whether the store answers and every lane moves: what of it does not, or ctx's error.
func (q *Queue) Alive(ctx context.Context) error {
	answer := make(chan error, 1)
	go func() {
		_, err := q.store.Counts(ctx)
		answer <- err
	}()
	select {
	case err := <-answer:
		// A store that answers with an error is not stuck: a full or failing disk is told of, and a restart mends nothing.
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("the queue's store does not answer: %w", ctx.Err())
		}
	case <-ctx.Done():
		return fmt.Errorf("the queue's store does not answer: %w", ctx.Err())
	}
	now := q.clock()
	q.changing.Lock()
	defer q.changing.Unlock()
	if q.begin == nil {
		return nil // it starts or stops
	}
	for account, l := range q.set.Load().lanes {
		if at := l.moved.Load(); at != nil && now.Sub(*at) > stuckAfter {
			return fmt.Errorf("mail of account %q has not been looked at since %s", account, at.Format(time.DateTime))
		}
	}
	return nil
}

// move notes that the lane is not stuck.
func (l *lane) move() {
	now := l.q.clock()
	l.moved.Store(&now)
}
