// Package logbook is the log: stderr, a file that is put aside when it has grown, and the Windows event log. Whoever writes
// never waits for it: what a full disk or a stuck journal does not take is dropped, counted, and told of later. It must not
// know who writes, or the configuration. The hall opens it and makes it a sink of events. A log that cannot be opened is an
// error, because it must stop the start; one that fails later is silent but for the count.
package logbook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"postern/bridge/event"
)

// EventLog is the Windows event log. Safe for concurrent use.
type EventLog interface {
	// Report writes one entry; number is 1 to 1000.
	Report(level slog.Level, number uint32, text string) error
	Close() error
}

// Options say where lines go and how.
type Options struct {
	Level  slog.Level // the least that is written; what a person did is written at each (event.Kind.Audit)
	Format string     // text | json
	To     string     // auto | stderr | file | eventlog
	File   string
	// MaxSize is the octets at which the file is put aside; Keep how many old ones stay, 0 for all.
	MaxSize int64
	Keep    int

	Service      bool // run by the Windows service manager: auto is the file, and the event log for warnings
	Stderr       io.Writer
	OpenEventLog func() (EventLog, error) // nil: there is none
}

// Log is an open log. Safe for concurrent use.
type Log struct {
	*slog.Logger
	level   *slog.LevelVar
	closers []func() error
}

// SetLevel changes the least that is written.
func (l *Log) SetLevel(least slog.Level) { l.level.Set(least) }

// Close writes what is left and closes.
func (l *Log) Close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	return errors.Join(errs...)
}

// Open opens the log. It runs after the identity of data_dir's owner is put on: a file that root made could not be written
// by the service.
func Open(o Options) (*Log, error) {
	l := &Log{level: &slog.LevelVar{}}
	l.level.Set(o.Level)
	to := o.To
	if to == "auto" && o.Service {
		to = "service"
	}
	var handlers []slog.Handler
	if to == "file" || to == "service" {
		h, err := l.file(o)
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
			return nil, errors.Join(err, l.Close())
		}
		if to == "eventlog" {
			h = audited{h}
		}
		handlers = append(handlers, h)
	}
	if len(handlers) == 0 {
		handlers = append(handlers, l.lines(o.Stderr, o.Format))
	}
	l.Logger = slog.New(slog.NewMultiHandler(handlers...))
	return l, nil
}

func (l *Log) file(o Options) (slog.Handler, error) {
	// Opened once here, because lumberjack opens at the first line and a log that cannot be written must stop the start.
	f, err := os.OpenFile(o.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log cannot be written: %w; see file of [log]", err)
	}
	f.Close()
	const megabyte = 1_000_000
	to := &lumberjack.Logger{Filename: o.File, MaxSize: int(max(1, o.MaxSize/megabyte)), MaxBackups: o.Keep}
	l.closers = append(l.closers, to.Close)
	return l.lines(to, o.Format), nil
}

// lines is a handler that writes to a file or a pipe, in its own time.
func (l *Log) lines(to io.Writer, format string) slog.Handler {
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
	return audited{h}
}

// events is a handler that writes to the Windows event log.
func (l *Log) events(open func() (EventLog, error), least slog.Leveler) (slog.Handler, error) {
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
func (l *Log) least(at slog.Level) slog.Leveler { return leastOf{l.level, at} }

type leastOf struct {
	level *slog.LevelVar
	at    slog.Level
}

// Level implements slog.Leveler.
func (l leastOf) Level() slog.Level { return max(l.level.Level(), l.at) }

// audited is a handler that takes the lines of what a person did at every level.
type audited struct{ slog.Handler }

// audit marks the context of such a line.
type audit struct{}

// Enabled implements slog.Handler.
func (h audited) Enabled(ctx context.Context, l slog.Level) bool {
	return ctx.Value(audit{}) != nil || h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h audited) WithAttrs(a []slog.Attr) slog.Handler { return audited{h.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (h audited) WithGroup(name string) slog.Handler { return audited{h.Handler.WithGroup(name)} }

// Sink writes each event as one line: the kind is the message, the attributes follow.
type Sink struct{ Log *slog.Logger }

// Handle implements event.Sink.
func (s Sink) Handle(ctx context.Context, e event.Event) {
	if e.Kind.Audit() {
		ctx = context.WithValue(ctx, audit{}, true)
	}
	if !s.Log.Enabled(ctx, e.Level) {
		return
	}
	r := slog.NewRecord(e.At, e.Level, string(e.Kind), 0)
	r.AddAttrs(e.Attrs...)
	_ = s.Log.Handler().Handle(ctx, r) // a log that cannot be written must not stop mail
}
