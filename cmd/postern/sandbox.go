package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"postern/bridge/sandbox"
)

func (c *cli) sandbox() *cobra.Command {
	var dir, http, smtp string
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Run the small Microsoft 365 alone",
		Long: `Runs our own Entra ID, Graph and Exchange Online SMTP on loopback, prints the
[[provider]] that points a bridge at it, and keeps what it receives as .eml
files. Nothing leaves this machine.`,
		Example: `  postern sandbox
  postern sandbox --dir mail --http 127.0.0.1:8025 --smtp 127.0.0.1:1587`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			s, err := sandbox.Start(sandbox.Options{Dir: dir, HTTP: http, SMTP: smtp})
			var taken *net.OpError
			if errors.As(err, &taken) {
				return fmt.Errorf("%w; name others with --http and --smtp, such as 127.0.0.1:8025", err)
			}
			if err != nil {
				return err
			}
			defer s.Close()
			c.printSandbox(s)
			<-ctx.Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`FOLDER` for mail; default a temporary one")
	cmd.Flags().StringVar(&http, "http", "", "`ADDRESS` of Entra, Graph and the page")
	cmd.Flags().StringVar(&smtp, "smtp", "", "`ADDRESS` of SMTP submission")
	return cmd
}

func (c *cli) printSandbox(s *sandbox.Sandbox) {
	fmt.Fprintf(c.out, `# Put this into a postern.toml:

%s
# Mailboxes that sign in:`, s.ConfigTOML("sandbox", sandbox.PublicClientID))
	for _, m := range sandbox.DefaultMailboxes() {
		if !m.Shared {
			fmt.Fprintf(c.out, " %s", m.Address)
		}
	}
	fmt.Fprintf(c.out, `
# To sign one of them in: postern signin ACCOUNT
# Mail that arrived: %s
# and as files in:   %s
# Ctrl-C ends it.
`, s.PageURL(), s.Dir())
}
