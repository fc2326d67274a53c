package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/config"
)

func (c *cli) route() *cobra.Command {
	var q bridge.RouteQuery
	var file, size string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Say which way a message would go, and why",
		Long: `Says which user, scenario, account, transport and sender a message would get,
and why each scenario before did not hold. It reads the configuration alone and
changes nothing. Exit status 1 where the message would be refused.

The message is FILE, its fields replaced by those given here; without FILE it
has those alone. Without --to it goes to those that FILE's header names.`,
		Example: `  postern route --user nav --from nav@contoso.com --to a@example.com
  postern route --user nav --to a@example.com --subject "Invoice 4711" \
    --header "X-Kind: po" --size 5MB
  postern route --user nav --file mail.eml --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			if size != "" {
				if q.Size, err = config.ParseSize(size); err != nil {
					return usageError{fmt.Errorf("--size %.20q: %w", size, err)}
				}
			}
			if file != "" {
				f, err := c.openMail(file)
				if err != nil {
					return err
				}
				defer f.Close()
				q.File = f
			}
			r, err := bridge.FindRoute(cmd.Context(), cfg, q)
			var mistakes *config.Mistakes
			if err != nil && !errors.As(err, &mistakes) {
				return usageError{err}
			}
			if err != nil {
				return err
			}
			return c.answerRoute(r, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.User, "user", "", "the `NAME` that hands it in")
	f.StringVar(&q.Listener, "listener", "", "the listener's `ADDRESS`; default the first")
	f.StringVar(&q.From, "from", "", "the header `FROM`")
	f.StringSliceVar(&q.To, "to", nil, "a `RECIPIENT`; may be given again")
	f.StringVar(&q.Subject, "subject", "", "the `SUBJECT`")
	f.StringArrayVar(&q.Header, "header", nil, "a field, `\"NAME: VALUE\"`; may be given again")
	f.StringVar(&size, "size", "", "the `SIZE` that it is made to have, such as 5MB")
	f.StringVar(&file, "file", "", "a message in `FILE`; - is standard input")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cli) openMail(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(c.in), nil
	}
	return os.Open(path)
}

func (c *cli) answerRoute(r bridge.Route, asJSON bool) error {
	var err error
	if asJSON {
		err = c.printJSON(r, nil)
	} else {
		err = printRoute(c.out, r)
	}
	if err == nil && r.Reply != "" {
		return errors.New("it would be refused: " + r.Reply)
	}
	return err
}

func printRoute(out io.Writer, r bridge.Route) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("user", r.User)
	if r.Scenario == "" {
		line("scenario", "none")
	} else {
		line("scenario", r.Scenario)
	}
	line("account", r.Account+", "+r.Mailbox)
	line("transport", strings.Join(r.Transports, "; where that is down "))
	line("From", r.From)
	line("Sender", r.Sender)
	line("Reply-To", r.ReplyTo)
	line("reverse-path", r.ReversePath)
	for _, a := range r.Recipients {
		if slices.Contains(r.Bcc, a) {
			a += " (added by the scenario, in no header)"
		}
		line("to", a)
	}
	for _, a := range r.Attach {
		line("attached", a)
	}
	if r.Footer {
		line("footer", "yes")
	}
	if r.LeftOut {
		line("left out", "footer and files: the message is signed or encrypted")
	}
	if r.Hold {
		line("held", "until postern queue release")
	}
	for _, p := range r.Passed {
		line("not", p.Scenario+": "+p.Why)
	}
	line("reply", r.Reply)
	return w.Flush()
}
