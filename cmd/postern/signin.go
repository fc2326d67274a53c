package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) signin() *cobra.Command {
	var refresh string
	cmd := &cobra.Command{
		Use:   "signin ACCOUNT --refresh-token -",
		Short: "Sign an account's login in",
		Long: `Signs the login of an account in. The refresh token is read from the terminal or
from standard input, tried for each transport that the account may use, and
stored sealed in data_dir when at least one of them works. Mail that waited for
it goes on. Accounts of the same login share the sign-in.

This version takes a refresh token that was made elsewhere; the README says how
to make one with curl.`,
		Example: `  postern signin erp --refresh-token -
  postern signin erp --refresh-token - < token.txt`,
		Args: exactArgs("ACCOUNT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if refresh != "-" {
				return usageError{errors.New("a refresh token is read from standard input, so that it stands in no process list: " +
					"postern signin " + args[0] + " --refresh-token -")}
			}
			secret, err := c.readSecret("Refresh token: ")
			if err != nil {
				return err
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			in, err := svc.SignIn(cmd.Context(), args[0], secret)
			if err != nil {
				return err
			}
			who := ""
			if in.As != "" {
				who = " as " + in.As
			}
			fmt.Fprintf(c.out, "signed in%s; works: %s; mail goes by %s\n", who, strings.Join(in.Works, ", "), in.Transport)
			for _, r := range in.Refused {
				fmt.Fprintf(c.out, "not usable: %s\n", r)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&refresh, "refresh-token", "", "`-`: read a refresh token from standard input")
	return cmd
}
