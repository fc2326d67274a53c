package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"postern/bridge/event"
)

// Limits of lines, in octets with the line end (RFC 5321 section 4.5.3.1, RFC 4954 section 4).
const (
	maxCommand = 2048   // extensions may lengthen the 512 of the RFC; 2 KB holds all that we announce
	maxAuth    = 12_288 // a base64 line of AUTH
	maxSkipped = 64 * 1024
	maxDiscard = 64 << 20 // of a message that is refused already, or four times the largest
	maxText    = 1 << 20  // of the message: old applications write HTML or base64 without line ends
)

// Buffers of what the client sends: an idle connection has a small one, as thousands may be idle, and DATA a large one.
const (
	smallBuffer = 512
	largeBuffer = 16 * 1024
)

const tlsHandshake = 0x16 // the first octet of a client that speaks TLS

// Why a line cannot be had. Those that end the connection say so.
var (
	errTooLong = errors.New("a command line is too long")
	errEndless = errors.New("a command line does not end")
	errBareLF  = errors.New("a command line ends in a bare line feed")
	errHello   = errors.New("the client speaks TLS to a listener that does not expect it; " +
		"set the client to no encryption or STARTTLS, or this listener to tls = \"implicit\"")
	errStopping = errors.New("the service is stopping")
	errTimeout  = errors.New("the client was silent for too long")
	errNoEnd    = errors.New("the client sends a message without end")
	errTooSlow  = errors.New("the client sent its message too slowly")
)

// link is one client's connection from accept to close. It owns every deadline and all octets in both directions; it
// outlives the library's connection when STARTTLS makes a second one of it. Only the goroutine that serves it uses it,
// but for interrupt, raw and gone.
type link struct {
	s      *Server
	o      *Options // as they were when the connection was opened
	raw    net.Conn // the socket; closed by force at any time
	conn   net.Conn // raw, or TLS over spare
	spare  *spare   // raw, once there is TLS
	in     *bufio.Reader
	large  bool   // in is one of Server.readers
	out    []byte // replies not sent yet
	err    error  // what ended reading or writing; nothing is read or written after it
	secure bool   // TLS is up
	remote netip.Addr
	opened time.Time
	useful time.Time     // when it was opened or its last message was taken
	until  time.Time     // when the command line that is waited for must be there; zero between two
	cause  error         // why it was closed, for the log
	gone   chan struct{} // closed when the server has forgotten it

	failedLogins int
	badCommands  int
	linger       bool // closing while the client may still be sending

	mu       sync.Mutex // guards what follows
	idle     bool       // waiting for a command
	stopping bool
}

func newLink(s *Server, o *Options, c net.Conn, remote netip.Addr) *link {
	now := time.Now()
	return &link{
		s: s, o: o, raw: c, conn: c, in: bufio.NewReaderSize(c, smallBuffer), remote: remote, opened: now, useful: now, gone: make(chan struct{}),
	}
}

// interrupt wakes a client that is idle; one that is inside DATA hears of the shutdown after it.
func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = true
	if l.idle {
		l.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// await begins the wait for a command line, or goes on with it, for so long at most; false once the service is stopping.
func (l *link) await(most time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return false
	}
	l.idle = true
	now := time.Now()
	if l.until.IsZero() {
		// A client that says NOOP for ever is idle too.
		l.until = now.Add(min(l.o.CommandTimeout, l.useful.Add(l.o.SessionTimeout).Sub(now)))
	}
	l.listenUntil(now.Add(min(most, l.until.Sub(now))))
	return true
}

// listenUntil sets the deadline of what the client is to send. Under TLS it is for writing too: crypto/tls answers a
// KeyUpdate from inside Read, when the deadline of flush may be long past. Without, that one is left alone: to be brought
// forward again by each flush costs the runtime more than to be put off.
func (l *link) listenUntil(t time.Time) {
	if l.secure {
		l.raw.SetDeadline(t)
	} else {
		l.raw.SetReadDeadline(t)
	}
}

func (l *link) awake() (stopping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = false
	return l.stopping
}

// roused ends the wait that await began, and says in our words why no line can be had.
func (l *link) roused(err error) error {
	stopping := l.awake()
	switch {
	case err == nil || err == errTooLong || err == errBareLF || err == errEndless || err == errHello:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded) && stopping:
		return errStopping
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout
	}
	l.err = err
	return err
}

// readLine returns a command line without its line end. A line of AUTH may have limit+maxAuth octets. The deadline is for
// the whole line, so that one octet a minute gains nothing.
func (l *link) readLine(limit int) (string, error) {
	if l.flushUnlessPipelined(); l.err != nil {
		return "", l.err
	}
	l.narrow()
	if !l.await(l.o.CommandTimeout) {
		return "", errStopping
	}
	line, err := l.scanLine(limit)
	l.until = time.Time{}
	return line, l.roused(err)
}

func (l *link) scanLine(limit int) (string, error) {
	if b, err := l.in.Peek(1); err != nil {
		return "", err
	} else if b[0] == tlsHandshake { // it may hold no line end for ever
		return "", errHello
	}
	line, err := l.in.ReadSlice('\n')
	if err == nil && len(line) <= limit {
		return trimLine(line)
	}
	if err != nil && err != bufio.ErrBufferFull {
		return "", err
	}
	if len(line) >= 5 && bytes.EqualFold(line[:5], []byte("AUTH ")) {
		limit += maxAuth
	}
	whole, tooLong := bytes.Clone(line), len(line) > limit
	for skipped := 0; err == bufio.ErrBufferFull; {
		line, err = l.in.ReadSlice('\n')
		if tooLong = tooLong || len(whole)+len(line) > limit; !tooLong {
			whole = append(whole, line...)
		} else if skipped += len(line); skipped > maxSkipped {
			return "", errEndless
		}
	}
	switch {
	case err != nil:
		return "", err
	case tooLong:
		return "", errTooLong
	}
	return trimLine(whole)
}

