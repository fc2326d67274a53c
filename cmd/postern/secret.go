package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/bridge"
)

func (c *cli) secret() *cobra.Command {
	secret := &cobra.Command{
		Use:   "secret",
		Short: "Client secrets in the vault",
		Long: `Client secrets are kept sealed in data_dir, and named in the file:
client_secret = "vault:contoso". They are never shown again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return needVerb(cmd) },
	}
	secret.AddCommand(c.secretSet(), c.secretList(), c.secretRemove())
	return secret
}

func (c *cli) secretSet() *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME",
		Short: "Read a client secret and store it",
		Long: `Reads the client secret's Value (not its Secret ID) from the terminal or from
standard input, and stores it. Mail that waited for it goes on.`,
		Example: `  postern secret set contoso
  printf %s "$SECRET" | postern secret set contoso`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := bridge.CheckSecretName(args[0]); err != nil { // before the secret is asked for
				return usageError{err}
			}
			value, err := c.readSecret("Client secret (its Value): ")
			if err != nil {
				return err
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if err := svc.SetSecret(cmd.Context(), args[0], value); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "stored; the file names it: client_secret = \"vault:%s\"\n", args[0])
			return err
		},
	}
}

func (c *cli) secretList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the stored secrets by name",
		Example: "  postern secret list",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			list, err := svc.Secrets(cmd.Context())
			if err != nil || asJSON {
				return c.printJSON(list, err)
			}
			if len(list) == 0 {
				_, err = fmt.Fprintln(c.out, "no secret is stored; to store one: postern secret set NAME")
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tSET")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, s.Set.Local().Format("2006-01-02 15:04"))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cli) secretRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a stored secret",
		Example: "  postern secret remove contoso",
		Args:    exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if err := svc.RemoveSecret(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "removed %s\n", args[0])
			return err
		},
	}
}
