//go:build !windows

package service

import (
	"context"
	"errors"
	"log/slog"
)

// Run makes the process the Windows service; elsewhere there is none.
func Run(func(context.Context, Manager, <-chan struct{}) error) error {
	return errors.New("--service is for the Windows service manager alone; systemd runs: postern run")
}

// EventLog is the Windows event log.
type EventLog struct{}

// Report writes one entry.
func (*EventLog) Report(slog.Level, uint32, string) error { return nil }

// Close closes it.
func (*EventLog) Close() error { return nil }

// OpenEventLog fails: it is Windows' own.
func OpenEventLog() (*EventLog, error) {
	return nil, errors.New("the event log is there on Windows alone")
}
