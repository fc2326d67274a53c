package graph

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
)

// rawChunk is how much of the message is encoded at a time: a multiple of three, so that no padding falls between.
const rawChunk = 24 << 10

// errClosed is what the HTTP client reads once the body was taken away from it.
var errClosed = errors.New("the request is over")

// sourceError is trouble on our side of the request: the stored body or the in-doubt record.
type sourceError struct {
	what string
	err  error
}

func (e *sourceError) Error() string { return e.what + ": " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// fromSource reports whether err is trouble on our side.
func fromSource(err error) bool {
	var e *sourceError
	return errors.As(err, &e)
}

// once commits the in-doubt record one time, however many requests the message takes. A failed commit may be tried
// again. The bodies of one message are read one after the other.
type once struct {
	commit func(context.Context) error
	done   bool
}

func (o *once) do(ctx context.Context) error {
	if o.done {
		return nil
	}
	if err := o.commit(ctx); err != nil {
		return &sourceError{"the in-doubt record", err}
	}
	o.done = true
	return nil
}

// body is the request's body: the message in base64 without line breaks, encoded as it is read. It gives away its last
// chunk only when the message had exactly the announced length and the in-doubt record is committed; until then the
// server cannot have the whole message. The HTTP client reads and closes it in a goroutine of its own.
type body struct {
	mu       sync.Mutex // guards all below
	raw      io.Reader
	closer   io.Closer
	left     int64        // octets of the message not encoded yet
	commit   func() error // called once, before the last chunk
	pending  []byte       // encoded and not read yet
	plain    [rawChunk]byte
	encoded  [rawChunk / 3 * 4]byte
	released bool  // the last chunk may have left
	err      error // why nothing more is read
}

// newBody encodes header and stored, which have size octets together. commit is called before the last chunk is given
// away.
func newBody(header []byte, stored io.ReadCloser, size int64, commit func() error) *body {
	return &body{raw: io.MultiReader(bytes.NewReader(header), stored), closer: stored, left: size, commit: commit}
}

// encodedSize is the request's Content-Length for a message of n octets.
func encodedSize(n int64) int64 { return (n + 2) / 3 * 4 }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if len(b.pending) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		if b.err = b.fill(); b.err != nil {
			return 0, b.err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}

// fill encodes the next chunk.
func (b *body) fill() error {
	chunk := b.plain[:min(rawChunk, b.left)]
	if _, err := io.ReadFull(b.raw, chunk); err != nil {
		return &sourceError{"the stored body", err}
	}
	b.left -= int64(len(chunk))
	if b.left == 0 {
		if err := b.atEnd(); err != nil {
			return err
		}
		if err := b.commit(); err != nil {
			return err
		}
		b.released = true
	}
	b.pending = base64.StdEncoding.AppendEncode(b.encoded[:0], chunk)
	return nil
}

// atEnd checks that the message is not longer than was announced: it would arrive cut.
func (b *body) atEnd() error {
	var extra [1]byte
	switch _, err := io.ReadFull(b.raw, extra[:]); err {
	case io.EOF:
		return nil
	case nil:
		return &sourceError{"the stored body", errors.New("it is longer than its size in the queue")}
	default:
		return &sourceError{"the stored body", fmt.Errorf("at its end: %w", err)}
	}
}

// Close implements io.Closer. It waits for a Read under way, so that afterwards nothing more can be released.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closer == nil {
		return nil
	}
	err := b.closer.Close()
	b.closer = nil
	if b.err == nil {
		b.err = errClosed
	}
	return err
}

// outcome returns, once the body is closed, whether its last chunk may have left, and the trouble on our side, if any.
func (b *body) outcome() (released bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if fromSource(b.err) {
		return b.released, b.err
	}
	return b.released, nil
}
