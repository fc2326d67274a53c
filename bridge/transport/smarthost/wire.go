package smarthost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// maxReply limits one reply with all its lines; go-smtp's client has no limit, and a server may send 250- for ever.
	maxReply = 64 << 10

	// maxLine is what the library sees of one line. It gives up at 2,000 octets, and Exchange's diagnostics can be longer:
	// a 554 must stay a 554.
	maxLine = 1900
)

var (
	errReplyTooLong = fmt.Errorf("reply is longer than %d octets", maxReply)
	errAuthOver     = errors.New("AUTH is over")
)

// wire is the conn that go-smtp's client speaks through. It owns the deadlines, because the client sets and clears its
// own at every command and has none while it writes a body: a reply has one limit from its first to its last octet,
// whatever trickles in. It hands replies on line by line, within limits, mended where a server is careless, and without
// the secrets that were sent. One goroutine uses it; raw may be closed by another.
type wire struct {
	net.Conn          // TCP, or TLS over it
	raw      net.Conn // TCP: closing it ends whatever blocks, and sends no TLS alert to a peer that does not read

	r          *bufio.Reader
	ready      []byte // of the current reply: mended, not yet read by the library
	replySize  int
	inReply    bool          // the deadline of the current reply has been set
	replyLimit time.Duration // for the reply that comes next
	writeLimit time.Duration // for one write

	last     string   // the last line of a reply, for events
	secrets  []string // never handed on in a reply
	writeErr error    // the first write that failed: its octets, and all later ones, were not sent completely
}

func newWire(c, raw net.Conn, l Timeouts) *wire {
	return &wire{Conn: c, raw: raw, r: bufio.NewReader(c), replyLimit: l.Command, writeLimit: l.DataBlock}
}

// expect sets the time that the next reply may take, counted from when it is first waited for.
func (w *wire) expect(limit time.Duration) { w.replyLimit = limit }

// SetDeadline does nothing: the library's deadlines are not ours.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// Write sends, within the limit of one write.
func (w *wire) Write(b []byte) (int, error) {
	// The library answers every refused AUTH with a stray "*", and waits for an answer to that.
	if bytes.Equal(b, []byte("*\r\n")) {
		return 0, errAuthOver
	}
	w.inReply = false
	w.Conn.SetWriteDeadline(time.Now().Add(w.writeLimit))
	n, err := w.Conn.Write(b)
	if err != nil && w.writeErr == nil {
		w.writeErr = err
	}
	return n, err
}

// Read gives at most one line of a reply at a time.
func (w *wire) Read(b []byte) (int, error) {
	if len(w.ready) == 0 {
		line, err := w.readLine()
		if err != nil {
			return 0, err
		}
		w.ready = line
	}
	n := copy(b, w.ready)
	w.ready = w.ready[n:]
	return n, nil
}

// readLine returns the next line of the reply with CRLF, cut to maxLine.
func (w *wire) readLine() ([]byte, error) {
	if !w.inReply {
		w.inReply, w.replySize = true, 0
		w.Conn.SetReadDeadline(time.Now().Add(w.replyLimit))
	}
	var line []byte
	for {
		part, err := w.r.ReadSlice('\n')
		if w.replySize += len(part); w.replySize > maxReply {
			return nil, errReplyTooLong
		}
		line = append(line, part[:min(len(part), max(0, maxLine-len(line)))]...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
	text := redact(string(bytes.TrimRight(line, "\r\n")), w.secrets)
	// Exchange's own sample has "334" without the blank; RFC 5321 section 4.2 lets any reply end after its code.
	if len(text) == 3 {
		text += " "
	}
	w.last = text
	return append([]byte(text), '\r', '\n'), nil
}

// unread hands a line to the library as if it came now.
func (w *wire) unread(line string) { w.ready = append([]byte(line), '\r', '\n') }

// quiet reports whether nothing unasked has been received.
func (w *wire) quiet() bool { return len(w.ready) == 0 && w.r.Buffered() == 0 }

// watch closes raw when ctx ends. The function it returns ends the watch and reports whether ctx ended first.
func watch(ctx context.Context, raw net.Conn) (release func() bool) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		raw.Close()
		close(closed)
	})
	return func() bool {
		if stop() {
			return false
		}
		<-closed
		return true
	}
}

// newLineReader reads no further than the line it is asked for, because wire gives one at a time.
func newLineReader(w *wire) *bufio.Reader { return bufio.NewReaderSize(w, maxLine+2) }
