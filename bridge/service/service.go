// Package service is the way to the system's service manager: systemd on Linux, the service manager and the event log on
// Windows. It installs Postern as a service, controls it, and tells the manager what the running Postern does. It must
// not know mail, the configuration or the rooms: the hall tells a Notifier, and the command line installs. What the
// manager refuses although Postern works without it is a warning and not an error.
package service

import (
	"errors"
	"fmt"
	"time"

	kardianos "github.com/kardianos/service"
)

// Name is the service's, and the source of its entries in the Windows event log.
const Name = "Postern"

// unitName is its name to systemd, where names are in lower case.
const unitName = "postern"

// Options say what is installed.
type Options struct {
	Program string // absolute path of the executable
	Config  string // absolute path of the configuration
	DataDir string // absolute path of the folder of queue and tokens
	LogFile string // absolute path of the log file; "" for none
	// LogFolder is the folder of LogFile, where that lies outside of DataDir; "" otherwise.
	LogFolder string
	// CheckKey says what is wrong with the text of a vault's key file.
	CheckKey func(text []byte) error
}

// Result says what an installation did.
type Result struct {
	Done     []string // in words
	Warnings []string // what the manager refused, and what follows
}

func (r *Result) did(format string, args ...any) {
	r.Done = append(r.Done, fmt.Sprintf(format, args...))
}
func (r *Result) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// ErrNotInstalled says that the manager knows no such service.
var ErrNotInstalled = errors.New("the service is not installed; run: postern service install")

// nothing is what kardianos/service would run; the program runs itself, by Run.
type nothing struct{}

// Start implements kardianos.Interface.
func (nothing) Start(kardianos.Service) error { return nil }

// Stop implements kardianos.Interface.
func (nothing) Stop(kardianos.Service) error { return nil }

func open() (kardianos.Service, error) {
	name := Name
	if kardianos.ChosenSystem() != nil && kardianos.ChosenSystem().String() == "linux-systemd" {
		name = unitName
	}
	s, err := kardianos.New(nothing{}, &kardianos.Config{Name: name, DisplayName: Name})
	if err != nil {
		return nil, fmt.Errorf("no service manager that postern knows: %w", err)
	}
	return s, nil
}

// Control has the manager start, stop or restart the service.
func Control(action string) error {
	if now, err := State(); err != nil {
		return err
	} else if action == "stop" && now.State == "stopped" {
		return nil
	}
	s, err := open()
	if err != nil {
		return err
	}
	switch action {
	case "start":
		err = s.Start()
	case "stop":
		err = s.Stop()
	case "restart":
		err = s.Restart()
	default:
		return fmt.Errorf("%.20q is not what can be done with a service", action)
	}
	if err != nil {
		return fmt.Errorf("%s the service: %w", action, err)
	}
	return nil
}

// Status is what the manager says of the service.
type Status struct {
	State string // running, starting, stopping, stopped, failed or unknown
	Why   string // how it ended, and what to do; "" where it runs, or was stopped
}

// State asks the manager. The error is ErrNotInstalled where it knows no such service; where no manager runs it says what
// to do instead.
func State() (Status, error) {
	if err := managed(); err != nil {
		return Status{}, err
	}
	s, err := ask()
	if err != nil && !errors.Is(err, ErrNotInstalled) {
		err = fmt.Errorf("ask the service manager: %w", err)
	}
	return s, err
}

// Manager is told what Postern does; bridge.Manager describes it.
type Manager interface {
	Ready()
	Reloading()
	Stopping(within time.Duration)
	Alive()
	Every() time.Duration
}
