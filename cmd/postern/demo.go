package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/bridge/demo"
	"postern/bridge/sandbox"
)

// demoPatience is how long the demo's own messages may take; they take well under a second.
const demoPatience = time.Minute

func (c *cli) demo() *cobra.Command {
	var once, verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work, without a tenant",
		Long: `Starts a small Microsoft 365 of our own and a bridge with a throw-away
configuration, sends one message through each transport, and shows what arrived.
It stays up, so that you can point your own application at it; Ctrl-C ends it
and removes everything. Nothing leaves this machine.`,
		Example: `  postern demo
  postern demo --once      check and exit; 0 where both messages arrived`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return c.runDemo(ctx, once, verbose)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "check and exit")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the bridge's log on standard error")
	return cmd
}

func (c *cli) runDemo(ctx context.Context, once, verbose bool) (err error) {
	dir, err := os.MkdirTemp("", "postern-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.DiscardHandler)
	if verbose {
		log = slog.New(slog.NewTextHandler(c.err, nil))
	}
	d, err := demo.Start(ctx, dir, demoAddress(once), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()

	sending, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	got, err := d.Send(sending)
	if err != nil {
		return err
	}
	printArrived(c.out, got)
	if err := demo.Check(got); err != nil || once {
		return err
	}
	c.printDemo(d)
	select {
	case <-ctx.Done():
	case <-d.Ended(): // Close says why
	}
	return nil
}

// demoAddress is a port that an administrator can type, where it is free.
func demoAddress(once bool) string {
	const typed = "127.0.0.1:2525"
	if !once {
		if l, err := net.Listen("tcp", typed); err == nil {
			l.Close()
			return typed
		}
	}
	return "127.0.0.1:0"
}

func printArrived(out io.Writer, got []sandbox.Received) {
	fmt.Fprintf(out, "%d messages were handed in over SMTP, and this is what arrived:\n\n", len(got))
	for _, r := range got {
		fmt.Fprintf(out, "  %-6s from     %s\n         to       %s\n         mailbox  %s, %d bytes\n\n",
			r.Via, peopleRead(r), strings.Join(r.Recipients, ", "), r.Mailbox, len(r.Raw))
	}
}

// peopleRead is the header From as a mail program shows it.
func peopleRead(r sandbox.Received) string {
	m, err := mail.ReadMessage(bytes.NewReader(r.Raw))
	if err != nil {
		return r.From
	}
	list, err := m.Header.AddressList("From")
	if err != nil || len(list) != 1 || list[0].Name == "" {
		return r.From
	}
	return list[0].Name + " <" + list[0].Address + ">"
}

func (c *cli) printDemo(d *demo.Demo) {
	host, port, _ := net.SplitHostPort(d.Address)
	fmt.Fprintf(c.out, `Now point your own application at it:

  server    %s
  port      %s
  security  none
  password  %s
`, host, port, d.Password)
	for _, u := range demo.Users {
		fmt.Fprintf(c.out, "  user      %-8s goes out by %s\n", u.Name, u.Transport)
	}
	fmt.Fprintf(c.out, `
  mail that arrived   %s
  the configuration   %s

Ctrl-C ends it and removes everything.
`, d.Sandbox.PageURL(), d.Config)
}
