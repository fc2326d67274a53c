package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"postern/bridge/backup"
	"postern/bridge/config"
	"postern/bridge/contents"
	"postern/bridge/datadir"
	"postern/bridge/event"
	"postern/bridge/logbook"
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

	mu    sync.Mutex // guards what follows
	queue *queue.Queue
	store *sqlite.Store
	log   *logbook.Log
}

func (s *stoppedQueue) open(ctx context.Context) (*queue.Queue, *sqlite.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != nil {
		return s.queue, s.store, nil
	}
	if err := hasQueue(s.cfg); err != nil {
		return nil, nil, err
	}
	if err := s.openLog(); err != nil {
		return nil, nil, err
	}
	store, err := openStore(ctx, s.cfg, sqlite.OpenSound)
	if errors.Is(err, queue.ErrDamaged) { // the daemon tells everybody of what it saves
		return nil, nil, fmt.Errorf("%w; start postern, which saves what can be read and names the rest in the log: postern service start", err)
	}
	if err != nil {
		return nil, nil, err
	}
	events := event.NewBus(logbook.Sink{Log: s.log.Logger})
	o := queueOptions(s.cfg, store, nil, events)
	o.Relayer, o.Reporter = nobodyRelays{}, nobodyReports{}
	o.Ended = endedWhileStopped(s.cfg, store, events)
	if o.Accounts, err = stoppedAccounts(ctx, s.cfg, store, o.Accounts); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	q := queue.New(o)
	if err := q.Recall(ctx); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	if err := visitedPlace(s.cfg, store, events).Visit(ctx, copied{q, store}); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	s.queue, s.store = q, store
	return q, store, nil
}

// toCopy is what a backup copies.
func (s *stoppedQueue) toCopy(ctx context.Context) (backup.Store, error) {
	_, store, err := s.open(ctx)
	return store, err
}

// openLog has audit lines go where the daemon's go. The caller holds mu.
func (s *stoppedQueue) openLog() (err error) {
	if s.log == nil {
		s.log, err = logbook.Open(logOptions(s.cfg.Log, Options{Stderr: os.Stderr}))
	}
	return err
}

// stoppedAudit writes the lines that say what a person did to sign-ins and secrets.
type stoppedAudit struct {
	stopped *stoppedQueue
	by      string
}

// Handle implements event.Sink. What is done is done: where the log cannot be opened, standard error has the line.
func (a stoppedAudit) Handle(ctx context.Context, e event.Event) {
	if !e.Kind.Audit() {
		return // the command line says what becomes of its tokens
	}
	if e.Kind == event.AccountSignedIn || e.Kind == event.AccountSignedOut {
		e.Attrs = append([]slog.Attr{slog.String("by", a.by)}, e.Attrs...)
	}
	a.stopped.mu.Lock()
	defer a.stopped.mu.Unlock()
	if a.stopped.openLog() == nil {
		logbook.Sink{Log: a.stopped.log.Logger}.Handle(ctx, e)
		return
	}
	logbook.Sink{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}.Handle(ctx, e)
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
	var errs []error
	if s.queue != nil {
		errs = append(errs, s.store.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	s.queue, s.log = nil, nil
	return errors.Join(errs...)
}

// desk is today's policy.
func (s *stoppedQueue) desk(ctx context.Context) (*submission.Desk, error) {
	q, _, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
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
	return openDesk(s.cfg, submission.Options{Scenarios: list, Queue: q, Pacer: &submission.Pacer{}, SpoolDir: spoolDir(s.cfg), Room: q.Room, Full: datadir.Full})
}

// nobodyRelays stands for relay where no daemon runs.
type nobodyRelays struct{}

// Gate implements queue.Relayer.
func (nobodyRelays) Gate(string, time.Time) queue.Gate { return queue.Gate{} }

// Relay implements queue.Relayer. It is never called.
func (nobodyRelays) Relay(context.Context, message.Outgoing) reply.Outcome { return reply.Outcome{} }

// nobodyReports has reports owed where no daemon runs: the next start makes them.
type nobodyReports struct{}

// Report implements queue.Reporter. It is never called.
func (nobodyReports) Report(context.Context, queue.Report) error { return errors.New("no daemon runs") }

// systemUser is the name of who runs this process.
func systemUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}
