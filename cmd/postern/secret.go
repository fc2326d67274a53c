package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/control"
)

func (c *cli) secret() *cobra.Command {
	secret := &cobra.Command{
		Use:   "secret",
		Short: "Client secrets in the vault",
		Long: `Client secrets are kept sealed in data_dir, and named in the file:
client_secret = "vault:contoso". They are never shown again.`,
		Example: `  postern secret set contoso
  postern secret list`,
		Args: verbArgs,
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
			svc, done, err := c.serviceOrNew(cmd.Context())
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
			fmt.Fprintln(w, "NAME\tSET\tUSED BY")
			for _, s := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Set.Local().Format("2006-01-02 15:04"), cmp.Or(strings.Join(s.UsedBy, ", "), "nobody"))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cli) secretRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a stored secret",
		Long: `Removes a client secret from the vault. Where a provider of the configuration
uses it, mail of that provider's accounts would wait until another one is
stored, and so it asks first.`,
		Example: `  postern secret remove contoso
  postern secret remove contoso --yes`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if err := c.confirmRemove(cmd.Context(), svc, args[0], yes); err != nil {
				return err
			}
			if err := svc.RemoveSecret(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "removed %s\n", args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask, also where it is in use")
	return cmd
}

// confirmRemove asks, naming who uses the secret; nobody is asked about one that is not in use.
func (c *cli) confirmRemove(ctx context.Context, svc control.Service, name string, yes bool) error {
	list, err := svc.Secrets(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(s control.Secret) bool { return s.Name == name })
	if i < 0 || len(list[i].UsedBy) == 0 {
		return nil
	}
	users := list[i].UsedBy
	uses := fmt.Sprintf("secret %s is used by %s %s, whose mail would wait", name, plural(len(users), "provider"), strings.Join(users, ", "))
	switch {
	case yes:
		fmt.Fprintln(c.err, "warning:", strings.Replace(uses, "would wait", "waits until another one is stored", 1))
		return nil
	case !c.terminal():
		return usageError{fmt.Errorf("%s; to remove it all the same: postern secret remove %s --yes", uses, name)}
	}
	fmt.Fprintf(c.err, "The %s. Remove it? Type yes: ", uses)
	return c.typedYes("not removed")
}
