package sqlite_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
)

var accepted = time.Date(2026, 11, 6, 15, 30, 0, 0, time.UTC)

// BenchmarkAdd keeps messages of 10 KB; each call returns when its message is durable.
func BenchmarkAdd(b *testing.B) {
	body := bytes.Repeat([]byte("0123456789abcde\n"), 10<<10/16)
	for _, senders := range []int{1, 8, 20} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "queue.db"))
			defer s.Close()
			b.ResetTimer()
			spread(b, senders, func() error {
				item, m := queuetest.NewMessage("erp", accepted)
				return s.Add(b.Context(), item, m, bytes.NewReader(body))
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkRelay claims messages of 10 KB, commits an intent and finishes each.
func BenchmarkRelay(b *testing.B) {
	body := make([]byte, 10<<10)
	for _, workers := range []int{1, 8, 20} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "queue.db"))
			defer s.Close()
			spread(b, 20, func() error {
				item, m := queuetest.NewMessage("erp", accepted)
				return s.Add(b.Context(), item, m, bytes.NewReader(body))
			})
			b.ResetTimer()
			spread(b, workers, func() error { return relayOne(b, s) })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

func relayOne(b *testing.B, s queue.Store) error {
	es, err := s.Claim(b.Context(), queue.Claim{Account: "erp", Now: accepted, Limit: 1, Take: take})
	if err != nil || len(es) != 1 {
		return fmt.Errorf("claimed %d: %w", len(es), err)
	}
	id := es[0].Item.ID
	if err := s.Update(b.Context(), id, func(it *queue.Item) error { it.Intent = true; return nil }); err != nil {
		return err
	}
	return s.Update(b.Context(), id, func(it *queue.Item) (err error) {
		it.Lease, it.DropBody = "", true
		it.Recipients[0].State, err = it.Recipients[0].State.To(queue.Relayed)
		return err
	})
}

func take(it *queue.Item) (err error) {
	it.Lease = "test"
	for i := range it.Recipients {
		r := &it.Recipients[i]
		if r.State, err = r.State.To(queue.Sending); err != nil {
			return err
		}
		r.Next = time.Time{}
	}
	return nil
}

func spread(b *testing.B, workers int, work func() error) {
	var all sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	for range workers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := work(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
