package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/control"
	"postern/bridge/service"
)

func (c *cli) serviceVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Install, start, stop and look at the service",
		Long: `Makes Postern a service of Windows or of systemd, and controls it. An
installation over an older one upgrades it; a removal leaves configuration,
queue and sign-ins where they are.`,
		Example: `  postern service install
  postern service start
  postern service status`,
		Args: verbArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return needVerb(cmd) },
	}
	cmd.AddCommand(c.serviceInstall(), c.serviceUninstall(), c.serviceStatus())
	for _, action := range []string{"start", "stop", "restart"} {
		cmd.AddCommand(&cobra.Command{
			Use:     action,
			Short:   strings.ToUpper(action[:1]) + action[1:] + " the service",
			Example: "  postern service " + action,
			Args:    noArgs,
			RunE:    func(*cobra.Command, []string) error { return c.controlService(action) },
		})
	}
	return cmd
}

// controlService does not start what would only stop again.
func (c *cli) controlService(action string) error {
	if action != "stop" {
		if _, err := c.load(); err != nil {
			return err
		}
	}
	return service.Control(action)
}

func (c *cli) serviceInstall() *cobra.Command {
	return &cobra.Command{
		Use:   "install",
		Short: "Make Postern a service that starts with the machine",
		Long: `Makes Postern a service that starts with the machine, with this program and this
configuration, which must be without mistakes. On Linux it runs as the system
user postern under a hardened systemd unit; on Windows as NT SERVICE\Postern,
started again after a crash or a failure. It is not started: sign in first.`,
		Example: "  sudo postern service install --config /etc/postern/postern.toml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			o, err := c.installation()
			if err != nil {
				return err
			}
			r, err := service.Install(o)
			c.printResult(r)
			if err == nil {
				fmt.Fprintln(c.out, "next: postern service start, then: postern service status")
			}
			return err
		},
	}
}

// installation is what is installed: the program that runs now, by its real name.
func (c *cli) installation() (o service.Options, err error) {
	cfg, err := c.load()
	if err != nil {
		return o, err
	}
	o.CheckKey = bridge.CheckKey
	if o.Program, err = os.Executable(); err != nil {
		return o, err
	}
	if o.Program, err = filepath.EvalSymlinks(o.Program); err != nil {
		return o, err
	}
	if o.Config, err = filepath.Abs(c.config); err != nil {
		return o, err
	}
	if o.DataDir, err = filepath.Abs(cfg.Bridge.DataDir); err != nil {
		return o, err
	}
	if cfg.Log.To == "file" {
		if o.LogFile, err = filepath.Abs(cfg.Log.File); err != nil {
			return o, err
		}
		if dir := filepath.Dir(o.LogFile); dir != o.DataDir && !strings.HasPrefix(dir, o.DataDir+string(filepath.Separator)) {
			o.LogFolder = dir
		}
	}
	return o, nil
}

func (c *cli) serviceUninstall() *cobra.Command {
	return &cobra.Command{
		Use:     "uninstall",
		Short:   "Stop and remove the service",
		Example: "  sudo postern service uninstall",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := service.Uninstall()
			c.printResult(r)
			return err
		},
	}
}

func (c *cli) printResult(r service.Result) {
	for _, s := range r.Done {
		fmt.Fprintln(c.out, s)
	}
	for _, s := range r.Warnings {
		fmt.Fprintln(c.err, "warning:", s)
	}
}

