//go:build !linux

package service

import (
	"errors"

	kardianos "github.com/kardianos/service"
)

// managed reports whether a service manager is there; Windows always has one.
func managed() error { return nil }

func ask() (Status, error) {
	s, err := open()
	if err != nil {
		return Status{}, err
	}
	switch state, err := s.Status(); {
	case errors.Is(err, kardianos.ErrNotInstalled):
		return Status{}, ErrNotInstalled
	case err != nil:
		return Status{}, err
	case state == kardianos.StatusRunning:
		return Status{State: "running"}, nil
	case state == kardianos.StatusStopped:
		return Status{State: "stopped"}, nil
	}
	return Status{State: "unknown"}, nil
}
