package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"syscall"

	"postern/bridge/config"
	"postern/bridge/event"
)

// listen binds a listener's port, or takes a copy of the socket that the service manager opened for it. The socket itself
// stays open until the end: a reload that takes the listener out and back finds it again, and nobody else could bind it
// as long as the manager has it.
func (b *Bridge) listen(address string) (net.Listener, error) {
	key := config.SocketKey(address)
	i := slices.IndexFunc(b.options.Sockets, func(s *net.TCPListener) bool { return config.SocketKey(s.Addr().String()) == key })
	if i < 0 {
		socket, err := listen(address)
		if other := b.samePort(address); other != "" && errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listener %s cannot listen: the service manager opened %s; write ListenStream=%[1]s there, or the address %[2]s in [[listener]]", address, other)
		}
		return socket, err
	}
	f, err := b.options.Sockets[i].File()
	if err != nil {
		return nil, fmt.Errorf("listener %s: the service manager's socket: %w", address, err)
	}
	defer f.Close()
	socket, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listener %s: the service manager's socket: %w", address, err)
	}
	return socket, nil
}

// samePort returns the address of the service manager's socket that has the port of a listener's address, such as [::]:25
// for 0.0.0.0:25, of which systemd makes the former where ListenStream names the port alone; "" where there is none.
func (b *Bridge) samePort(address string) string {
	_, port, err := net.SplitHostPort(address)
	for _, s := range b.options.Sockets {
		if _, has, hasErr := net.SplitHostPort(s.Addr().String()); err == nil && hasErr == nil && has == port {
			return s.Addr().String()
		}
	}
	return ""
}

// tellIdle warns of a socket of the service manager's that no listener names: who connects there waits in vain.
func (b *Bridge) tellIdle(ctx context.Context, cfg *config.Config) {
	for _, s := range b.options.Sockets {
		address := s.Addr().String()
		if !slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return config.SocketKey(l.Address) == config.SocketKey(address) }) {
			b.events.Emit(ctx, slog.LevelWarn, event.ConfigurationWarning,
				slog.String("err", fmt.Sprintf("the service manager has opened %s, and no [[listener]] has this address: who connects there waits in vain", address)),
				slog.String("remedy", "give a [[listener]] this address, or take it out of the unit postern.socket and restart that"))
		}
	}
}

// closeSockets closes the service manager's sockets on this side.
func (b *Bridge) closeSockets() error {
	for _, s := range b.options.Sockets {
		s.Close()
	}
	return nil
}
