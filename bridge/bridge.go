// Package bridge is the hall: it reads a Config, opens the rooms, hands each what it needs, starts them, and stops them
// in reverse. It is the only one who knows them all, and the only one who reads a Config. It must decide nothing about
// mail. cmd/postern calls it. A failure to start is an error with the cause and the remedy, and then nothing runs and
// nothing is held; a wrong value that only the rooms could find is an error too.
//
// The code has taught these rooms beyond those of design.md section 3:
//
//	backup       the archive of data_dir
//	certificate  PEM and PFX files, and which TLS a listener speaks; certificatetest/
//	check        check --live: providers, transports, the clock, a test message
//	contents     what scenarios put into messages, by hash
//	datadir      the folder: lock, rights, identity, free room
//	expiry       what ends by time, and when to say so
//	incident     the latest errors
//	leftover     what attempts left of mail that is over
//	logbook      where the log goes, and that nobody waits for it
//	mailboxes    which mailboxes of a domain have an account
//	notice       who is told what: reports and notices
//	origin       whether a store has a copy elsewhere
//	queueadmin   what `postern queue` asks
//	quota        recipients per mailbox and day
//	sample       messages as an application would hand them in
//	stationery   the files of footers and attachments
//	webclient    HTTP to a provider
//
// cmd calls four that the hall does not know:
//
//	demo         a bridge beside a sandbox, before the hall as cmd is
//	handin       handing a message in to a listener, as an application does
//	peers        other programs' configurations, for import
//	sendmail     what sendmail(8) makes of its command line and its input
//
// And auth/diagnosis is a word: what a refusal of Microsoft's means.
//
// What is left here is wiring: a file for each room or verb that makes Options of a Config, or shows one room to another.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"postern/auth"
	"postern/auth/token"
	"postern/bridge/backup"
	"postern/bridge/config"
	"postern/bridge/contents"
	"postern/bridge/control"
	"postern/bridge/event"
	"postern/bridge/expiry"
	"postern/bridge/incident"
	"postern/bridge/leftover"
	"postern/bridge/logbook"
	"postern/bridge/mailboxes"
	"postern/bridge/notice"
	"postern/bridge/queue"
	"postern/bridge/queue/sqlite"
	"postern/bridge/quota"
	"postern/bridge/relay"
	"postern/bridge/submission"
)

// EventLog is the Windows event log.
type EventLog = logbook.EventLog

// Options are what the hall needs beside the configuration.
type Options struct {
	Log    *slog.Logger // instead of what [log] asks for; nil with Stderr nil: nothing is logged
	Stderr io.Writer    // where the log goes as [log] asks for it; nil: Log is used

	Service      bool                     // run by the Windows service manager: log.to = "auto" is the file and the event log
	OpenEventLog func() (EventLog, error) // nil: there is none
	Manager      Manager                  // of the service; nil: there is none
	Sockets      []*net.TCPListener       // that the manager has opened for listeners; closed at the end
	Sinks        []event.Sink             // hear every event, after the log

	Release string // this program's version, for the words of an older one that meets its queue
}

// Bridge is a running Postern, or one about to run.
type Bridge struct {
	cfg     *config.Config
	events  *event.Bus
	release string

	options Options
	log     *logbook.Log // nil where it is not ours; closed after everything else, because closing tells of itself

	reloading sync.Mutex // guards what follows: one change of the configuration at a time
	doors     []*door    // in the file's order
	leaving   []*door    // removed; their sessions have not all ended
	clients   providers
	outlets   outlets
	retired   []*outlet   // replaced, and perhaps still in use
	serve     func(*door) // nil while Run does not run
	leave     func(*door)

	live      atomic.Pointer[config.Config] // the configuration in force; cfg is the one at the start
	front     front
	store     *sqlite.Store
	queue     *queue.Queue
	relay     *relay.Relay
	accounts  *auth.Accounts
	contents  *contents.Store
	pacer     *submission.Pacer
	mailboxes *mailboxes.Mailboxes
	leftovers *leftover.Sweeper
	quota     *quota.Counter
	admin     atomic.Pointer[admin] // another configuration is another admin
	control   *control.Server
	socket    net.Listener
	group     net.Listener // control's second socket; nil where there is none
	notices   *notice.Desk
	heard     noticeSink // hands events to notices

	incidents incident.Log   // the latest errors
	since     time.Time      // when it was opened
	endBy     time.Time      // what the service manager was told of the stop; zero before it
	closers   []func() error // in the order of opening
}

