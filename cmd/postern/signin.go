package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"postern/auth/token"
	"postern/bridge/control"
)

// signInOptions are the flags of signin; at most one way is set.
type signInOptions struct {
	browser, device, paste bool
	refresh                string
	redirect               string
}

func (c *cli) signin() *cobra.Command {
	var o signInOptions
	cmd := &cobra.Command{
		Use:   "signin ACCOUNT [--browser|--device|--paste|--refresh-token -]",
		Short: "Sign an account's login in",
		Long: `Signs the login of an account in, for all transports that its accounts use, and
says beforehand what is asked for. Whoever signs in must be the account's login;
another person is refused. What comes of it is tried for each transport and kept
sealed in data_dir when at least one works. Mail that waited for it goes on.

--browser opens a browser on this machine, and is the default where there is
one. --device shows a code to enter in a browser on any machine, and is the
default elsewhere; some tenants forbid it. --paste shows an address to open on
any machine, and takes the address at which that browser ends, or the code in
it. --refresh-token - takes a refresh token that was made elsewhere.

The app registration must have the redirect URI http://localhost. For --paste
it may be another, which --redirect then names; nativeclient stands for the
blank page that the portal offers.`,
		Example: `  postern signin erp
  postern signin erp --device
  postern signin erp --paste --redirect nativeclient
  postern signin erp --refresh-token - < token.txt`,
		Args: exactArgs("ACCOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args[0]); err != nil {
				return err
			}
			// A code is good once, so what was begun with it is finished also when Ctrl-C comes.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return c.signIn(ctx, args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.browser, "browser", false, "open a browser here")
	f.BoolVar(&o.device, "device", false, "show a code to enter elsewhere")
	f.BoolVar(&o.paste, "paste", false, "show an address to open elsewhere")
	f.StringVar(&o.refresh, "refresh-token", "", "`-`: read a refresh token from standard input")
	f.StringVar(&o.redirect, "redirect", "", "another redirect `URI` than http://localhost")
	return cmd
}

func (o *signInOptions) check(account string) error {
	ways := 0
	for _, set := range []bool{o.browser, o.device, o.paste, o.refresh != ""} {
		if set {
			ways++
		}
	}
	if o.redirect == "" {
		o.redirect = "http://localhost"
	} else if !o.paste {
		return usageError{errors.New("--redirect is for --paste alone")}
	}
	switch {
	case ways > 1:
		return usageError{errors.New("one of --browser, --device, --paste and --refresh-token - is enough")}
	case o.refresh != "" && o.refresh != "-":
		return usageError{errors.New("a refresh token is read from standard input, so that it stands in no process list: " +
			"postern signin " + account + " --refresh-token -")}
	case ways == 0 && browserHere():
		o.browser = true
	case ways == 0:
		o.device = true
	}
	return nil
}

// signIn runs one flow.
func (c *cli) signIn(ctx context.Context, account string, o signInOptions) error {
	f := &signInFlow{cli: c, account: account}
	var typed token.Secret
	var err error
	if o.refresh != "" { // before data_dir is touched: it may take a while to find
		if typed, err = c.readSecret("Refresh token: "); err != nil {
			return err
		}
	}
	svc, done, err := c.serviceOrNew(ctx)
	if err != nil {
		return err
	}
	defer done()
	f.svc = svc
	if o.refresh != "" {
		turn, err := svc.Redeem(ctx, account, token.Proof{Refresh: typed})
		if err != nil {
			return err
		}
		if turn.State != control.Done {
			return errors.New(turn.Text)
		}
		return f.tell(turn.SignedIn, nil)
	}
	if f.offer, err = svc.Offer(ctx, account); err != nil {
		return err
	}
	f.printOffer()
	switch {
	case o.browser:
		return f.byBrowser(ctx)
	case o.paste:
		return f.byPaste(ctx, o.redirect)
	}
	return f.byDevice(ctx)
}

// printOffer says what is asked for and why, before anybody is asked.
func (f *signInFlow) printOffer() {
	o := f.offer
	fmt.Fprintf(f.out, "Signing in %s for account %s", o.Login, o.Account)
	if len(o.Shares) > 1 {
		fmt.Fprintf(f.out, " (and %s)", strings.Join(o.Shares[1:], ", "))
	}
	fmt.Fprintf(f.out, ".\nThe app %s\nof tenant %s asks for:\n", o.ClientID, o.Tenant)
	for _, s := range o.Scopes {
		fmt.Fprintf(f.out, "  %-17s %s\n", s.Name, s.Why)
	}
	fmt.Fprintln(f.out)
}

// tell says what a sign-in brought. offer is nil where none was made.
func (f *signInFlow) tell(in control.SignedIn, offer *control.Offer) error {
	who := ""
	if in.As != "" {
		who = " as " + in.As
	}
	_, err := fmt.Fprintf(f.out, "signed in%s; works: %s; mail goes by %s\n", who, strings.Join(in.Works, ", "), in.Transport)
	for _, r := range in.Refused {
		fmt.Fprintf(f.out, "not usable: %s\n", r)
	}
	if in.As == "" {
		fmt.Fprintln(f.out, "who signed in could not be found out: no permission that was granted tells it")
	}
	if offer == nil {
		return err
	}
	if in.As != "" && !strings.EqualFold(in.As, offer.Login) && slices.Contains(in.Works, "smtp") {
		fmt.Fprintf(f.out, "%s is another address of %s. SMTP logs in as the first; where that is\nrefused, write login = %q for the account.\n",
			offer.Login, in.As, in.As)
	}
	if len(offer.Shares) > 1 {
		fmt.Fprintf(f.out, "also used by: %s\n", strings.Join(offer.Shares[1:], ", "))
	}
	return err
}
