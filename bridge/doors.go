package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"postern/bridge/config"
	"postern/bridge/envelope"
	"postern/bridge/smtpd"
	"postern/bridge/submission"
	"postern/bridge/users"
)

// door is one listener of the configuration.
type door struct {
	address string // as configured
	socket  net.Listener
	server  *smtpd.Server
}

// front is what stands behind the doors: a reload changes it under the sessions that are open.
type front struct {
	users atomic.Pointer[users.Users]
	desk  atomic.Pointer[submission.Desk]

	passes users.Passes // of `send` and `sendmail`
}

// LoginFrom implements smtpd.Authenticator.
func (f *front) LoginFrom(ctx context.Context, remote netip.Addr, name, password string) (string, time.Duration, error) {
	if user, ok := f.passes.User(name, password, time.Now()); ok && remote.IsLoopback() {
		return user, 0, nil
	}
	return f.users.Load().LoginFrom(ctx, remote, name, password)
}

// At implements smtpd.Authenticator.
func (f *front) At(addr netip.Addr) (string, bool) { return f.users.Load().At(addr) }

// Submit implements smtpd.Desk.
func (f *front) Submit(ctx context.Context, s envelope.Session, env envelope.Envelope, data io.Reader) (envelope.ID, error) {
	return f.desk.Load().Submit(ctx, s, env, data)
}

// doorOptions are the options of one listener with what stands behind it.
func (b *Bridge) doorOptions(cfg *config.Config, i int) (smtpd.Options, error) {
	o, err := listenerOptions(cfg, cfg.Listeners[i])
	o.Users, o.Desk, o.Events = &b.front, &b.front, b.events
	o.Carries = everySecond(func() int64 { return largestMessage(cfg, cfg.Listeners[i], carrier{b.relay}.Capacity) })
	return o, err
}

// newServer makes the server of one listener, or says what is wrong with its options.
func (b *Bridge) newServer(cfg *config.Config, i int) (*smtpd.Server, smtpd.Options, error) {
	o, err := b.doorOptions(cfg, i)
	if err != nil {
		return nil, o, err
	}
	s, err := smtpd.New(o)
	if err != nil {
		return nil, o, fmt.Errorf("listener[%d] %s: %w", i, o.Address, err)
	}
	return s, o, nil
}

// listen binds a listener's port.
func listen(address string) (net.Listener, error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listener %s cannot listen: %w; %s", address, listenReason(err), portRemedy(err))
	}
	return socket, nil
}

// portRemedy says what to do about a port that cannot be bound.
func portRemedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "ports below 1024 are for root, and for the service (postern service install); or take one above"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no such address"
	}
	return "is another mail server running there?"
}
