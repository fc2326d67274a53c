package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/auth/token"
)

// Loopback is an address on this machine that the browser comes back to: http://localhost:PORT, bound for IPv4 and IPv6
// alike, because nobody knows which of them the browser's localhost is, and another user of the machine must not have the
// other one.
type Loopback struct {
	Attempt *Attempt // what it takes an answer to; its redirect URI is this address

	host      string // localhost:PORT
	listeners []net.Listener
	server    *http.Server
	served    sync.WaitGroup

	mu      sync.Mutex // guards used
	used    bool       // the attempt was answered
	got     chan answer
	verdict chan page // what the browser is to show in the end; closed by Close
	closing sync.Once
}

type answer struct {
	code token.Secret
	err  error
}

// Listen binds a random port for both families and serves it until Close. A machine without IPv6 is no failure.
func Listen() (*Loopback, error) {
	const tries = 20
	var err error
	for range tries {
		var both []net.Listener
		if both, err = listenBoth(); err == nil {
			return serve(both), nil
		}
		if !errors.Is(err, errTaken) {
			break
		}
	}
	return nil, fmt.Errorf("no port on this machine's loopback can be had for the browser to come back to: %w", err)
}

// errTaken says that somebody has the port in one family only.
var errTaken = errors.New("the port is taken")

func listenBoth() ([]net.Listener, error) {
	config := net.ListenConfig{Control: exclusive}
	four, err := config.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(four.Addr().String())
	six, err := config.Listen(context.Background(), "tcp6", "[::1]:"+port)
	switch {
	case err == nil:
		return []net.Listener{four, six}, nil
	case noIPv6(err):
		return []net.Listener{four}, nil
	}
	four.Close()
	return nil, fmt.Errorf("%w: %w", errTaken, err)
}

// noIPv6 reports a machine without it: only there may [::1] be left alone, since nobody else can have it either.
func noIPv6(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) ||
		errors.Is(err, wsaAddressNotAvailable) || errors.Is(err, wsaFamilyNotSupported)
}

// The numbers of Windows Sockets for the same; package syscall has its own there.
const (
	wsaAddressNotAvailable = syscall.Errno(10049)
	wsaFamilyNotSupported  = syscall.Errno(10047)
)

func serve(listeners []net.Listener) *Loopback {
	port := listeners[0].Addr().(*net.TCPAddr).Port
	l := &Loopback{
		host:      "localhost:" + strconv.Itoa(port),
		listeners: listeners, got: make(chan answer, 1), verdict: make(chan page, 1),
	}
	l.Attempt = NewAttempt("http://" + l.host)
	l.server = &http.Server{
		Handler:           http.HandlerFunc(l.handle),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    256 << 10, // a code is long, and other programs' cookies for localhost come along
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	for _, ln := range listeners {
		l.served.Go(func() { _ = l.server.Serve(ln) }) // ends with ErrServerClosed
	}
	return l
}

// Wait returns the code that answers the attempt; the error is a *Refusal where the provider sent one. The browser is kept
// waiting until Show or Close. It is called once.
func (l *Loopback) Wait(ctx context.Context) (token.Secret, error) {
	select {
	case got := <-l.got:
		return got.code, got.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Show tells the person in the browser how it ended; text is a sentence. It is called once, after Wait.
func (l *Loopback) Show(ok bool, text string) {
	if ok {
		l.verdict <- page{status: http.StatusOK, title: "Signed in", text: text}
	} else {
		l.verdict <- page{status: http.StatusOK, title: "Not signed in", text: text}
	}
}

// Close gives up the port, after the browser has got its last page.
func (l *Loopback) Close() {
	l.closing.Do(func() { close(l.verdict) })
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		l.server.Close()
	}
	l.served.Wait()
}

// handle answers the browser. What does not belong to the attempt (a favicon, a stray page, a probe) uses nothing up.
func (l *Loopback) handle(w http.ResponseWriter, r *http.Request) {
	switch {
	case !strings.EqualFold(r.Host, l.host):
		// A foreign web page whose name was made to point here (DNS rebinding).
		write(w, page{status: http.StatusMisdirectedRequest, title: "Wrong address", text: "This is not the address that was asked for."})
		return
	case r.URL.Path != "/":
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		write(w, page{status: http.StatusBadRequest, title: "Not signed in", text: "This address cannot be read. Sign in again from the terminal."})
		return
	}
	if p, mine := l.take(q); !mine {
		write(w, p)
		return
	}
	select {
	case p, ok := <-l.verdict:
		if !ok {
			p = page{status: http.StatusOK, title: "Not signed in", text: "The sign-in was given up. See the terminal."}
		}
		write(w, p)
	case <-r.Context().Done(): // the window was closed; the terminal tells
	}
}

// take hands the first answer to the attempt on. Where it is none, the page says why.
func (l *Loopback) take(q url.Values) (p page, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	code, err := l.Attempt.read(q)
	var refusal *Refusal
	switch {
	case err != nil && !errors.As(err, &refusal):
		return page{status: http.StatusBadRequest, title: "Not signed in", text: "This is no answer to the sign-in that is waiting: " + err.Error() + "."}, false
	case l.used:
		return page{status: http.StatusConflict, title: "Used before", text: "This sign-in was answered already. See the terminal."}, false
	}
	l.used = true
	l.got <- answer{code, err}
	return page{}, true
}
