package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"postern/bridge/config"
	"postern/bridge/event"
)

// EventLog is the Windows event log. Safe for concurrent use.
type EventLog interface {
	// Report writes one entry; number is 1 to 1000.
	Report(level slog.Level, number uint32, text string) error
	Close() error
}

// logs is the open log.
type logs struct {
	log     *slog.Logger
	level   *slog.LevelVar
	closers []func() error
}

// close writes what is left and closes.
func (l *logs) close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	return errors.Join(errs...)
}

// openLogs opens the log that [log] asks for. It runs after the identity of data_dir's owner is put on: a file that root
// made could not be written by the service.
func openLogs(c config.Log, o Options) (*logs, error) {
	l := &logs{level: &slog.LevelVar{}}
	l.level.Set(c.Level)
	to := c.To
	if to == "auto" && o.Service {
		to = "service"
	}
	var handlers []slog.Handler
	if to == "file" || to == "service" {
		h, err := l.file(c)
		if err != nil {
			return nil, err
		}
		handlers = append(handlers, h)
	}
	if (to == "eventlog" || to == "service") && o.OpenEventLog != nil {
		least := l.least(slog.LevelDebug)
		if to == "service" {
			least = l.least(slog.LevelWarn) // the file has the rest
		}
		h, err := l.events(o.OpenEventLog, least)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		handlers = append(handlers, h)
	}
	if len(handlers) == 0 {
		handlers = append(handlers, l.lines(o.Stderr, c.Format))
	}
	l.log = slog.New(slog.NewMultiHandler(handlers...))
	return l, nil
}

func (l *logs) file(c config.Log) (slog.Handler, error) {
	// Opened once here, because lumberjack opens at the first line and a log that cannot be written must stop the start.
	f, err := os.OpenFile(c.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log file: %w", err)
	}
	f.Close()
	const megabyte = 1_000_000
	to := &lumberjack.Logger{Filename: c.File, MaxSize: int(max(1, c.MaxSize/megabyte)), MaxBackups: c.Keep}
	l.closers = append(l.closers, to.Close)
	return l.lines(to, c.Format), nil
}

// lines is a handler that writes to a file or a pipe, in its own time.
func (l *logs) lines(to io.Writer, format string) slog.Handler {
	p := newPump(func(line entry) error {
		_, err := to.Write(line.text)
		return err
	})
	l.closers = append(l.closers, p.close)
	opts := &slog.HandlerOptions{Level: l.level}
	var h slog.Handler = slog.NewTextHandler(p, opts)
	if format == "json" {
		h = slog.NewJSONHandler(p, opts)
	}
	p.report = func(n int64) { tellDropped(h, n) }
	return h
}

// events is a handler that writes to the Windows event log.
func (l *logs) events(open func() (EventLog, error), least slog.Leveler) (slog.Handler, error) {
	to, err := open()
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	l.closers = append(l.closers, to.Close)
	p := newPump(func(e entry) error { return to.Report(e.level, e.number, string(e.text)) })
	l.closers = append(l.closers, p.close)
	h := &eventHandler{pump: p, least: least}
	p.report = func(n int64) { tellDropped(h, n) }
	return h, nil
}

// tellDropped says in the log that lines are missing. Lines that are dropped now are told of with the next.
func tellDropped(h slog.Handler, n int64) {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, string(event.LogDropped), 0)
	r.AddAttrs(slog.Int64("lines", n))
	_ = h.Handle(context.Background(), r) // a pump's Write never fails
}

// least is the log's level, but never below l.
func (l *logs) least(at slog.Level) slog.Leveler { return leastOf{l.level, at} }

type leastOf struct {
	level *slog.LevelVar
	at    slog.Level
}

// Level implements slog.Leveler.
func (l leastOf) Level() slog.Level { return max(l.level.Level(), l.at) }

// logSink writes each event as one line: the kind is the message, the attributes follow.
type logSink struct{ log *slog.Logger }

// Handle implements event.Sink.
func (s logSink) Handle(ctx context.Context, e event.Event) {
	if !s.log.Enabled(ctx, e.Level) {
		return
	}
	r := slog.NewRecord(e.At, e.Level, string(e.Kind), 0)
	r.AddAttrs(e.Attrs...)
	_ = s.log.Handler().Handle(ctx, r) // a log that cannot be written must not stop mail
}
