package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
)

// Run makes the process the Windows service, and returns when it has stopped. f is the service: it lives until its
// context ends, tells the manager, and hears of each reload by the channel. Where f's error has Quiet() true (a wrong
// configuration) the service ends with code 0, so that the recovery actions do not start it again and again; after any
// other error with code 1, and they do.
func Run(f func(ctx context.Context, m Manager, reload <-chan struct{}) error) error {
	h := &handler{run: f}
	if err := svc.Run(Name, h); err != nil {
		return fmt.Errorf("this process was not started by the service manager: %w; without --service it runs in the foreground", err)
	}
	return h.err
}

// handler is the service to the manager.
type handler struct {
	run func(context.Context, Manager, <-chan struct{}) error
	err error
}

const accepts = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange

// patience is how long the manager waits for the next sign while starting or stopping.
const patience = 10 * time.Second

// Execute implements svc.Handler.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	m := &manager{told: status, now: svc.Status{State: svc.StartPending, WaitHint: uint32(patience.Milliseconds())}}
	m.say()
	reload := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- h.run(ctx, m, reload) }()
	sign := time.NewTicker(patience / 3)
	defer sign.Stop()
	for {
		select {
		case h.err = <-ended:
			var quiet interface{ Quiet() bool }
			if h.err == nil || errors.As(h.err, &quiet) && quiet.Quiet() {
				return false, 0
			}
			return true, 1
		case <-sign.C:
			m.progress()
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				m.say()
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				m.Stopping(patience)
				stop()
			case svc.ParamChange:
				select {
				case reload <- struct{}{}:
				default: // one is waiting already
				}
			}
		}
	}
}

// manager is the running service's way to the service manager.
type manager struct {
	told chan<- svc.Status

	mu  sync.Mutex // guards now, and the order of what is told
	now svc.Status
}

func (m *manager) say() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told <- m.now
}

func (m *manager) set(s svc.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.State == svc.StopPending {
		return // it does not come back
	}
	m.now = s
	m.told <- m.now
}

// progress tells that starting or stopping goes on: without a sign the manager takes it for hung.
func (m *manager) progress() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.State == svc.StartPending || m.now.State == svc.StopPending {
		m.now.CheckPoint++
		m.told <- m.now
	}
}

// Ready implements Manager.
func (m *manager) Ready() { m.set(svc.Status{State: svc.Running, Accepts: accepts}) }

// Reloading implements Manager; Windows has no such state.
func (m *manager) Reloading() {}

// Stopping implements Manager.
func (m *manager) Stopping(time.Duration) {
	m.set(svc.Status{State: svc.StopPending, WaitHint: uint32(patience.Milliseconds())})
}

// Alive implements Manager; Windows has no watchdog.
func (m *manager) Alive() {}

// Every implements Manager.
func (m *manager) Every() time.Duration { return 0 }

// EventLog is the Windows event log under our name.
type EventLog struct{ log *eventlog.Log }

// OpenEventLog opens it. It works also where the source was never registered; the viewer shows the text then behind a
// sentence of its own.
func OpenEventLog() (*EventLog, error) {
	l, err := eventlog.Open(Name)
	if err != nil {
		return nil, err
	}
	return &EventLog{l}, nil
}

// maxEventText is what an entry may have, in characters (ReportEvent: 31,839).
const maxEventText = 31_000

// Report writes one entry; number is 1 to 1000.
func (e *EventLog) Report(level slog.Level, number uint32, text string) error {
	if len(text) > maxEventText {
		text = text[:maxEventText]
	}
	switch {
	case level >= slog.LevelError:
		return e.log.Error(number, text)
	case level >= slog.LevelWarn:
		return e.log.Warning(number, text)
	}
	return e.log.Info(number, text)
}

// Close closes it.
func (e *EventLog) Close() error { return e.log.Close() }
