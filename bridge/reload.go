package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"postern/auth"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/event"
	"postern/bridge/relay"
	"postern/bridge/smtpd"
	"postern/bridge/submission"
	"postern/bridge/users"
)

// errNotRunning: there is nothing to reload.
var errNotRunning = errors.New("postern is not running, or is stopping; it reads the file when it starts")

// Reload reads the file again and puts it in force, without dropping a session or a message. After an error nothing has
// changed: a *config.Mistakes, or what a new room said. It is safe for concurrent use, and tells of itself by events.
func (b *Bridge) Reload(ctx context.Context) (control.Reloaded, error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	if b.serve == nil {
		return control.Reloaded{}, errNotRunning
	}
	b.manager().Reloading()
	defer b.manager().Ready()
	done, err := b.reload(ctx)
	if err != nil {
		b.events.Emit(ctx, slog.LevelError, event.ConfigurationBad, slog.Any("err", err),
			slog.String("remedy", "mend the file, see: postern check, then: postern reload; until then the former configuration is in force"))
		return done, err
	}
	attrs := []slog.Attr{slog.Any("changes", done.Changes)}
	level := slog.LevelInfo
	if len(done.Restart) > 0 {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("needs_restart", done.Restart), slog.String("remedy", "restart postern to put these in force"))
	}
	b.events.Emit(ctx, level, event.ConfigurationReloaded, attrs...)
	return done, nil
}

func (b *Bridge) reload(ctx context.Context) (control.Reloaded, error) {
	fresh, err := config.Load(b.cfg.Path)
	if err != nil {
		return control.Reloaded{}, err
	}
	was := b.live.Load()
	cfg, restart := config.KeepFixed(fresh, b.cfg)
	n, err := b.prepare(cfg, was)
	if err != nil {
		return control.Reloaded{}, err
	}
	b.commit(ctx, n, was)
	done := control.Reloaded{Changes: config.Changes(was, cfg), Restart: restart}
	for _, w := range cfg.Warnings {
		done.Warnings = append(done.Warnings, w.String())
	}
	return done, nil
}

// next is a configuration that is ready to be put in force.
type next struct {
	cfg      *config.Config
	clients  providers
	accounts *auth.Plan
	outlets  outlets
	front    struct {
		users *users.Users
		desk  *submission.Desk
	}
	options map[*door]smtpd.Options // of the doors that stay
	doors   []*door                 // all, in the file's order
	fresh   []*door                 // of these, those to be opened
	undo    []func() error
}

// prepare makes everything that could fail, and changes nothing.
func (b *Bridge) prepare(cfg, was *config.Config) (n *next, err error) {
	n = &next{cfg: cfg, options: map[*door]smtpd.Options{}}
	defer func() {
		if err != nil {
			for _, undo := range n.undo {
				err = errors.Join(err, undo())
			}
		}
	}()
	if n.clients, err = openProviders(cfg, b.accounts.Secrets(), b.clients); err != nil {
		return n, err
	}
	if n.accounts, err = b.accounts.Prepare(auth.Options{Providers: n.clients.clients(), Accounts: signIns(cfg)}); err != nil {
		return n, err
	}
	made, undo, err := openOutlets(cfg, n.accounts.Source, b.events, b.outlets)
	if err != nil {
		return n, err
	}
	n.outlets, n.undo = made, append(n.undo, undo)
	// The same checks as at a start, by a room that is thrown away.
	if _, err := relay.New(relay.Options{Accounts: made.routes(cfg)}); err != nil {
		return n, err
	}
	if err := b.prepareFront(n); err != nil {
		return n, err
	}
	return n, b.prepareDoors(n)
}

func (b *Bridge) prepareFront(n *next) error {
	local, err := openUsers(n.cfg)
	if err != nil {
		return err
	}
	local.Succeed(b.front.users.Load())
	desk, err := b.newDesk(n.cfg)
	if err != nil {
		return err
	}
	if _, err := noticeOptions(n.cfg); err != nil {
		return err
	}
	n.front.users, n.front.desk = local, desk
	return nil
}

// prepareDoors binds the new ports and checks the options of the old ones.
func (b *Bridge) prepareDoors(n *next) error {
	for i, l := range n.cfg.Listeners {
		s, o, err := b.newServer(n.cfg, i)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(b.doors, func(d *door) bool { return d.address == l.Address && !slices.Contains(n.doors, d) })
		if at >= 0 {
			n.doors, n.options[b.doors[at]] = append(n.doors, b.doors[at]), o
			continue
		}
		socket, err := b.listen(l.Address)
		if err != nil {
			return b.explainPort(l.Address, err)
		}
		n.undo = append(n.undo, socket.Close)
		d := &door{address: l.Address, socket: socket, server: s}
		n.doors, n.fresh = append(n.doors, d), append(n.fresh, d)
	}
	return nil
}

