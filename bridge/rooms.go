package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"postern/bridge/event"
)

// rooms are the goroutines of a running bridge. One that fails ends the house.
type rooms struct {
	wg   sync.WaitGroup
	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex // guards failed
	failed []error
}

// open runs a room until the house ends; where it ends before, the house does.
func (r *rooms) open(name string, run func() error) {
	r.wg.Go(func() {
		defer r.stop()
		r.note(name, run())
	})
}

// guest runs what may end before the house does, unless it fails.
func (r *rooms) guest(name string, run func() error) {
	r.wg.Go(func() {
		if r.note(name, run()) {
			r.stop()
		}
	})
}

// note keeps a failure and reports whether it is one. A stop that comes while a room still starts is none.
func (r *rooms) note(name string, err error) bool {
	if err == nil || errors.Is(err, context.Canceled) && r.ctx.Err() != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, fmt.Errorf("%s: %w", name, err))
	return true
}

// openDoors lets clients in, now and after each reload, until closeDoors.
func (b *Bridge) openDoors(r *rooms) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	b.serve = func(d *door) {
		r.guest("listener "+d.address, func() error { return d.server.Serve(d.socket) })
		b.events.Emit(r.ctx, slog.LevelInfo, event.ListenerStarted, slog.String("listener", d.socket.Addr().String()))
	}
	b.leave = func(d *door) {
		b.leaving = append(b.leaving, d)
		r.guest("listener "+d.address, func() error {
			err := d.server.Retire(r.ctx)
			if err == nil {
				b.reloading.Lock()
				defer b.reloading.Unlock()
				b.leaving = slices.DeleteFunc(b.leaving, func(other *door) bool { return other == d })
			}
			return err
		})
		b.events.Emit(r.ctx, slog.LevelInfo, event.ListenerStopped, slog.String("listener", d.socket.Addr().String()))
	}
	for _, d := range b.doors {
		b.serve(d)
	}
}

// closeDoors ends reloads and returns every door that may have sessions.
func (b *Bridge) closeDoors() []*door {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	b.serve = nil
	return append(b.leaving, b.doors...)
}
