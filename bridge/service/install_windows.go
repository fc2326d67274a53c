package service

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

// account is the virtual account that the service runs as: it has no password, and no right but its own.
const account = `NT SERVICE\` + Name

// Install makes Postern a service that starts with the machine, after the others, and does not start it. Over an existing
// installation it upgrades that, and starts the service again where it ran.
func Install(o Options) (r Result, err error) {
	m, err := mgr.Connect()
	if err != nil {
		return r, fmt.Errorf("only an administrator can install a service: %w", err)
	}
	defer m.Disconnect()
	k, err := newKeeper()
	if err != nil {
		return r, err
	}
	if err := k.refuse(o); err != nil {
		return r, err
	}
	s, ran, err := create(&r, m, o)
	if err != nil {
		return r, err
	}
	defer s.Close()
	recovery(&r, s)
	if err := eventlog.InstallAsEventCreate(Name, eventlog.Error|eventlog.Warning|eventlog.Info); err == nil {
		r.did("the event log has the source %s", Name)
	} else if !strings.Contains(err.Error(), "exists") {
		r.warn("the event log refused the source %s: %v; its entries are there, with a sentence of the viewer's before them", Name, err)
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return r, fmt.Errorf("data_dir %s: %w", o.DataDir, err)
	}
	for _, p := range places(o) {
		if err := k.guard(&r, p); err != nil {
			return r, err
		}
	}
	k.program(&r, o)
	if ran {
		if err := s.Start(); err != nil {
			return r, fmt.Errorf("start the service again: %w", err)
		}
		r.did("the service runs again")
	}
	return r, nil
}

// create makes the service, or changes the one that is there; ran says that that one was running, and has been stopped.
func create(r *Result, m *mgr.Mgr, o Options) (s *mgr.Service, ran bool, err error) {
	c := mgr.Config{ServiceType: windows.SERVICE_WIN32_OWN_PROCESS, StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal,
		DisplayName: Name, Description: "A local SMTP-to-OAuth bridge", ServiceStartName: account, Dependencies: []string{"Tcpip"}}
	args := []string{"run", "--service", "--config", o.Config}
	if s, err = m.OpenService(Name); err == nil {
		ran, err = halt(s)
		if err != nil {
			return s, ran, err
		}
		c.BinaryPathName = commandLine(o.Program, args)
		// What it has to say of the delayed start is said below; the rest is in force before that.
		if err := s.UpdateConfig(c); err != nil && !errors.Is(err, windows.ERROR_INVALID_LEVEL) {
			return s, ran, fmt.Errorf("change the service: %w", err)
		}
		r.did("upgraded the service %s", Name)
	} else {
		if s, err = m.CreateService(Name, o.Program, c, args...); err != nil {
			return nil, false, fmt.Errorf("make the service: %w", err)
		}
		r.did("made the service %s, which runs as %s", Name, account)
	}
	// By itself, because a manager that knows no delayed start refuses the whole service otherwise.
	if c, err = s.Config(); err == nil {
		c.DelayedAutoStart, c.Password = true, ""
		err = s.UpdateConfig(c)
	}
	if err != nil {
		r.warn("the manager refused the delayed start: %v; the service starts with the others", err)
	}
	return s, ran, nil
}

// commandLine is the service's, each part quoted where it has a blank: an unquoted path lets anybody who may write to
// C:\ start a program of his own.
func commandLine(program string, args []string) string {
	parts := []string{windows.EscapeArg(program)}
	for _, a := range args {
		parts = append(parts, windows.EscapeArg(a))
	}
	return strings.Join(parts, " ")
}

// halt stops a running service and waits until it has stopped.
func halt(s *mgr.Service) (ran bool, err error) {
	st, err := s.Query()
	if err != nil || st.State == svc.Stopped {
		return false, err
	}
	if _, err := s.Control(svc.Stop); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return true, fmt.Errorf("stop the service: %w", err)
	}
	for range 900 { // stop_grace may be long
		if st, err = s.Query(); err != nil || st.State == svc.Stopped {
			return true, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return true, errors.New("the service does not stop")
}

// recovery has the manager start the service again after a crash and after a stop with another code than 0.
func recovery(r *Result, s *mgr.Service) {
	actions := []mgr.RecoveryAction{{Type: mgr.ServiceRestart, Delay: 5 * time.Second}, {Type: mgr.ServiceRestart, Delay: 30 * time.Second},
		{Type: mgr.ServiceRestart, Delay: time.Minute}}
	const forget = 24 * 60 * 60 // seconds without a failure
	if err := s.SetRecoveryActions(actions, forget); err != nil {
		r.warn("the manager refused the recovery actions: %v; after a crash the service must be started by hand", err)
		return
	}
	if err := s.SetRecoveryActionsOnNonCrashFailures(true); err != nil {
		r.warn("the manager refused to restart the service after a failure that is no crash: %v", err)
		return
	}
	r.did("after a crash or a failure the service is started again, after 5, 30 and 60 seconds")
}

// Uninstall stops and removes the service. Configuration, queue and sign-ins stay.
func Uninstall() (r Result, err error) {
	m, err := mgr.Connect()
	if err != nil {
		return r, fmt.Errorf("only an administrator can remove a service: %w", err)
	}
	defer m.Disconnect()
	s, err := m.OpenService(Name)
	if err != nil {
		return r, ErrNotInstalled
	}
	defer s.Close()
	if _, err := halt(s); err != nil {
		return r, err
	}
	if err := s.Delete(); err != nil {
		return r, fmt.Errorf("remove the service: %w", err)
	}
	r.did("removed the service %s", Name)
	if err := eventlog.Remove(Name); err != nil {
		r.warn("the event log keeps the source %s: %v", Name, err)
	}
	r.did("configuration, queue and sign-ins stay where they are")
	return r, nil
}
