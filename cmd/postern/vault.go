package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/auth/token"
	"postern/bridge"
)

func (c *cli) vault() *cobra.Command {
	vault := &cobra.Command{
		Use:   "vault",
		Short: "The file that keeps secrets and sign-ins",
		Long: `Secrets and sign-ins are kept in one sealed file in data_dir. Its key comes from
the systemd credential vault.key, or from the file vault.key beside it.`,
		Example: "  postern vault rekey",
		Args:    verbArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return needVerb(cmd) },
	}
	vault.AddCommand(c.vaultRekey())
	return vault
}

func (c *cli) vaultRekey() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Seal the vault again with a new key",
		Long: `Makes a new key and seals every entry again with it; the old key opens nothing
any more but old backups. Nobody needs to sign in again. It can be done while
the service runs, and may be cut off at any moment: the next start finds the old
key or the new one.

Where the key is a systemd credential, or another file that is not Postern's to
write, it says what to do; --key names the new key's file then.`,
		Example: `  postern vault rekey
  postern vault rekey --key /etc/postern/vault.key.new`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var key token.Secret
			if file != "" {
				// Read before the identity of data_dir's owner is taken, who may not be able to.
				var err error
				if key, err = bridge.ReadVaultKey(file); err != nil {
					return err
				}
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			path, err := svc.Rekey(cmd.Context(), key)
			if err != nil {
				return err
			}
			if path == "" {
				_, err = fmt.Fprintf(c.out, "sealed again with the key in %s; now put that in the old key's place, or the next start fails\n", file)
				return err
			}
			_, err = fmt.Fprintf(c.out, "sealed again; the new key is in %s\n", path)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "key", "", "`FILE` with the new key: 32 random bytes, raw or in base64")
	return cmd
}
