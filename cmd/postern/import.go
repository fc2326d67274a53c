package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"postern/bridge/peers"
	"postern/bridge/users"
)

func (c *cli) importVerb() *cobra.Command {
	var passwd string
	var senders []string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Turn another program's configuration into a postern.toml",
		Long: `Reads the configuration of email-oauth2-proxy (emailproxy.config), SMTP2Graph
(config.yml) or sasl-xoauth2 (its JSON, with Postfix's maps), and prints a
postern.toml. What could not be carried, and what you must do, stand at its top
as comments. No secret is printed: passwords become hashes, client secrets names
in the vault. FILE is - for standard input.`,
		Example: `  postern import emailproxy.config >postern.toml
  postern import /etc/sasl-xoauth2.conf --sasl-passwd /etc/postfix/sasl_passwd`,
		Args: exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			s := peers.Source{Name: filepath.Base(args[0]), HashOf: users.Hash}
			var err error
			if s.Text, err = c.readFileOr(args[0]); err != nil {
				return err
			}
			if passwd != "" {
				if s.SASLPasswd, err = os.ReadFile(passwd); err != nil {
					return err
				}
			}
			for _, path := range senders {
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				s.SenderMaps = append(s.SenderMaps, text)
			}
			toml, _, err := peers.Convert(s)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.out, toml)
			return err
		},
	}
	cmd.Flags().StringVar(&passwd, "sasl-passwd", "", "Postfix's smtp_sasl_password_maps `FILE`, as text")
	cmd.Flags().StringArrayVar(&senders, "sender-map", nil, "sender_dependent_..._maps `FILE` of Postfix; repeatable")
	return cmd
}

// readFileOr reads a file, - is standard input.
func (c *cli) readFileOr(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(c.in, 10<<20))
	}
	return os.ReadFile(path)
}
