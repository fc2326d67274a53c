package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"postern/bridge/control"
)

func (c *cli) reload() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Put the changed configuration in force",
		Long: `Has the running daemon read its configuration again: listeners, providers,
accounts, users, scenarios, [notify] and the log level change without dropping a
session or a message. A file with a mistake changes nothing. What only a restart
can change is said. SIGHUP, and "systemctl reload postern", do the same.`,
		Example: "  postern check && postern reload",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			client, err := control.Dial(cmd.Context(), cfg.Bridge.DataDir)
			if errors.Is(err, control.ErrNotRunning) {
				return fmt.Errorf("%w; run: postern service start; where the file has a new data_dir, stop the service, move the old folder there, and start", err)
			}
			if err != nil {
				return err
			}
			defer client.Close()
			r, err := client.Reload(cmd.Context())
			if err != nil || asJSON {
				return c.printJSON(r, err)
			}
			for _, w := range r.Warnings {
				fmt.Fprintln(c.err, "warning:", w)
			}
			for _, change := range r.Changes {
				fmt.Fprintln(c.out, change)
			}
			if len(r.Changes) == 0 {
				fmt.Fprintln(c.out, "nothing has changed")
			}
			if len(r.Restart) > 0 {
				fmt.Fprintf(c.out, "after a restart only: %s\n", strings.Join(r.Restart, ", "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
