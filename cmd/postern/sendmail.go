package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"net/textproto"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/bridge/config"
	"postern/bridge/control"
)

// exitTempFail is EX_TEMPFAIL of sysexits.h: the caller may try again.
const exitTempFail = 75

// sendmailKey is the key whose mistakes only an administrator's edit mends.
const sendmailKey = "bridge.sendmail_user"

// maxSendmail bounds what is read from standard input in octets; the listener's own limit is smaller.
const maxSendmail = 200 << 20

// sendmailFlags are the ones of sendmail(8) that programs use.
type sendmailFlags struct {
	fromHeader, dotsAreText bool
	sender, name            string
}

func (c *cli) sendmail() *cobra.Command {
	return &cobra.Command{
		Use:   "sendmail [-t] [-i] [-f ADDRESS] [-F NAME] [RECIPIENT...]",
		Short: "Hand in mail of cron and scripts, as sendmail does",
		Long: `Reads a message from standard input and hands it in as the user that
sendmail_user of [bridge] names. -t takes the recipients from To, Cc and Bcc,
and removes Bcc; -i lets a line with a dot alone be text; -f is the
reverse-path; -F the name of a From that is missing. Other flags are taken and
change nothing. Exit status 78 where sendmail_user names nobody, 75 where
Postern cannot be reached or says that it should be tried again.`,
		Example: `  printf 'Subject: backup\n\ndone\n' | postern sendmail admin@example.com
  postern sendmail -t -i <message.eml`,
		DisableFlagParsing: true, // sendmail's flags are its own: -oi, -bm, -f without a blank
		RunE: func(cmd *cobra.Command, args []string) error {
			args, help, err := c.ownFlags(args)
			if err != nil || help {
				return errors.Join(err, helpIf(cmd, help))
			}
			f, to, err := parseSendmail(args)
			if err != nil {
				return usageError{err}
			}
			return c.runSendmail(cmd, f, to)
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

// takesValue are flags of sendmail(8) whose value may follow after a blank, and that change nothing here.
const takesValue = "BCDdhLMNOopRVXA"

// parseSendmail reads a command line of sendmail's.
func parseSendmail(args []string) (f sendmailFlags, to []string, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		value := func() (string, error) {
			if len(a) > 2 {
				return a[2:], nil
			}
			if i++; i == len(args) {
				return "", fmt.Errorf("%s needs a value", a)
			}
			return args[i], nil
		}
		switch {
		case a == "--":
			return f, append(to, args[i+1:]...), nil
		case !strings.HasPrefix(a, "-") || a == "-":
			to = append(to, a)
		case a == "-i" || a == "-oi":
			f.dotsAreText = true
		case a == "-t" || a == "-ti" || a == "-it":
			f.fromHeader, f.dotsAreText = true, f.dotsAreText || a != "-t"
		case a[1] == 'f' || a[1] == 'r':
			f.sender, err = value()
		case a[1] == 'F':
			f.name, err = value()
		case a == "-bm": // take a message, which is all that is done here
		case a[1] == 'b':
			return f, nil, fmt.Errorf("%s is a mode of sendmail's that postern has not", a)
		case strings.ContainsRune(takesValue, rune(a[1])) && len(a) == 2:
			_, err = value()
		}
		if err != nil {
			return f, nil, err
		}
	}
	return f, to, nil
}

func (c *cli) runSendmail(cmd *cobra.Command, f sendmailFlags, to []string) error {
	user, err := c.sendmailUser()
	if err != nil {
		return c.tempFail(err)
	}
	header, body, err := readSendmail(c.in, f.dotsAreText)
	if err != nil {
		return err
	}
	if f.fromHeader {
		if header, to, err = recipientsOf(header, to); err != nil {
			return usageError{err}
		}
	}
	if len(to) == 0 {
		return usageError{errors.New("no recipients; name them, or -t")}
	}
	p, err := c.pass(cmd.Context(), user)
	if err != nil {
		return c.tempFail(err)
	}
	from := f.sender
	if from == "" {
		from = localUser()
	}
	if !hasField(header, "From") {
		header = append([]byte(fromField(from, f.name)), header...)
	}
	whole := io.MultiReader(bytes.NewReader(header), strings.NewReader("\r\n"), bytes.NewReader(body))
	if _, err = handIn(cmd.Context(), p, from, to, whole); err != nil {
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

// tempFail gives what may pass the exit status that sendmail has for it.
func (c *cli) tempFail(err error) error {
	var reply *textproto.Error
	var mistakes *config.Mistakes
	var told *control.Error // by the daemon, before there was any mail to refuse
	if errors.As(err, &mistakes) && slices.ContainsFunc(mistakes.List, func(m config.Mistake) bool { return m.Key != sendmailKey }) {
		fmt.Fprintln(c.err, err) // somebody is editing the file; the mail must not be given up for that
		return exitWith(exitTempFail)
	}
	var gone unreachable
	if errors.As(err, &gone) || errors.As(err, &told) || errors.As(err, &reply) && reply.Code/100 == 4 {
		fmt.Fprintf(c.err, "postern: %v\n", err)
		return exitWith(exitTempFail)
	}
	return err
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

func fromField(address, name string) string {
	if name == "" {
		return "From: " + address + "\r\n"
	}
	return "From: " + (&mail.Address{Name: name, Address: address}).String() + "\r\n"
}

// readSendmail reads the message: the header block with CRLF and without the empty line, and the body. A text without a
// header is all body.
func readSendmail(in io.Reader, dotsAreText bool) (header, body []byte, err error) {
	r := bufio.NewReader(io.LimitReader(in, maxSendmail+1))
	inHeader, size := true, 0
	for {
		line, err := r.ReadString('\n')
		if line == "" && err != nil {
			if err == io.EOF {
				return header, body, nil
			}
			return nil, nil, fmt.Errorf("read the message: %w", err)
		}
		if size += len(line); size > maxSendmail {
			return nil, nil, fmt.Errorf("the message is larger than %d octets", maxSendmail)
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "." && !dotsAreText:
			return header, body, nil
		case inHeader && line == "":
			inHeader = false
		case inHeader && len(header) == 0 && strings.HasPrefix(line, "From "): // of an mbox
		case inHeader && isField(line, len(header) > 0):
			header = append(header, line+"\r\n"...)
		case inHeader: // a text without an empty line before it
			inHeader = false
			fallthrough
		default:
			body = append(body, line+"\r\n"...)
		}
	}
}

func isField(line string, continued bool) bool {
	if line[0] == ' ' || line[0] == '\t' {
		return continued
	}
	name, _, ok := strings.Cut(line, ":")
	return ok && name != "" && !strings.ContainsAny(name, " \t")
}

// fields splits a header block into fields with their continuation lines.
func fields(header []byte) []string {
	var list []string
	for _, line := range strings.SplitAfter(string(header), "\r\n") {
		switch {
		case line == "":
		case (line[0] == ' ' || line[0] == '\t') && len(list) > 0:
			list[len(list)-1] += line
		default:
			list = append(list, line)
		}
	}
	return list
}

func hasField(header []byte, name string) bool {
	return slices.ContainsFunc(fields(header), func(f string) bool { return strings.EqualFold(fieldName(f), name) })
}

func fieldName(f string) string {
	name, _, _ := strings.Cut(f, ":")
	return name
}

// recipientsOf takes the recipients out of To, Cc and Bcc, and Bcc out of the header. Addresses of the command line are
// not sent to then, as with sendmail.
func recipientsOf(header []byte, not []string) (rest []byte, to []string, err error) {
	for _, f := range fields(header) {
		name, value, _ := strings.Cut(f, ":")
		if !slices.ContainsFunc([]string{"To", "Cc", "Bcc"}, func(n string) bool { return strings.EqualFold(n, name) }) {
			rest = append(rest, f...)
			continue
		}
		if !strings.EqualFold(name, "Bcc") {
			rest = append(rest, f...)
		}
		addresses, err := addressesOf(value)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, a := range addresses {
			if !slices.Contains(to, a) && !slices.Contains(not, a) {
				to = append(to, a)
			}
		}
	}
	return rest, to, nil
}

// addressesOf reads an address list, in which cron's bare "root" may stand.
func addressesOf(value string) ([]string, error) {
	value = strings.TrimSpace(strings.NewReplacer("\r\n", " ").Replace(value))
	if value == "" {
		return nil, nil
	}
	if list, err := mail.ParseAddressList(value); err == nil {
		var all []string
		for _, a := range list {
			all = append(all, a.Address)
		}
		return all, nil
	}
	var all []string
	for _, one := range strings.Split(value, ",") {
		one = strings.TrimSpace(one)
		if a, err := mail.ParseAddress(one); err == nil {
			one = a.Address
		} else if one == "" || strings.ContainsAny(one, " <>\"()@") {
			return nil, fmt.Errorf("%.60q is no address", one)
		}
		all = append(all, one)
	}
	return all, nil
}