func (c *cli) serviceStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the service, its accounts, the queue and the last errors",
		Long: `Shows what the service manager says, and what it does not know: since when
Postern runs, its listeners, accounts and queue, and the last errors since the
start, each with what to do.`,
		Example: "  postern service status",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := service.State()
			switch {
			case errors.Is(err, service.ErrNotInstalled):
				state = service.Status{State: "not installed", Why: "run: postern service install"}
			case err != nil:
				state = service.Status{State: "unknown", Why: err.Error()}
			}
			h, broken, err := c.health(cmd.Context())
			c.warnBroken(broken)
			if err != nil {
				c.printService(state)
				return err
			}
			if asJSON {
				return c.printJSON(struct {
					Service string `json:"service"`
					Why     string `json:"service_why,omitempty"`
					control.Health
				}{state.State, state.Why, h}, nil)
			}
			c.printStatus(state, h, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// health asks the running daemon, or looks into data_dir itself. broken is what is wrong with the file, where the daemon
// runs on with the former one.
func (c *cli) health(ctx context.Context) (h control.Health, broken *config.Mistakes, err error) {
	o, err := c.open(ctx, bridge.Admin)
	if err != nil {
		return h, nil, err
	}
	defer o.done()
	h, err = o.Health(ctx)
	return h, o.broken, err
}

func (c *cli) printService(s service.Status) {
	text := s.State
	if s.Why != "" {
		text += ": " + s.Why
	}
	fmt.Fprintf(c.out, "service   %s\n", text)
}

func (c *cli) printStatus(state service.Status, h control.Health, now time.Time) {
	c.printService(state)
	if h.Running {
		fmt.Fprintf(c.out, "postern   %s, up for %s, listening on %s\n", h.Version, span(now.Sub(h.Since)), strings.Join(h.Listeners, ", "))
	} else {
		fmt.Fprintln(c.out, "postern   no daemon answers on data_dir")
	}
	fmt.Fprintf(c.out, "queue     %s\n", queueLine(h.Queue))
	for i, a := range h.Accounts {
		label := "accounts"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(c.out, "%-9s %s: %s\n", label, a.Name, accountLine(a, now))
	}
	if len(h.Errors) == 0 {
		if h.Running {
			fmt.Fprintln(c.out, "errors    none since the start")
		}
		return
	}
	for i, e := range h.Errors[:min(5, len(h.Errors))] {
		label := "errors"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(c.out, "%-9s %s ago: %s\n", label, span(now.Sub(e.At)), incidentLine(e))
		if e.Remedy != "" {
			fmt.Fprintf(c.out, "%-9s   %s\n", "", e.Remedy)
		}
	}
}

func incidentLine(e control.Incident) string {
	parts := []string{e.Event}
	if e.Account != "" {
		parts[0] += " (" + e.Account + ")"
	}
	if e.Text != "" {
		parts = append(parts, e.Text)
	}
	return strings.Join(parts, ": ")
}

// queueLine lists what is not finished well, in the order of a message's life.
func queueLine(q map[string]int) string {
	var parts []string
	for _, state := range []string{"queued", "sending", "deferred", "in-doubt", "held", "failed"} {
		if n := q[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(parts) == 0 {
		return "nothing waits"
	}
	return strings.Join(parts, ", ")
}

// accountLine is an account in one line: the first thing that is wrong with it, or that all is well.
func accountLine(a control.Account, now time.Time) string {
	if a.Trouble != "" {
		return signInLine(a, now)
	}
	ups := 0
	for _, t := range a.Transports {
		if works(t) {
			ups++
		}
	}
	i := slices.IndexFunc(a.Transports, func(t control.Transport) bool { return !works(t) })
	switch {
	case i < 0 && len(a.Lacks) > 0:
		return "may not send as " + a.Lacks[0].From + ", " + waitingHere(a)
	case i < 0:
		return "in order, " + waitingHere(a)
	}
	t := a.Transports[i]
	trouble := t.Name + " is " + transportLine(a, t, now)
	if t.State == "up" {
		trouble = t.Name + " has no token: " + t.TokenTrouble
	}
	if ups > 0 {
		trouble += ", mail goes by the other way"
	}
	return trouble + ", " + waitingHere(a)
}

func waitingHere(a control.Account) string {
	if a.Uncounted {
		return "how many wait is unknown"
	}
	return fmt.Sprintf("%d waiting", a.Waiting)
}
