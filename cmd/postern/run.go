package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/event"
	"postern/bridge/service"
)

func (c *cli) run() *cobra.Command {
	var asService bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Relay mail, in the foreground",
		Long: `Relays mail until Ctrl-C or SIGTERM; the service runs this too. What is on the
wire then is finished within stop_grace; what is queued stays queued. SIGHUP
puts a changed configuration in force, like "postern reload".`,
		Example: "  postern run --config /etc/postern/postern.toml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asService {
				return service.Run(c.asService)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			// A log's reader that goes away must not take the mail with it: the write fails, and that is all.
			signal.Ignore(syscall.SIGPIPE)
			hangUp := make(chan os.Signal, 1)
			signal.Notify(hangUp, syscall.SIGHUP)
			defer signal.Stop(hangUp)
			reload := make(chan struct{}, 1)
			go func() {
				passOn(ctx, hangUp, reload)
				// A second signal ends the process at once, as the system does by default.
				stop()
			}()
			n := service.NewNotifier(os.Getenv)
			sockets, err := service.Inherited(os.Getenv)
			if err != nil {
				return err
			}
			return c.serve(ctx, bridge.Options{Stderr: c.err, Manager: n, Sockets: sockets}, n.Starting, reload)
		},
	}
	cmd.Flags().BoolVar(&asService, "service", false, "as the Windows service; its manager starts it so")
	return cmd
}

// passOn asks for a reload at each signal, until ctx ends. Those that come while one waits are one with it.
func passOn(ctx context.Context, hangUp <-chan os.Signal, reload chan<- struct{}) {
	for {
		select {
		case <-hangUp:
			select {
			case reload <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// startPatience is how much longer the start may take each time that it says so.
const startPatience = 30 * time.Second

// serve runs the bridge until ctx ends. starting asks the service manager for more time; it may be nil.
func (c *cli) serve(ctx context.Context, o bridge.Options, starting func(time.Duration), reload <-chan struct{}) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	o.Release = release
	if runtime.GOOS == "windows" {
		o.OpenEventLog = func() (bridge.EventLog, error) { return service.OpenEventLog() }
	}
	opened := make(chan struct{})
	if starting != nil {
		go func() {
			t := time.NewTicker(startPatience / 3)
			defer t.Stop()
			for {
				starting(startPatience)
				select {
				case <-t.C:
				case <-opened:
					return
				}
			}
		}()
	}
	b, err := bridge.New(ctx, cfg, o)
	close(opened)
	if err != nil {
		return err
	}
	go func() {
		for {
			select {
			case <-reload:
				_, _ = b.Reload(ctx) // it tells the log of itself
			case <-ctx.Done():
				return
			}
		}
	}()
	return b.Run(ctx)
}

// quietly is a wrong configuration: starting again does not mend it.
type quietly struct{ error }

// Quiet tells the service manager's side not to restart.
func (quietly) Quiet() bool { return true }

// Unwrap implements the chain of errors.
func (q quietly) Unwrap() error { return q.error }

// asService is the Windows service: nobody sees standard error, so that a failure to start goes to the event log.
func (c *cli) asService(ctx context.Context, m service.Manager, reload <-chan struct{}) error {
	err := c.serve(ctx, bridge.Options{Stderr: io.Discard, Service: true, Manager: m}, nil, reload)
	if err == nil {
		return nil
	}
	kind := event.ServiceStopped
	var mistakes *config.Mistakes
	if errors.As(err, &mistakes) || errors.Is(err, bridge.ErrNewer) {
		kind, err = event.ConfigurationBad, quietly{err}
	}
	if log, e := service.OpenEventLog(); e == nil {
		_ = log.Report(slog.LevelError, event.NumberOf(kind), string(kind)+"\r\n"+err.Error())
		log.Close()
	}
	return err
}
