package queuetest_test

import (
	"testing"

	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
)

func TestMemoryStore(t *testing.T) {
	queuetest.Run(t, func(testing.TB) queuetest.Opener {
		m := queuetest.NewMemory()
		return func(testing.TB) queue.Store {
			m.Reopen()
			return m
		}
	})
}
