package logbook

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/bridge/event"
)

const (
	pumpLines = 4096            // that may wait for a log that is slow
	pumpGrace = 2 * time.Second // at the stop, for what waits; a log that is stuck must not hold it up
)

// entry is one line of a log.
type entry struct {
	level  slog.Level
	number uint32 // in the Windows event log
	text   []byte
}

// pump stands between the rooms and a log: whoever logs never waits for a full disk, a stuck journal or a closed pipe.
// What cannot be written is dropped and counted, and told of once it can be written again.
type pump struct {
	write  func(entry) error
	report func(dropped int64) // tells of dropped lines, by the pump; set before the first line

	lines   chan entry
	dropped atomic.Int64
	stop    chan struct{}
	ended   chan struct{}
	once    sync.Once
}

func newPump(write func(entry) error) *pump {
	p := &pump{write: write, lines: make(chan entry, pumpLines), stop: make(chan struct{}), ended: make(chan struct{})}
	go p.run()
	return p
}

// Write implements io.Writer for slog's handlers, which call it once for each line. It never fails.
func (p *pump) Write(b []byte) (int, error) {
	p.put(entry{text: bytes.Clone(b)})
	return len(b), nil
}

func (p *pump) put(e entry) {
	select {
	case p.lines <- e:
	default:
		p.dropped.Add(1)
	}
}

func (p *pump) run() {
	defer close(p.ended)
	for {
		select {
		case e := <-p.lines:
			p.one(e)
		case <-p.stop:
			for {
				select {
				case e := <-p.lines:
					p.one(e)
				default:
					return
				}
			}
		}
	}
}

func (p *pump) one(e entry) {
	if p.write(e) != nil {
		p.dropped.Add(1)
		return
	}
	if n := p.dropped.Swap(0); n > 0 {
		p.report(n)
	}
}

// close writes what waits, for a short time.
func (p *pump) close() error {
	p.once.Do(func() { close(p.stop) })
	t := time.NewTimer(pumpGrace)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
	}
	return nil
}

// eventHandler writes records to the Windows event log: the event's number, and its text without time and level, which
// the event log has itself.
type eventHandler struct {
	pump  *pump
	least slog.Leveler
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (h *eventHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least.Level() }

// Handle implements slog.Handler.
func (h *eventHandler) Handle(ctx context.Context, r slog.Record) error {
	var text strings.Builder
	out := slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug - 100, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}}).WithAttrs(h.attrs)
	if err := out.Handle(ctx, r); err != nil {
		return err
	}
	h.pump.put(entry{level: r.Level, number: event.NumberOf(event.Kind(r.Message)),
		text: []byte(strings.TrimSpace(r.Message + "\r\n" + text.String()))})
	return nil
}

// WithAttrs implements slog.Handler.
func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &eventHandler{pump: h.pump, least: h.least, attrs: append(slices.Clone(h.attrs), attrs...)}
}

// WithGroup implements slog.Handler; nothing here uses groups.
func (h *eventHandler) WithGroup(string) slog.Handler { return h }
