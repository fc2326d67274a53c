package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func (c *cli) backup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the queue and the vault into one file",
		Long: `Writes a tar archive with a consistent copy of the queue, and of the vault with
the sign-ins, from a running daemon or a stopped one. Whoever can read the file
can send as you: keep it as you keep data_dir itself.

To put it back: stop the service, unpack the file into an empty data_dir that
belongs to the service's user, and start. All mail in it is held then, because
nobody knows what was sent meanwhile: see postern queue list --state held, and
postern queue release --all.`,
		Example: "  postern backup /var/backups/postern-$(date +%F).tar",
		Args:    exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			// Before the folder's owner is put on: the file is the caller's.
			f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			defer func() {
				if err != nil {
					err = errors.Join(err, os.Remove(args[0]))
				}
			}()
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return errors.Join(err, f.Close())
			}
			defer done()
			err = svc.Backup(cmd.Context(), f)
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
			fi, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s: %d octets\n", args[0], fi.Size())
			return err
		},
	}
}
