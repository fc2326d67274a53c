package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"postern/bridge"
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
			if args[0] == "-" {
				return usageError{errors.New("a backup goes into a file, not to standard output; name one")}
			}
			// Before the folder's owner is put on: the file is the caller's.
			f, err := newFile(args[0])
			if err != nil {
				return err
			}
			defer func() {
				if err != nil {
					err = errors.Join(err, discard(f, unfinished))
					return
				}
				err = f.Close()
			}()
			if err := bridge.SyncFolder(filepath.Dir(args[0])); err != nil {
				return err
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if err := copyWhole(f, func(to io.Writer) error { return svc.Backup(cmd.Context(), to) }); err != nil {
				return err
			}
			fi, err := f.Stat()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s: %d octets\n", args[0], fi.Size())
			return err
		},
	}
}

// newFile makes a file that only its owner can read; none is replaced.
func newFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, fmt.Errorf("%s: %w, and none is replaced; name another, or remove it", path, os.ErrExist)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s cannot be made: there is no folder %s; make it, or name another", path, filepath.Dir(path))
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%s cannot be made: %w in folder %s; name another", path, os.ErrPermission, filepath.Dir(path))
	}
	return f, err
}

// discard removes a file that did not become what it should. Who is the owner of data_dir by now may not remove what the
// caller made; there the text alone stays in it, so that nobody takes it for what its name says.
func discard(f *os.File, text string) error {
	err := f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	err = errors.Join(err, f.Close())
	if removed := os.Remove(f.Name()); removed == nil || errors.Is(removed, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, fmt.Errorf("%s could not be removed again, and only says what it is not; remove it", f.Name()))
}

// firstBlock is the size of what an archive begins with: the header of its first file.
const firstBlock = 512

// unfinished stands where the first block will, so that tar takes nothing for whole that is not.
const unfinished = "postern: this backup was not finished\n"

// copyWhole writes an archive into the empty file, its beginning last and only when all the rest is safe: what a killed
// program or a power cut leaves is no archive.
func copyWhole(f *os.File, write func(io.Writer) error) error {
	b := &beginningLast{f: f}
	if err := errors.Join(write(b), f.Sync()); err != nil {
		return err
	}
	if _, err := f.WriteAt(b.first, 0); err != nil {
		return err
	}
	return f.Sync()
}

// beginningLast keeps the first block back.
type beginningLast struct {
	f     *os.File
	first []byte
}

// Write implements io.Writer.
func (b *beginningLast) Write(p []byte) (int, error) {
	kept := min(firstBlock-len(b.first), len(p))
	b.first = append(b.first, p[:kept]...)
	if kept > 0 {
		place := make([]byte, firstBlock)
		copy(place, unfinished)
		if _, err := b.f.WriteAt(place[:len(b.first)], 0); err != nil {
			return 0, err
		}
		if _, err := b.f.Seek(int64(len(b.first)), io.SeekStart); err != nil {
			return 0, err
		}
	}
	n, err := b.f.Write(p[kept:])
	return kept + n, err
}
