package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"postern/bridge/users"
)

func (c *cli) passwd() *cobra.Command {
	return &cobra.Command{
		Use:   "passwd",
		Short: "Read a password, print its hash for [[user]]",
		Long: `Reads a password and prints its argon2id hash, which goes into the file as
password = "..." of a [[user]]. Nothing is stored.`,
		Example: `  postern passwd
  printf %s "$PASSWORD" | postern passwd`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			password, err := c.readSecret("Password: ")
			if err != nil {
				return err
			}
			if c.terminal() {
				again, err := c.readSecret("Once more: ")
				if err != nil {
					return err
				}
				if again != password {
					return errors.New("the two passwords differ; nothing was printed")
				}
			}
			hash, err := users.Hash(password.Reveal())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, hash)
			return err
		},
	}
}
