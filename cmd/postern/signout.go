package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"postern/bridge/control"
)

func (c *cli) signout() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "signout ACCOUNT",
		Short: "Delete an account's sign-in",
		Long: `Deletes the sign-in of the account's login from data_dir. Accounts of the same
login lose it too. Mail of theirs waits until somebody signs in again. Nothing
else deletes a sign-in.

At Microsoft the sign-in stays until it expires or is revoked: in Entra, Users,
the person, Revoke sessions.`,
		Example: `  postern signout erp
  postern signout erp --yes`,
		Args: exactArgs("ACCOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes && !c.terminal() {
				return usageError{errors.New("without a terminal nobody can be asked: postern signout " + args[0] + " --yes")}
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if !yes {
				if err := c.confirmSignOut(cmd.Context(), svc, args[0]); err != nil {
					return err
				}
			}
			names, err := svc.SignOut(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "signed out: %s; to sign in again: postern signin %s\n", strings.Join(names, ", "), args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmSignOut asks, naming everybody who loses the sign-in.
func (c *cli) confirmSignOut(ctx context.Context, svc control.Service, account string) error {
	o, err := svc.Offer(ctx, account)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "Delete the sign-in of %s, which %s? Type yes: ", o.Login,
		strings.Join(o.Shares, " and ")+map[bool]string{true: " uses", false: " use"}[len(o.Shares) == 1])
	return c.typedYes("not signed out")
}