// New opens everything and starts nothing: when it returns, the ports are bound, data_dir is locked, and nobody is
// served. Call Run, which also closes.
func New(ctx context.Context, cfg *config.Config, o Options) (*Bridge, error) {
	b := &Bridge{cfg: cfg, since: time.Now(), options: o, release: o.Release}
	b.live.Store(cfg)
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.close(), b.endLog())
	}
	return b, nil
}

func (b *Bridge) open(ctx context.Context) error {
	key, err := unitKey()
	if err != nil {
		return err
	}
	dir, err := openDataDir(b.cfg.Bridge.DataDir)
	if err != nil {
		return err
	}
	b.closers = append(b.closers, dir.Close)
	if err := b.bind(); err != nil {
		return err
	}
	// After the ports, because those below 1024 need root; before the files, because they must be the owner's.
	if err := dir.TakeIdentity(); err != nil {
		return err
	}
	if err := b.openLog(); err != nil {
		return err
	}
	if err := b.openBack(ctx, key); err != nil {
		return err
	}
	if err := b.openFront(ctx); err != nil {
		return err
	}
	return b.openControl()
}

// openLog opens the log, and tells what should be looked at in the file.
func (b *Bridge) openLog() error {
	log := b.options.Log
	if log == nil && b.options.Stderr != nil {
		l, err := logbook.Open(logOptions(b.cfg.Log, b.options))
		if err != nil {
			return err
		}
		log, b.log = l.Logger, l
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b.quota = quota.New(quota.Options{Mailbox: b.quotaOf, Events: func() *event.Bus { return b.events }})
	b.events = event.NewBus(append([]event.Sink{logbook.Sink{Log: log}, &b.heard, &b.incidents, b.quota}, b.options.Sinks...)...)
	for _, w := range b.cfg.Warnings {
		b.events.Emit(context.Background(), slog.LevelWarn, event.ConfigurationWarning, slog.String("err", w.String()))
	}
	b.tellIdle(context.Background(), b.cfg)
	return nil
}

// bind takes every port before anything else is touched, so that a port in use leaves nothing half-started.
func (b *Bridge) bind() error {
	b.closers = append(b.closers, b.closeSockets)
	for _, l := range b.cfg.Listeners {
		socket, err := b.listen(l.Address)
		if err != nil {
			return err
		}
		b.doors = append(b.doors, &door{address: l.Address, socket: socket})
		b.closers = append(b.closers, func() error { return ignoreClosed(socket.Close()) })
	}
	return nil
}

// listenReason takes "listen tcp 127.0.0.1:25:" off the error, because the text before names the address.
func listenReason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// openBack opens what keeps and relays: vault and accounts, transports, store and queue.
func (b *Bridge) openBack(ctx context.Context, key token.Secret) (err error) {
	if b.accounts, b.clients, err = openCabinet(b.cfg, key, b.events); err != nil {
		return err
	}
	b.closers = append(b.closers, b.closeAccounts)
	if b.outlets, _, err = openOutlets(b.cfg, b.accounts.Source, b.events, nil); err != nil {
		return err
	}
	b.closers = append(b.closers, b.closeOutlets)
	if b.store, err = openStore(ctx, b.cfg, sqlite.Open); err != nil {
		return err
	}
	b.closers = append(b.closers, b.store.Close)
	if err := tellOnce(ctx, b.events, b.store); err != nil {
		return err
	}
	if err := b.store.SetNote(ctx, sqlite.ProgramNote, b.release); err != nil {
		return err
	}
	o, err := b.relayOptions(ctx, b.outlets.routes(b.cfg))
	if err != nil {
		return err
	}
	if b.contents, err = contents.Open(contentsDir(b.cfg)); err != nil {
		return err
	}
	o.Contents = b.contents.Open
	if b.relay, err = relay.New(o); err != nil {
		return err
	}
	if err := b.openNotices(); err != nil {
		return err
	}
	qo := queueOptions(b.cfg, b.store, b.relay, b.events)
	qo.Reporter = reporter{b.live.Load, b.notices}
	qo.Ended = b.ended
	b.leftovers = leftover.New(leftover.Options{Store: b.store, Remove: b.removeLeft, Events: b.events})
	b.queue = queue.New(qo)
	if err := b.queue.Recall(ctx); err != nil {
		return err
	}
	b.mailboxes = b.openMailboxes()
	if err := b.setMailboxes(b.cfg, b.outlets.routes(b.cfg), qo.Accounts); err != nil {
		return err
	}
	if err := b.mailboxes.Recall(ctx); err != nil {
		return err
	}
	if err := b.quota.Recall(ctx, b.store); err != nil {
		return err
	}
	if err := backup.Sweep(b.cfg.Bridge.DataDir); err != nil {
		return err
	}
	if err := placeOf(b.cfg, b.store, b.events).Claim(ctx, copied{b.queue, b.store}); err != nil {
		return err
	}
	b.admin.Store(b.newAdmin())
	return nil
}

// keepGrace bounds the writing of tokens that the vault could not take before: that is the disk's work alone.
const keepGrace = 5 * time.Second

// closeAccounts waits for a refresh under way, because one that is cut off may lose a rotated token: until what the service
// manager was told is over, since then it kills, and what the vault lacks would be lost as well.
func (b *Bridge) closeAccounts() error {
	end := b.endBy.Add(-keepGrace)
	if b.endBy.IsZero() {
		end = time.Now().Add(b.cfg.Queue.StopGrace)
	}
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	// First what a refresh that ends only now brings, then what the vault could not take before.
	b.accounts.Close(ctx)
	keep, cancel := context.WithTimeout(context.Background(), keepGrace)
	defer cancel()
	return b.accounts.Keep(keep)
}

// freed lets the mail of an account go that waited for a sign-in or a secret.
func (b *Bridge) freed(account string) {
	b.relay.Unpark(account)
	b.queue.Wake("") // accounts of one login share the sign-in
}

// openFront opens what applications talk to.
func (b *Bridge) openFront(ctx context.Context) error {
	local, err := openUsers(b.cfg)
	if err != nil {
		return err
	}
	desk, err := b.openDesk(ctx)
	if err != nil {
		return err
	}
	b.front.users.Store(local)
	b.front.desk.Store(desk)
	for i, d := range b.doors {
		if d.server, _, err = b.newServer(b.cfg, i); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) openControl() (err error) {
	var key token.Secret
	if b.socket, key, err = control.Listen(b.cfg.Bridge.DataDir); err != nil {
		return err
	}
	b.closers = append(b.closers, func() error { return ignoreClosed(b.socket.Close()) })
	if folder, told := control.RuntimeFolder(); told {
		if b.group, err = control.ListenGroup(b.cfg.Bridge.DataDir, folder); err != nil {
			return fmt.Errorf("the control socket of the group: %w", err)
		}
		b.closers = append(b.closers, func() error { return ignoreClosed(b.group.Close()) })
	}
	b.control = control.NewServer(b.admin.Load(), key)
	return nil
}

// Addrs returns the bound addresses in the file's order, for a port that was given as 0.
func (b *Bridge) Addrs() []net.Addr {
	var all []net.Addr
	b.reloading.Lock()
	defer b.reloading.Unlock()
	for _, d := range b.doors {
		all = append(all, d.socket.Addr())
	}
	return all
}

// SignIn signs an account in, as the command line does through control.
func (b *Bridge) SignIn(ctx context.Context, account string, refresh token.Secret) (control.SignedIn, error) {
	return b.admin.Load().SignIn(ctx, account, refresh)
}

// Accounts returns the accounts' states, as the command line shows them.
func (b *Bridge) Accounts(ctx context.Context) ([]control.Account, error) {
	return b.admin.Load().Accounts(ctx)
}

// Run serves until ctx ends or a room cannot go on, stops in reverse within stop_grace, and closes everything. It
// returns nil when ctx ended it and all went well. It is called once.
func (b *Bridge) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r := &rooms{ctx: ctx, stop: stop}
	place := placeOf(b.cfg, b.store, b.events)
	r.open("queue", func() error { return b.queue.Run(ctx) })
	r.open("origin", func() error { return place.Run(ctx) })
	r.open("tokens", func() error {
		u := newUpkeep(b.live.Load, b.accounts, b.events)
		u.expiring = func(all []expiry.End) { tellExpiries(b.notices, all) }
		return u.run(ctx)
	})
	r.open("recipients per day", func() error { return b.quota.Run(ctx, b.store) })
	r.guest("damage", func() error { return tellDamage(ctx, b.events, b.store.Damaged()) })
	r.open("notices", func() error { return b.notices.Run(ctx) })
	r.open("leftovers", func() error { return b.leftovers.Run(ctx) })
	r.open("replaced transports", func() error { return b.shutRetired(ctx) })
	r.open("control", func() error { return b.control.Serve(b.socket) })
	if b.group != nil {
		r.open("control of the group", func() error { return b.control.Serve(b.group) })
	}
	r.open("watchdog", func() error { return b.watchdog(ctx) })
	b.openDoors(r)
	b.manager().Ready()
	b.events.Emit(ctx, slog.LevelInfo, event.ServiceStarted, slog.Int("accounts", len(b.cfg.Accounts)))
	<-ctx.Done()
	within := b.cfg.Queue.StopGrace + lastGrace
	b.endBy = time.Now().Add(within)
	b.manager().Stopping(within)
	err := b.shutDown()
	r.wg.Wait()
	b.notices.Keep(context.WithoutCancel(ctx)) // attempts have gone on since its Run ended
	if noted := place.Note(context.WithoutCancel(ctx)); noted != nil {
		b.events.Emit(context.WithoutCancel(ctx), slog.LevelWarn, event.QueueFailed, slog.Any("err", noted))
	}
	err = errors.Join(append(r.failed, err, b.close())...)
	if err != nil {
		b.events.Emit(context.WithoutCancel(ctx), slog.LevelError, event.ServiceStopped, slog.Any("err", err))
	} else {
		b.events.Emit(context.WithoutCancel(ctx), slog.LevelInfo, event.ServiceStopped)
	}
	return errors.Join(err, b.endLog())
}

// shutDown ends the listeners and control; the queue ends by its context. A session that hands a message in meanwhile
// still gets it kept, because the store closes last.
func (b *Bridge) shutDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.Queue.StopGrace)
	defer cancel()
	doors := b.closeDoors()
	errs := make([]error, len(doors))
	var wg sync.WaitGroup
	for i, d := range doors {
		wg.Go(func() {
			// Sessions that had to be cut are no failure: what they had not handed in whole was not accepted.
			if err := d.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, b.control.Shutdown(ctx))...)
}

func (b *Bridge) endLog() error {
	if b.log == nil {
		return nil
	}
	return b.log.Close()
}

// close closes in reverse order of opening.
func (b *Bridge) close() error {
	var errs []error
	for i := len(b.closers) - 1; i >= 0; i-- {
		errs = append(errs, b.closers[i]())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// storeFile is the queue's file in data_dir.
func storeFile(cfg *config.Config) string { return filepath.Join(cfg.Bridge.DataDir, "queue.db") }
