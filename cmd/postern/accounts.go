package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"postern/bridge/control"
)

func (c *cli) printJSON(v any, err error) error {
	if err != nil {
		return err
	}
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func needVerb(cmd *cobra.Command) error {
	var verbs []string
	for _, sub := range cmd.Commands() {
		verbs = append(verbs, sub.Name())
	}
	return usageError{fmt.Errorf("%s what? one of: %s", cmd.CommandPath(), strings.Join(verbs, ", "))}
}

func (c *cli) accounts() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "accounts",
		Short: "Show each account's state",
		Long: `Shows for each account who is signed in, its transports with the age of their
tokens, what is parked and why, the senders that it may not send as, and what to
do.`,
		Example: `  postern accounts
  postern accounts --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			list, err := svc.Accounts(cmd.Context())
			if err != nil || asJSON {
				return c.printJSON(list, err)
			}
			c.warnStopped(svc)
			return printAccounts(c.out, list, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printAccounts(out io.Writer, list []control.Account, now time.Time) error {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s  %s\n", a.Name, a.Mailbox)
		row(&b, "sign-in", signInLine(a, now))
		for _, t := range a.Transports {
			row(&b, t.Name, transportLine(a, t, now))
			row(&b, "", t.Why)
			if t.Remedy != a.Remedy && !strings.Contains(t.Why, t.Remedy) {
				row(&b, "", t.Remedy)
			}
			if a.SignedIn { // before, nothing is in use
				row(&b, "drafts", draftsLine(t.Drafts))
			}
		}
		for _, l := range a.Lacks {
			row(&b, "sender", fmt.Sprintf("may not send as %s, found %s ago: that mail waits", l.From, span(now.Sub(l.Since))))
			row(&b, "", clip(l.Why, 120)) // Exchange adds a kilobyte for its own people
			row(&b, "", l.Remedy)
		}
		for _, e := range a.Expires {
			if e.What == "sign-in" && !e.Near {
				continue // it moves on with each use
			}
			row(&b, "expires", expiryLine(e, now))
			if e.Near {
				row(&b, "", e.Remedy)
			}
		}
		row(&b, "waiting", waitingLine(a))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func waitingLine(a control.Account) string {
	if a.Uncounted {
		return "unknown: the queue is damaged; what can be read goes on at the next start"
	}
	return fmt.Sprintf("%d %s", a.Waiting, plural(a.Waiting, "message"))
}

// row writes text beside a label, broken between words so that it fits 80 columns; nothing for an empty text.
func row(b *strings.Builder, label, text string) {
	const indent = 11
	for _, line := range fold(text, 80-indent) {
		fmt.Fprintf(b, "%-*s%s\n", indent, "  "+label, line)
		label = ""
	}
}

// fold breaks text between words into lines of that many columns; a longer word has a line of its own.
func fold(text string, width int) (lines []string) {
	for word := range strings.FieldsSeq(text) {
		last := len(lines) - 1
		if last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

func signInLine(a control.Account, now time.Time) string {
	switch {
	case a.Trouble != "" && a.Remedy != "":
		return a.Trouble + ": " + strings.Replace(a.Remedy, "run: ", "run ", 1)
	case a.Trouble != "":
		return a.Trouble
	case a.SignIn == "app-only":
		return "app-only, no person signs in"
	case a.SignedInAs != "":
		return fmt.Sprintf("as %s, %s ago", a.SignedInAs, span(now.Sub(a.Since)))
	}
	return fmt.Sprintf("as %s, %s ago", a.Login, span(now.Sub(a.Since)))
}

func transportLine(a control.Account, t control.Transport, now time.Time) string {
	switch {
	case !t.Until.IsZero():
		return t.State + ", tried again in " + span(t.Until.Sub(now))
	case t.State != "up":
		return t.State
	case !a.SignedIn:
		return "waits for the sign-in"
	case t.TokenTrouble != "":
		return "no token: " + t.TokenTrouble
	case t.TokenFetched.IsZero():
		return "up, no token fetched yet"
	}
	return fmt.Sprintf("up, token %s old, refreshed in %s", span(now.Sub(t.TokenFetched)), span(t.NextRefresh.Sub(now)))
}

// draftsLine says which way of Graph is in use.
func draftsLine(drafts string) string {
	return map[string]string{"yes": "in use, also for mail over 3 MB", "not known": "not known before the first message",
		"no": "not in use: sendMail, up to 3 MB"}[drafts]
}

func expiryLine(e control.Expiry, now time.Time) string {
	on := e.At.UTC().Format("2 January 2006")
	if !now.Before(e.At) {
		return fmt.Sprintf("the %s ended on %s", e.What, on)
	}
	return fmt.Sprintf("%s in %s, on %s", e.What, span(e.At.Sub(now)), on)
}

// span prints a duration in its two largest units: 41m, 3h20m, 12d4h.
func span(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}
