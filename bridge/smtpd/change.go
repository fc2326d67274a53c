package smtpd

import (
	"context"
	"fmt"
)

// SetOptions replaces what New was given, for the connections that come from now on; those that are open keep what they
// began with. After an error nothing has changed. Address and Hostname must be the old ones.
func (s *Server) SetOptions(o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	if was := s.o.Load(); o.Address != was.Address || o.Hostname != was.Hostname {
		return fmt.Errorf("listener %s of %s cannot become %s of %s", was.Address, was.Hostname, o.Address, o.Hostname)
	}
	s.o.Store(&o)
	return nil
}

// Retire stops accepting and leaves the sessions that are open to end by themselves; then the server is shut down. Serve
// returns nil at once. Where ctx ends before the last session does, Retire returns ctx's error, and Shutdown is still
// due.
func (s *Server) Retire(ctx context.Context) error {
	s.mu.Lock()
	s.retired = true
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		var open *link
		for open = range s.links {
			break
		}
		s.mu.Unlock()
		if open == nil {
			return s.Shutdown(ctx)
		}
		select {
		case <-open.gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ending reports whether the server has been told not to accept.
func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining || s.retired
}

// Alive reports whether the server still answers: ctx's error where its lock cannot be had in time.
func (s *Server) Alive(ctx context.Context) error {
	free := make(chan struct{})
	go func() { // where it hangs it stays; the process is about to be ended then
		s.mu.Lock()
		defer s.mu.Unlock()
		close(free)
	}()
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it does not answer: %w", ctx.Err())
	}
}
