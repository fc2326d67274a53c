package main

import (
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
			b, err := bridge.New(ctx, cfg, bridge.Options{Log: log, Release: release})
			if err != nil {
				return err
			}
			// A second signal ends the process at once, as the system does by default.
			go func() { <-ctx.Done(); stop() }()
			return b.Run(ctx)
		},
	}
}
