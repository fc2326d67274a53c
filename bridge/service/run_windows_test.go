package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/windows/svc"
)

type quiet struct{ error }

func (quiet) Quiet() bool { return true }

// execute runs a handler with a service manager of ours, and returns the states that it was told, and the end.
func execute(t *testing.T, send []svc.Cmd, run func(context.Context, Manager, <-chan struct{}) error) (states []svc.State, specific bool, code uint32) {
	t.Helper()
	requests, status := make(chan svc.ChangeRequest), make(chan svc.Status)
	h := &handler{run: run}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		specific, code = h.Execute(nil, requests, status)
	}()
	var out chan svc.ChangeRequest
	next := svc.ChangeRequest{}
	deadline := time.After(time.Minute)
	for {
		if out == nil && len(send) > 0 && len(states) > 1 { // once it runs
			out, next = requests, svc.ChangeRequest{Cmd: send[0]}
		}
		select {
		case s := <-status:
			if len(states) == 0 || states[len(states)-1] != s.State {
				states = append(states, s.State)
			}
		case out <- next:
			out, send = nil, send[1:]
		case <-ended:
			return states, specific, code
		case <-deadline:
			t.Fatalf("the service does not end; it was %v", states)
		}
	}
}

func TestExecute(t *testing.T) {
	untilStopped := func(ctx context.Context, m Manager, _ <-chan struct{}) error {
		m.Ready()
		<-ctx.Done()
		m.Stopping(time.Second)
		return nil
	}
	fails := func(err error) func(context.Context, Manager, <-chan struct{}) error {
		return func(context.Context, Manager, <-chan struct{}) error { return err }
	}
	for _, tc := range []struct {
		name     string
		send     []svc.Cmd
		run      func(context.Context, Manager, <-chan struct{}) error
		last     svc.State
		specific bool
		code     uint32
	}{
		{"a stop ends with code 0", []svc.Cmd{svc.Interrogate, svc.Stop}, untilStopped, svc.StopPending, false, 0},
		{"a shutdown of the machine too", []svc.Cmd{svc.PreShutdown}, untilStopped, svc.StopPending, false, 0},
		{"a wrong configuration ends with code 0, or it would be started again and again", nil, fails(quiet{errors.New("unknown key")}), svc.StartPending, false, 0},
		{"another failure ends with code 1, so that the recovery actions follow", nil, fails(errors.New("port in use")), svc.StartPending, true, 1},
		{"a change of parameters is a reload", []svc.Cmd{svc.ParamChange}, func(_ context.Context, m Manager, reload <-chan struct{}) error {
			m.Ready()
			<-reload
			return nil
		}, svc.Running, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			states, specific, code := execute(t, tc.send, tc.run)
			if states[len(states)-1] != tc.last || specific != tc.specific || code != tc.code {
				t.Errorf("it was %v and ended with %v, %d; want %v at last, %v, %d", states, specific, code, tc.last, tc.specific, tc.code)
			}
		})
	}
}

// TestCommandLineIsQuoted: an unquoted path with a blank lets whoever may write to C:\ start a program of his own.
func TestCommandLineIsQuoted(t *testing.T) {
	got := commandLine(`C:\Program Files\Postern\postern.exe`, []string{"run", "--service", "--config", `C:\ProgramData\Postern\postern.toml`})
	if want := `"C:\Program Files\Postern\postern.exe" run --service --config C:\ProgramData\Postern\postern.toml`; got != want {
		t.Errorf("commandLine = %s; want %s", got, want)
	}
}
