package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"postern/bridge/event"
)

// lastGrace is what a stop may take beyond stop_grace: 5 s each for the queue by force, the goodbyes to servers, and the vault.
const lastGrace = 15 * time.Second

// Manager is the system's service manager. It is told what Postern does; service.Notifier and the Windows service are
// ones. Safe for concurrent use.
type Manager interface {
	// Ready says that Postern serves, after the start and after each reload.
	Ready()
	// Reloading says that the configuration is about to change.
	Reloading()
	// Stopping says that Postern stops, and within which time.
	Stopping(within time.Duration)
	// Alive feeds the watchdog. Every is how often that must be, at least; 0 is never.
	Alive()
	Every() time.Duration
}

// noManager is who starts a program by hand.
type noManager struct{}

func (noManager) Ready()                 {}
func (noManager) Reloading()             {}
func (noManager) Stopping(time.Duration) {}
func (noManager) Alive()                 {}
func (noManager) Every() time.Duration   { return 0 }

func (b *Bridge) manager() Manager {
	if b.options.Manager == nil {
		return noManager{}
	}
	return b.options.Manager
}

// watchdog feeds the service manager's watchdog as long as queue and listeners are alive: a process that hangs is
// restarted, and loses nothing.
func (b *Bridge) watchdog(ctx context.Context) error {
	every := b.manager().Every() / 3
	if every <= 0 {
		<-ctx.Done()
		return nil
	}
	t := time.NewTicker(every)
	defer t.Stop()
	sick := false
	for {
		if err := b.alive(ctx, every); err == nil {
			b.manager().Alive()
			sick = false
		} else if !sick && ctx.Err() == nil {
			sick = true
			b.events.Emit(ctx, slog.LevelError, event.ServiceHangs, slog.Any("err", err),
				slog.String("remedy", "the service manager restarts postern unless this ends; nothing is lost. Send this line to whoever maintains postern"))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// alive reports what does not answer within the given time.
func (b *Bridge) alive(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := b.queue.Alive(ctx); err != nil {
		return err
	}
	b.reloading.Lock()
	doors := b.doors
	b.reloading.Unlock()
	var mu sync.Mutex // guards first
	var first error
	var wg sync.WaitGroup
	for _, d := range doors {
		wg.Go(func() {
			if err := d.server.Alive(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first = fmt.Errorf("listener %s: %w", d.address, err)
			}
		})
	}
	wg.Wait()
	return first
}
