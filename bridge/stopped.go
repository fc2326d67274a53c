package bridge

import (
	"context"
	"errors"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"postern/bridge/config"
	"postern/bridge/contents"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
	"postern/bridge/reply"
	"postern/bridge/submission"
)

// stoppedQueue opens the queue of a daemon that does not run, when it is first asked for: `secret` and `signin` must work
// where the queue is damaged. The caller holds the lock of data_dir.
type stoppedQueue struct {
	cfg *config.Config

	mu     sync.Mutex // guards what follows
	queue  *queue.Queue
	store  *sqlite.Store
	closer func() error // of the log
}

func (s *stoppedQueue) open(ctx context.Context) (*queue.Queue, backupStore, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil {
		return s.queue, s.store, nil
	}
	if err := hasQueue(s.cfg); err != nil {
		return nil, nil, err
	}
	// Audit lines go where the daemon's go.
	log, err := openLogs(s.cfg.Log, Options{Stderr: os.Stderr})
	if err != nil {
		return nil, nil, err
	}
	store, err := openStore(ctx, s.cfg)
	if err != nil {
		return nil, nil, errors.Join(err, log.close())
	}
	events := event.NewBus(logSink{log.log})
	o := queueOptions(s.cfg, store, nil, events)
	o.Relayer = nobodyRelays{}
	q := queue.New(o)
	if err := placeOf(s.cfg, store, events).Claim(ctx, q); err != nil {
		return nil, nil, errors.Join(err, store.Close(), log.close())
	}
	s.queue, s.store, s.closer = q, store, log.close
	return q, store, nil
}

// freed forgets what the account's login waited for, so that the daemon does not start with it. A store that cannot be
// used says so to whoever needs it: here the sign-in has succeeded, and after the start a message finds the same out.
func (s *stoppedQueue) freed(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := context.Background()
	if s.queue != nil {
		_ = forgetParks(ctx, s.cfg, s.store, account)
		return
	}
	if _, err := os.Stat(storeFile(s.cfg)); err != nil {
		return // nothing is remembered
	}
	// A damaged store is left to the daemon's start, which tells of what it saves.
	store, err := sqlite.OpenSound(ctx, storeFile(s.cfg))
	if err != nil {
		return
	}
	_ = forgetParks(ctx, s.cfg, store, account)
	_ = store.Close()
}

func (s *stoppedQueue) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue == nil {
		return nil
	}
	s.queue = nil
	return errors.Join(s.store.Close(), s.closer())
}

// desk is today's policy.
func (s *stoppedQueue) desk(q submission.Enqueuer) (*submission.Desk, error) {
	if err := openSpool(s.cfg); err != nil {
		return nil, err
	}
	kept, err := contents.Open(contentsDir(s.cfg))
	if err != nil {
		return nil, err
	}
	list, err := scenarios(s.cfg, kept.Put)
	if err != nil {
		return nil, err
	}
	return openDesk(s.cfg, submission.Options{Scenarios: list, Queue: q, Pacer: &submission.Pacer{}, SpoolDir: spoolDir(s.cfg)})
}

// nobodyRelays stands for relay where no daemon runs.
type nobodyRelays struct{}

// Gate implements queue.Relayer.
func (nobodyRelays) Gate(string, time.Time) queue.Gate { return queue.Gate{} }

// Relay implements queue.Relayer. It is never called.
func (nobodyRelays) Relay(context.Context, message.Outgoing) reply.Outcome { return reply.Outcome{} }

// systemUser is the name of who runs this process.
func systemUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}
