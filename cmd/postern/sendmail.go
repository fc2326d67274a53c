package main

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/bridge/config"
	"postern/bridge/handin"
	"postern/bridge/sendmail"
)

// exitTempFail is EX_TEMPFAIL of sysexits.h: the caller may try again.
const exitTempFail = 75

// sendmailKey is the key whose mistakes only an administrator's edit mends.
const sendmailKey = "bridge.sendmail_user"

func (c *cli) sendmail() *cobra.Command {
	return &cobra.Command{
		Use:   "sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [RECIPIENT...]",
		Short: "Hand in mail of cron and scripts, as sendmail does",
		Long: `Reads a message from standard input and hands it in as the user that
sendmail_user of [bridge] names. -t takes the recipients from To, Cc and Bcc,
and removes Bcc; -i lets a line with a dot alone be text; -f is the
reverse-path; -F the name of a From that is missing. Other flags are taken and
change nothing. Exit status 78 where sendmail_user names nobody, 64 at a wrong
command line, 1 where Postern refuses the message for good, and 75 where it may
be tried again: Postern cannot be reached, refuses the message for now, or the
connection breaks.`,
		Example: `  printf 'Subject: backup\n\ndone\n' | postern sendmail admin@example.com
  postern sendmail -t -i <message.eml`,
		DisableFlagParsing: true, // sendmail's flags are its own: -oi, -bm, -f without a blank
		RunE: func(cmd *cobra.Command, args []string) error {
			args, help, err := c.ownFlags(args)
			if err != nil || help {
				return errors.Join(err, helpIf(cmd, help))
			}
			asked, err := sendmail.Parse(args)
			if err != nil {
				return usageError{err}
			}
			return c.runSendmail(cmd, asked)
		},
	}
}

func helpIf(cmd *cobra.Command, help bool) error {
	if help {
		return cmd.Help()
	}
	return nil
}

// ownFlags takes --config and --help out, which sendmail does not know.
func (c *cli) ownFlags(args []string) (rest []string, help bool, err error) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--help":
			help = true
		case strings.HasPrefix(a, "--config="):
			c.config = strings.TrimPrefix(a, "--config=")
		case a == "--config" && i+1 < len(args):
			i++
			c.config = args[i]
		case a == "--config":
			return nil, false, usageError{errors.New("--config needs a file")}
		default:
			rest = append(rest, a)
		}
	}
	return rest, help, nil
}

func (c *cli) runSendmail(cmd *cobra.Command, asked sendmail.Command) error {
	user, err := c.sendmailUser()
	if err != nil {
		return c.tempFail(err)
	}
	if asked.Sender == "" {
		asked.Sender = localUser()
	}
	m, err := asked.Read(c.in)
	var wrong *sendmail.UsageError
	switch {
	case errors.As(err, &wrong):
		return usageError{err}
	case err != nil:
		return err
	}
	p, err := c.pass(cmd.Context(), user)
	if err != nil {
		return c.tempFail(err)
	}
	if _, err = door(p).HandIn(cmd.Context(), asked.Sender, m.To, m.Text()); err != nil {
		return c.tempFail(err)
	}
	return nil
}

// sendmailUser is whom the file names; "" where it has mistakes, and then the running daemon knows.
func (c *cli) sendmailUser() (string, error) {
	cfg, err := c.load()
	var mistakes *config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		return "", nil
	case err != nil:
		return "", err
	case cfg.Bridge.SendmailUser == "":
		return "", &config.Mistakes{List: []config.Mistake{{File: c.config, Key: sendmailKey,
			Text: "is not set; it names the [[user]] whose mail `postern sendmail` hands in"}}}
	}
	return cfg.Bridge.SendmailUser, nil
}

// badLogin is the refusal of a password (RFC 4954 section 6). Ours came from the daemon, and is good for a minute only.
const badLogin = 535

// tempFail gives what may pass the exit status that sendmail has for it: all but a listener's refusal of the mail for good,
// and a sendmail_user that is missing. Callers give mail up at any other status.
func (c *cli) tempFail(err error) error {
	var mistakes *config.Mistakes
	if errors.As(err, &mistakes) {
		if !slices.ContainsFunc(mistakes.List, func(m config.Mistake) bool { return m.Key != sendmailKey }) {
			return err
		}
		fmt.Fprintln(c.err, err) // somebody is editing the file
		return exitWith(exitTempFail)
	}
	var refused *handin.Refusal
	if errors.As(err, &refused) && refused.Code/100 == 5 && refused.Code != badLogin && !errors.Is(err, handin.ErrUnreachable) {
		return err
	}
	fmt.Fprintf(c.err, "postern: %v\n", err)
	return exitWith(exitTempFail)
}

// localUser is who runs us; the listener adds default_domain.
func localUser() string {
	u, err := user.Current()
	if err != nil {
		return "postmaster"
	}
	name := u.Username
	if i := strings.LastIndexByte(name, '\\'); i >= 0 { // DOMAIN\name
		name = name[i+1:]
	}
	return strings.ReplaceAll(name, " ", ".")
}
