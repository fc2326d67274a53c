package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/bridge"
	"postern/bridge/config"
	"postern/bridge/control"
)

func (c *cli) check() *cobra.Command {
	var live, asJSON bool
	var sendTo string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, and with --live everything behind it",
		Long: `Reads the configuration and reports all its mistakes at once, each with its line
and what to do. It changes nothing and connects to nothing. Exit status 78 where
there is a mistake.

With --live it also verifies each provider's tenant, client_id and secret or
certificate, even before anybody has signed in, and this machine's clock; then
it gets a token for each account and opens each of its transports, sending
nothing. A line is green, yellow (it works, and something should be known) or
red, with what to do. Exit status 1 where one is red. An account that was parked
goes on when it is green.

--send-to also sends one message by each transport of each account, under each
sender that the file has for it: the only honest test of Send As.`,
		Example: `  postern check --config /etc/postern/postern.toml
  postern check --live
  postern check --live --send-to it@contoso.com`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !live && (sendTo != "" || asJSON) {
				return usageError{errors.New("--send-to and --json need --live: postern check --live")}
			}
			cfg, err := c.load()
			if err != nil {
				return err
			}
			for _, w := range cfg.Warnings {
				fmt.Fprintln(c.err, "warning:", w)
			}
			if len(cfg.Notify.To) == 0 { // here alone: the log of every start need not say it
				fmt.Fprintln(c.err, "warning: nobody is told of failures, parked accounts and what expires; write in [notify]: to = [\"ADDRESS\"]")
			}
			if err := bridge.CheckFiles(cfg); err != nil {
				return err
			}
			if live {
				return c.checkLive(cmd, sendTo, asJSON)
			}
			return c.printChecked(cfg)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "also ask the providers and open the transports")
	cmd.Flags().StringVar(&sendTo, "send-to", "", "with --live: also send test messages to `ADDR`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --live: print JSON")
	return cmd
}

func (c *cli) printChecked(cfg *config.Config) error {
	_, err := fmt.Fprintf(c.out, "%s: no mistakes: %d %s, %d %s, %d %s, %d %s\n", c.config,
		len(cfg.Listeners), plural(len(cfg.Listeners), "listener"), len(cfg.Providers), plural(len(cfg.Providers), "provider"),
		len(cfg.Accounts), plural(len(cfg.Accounts), "account"), len(cfg.Users), plural(len(cfg.Users), "user"))
	return err
}

func (c *cli) checkLive(cmd *cobra.Command, sendTo string, asJSON bool) error {
	svc, done, err := c.serviceOrNew(cmd.Context())
	if err != nil {
		return err
	}
	defer done()
	if isTerminal(c.err) {
		fmt.Fprintln(c.err, "asking; this takes a minute or two where something does not answer ...")
	}
	list, err := svc.CheckLive(cmd.Context(), sendTo)
	if err != nil {
		return err
	}
	if asJSON {
		err = c.printJSON(list, nil)
	} else {
		err = printChecks(c.out, list, isTerminal(c.out) && os.Getenv("NO_COLOR") == "")
	}
	if err != nil {
		return err
	}
	reds := 0
	for _, l := range list {
		if l.State == control.Red {
			reds++
		}
	}
	if reds > 0 {
		return fmt.Errorf("%d of %d checks %s red", reds, len(list), map[bool]string{true: "is", false: "are"}[reds == 1])
	}
	return nil
}

// printChecks prints what was found for each, and what to do below it. That is not broken into lines, so that a command
// can be copied.
func printChecks(out io.Writer, list []control.Check, color bool) error {
	var errs []error
	for _, l := range list {
		state := fmt.Sprintf("%-6s", l.State)
		if color {
			state = map[string]string{control.Green: "\x1b[32m", control.Yellow: "\x1b[33m", control.Red: "\x1b[31m"}[l.State] + state + "\x1b[0m"
		}
		for _, line := range fold(l.Subject+": "+l.Text, 80-8) {
			_, err := fmt.Fprintf(out, "%s  %s\n", state, line)
			errs = append(errs, err)
			state = "      "
		}
		if l.Remedy != "" {
			_, err := fmt.Fprintf(out, "        %s\n", l.Remedy)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isTerminal reports whether a person reads it as it is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
