package control

import (
	"context"
	"net"
	"net/http"
)

// callerKey is the key of the caller's name in a request's context.
type callerKey struct{}

// Caller returns the name of the system's user who asks, for audit lines: "" where no request came through control.
func Caller(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// nameCallers makes the server find out who is at the other end of each connection.
func nameCallers(s *http.Server) {
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, callerKey{}, peerName(conn))
	}
}
