package bridge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"gopkg.in/natefinch/lumberjack.v2"

	"postern/bridge/config"
	"postern/bridge/event"
)

// NewLogger returns the logger that [log] asks for, and what to close when it is no longer used. stderr is where
// "stderr" and "auto" go.
func NewLogger(c config.Log, stderr io.Writer) (*slog.Logger, io.Closer, error) {
	var to io.Writer = stderr
	closer := io.Closer(io.NopCloser(nil))
	if c.To == "file" {
		// Opened once here, because lumberjack opens at the first line and a log that cannot be written must stop the start.
		f, err := os.OpenFile(c.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("open the log file: %w", err)
		}
		f.Close()
		const megabyte = 1_000_000
		l := &lumberjack.Logger{Filename: c.File, MaxSize: int(max(1, c.MaxSize/megabyte)), MaxBackups: c.Keep}
		to, closer = l, l
	}
	opts := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, opts)), closer, nil
	}
	return slog.New(slog.NewTextHandler(to, opts)), closer, nil
}

// logSink writes each event as one line: the kind is the message, the attributes follow.
type logSink struct{ log *slog.Logger }

// Handle implements event.Sink.
func (s logSink) Handle(ctx context.Context, e event.Event) {
	if !s.log.Enabled(ctx, e.Level) {
		return
	}
	r := slog.NewRecord(e.At, e.Level, string(e.Kind), 0)
	r.AddAttrs(e.Attrs...)
	s.log.Handler().Handle(ctx, r) // a log that cannot be written must not stop mail
}
