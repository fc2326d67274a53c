// Package smtpd is the listener: it takes the SMTP dialogue of old applications and streams each message to the desk. It
// knows SMTP and decides nothing else: not who may send as whom, not where mail goes. The hall makes one Server per
// listener of the configuration and hands it users and a desk. A refusal of theirs (*reply.Error) is what the client
// reads; any other failure is 451 for the client and an event for the administrator.
//
// The dialogue is emersion/go-smtp's, behind a guard of ours, because the library is not safe as shipped in front of a
// durable queue: message text becomes commands after a timeout or a refused BDAT, quoted addresses lose their quotes,
// lines and logins have no limit, and nothing can be closed by force. The guard stands between socket and library, which
// never sees the client: it reads a line, judges it, and either answers itself or hands the library one clean line; the
// library's reply is only watched, and the guard's own text leaves. So every byte on the wire is ours, and the library
// keeps the state of the dialogue and the SASL exchange. Text of a message never comes near it. A client that is idle between two
// messages is without the library (rest.go): thousands may be.
package smtpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"postern/bridge/event"
)

// Server is one listener. Safe for concurrent use.
type Server struct {
	o     atomic.Pointer[Options] // of new connections; SetOptions replaces them
	lib   *smtp.Server
	feed  *feed
	force context.Context // ends when connections are closed by force
	kill  context.CancelFunc
	drain chan struct{} // closed when Shutdown begins
	wg    sync.WaitGroup

	refusals chan struct{} // one token for each refusal being written
	buffers  sync.Pool     // of *normalizer: a connection holds one during DATA only
	readers  sync.Pool     // of *bufio.Reader, likewise

	mu        sync.Mutex // guards what follows, and additions to wg against its Wait
	listeners map[net.Listener]bool
	links     map[*link]bool
	perAddr   map[netip.Addr]int       // by network
	known     map[netip.Addr]time.Time // when an address last logged in or handed in a message
	refused   map[refusal]tally
	started   bool
	draining  bool
	retired   bool // no connection is accepted any more
}

// maxRefusals bounds how many connections are being told that they are refused; more are closed without a word.
const maxRefusals = 64

// New checks the options. It opens nothing.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		feed:      newFeed(),
		drain:     make(chan struct{}),
		refusals:  make(chan struct{}, maxRefusals),
		listeners: map[net.Listener]bool{},
		links:     map[*link]bool{},
		perAddr:   map[netip.Addr]int{},
		known:     map[netip.Addr]time.Time{},
		refused:   map[refusal]tally{},
	}
	s.o.Store(&o)
	s.buffers.New = func() any { return new(normalizer) }
	s.readers.New = func() any { return bufio.NewReaderSize(nil, largeBuffer) }
	s.force, s.kill = context.WithCancel(context.Background())
	s.lib = smtp.NewServer(smtp.BackendFunc(newSession))
	s.lib.Domain = o.Hostname
	s.lib.AllowInsecureAuth = true // the guard decides where AUTH is offered
	s.lib.ErrorLog = (*libraryLog)(s)
	// Lines, sizes, recipients and time are the guard's: the library refuses a message of exactly its limit, its read
	// timeout turns text into commands, and its line limit ends a connection for a long line of HTML.
	s.lib.MaxLineLength, s.lib.MaxMessageBytes, s.lib.MaxRecipients = 0, 0, 0
	return s, nil
}

// Serve takes connections from l until Shutdown, and then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if !s.begin(l) {
		l.Close()
		return nil
	}
	defer s.wg.Done()
	defer l.Close()
	failures := 0
	for {
		c, err := l.Accept()
		if err == nil {
			failures = 0
			s.admit(c)
			continue
		}
		if s.ending() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", s.o.Load().Address, err)
		}
		// Too many open files, or a client that left before it was accepted: both pass. One line a minute says so.
		if failures++; failures%60 == 1 {
			s.o.Load().Events.Emit(context.Background(), slog.LevelError, event.ConnectionRefused,
				slog.String("listener", s.o.Load().Address), slog.Any("err", fmt.Errorf("accept: %w", err)))
		}
		s.pause(min(time.Duration(failures)*10*time.Millisecond, time.Second))
	}
}

func (s *Server) begin(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.retired {
		return false
	}
	s.listeners[l] = true
	s.wg.Add(1)
	if !s.started {
		s.started = true
		s.wg.Go(func() { s.lib.Serve(s.feed) }) // ends when Shutdown closes the feed
	}
	return true
}

// pause waits, but not once Shutdown has begun.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.drain:
	}
}

// Shutdown stops accepting and tells idle clients 421. Sessions inside DATA may end until ctx does; then they are closed
// by force and the context of their Submit ends. It returns after every goroutine of the server has ended: nil, or ctx's
// error where force was needed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		close(s.drain)
	}
	for l := range s.listeners {
		l.Close()
	}
	for l := range s.links {
		l.interrupt()
	}
	s.mu.Unlock()

	err := s.waitForLinks(ctx)
	s.kill()
	s.feed.Close()
	s.lib.Shutdown(context.Background()) // waits for the library's goroutines, which have nothing left to do
	s.wg.Wait()
	return err
}

// waitForLinks waits until no connection is left, and closes them by force when ctx ends.
func (s *Server) waitForLinks(ctx context.Context) error {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			s.mu.Lock()
			var l *link
			for l = range s.links {
				break
			}
			s.mu.Unlock()
			if l == nil {
				return
			}
			<-l.gone
		}
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	s.kill()
	s.mu.Lock()
	for l := range s.links {
		l.raw.Close()
	}
	s.mu.Unlock()
	<-gone
	return ctx.Err()
}

// libraryLog turns what the library would print into events: it recovers panics of ours and prints them there.
type libraryLog Server

func (s *libraryLog) Printf(format string, v ...any) {
	s.o.Load().Events.Emit(context.Background(), slog.LevelError, event.ConnectionClosed,
		slog.String("listener", s.o.Load().Address), slog.Any("err", fmt.Errorf(format, v...)))
}

func (s *libraryLog) Println(v ...any) { s.Printf("%s", fmt.Sprintln(v...)) }