// explainPort says what a restart would mend: a port of our own that the file gives another address, and one that needs
// root.
func (b *Bridge) explainPort(address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	for _, d := range b.doors {
		if _, own, _ := net.SplitHostPort(d.address); own == port {
			return fmt.Errorf("listener %s takes the port of listener %s, which is open; restart postern for this", address, d.address)
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; where postern was started by root, restart it for this", err)
	}
	return err
}

// commit puts the configuration in force. New mailboxes are known to relay and queue before the desk names them in a plan,
// and a mailbox that goes keeps its lane: its mail waits. Nothing here fails.
func (b *Bridge) commit(ctx context.Context, n *next, was *config.Config) {
	n.accounts.Commit()
	now := time.Now()
	var gone, mended []string
	for name, o := range b.outlets {
		if n.outlets[name] == o {
			continue
		}
		o.Retire(now)
		if b.retired = append(b.retired, o); n.outlets[name] == nil {
			gone = append(gone, name)
		} else {
			mended = append(mended, name)
		}
	}
	b.clients, b.outlets = n.clients, n.outlets
	q := queueOptions(n.cfg, b.store, b.relay, b.events)
	err := b.setMailboxes(n.cfg, n.outlets.routes(n.cfg), q.Accounts)
	b.relay.ForgetSizes()
	b.queue.SetMaxQueued(q.MaxQueued)
	b.front.users.Store(n.front.users)
	b.front.desk.Store(n.front.desk)
	people, _ := noticeOptions(n.cfg) // prepare has seen that it works
	b.notices.SetPeople(people)
	b.live.Store(n.cfg)
	b.swapDoors(ctx, n)
	b.tellIdle(ctx, n.cfg)
	b.swapAdmin(n.cfg)
	if b.log != nil {
		b.log.SetLevel(n.cfg.Log.Level)
	}
	for _, name := range mended { // what was wrong before may be right now
		b.accounts.Recheck(name)
		b.freed(name)
	}
	err = errors.Join(err, b.queue.TellOrphans(ctx, gone...))
	if err != nil {
		b.events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.Any("err", err))
	}
	for _, w := range n.cfg.Warnings {
		if !slices.Contains(was.Warnings, w) {
			b.events.Emit(ctx, slog.LevelWarn, event.ConfigurationWarning, slog.String("err", w.String()))
		}
	}
}

// swapDoors opens the new doors, and closes the old ones behind the sessions that are open.
func (b *Bridge) swapDoors(ctx context.Context, n *next) {
	old := b.doors
	b.doors = n.doors
	for d, o := range n.options {
		if err := d.server.SetOptions(o); err != nil { // it was checked
			b.events.Emit(ctx, slog.LevelError, event.ConfigurationBad, slog.String("listener", d.address), slog.Any("err", err))
		}
	}
	for _, d := range n.fresh {
		b.serve(d)
	}
	for _, d := range old {
		if !slices.Contains(n.doors, d) {
			b.leave(d)
		}
	}
}

// swapAdmin lets the command line see the new configuration.
func (b *Bridge) swapAdmin(cfg *config.Config) {
	a := *b.admin.Load()
	a.cfg = cfg
	b.admin.Store(&a)
	b.control.SetService(&a)
}

// shutRetired closes replaced transports when nobody uses them any more, until ctx ends.
func (b *Bridge) shutRetired(ctx context.Context) error {
	t := time.NewTicker(relay.RetireAfter)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			var wg sync.WaitGroup
			for _, o := range b.takeIdle(now) {
				wg.Go(func() {
					if err := o.Close(); err != nil {
						b.events.Emit(ctx, slog.LevelWarn, event.SmarthostFailed, slog.String("account", o.key.account.Name), slog.Any("err", err))
					}
				})
			}
			wg.Wait()
		}
	}
}

// takeIdle takes out the replaced transports that nobody uses any more, to be closed without b.reloading: a reload and the
// stop must not wait for the last words of their servers.
func (b *Bridge) takeIdle(now time.Time) (idle []*outlet) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	b.retired = slices.DeleteFunc(b.retired, func(o *outlet) bool {
		if !o.Idle(now) {
			return false
		}
		idle = append(idle, o)
		return true
	})
	return idle
}

// closeOutlets closes every transport, the replaced ones too.
func (b *Bridge) closeOutlets() error {
	var closers []func() error
	for _, o := range b.outlets {
		closers = append(closers, o.Close)
	}
	for _, o := range b.retired {
		closers = append(closers, o.Close)
	}
	return closeTogether(closers)
}

// closeTogether calls them side by side: each may wait for seconds for a server that says nothing any more, and all
// together must not take longer.
func closeTogether(closers []func() error) error {
	errs := make([]error, len(closers))
	var wg sync.WaitGroup
	for i, c := range closers {
		wg.Go(func() { errs[i] = c() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Reload implements control.Reloads.
func (a *admin) Reload(ctx context.Context) (control.Reloaded, error) {
	if a.reload == nil {
		return control.Reloaded{}, errNotRunning
	}
	return a.reload(ctx)
}
