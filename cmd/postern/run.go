package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"postern/bridge"
)

func (c *cli) run() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Relay mail, in the foreground",
		Long: `Relays mail until Ctrl-C or SIGTERM; the service runs this too. What is on the
wire then is finished within stop_grace; what is queued stays queued.`,
		Example: "  postern run --config /etc/postern/postern.toml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			log, closer, err := bridge.NewLogger(cfg.Log, c.err)
			if err != nil {
				return err
			}
			defer closer.Close()
			for _, w := range cfg.Warnings {
				log.Warn("configuration", "err", w.String())
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			b, err := bridge.New(ctx, cfg, bridge.Options{Log: log})
			if err != nil {
				return err
			}
			// A second signal ends the process at once, as the system does by default.
			go func() { <-ctx.Done(); stop() }()
			return b.Run(ctx)
		},
	}
}

func (c *cli) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration",
		Long: `Reads the configuration and reports all its mistakes at once, each with its line
and what to do. It changes nothing and connects to nothing. Exit status 78 where
there is a mistake.`,
		Example: "  postern check --config /etc/postern/postern.toml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			for _, w := range cfg.Warnings {
				fmt.Fprintln(c.err, "warning:", w)
			}
			_, err = fmt.Fprintf(c.out, "%s: no mistakes: %d %s, %d %s, %d %s, %d %s\n", c.config,
				len(cfg.Listeners), plural(len(cfg.Listeners), "listener"), len(cfg.Providers), plural(len(cfg.Providers), "provider"),
				len(cfg.Accounts), plural(len(cfg.Accounts), "account"), len(cfg.Users), plural(len(cfg.Users), "user"))
			return err
		},
	}
}
