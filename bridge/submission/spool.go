package submission

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"postern/bridge/reply"
)

// spoolMemory is how much of a message is kept in memory until it is decided; what is more goes to a file, which has to ask
// for room each time before so many octets are added.
const (
	spoolMemory = 256 << 10
	spoolRoom   = 256 << 10
)

// spool reads ahead, for a decision that needs the size, and then yields everything again.
type spool struct {
	from   io.Reader
	dir    string // for the file
	room   func(octets int) error
	full   func(error) bool // whether a write found no room
	free   int              // octets that the file may take before it asks again
	memory bytes.Buffer
	file   *os.File
	n      int64 // octets kept
	end    error // of from: io.EOF or what went wrong
	reread int64 // octets of the file that were yielded
}

// larger reports whether there are more than n octets. It reads no further than to know it.
func (s *spool) larger(n int64) (bool, error) {
	buf := make([]byte, 32<<10)
	for s.n <= n && s.end == nil {
		k, err := s.from.Read(buf[:min(int64(len(buf)), n+1-s.n)])
		if kept := s.keep(buf[:k]); kept != nil {
			return false, s.refusal(kept)
		}
		s.end = err
	}
	if s.n > n {
		return true, nil
	}
	if errors.Is(s.end, io.EOF) {
		return false, nil
	}
	return false, s.end
}

func (s *spool) keep(b []byte) (err error) {
	s.n += int64(len(b))
	if s.file == nil && s.memory.Len()+len(b) <= spoolMemory {
		s.memory.Write(b)
		return nil
	}
	if s.free < len(b) {
		if err := s.room(spoolRoom); err != nil {
			return err
		}
		s.free += spoolRoom
	}
	s.free -= len(b)
	if s.file == nil {
		if s.file, err = os.CreateTemp(s.dir, "spool-*"); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	_, err = s.file.Write(b)
	return err
}

// refusal is what the application hears of a message that could not be kept.
func (s *spool) refusal(err error) error {
	var refusal *reply.Error
	switch {
	case errors.As(err, &refusal):
		return err
	case !s.full(err):
		return &reply.Error{Code: 451, Enhanced: "4.3.0", Text: "the message could not be kept; try again later", Err: err}
	}
	if short := s.room(spoolRoom); short != nil {
		return short // and a person is told
	}
	return &reply.Error{Code: 452, Enhanced: "4.3.1", Text: "insufficient system storage; try again later", Err: err}
}

// Read yields what was kept and then the rest.
func (s *spool) Read(p []byte) (int, error) {
	if s.memory.Len() > 0 {
		return s.memory.Read(p)
	}
	if s.file != nil {
		n, err := s.file.ReadAt(p, s.reread)
		s.reread += int64(n)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, ignoreEOF(err)
		}
	}
	if s.end != nil {
		return 0, s.end
	}
	return s.from.Read(p)
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// close removes the file.
func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}
