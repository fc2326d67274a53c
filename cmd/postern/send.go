package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/auth/token"
	"postern/bridge/control"
	"postern/bridge/handin"
	"postern/bridge/reply"
	"postern/bridge/sample"
)

func (c *cli) send() *cobra.Command {
	var user string
	var d sample.Draft
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Hand in a test message, as an application would",
		Long: `Makes a message and hands it in through the first listener that offers a login
on this machine, as that user would: with the same rules and the same refusals.
No password is asked for: the running daemon gives root, administrators and
members of group postern one that is good for a minute.`,
		Example: `  postern send --user nav --to you@example.com
  postern send --user nav --to you@example.com --subject Test --attach a.pdf`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case user == "":
				return usageError{errors.New("--user is missing: whose mail is it?")}
			case len(d.To) == 0:
				return usageError{errors.New("--to is missing")}
			}
			p, err := c.pass(cmd.Context(), user)
			if err != nil {
				return err
			}
			if d.From == "" {
				d.From = p.Mailbox
			}
			message, err := d.Make(time.Now())
			var wrong *sample.AddressError
			switch {
			case errors.As(err, &wrong):
				return usageError{err}
			case err != nil:
				return err
			}
			text, err := door(p).HandIn(cmd.Context(), d.From, d.To, bytes.NewReader(message))
			if err != nil {
				return fmt.Errorf("not taken: %w", err)
			}
			_, err = io.WriteString(c.out, taken(text))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "the `NAME` of a [[user]]")
	f.StringVar(&d.From, "from", "", "sender `ADDRESS`; default the account's mailbox")
	f.StringArrayVar(&d.To, "to", nil, "recipient `ADDRESS`; may be repeated")
	f.StringVar(&d.Subject, "subject", "Test message of Postern", "the subject")
	f.StringVar(&d.Text, "text", "This was sent by: postern send\n", "the text")
	f.StringArrayVar(&d.Attach, "attach", nil, "a `FILE` to attach; may be repeated")
	return cmd
}

// taken says that the listener took the message, and where to see what becomes of it. text is its reply to the final dot.
func taken(text string) string {
	text = reply.OneLine(text)
	see := "list --all"
	if _, after, ok := strings.Cut(text, "queued as "); ok {
		id, _, _ := strings.Cut(after, " ")
		see = "show " + id
	}
	return fmt.Sprintf("taken: %s\nsee what becomes of it: postern queue %s\n", text, see)
}

// pass asks the running daemon for a one-minute password; without a user, for the one that sendmail_user names.
func (c *cli) pass(ctx context.Context, user string) (control.Pass, error) {
	client, err := c.dial(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return control.Pass{}, fmt.Errorf("%w; run: postern service start", err)
	case err != nil:
		return control.Pass{}, err
	}
	defer client.Close()
	return client.Pass(ctx, user)
}

// door is the way in that p is for.
func door(p control.Pass) handin.Door {
	return handin.Door{Address: p.Address, TLS: p.TLS, Hostname: p.Hostname, User: p.User, Password: token.Secret(p.Password)}
}
