package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"postern/bridge/event"
)

const (
	knownFor = 24 * time.Hour // how long an address that has worked may use the room that is kept
	maxKnown = 1024           // addresses that are remembered; beyond it the oldest goes
)

// admit hands a connection to the library, or refuses it.
func (s *Server) admit(c net.Conn) {
	remote, err := remoteAddr(c)
	if err != nil {
		c.Close()
		return
	}
	o := s.o.Load()
	s.mu.Lock()
	text, key, err := s.judge(o, remote)
	if err != nil {
		more, tell := s.countRefusal(refusal{network(remote), key})
		s.mu.Unlock()
		attrs := []slog.Attr{slog.String("remote", remote.String()), slog.String("listener", o.Address), slog.Any("err", err)}
		if key != "" {
			attrs = append(attrs, slog.String("key", key))
		}
		if more > 0 {
			attrs = append(attrs, slog.Int("more", more)) // that were not told of
		}
		if tell {
			o.Events.Emit(context.Background(), slog.LevelWarn, event.ConnectionRefused, attrs...)
		}
		s.wg.Go(func() { s.refuse(o, c, text) }) // Serve, which runs this, is counted too: Wait is not at zero
		return
	}
	l := newLink(s, o, c, remote)
	s.links[l] = true
	s.perAddr[network(remote)]++
	s.mu.Unlock()
	o.Events.Emit(context.Background(), slog.LevelDebug, event.ConnectionOpened,
		slog.String("remote", remote.String()), slog.String("listener", o.Address))
	if !s.feed.push(newGuard(l, false)) {
		l.close()
	}
}

// judge says why a client from remote is refused: the greeting, the configuration key to change, and the cause. Whoever
// fills the listener up leaves room for the applications that have worked before.
func (s *Server) judge(o *Options, remote netip.Addr) (text, key string, err error) {
	inside := false
	for _, p := range o.Networks {
		inside = inside || p.Contains(remote)
	}
	switch {
	case s.draining:
		return "421 4.3.2 Service is stopping", "", errors.New("the service is stopping")
	case !inside:
		return "554 5.7.1 Connections from your address are not allowed", "networks",
			errors.New("the address is not within the listener's networks")
	case len(s.links) >= o.MaxConnections-o.MaxConnections/5 && time.Since(s.known[remote]) > knownFor,
		len(s.links) >= o.MaxConnections:
		return "421 4.3.2 Too many connections, try again later", "max_connections", errors.New("too many connections")
	case !remote.IsLoopback() && s.perAddr[network(remote)] >= o.MaxConnectionsPerAddress:
		return "421 4.7.0 Too many connections from your address", "max_connections_per_address",
			errors.New("too many connections from this address")
	}
	return "", "", nil
}

// network is what counts as one address: of IPv6 the /64, which one machine may choose from at will.
func network(a netip.Addr) netip.Addr {
	if a.Is4() || a.IsLoopback() {
		return a
	}
	p, _ := a.Prefix(64) // is never too long for IPv6
	return p.Addr()
}

// worked remembers an address that has logged in or handed in a message.
func (s *Server) worked(remote netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[remote]; !ok && len(s.known) >= maxKnown {
		var oldest netip.Addr
		for a, at := range s.known {
			if !oldest.IsValid() || at.Before(s.known[oldest]) {
				oldest = a
			}
		}
		delete(s.known, oldest)
	}
	s.known[remote] = time.Now()
}

// refusal is why clients from an address are refused. The log has one line a minute for each.
type refusal struct {
	from netip.Addr
	key  string
}

// tally is when a refusal was told of, and how many there were since.
type tally struct {
	told time.Time
	more int
}

// countRefusal says whether the log is to be told, and how many refusals it was not told of before. The caller has s.mu.
func (s *Server) countRefusal(r refusal) (more int, tell bool) {
	t := s.refused[r]
	if time.Since(t.told) < time.Minute {
		s.refused[r] = tally{t.told, t.more + 1}
		return 0, false
	}
	if len(s.refused) >= maxKnown {
		clear(s.refused)
	}
	s.refused[r] = tally{told: time.Now()}
	return t.more, true
}

// refuse greets with a refusal and closes.
func (s *Server) refuse(o *Options, c net.Conn, text string) {
	defer c.Close()
	select {
	case s.refusals <- struct{}{}:
		defer func() { <-s.refusals }()
	default:
		return
	}
	stop := context.AfterFunc(s.force, func() { c.Close() })
	defer stop()
	c.SetDeadline(time.Now().Add(min(o.WriteTimeout, o.HandshakeTimeout)))
	if o.TLS == Implicit {
		t := tls.Server(c, o.TLSConfig)
		if t.Handshake() != nil {
			return
		}
		c = t
	}
	c.Write([]byte(text + "\r\n"))
}

// release forgets a closed connection.
func (s *Server) release(l *link) {
	s.mu.Lock()
	delete(s.links, l)
	from := network(l.remote)
	if s.perAddr[from]--; s.perAddr[from] <= 0 {
		delete(s.perAddr, from)
	}
	s.mu.Unlock()
	close(l.gone)
}

// remoteAddr returns the client's address without zone, an IPv4-mapped one unmapped.
func remoteAddr(c net.Conn) (netip.Addr, error) {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	return ap.Addr().Unmap().WithZone(""), err
}