// trimLine takes the line end off. A program that writes in text mode on Windows sends CR CR LF.
func trimLine(line []byte) (string, error) {
	line = line[:len(line)-1]
	n := len(line)
	if n == 0 || line[n-1] != '\r' {
		return "", errBareLF
	}
	if line = line[:n-1]; n > 1 && line[n-2] == '\r' {
		line = line[:n-2]
	}
	return string(line), nil
}

// widen takes a large buffer for text, with what has arrived already.
func (l *link) widen() {
	if l.large {
		return
	}
	arrived, _ := l.in.Peek(l.in.Buffered()) // has that much
	large := l.s.readers.Get().(*bufio.Reader)
	large.Reset(io.MultiReader(bytes.NewReader(bytes.Clone(arrived)), l.conn))
	l.in, l.large = large, true
}

// narrow gives the large buffer back once it is empty.
func (l *link) narrow() {
	if l.large && l.in.Buffered() == 0 {
		l.giveBack()
		l.in = bufio.NewReaderSize(l.conn, smallBuffer)
	}
}

func (l *link) giveBack() {
	if l.large {
		l.in.Reset(nil)
		l.s.readers.Put(l.in)
		l.large = false
	}
}

// fill waits for text of the message and returns what there is, to be taken by l.in.Discard. waited is the time spent
// waiting so far and received the octets of this message: both make the minimum rate.
func (l *link) fill(waited *time.Duration, received int64) ([]byte, error) {
	if l.err != nil {
		return nil, l.err
	}
	if l.in.Buffered() == 0 {
		left := min(l.o.DataGrace+time.Duration(received/l.o.MinDataRate)*time.Second, l.o.MessageTimeout) - *waited
		start := time.Now()
		l.listenUntil(start.Add(min(l.o.DataTimeout, left)))
		_, err := l.in.Peek(1)
		*waited += time.Since(start)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && left < l.o.DataTimeout:
			return nil, errTooSlow
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errTimeout
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
			fallthrough
		case err != nil:
			l.err = err
			return nil, err
		}
	}
	return l.in.Peek(l.in.Buffered())
}

// peekEarly waits for a client that talks first, and returns its first octet.
func (l *link) peekEarly() (first byte, err error) {
	l.raw.SetReadDeadline(time.Now().Add(l.o.EarlyWait))
	b, err := l.in.Peek(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// say queues one line of a reply.
func (l *link) say(line string) {
	l.out = append(append(l.out, line...), '\r', '\n')
}

// flushUnlessPipelined sends the replies, but not while another whole command has arrived with the last one (RFC 2920
// section 3.2).
func (l *link) flushUnlessPipelined() {
	if n := l.in.Buffered(); n > 0 && len(l.out) < 4096 {
		if b, _ := l.in.Peek(n); bytes.IndexByte(b, '\n') >= 0 {
			return
		}
	}
	l.flush()
}

// flush sends the replies. After a write error nothing more is read: the library would go on, and take as a command what
// the client meant as text.
func (l *link) flush() {
	if len(l.out) == 0 || l.err != nil {
		return
	}
	l.raw.SetWriteDeadline(time.Now().Add(l.o.WriteTimeout))
	if _, err := l.conn.Write(l.out); err != nil {
		l.err = fmt.Errorf("write a reply: %w", err)
	}
	l.out = l.out[:0]
}

// handshake brings TLS up. What had arrived in clear text is not looked at again.
func (l *link) handshake() error {
	l.spare = &spare{Conn: l.raw}
	t := tls.Server(l.spare, l.o.TLSConfig)
	ctx, cancel := context.WithTimeout(l.s.force, l.o.HandshakeTimeout)
	defer cancel()
	l.raw.SetDeadline(time.Time{})
	if err := t.HandshakeContext(ctx); err != nil {
		l.err = fmt.Errorf("TLS handshake: %w", err)
		return l.err
	}
	l.conn, l.secure = t, true
	l.giveBack()
	l.in = bufio.NewReaderSize(t, smallBuffer)
	return nil
}

// close sends what is left and closes. Called once.
func (l *link) close() {
	l.flush()
	if tcp, ok := l.raw.(*net.TCPConn); ok && l.linger && l.err == nil {
		// The client is still sending: closing now would reset the connection and take the reply with it.
		tcp.CloseWrite()
		tcp.SetReadDeadline(time.Now().Add(time.Second))
		io.CopyN(io.Discard, tcp, maxSkipped)
	}
	if l.err != nil || l.linger {
		l.raw.Close()
	} else {
		l.conn.Close()
	}
	level := slog.LevelDebug
	attrs := []slog.Attr{
		slog.String("remote", l.remote.String()), slog.String("listener", l.o.Address),
		slog.Duration("duration", time.Since(l.opened)),
	}
	switch {
	case l.cause != nil && l.cause != errTimeout:
		level, attrs = slog.LevelWarn, append(attrs, slog.Any("err", l.cause))
	case l.cause != nil: // idle between two messages, as some applications always are
		attrs = append(attrs, slog.Any("err", l.cause))
	case l.err != nil && l.err != io.EOF: // gone without QUIT, between two messages
		attrs = append(attrs, slog.Any("err", l.err))
	}
	l.o.Events.Emit(context.Background(), level, event.ConnectionClosed, attrs...)
	l.giveBack()
	l.s.release(l)
}
