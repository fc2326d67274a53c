package smtpd

import (
	"errors"
	"math"
	"os"
	"time"
)

// restAfter is how long a client may be silent between two messages before the library is let go.
const restAfter = time.Second

// nextCommand is a command for the library, or "" as readCommand.
func (g *guard) nextCommand() string {
	switch {
	case g.rested:
		g.rested = false
		return g.pass("HELO guard.invalid", 250, "")
	case g.rests():
		return ""
	}
	return g.readCommand()
}

// rests lets the library go where the client is idle between two messages. The library has two buffers of 4 KB for each
// connection, and its goroutine a stack that a TLS handshake has made large; together that is most of what an idle client
// costs. Nothing in them is needed: what the dialogue has come to, the guard knows. So the library's connection ends as it
// does at STARTTLS, a small goroutine waits, and at the client's next octet a new connection comes out of Accept. It
// returns false where there is something to read or to tell.
func (g *guard) rests() bool {
	if g.tx.active || g.in.Buffered() > 0 {
		return false
	}
	if g.flush(); g.err != nil {
		return false
	}
	g.narrow()
	if !g.await(g.o.restAfter) {
		return false
	}
	_, err := g.in.Peek(1)
	stopping, silent := g.awake(), errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !silent {
		g.err = err
	}
	if !silent || stopping || !time.Now().Before(g.until) {
		return false
	}
	next := newGuard(g.link, true)
	next.helo, next.extended, next.rested = g.helo, g.extended, g.helo != ""
	next.user, next.loginFailed, next.dataRefused = g.user, g.loginFailed, g.dataRefused
	g.mode, g.handed = ended, true
	g.s.wg.Go(next.rest) // Shutdown waits for the link first, so Wait has not begun
	return true
}

// rest waits for the client's next octet and hands the connection to the library again.
func (g *guard) rest() {
	pushed := false
	defer func() {
		if !pushed {
			g.Close()
		}
	}()
	defer g.recover(nil)
	if !g.await(math.MaxInt64) {
		g.stopReading(errStopping)
		return
	}
	if g.spare != nil {
		g.spare.resting = true
	}
	_, err := g.in.Peek(1)
	if err = g.roused(err); err != nil {
		g.stopReading(err)
		return
	}
	pushed = g.s.feed.push(g)
}
