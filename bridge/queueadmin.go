package bridge

import (
	"context"

	"postern/bridge/control"
	"postern/bridge/queue"
	"postern/bridge/queueadmin"
)

// queueAdmin is the daemon's.
func (b *Bridge) queueAdmin(caller func(context.Context) string) *queueadmin.Admin {
	return queueadmin.New(queueadmin.Options{Caller: caller, Admit: b.mailboxes.Admit, Recall: b.mailboxes.Recall,
		Open: func(context.Context) (*queue.Queue, queue.Store, error) { return b.queue, b.store, nil },
		Desk: func(context.Context) (queueadmin.Desk, error) { return b.newDesk(b.live.Load()) }})
}

// queueAdmin is that of a daemon that does not run.
func (s *stoppedQueue) queueAdmin(caller func(context.Context) string) *queueadmin.Admin {
	return queueadmin.New(queueadmin.Options{Caller: caller, Alone: true,
		Open: func(ctx context.Context) (*queue.Queue, queue.Store, error) { return s.open(ctx) },
		Desk: func(ctx context.Context) (queueadmin.Desk, error) { return s.desk(ctx) }})
}

// callerOr returns who asks, for audit lines: by where no request came through control.
func callerOr(by string) func(context.Context) string {
	return func(ctx context.Context) string {
		if name := control.Caller(ctx); name != "" {
			return name
		}
		return by
	}
}
