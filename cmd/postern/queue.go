package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/bridge"
	"postern/bridge/control"
	"postern/bridge/envelope"
)

// queueStates are what --state takes.
var queueStates = []string{"sending", "queued", "deferred", "in-doubt", "held", "failed", "relayed"}

func (c *cli) queue() *cobra.Command {
	queue := &cobra.Command{
		Use:   "queue",
		Short: "Look into the queue and change it",
		Long: `Shows what waits, what failed and what was relayed, and lets a person decide.
Each verb takes queue IDs, or --all, --account NAME and --state STATE for many
at once. It asks the running daemon; where none runs it opens the queue itself.
Every change is a line in the log with the name of who asked for it.`,
		Example: `  postern queue list
  postern queue show 06ab3c9d0e1f2g3h
  postern queue retry --state failed`,
		Args: verbArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return needVerb(cmd) },
	}
	queue.AddCommand(c.queueList(), c.queueShow(), c.queueExport(),
		c.queueChange("retry", "Try again at once", `Has messages tried at once, and the waits begin again. Failed, held and doubtful
mail is taken where it is named by ID or --state; --all means what waits anyhow.
--state failed leaves out what has no text any more. What was in doubt may
arrive twice.

--policy today makes a new plan from the configuration of now, for mail that has
failed, is held, or waits for a right of its sender: account and sender change,
Message-ID, Date and recipients stay.`,
			"  postern queue retry 06ab3c9d0e1f2g3h\n  postern queue retry --state failed --policy today"),
		c.queueChange("hold", "Keep from being sent", `Holds messages until they are released or tried again. What is being sent at
this moment is named and left as it is: ask again.`,
			"  postern queue hold --account erp"),
		c.queueChange("release", "Let held mail go", `Lets held mail go. What may have gone out already is left alone: look into Sent
Items, then end the doubt with sent or retry.`,
			"  postern queue release --all"),
		c.queueChange("drop", "Give up without a report", `Ends messages as failed and deletes their text. Nobody gets a report. --all
means all that is not finished; failed mail is taken by ID or --state failed,
which leaves out what has no text any more.`,
			"  postern queue drop 06ab3c9d0e1f2g3h"),
		c.queueChange("sent", "Mark doubtful mail as relayed", `Ends a doubt: somebody has seen the message in Sent Items. Nothing is sent.`,
			"  postern queue sent 06ab3c9d0e1f2g3h"))
	return queue
}

// selectFlags adds --account, --state and --all.
func selectFlags(cmd *cobra.Command, q *control.QueueQuery, all string) {
	cmd.Flags().StringVar(&q.Account, "account", "", "only mail of the account `NAME`")
	cmd.Flags().StringVar(&q.State, "state", "", "only mail in `STATE`, such as held or failed")
	cmd.Flags().BoolVar(&q.All, "all", false, all)
}

// checkIDs refuses what is no queue ID, before anything is done.
func checkIDs(ids []string) error {
	for _, id := range ids {
		if _, err := envelope.ParseID(id); err != nil {
			return usageError{err}
		}
	}
	return nil
}

// checkSelection refuses what is no queue ID, and pairs that mean two things.
func checkSelection(cmd *cobra.Command, q control.QueueQuery, ids []string) error {
	if err := checkIDs(ids); err != nil {
		return err
	}
	if len(ids) > 0 && (q.All || q.Account != "" || q.State != "") {
		return usageError{fmt.Errorf("either IDs, or --all, --account and --state; see: %s --help", cmd.CommandPath())}
	}
	if q.State != "" && !slices.Contains(queueStates, q.State) {
		return usageError{fmt.Errorf("%.20q is not a state: %s", q.State, strings.Join(queueStates, ", "))}
	}
	return nil
}

func errWhich(cmd *cobra.Command) error {
	return fmt.Errorf("which messages? name IDs, or --all, --account, --state; see: %s --help", cmd.CommandPath())
}

// warnAccount tells of an --account that no mail and no account has.
func (c *cli) warnAccount(ctx context.Context, svc control.Service, name string, matched int) error {
	if name == "" || matched > 0 {
		return nil
	}
	list, err := svc.Accounts(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(a control.Account) bool { return a.Name == name }) {
		fmt.Fprintf(c.err, "warning: there is no account %.60q, and no mail of one; see: postern accounts\n", name)
	}
	return nil
}

func (c *cli) queueList() *cobra.Command {
	var asJSON bool
	var q control.QueueQuery
	cmd := &cobra.Command{
		Use:   "list [ID...]",
		Short: "List messages",
		Long: `Lists what is not relayed, the oldest first: what waits and what for, what is
held, and what failed. --all and --state relayed show what was relayed too.`,
		Example: `  postern queue list
  postern queue list --account erp --state failed
  postern queue list --json`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := checkSelection(cmd, q, ids); err != nil {
				return err
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			if !asJSON {
				c.warnStopped(svc)
			}
			q.IDs = ids
			list := queuePrinter{out: c.out, json: asJSON, now: time.Now()}
			if err := list.print(cmd.Context(), svc, q); err != nil {
				return err
			}
			return c.warnAccount(cmd.Context(), svc, q.Account, list.n)
		},
	}
	selectFlags(cmd, &q, "relayed messages too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cli) queueShow() *cobra.Command {
	shown := queuePrinter{out: c.out}
	var q control.QueueQuery
	cmd := &cobra.Command{
		Use:   "show [ID...]",
		Short: "Show messages",
		Long: `Shows all that is known of a message: its recipients, what was answered, what to
do, and its header as it came. JSON is one object for each message.`,
		Example: "  postern queue show 06ab3c9d0e1f2g3h",
		RunE: func(cmd *cobra.Command, ids []string) error {
			ctx := cmd.Context()
			if err := checkSelection(cmd, q, ids); err != nil {
				return err
			}
			if len(ids) == 0 && !q.All && q.Account == "" && q.State == "" {
				return usageError{errWhich(cmd)}
			}
			svc, done, err := c.service(ctx)
			if err != nil {
				return err
			}
			defer done()
			q.IDs = ids
			err = shown.each(ctx, svc, q, func(r control.QueueRow) error {
				d, err := svc.QueueShow(ctx, r.ID)
				if err != nil || shown.json {
					return c.printJSON(d, err)
				}
				if shown.n > 0 {
					fmt.Fprintln(c.out)
				}
				return printDetail(c.out, d, time.Now())
			})
			if err == nil {
				err = shown.end()
			}
			return errors.Join(err, c.warnAccount(ctx, svc, q.Account, shown.n))
		},
	}
	selectFlags(cmd, &q, "relayed messages too")
	cmd.Flags().BoolVar(&shown.json, "json", false, "print JSON")
	return cmd
}

func (c *cli) queueChange(verb, short, long, example string) *cobra.Command {
	var change control.QueueChange
	var policy string
	cmd := &cobra.Command{
		Use: verb + " [ID...]", Short: short, Long: long, Example: example,
		RunE: func(cmd *cobra.Command, ids []string) error {
			change.Action, change.Today = verb, policy == "today"
			if err := checkSelection(cmd, change.QueueQuery, ids); err != nil {
				return err
			}
			if len(ids) == 0 && !change.All && change.Account == "" && change.State == "" {
				return usageError{errWhich(cmd)}
			}
			if policy != "" && policy != "today" {
				return usageError{fmt.Errorf("--policy is today or left away, not %.20q", policy)}
			}
			svc, done, err := c.service(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			return c.changeQueue(cmd.Context(), svc, change, ids)
		},
	}
	selectFlags(cmd, &change.QueueQuery, "all that the verb makes sense for")
	if verb == "retry" {
		cmd.Flags().StringVar(&policy, "policy", "", "`today`: plan anew by the configuration of now")
	}
	return cmd
}

// changeQueue asks for the change, in pieces where many IDs were named.
func (c *cli) changeQueue(ctx context.Context, svc control.Service, change control.QueueChange, ids []string) error {
	changed, refused := 0, 0
	for first := true; first || len(ids) > 0; first = false {
		n := min(len(ids), control.RowsAtOnce)
		change.IDs, ids = ids[:n], ids[n:]
		r, err := svc.QueueChange(ctx, change)
		if err != nil {
			return err
		}
		changed += r.Changed
		for _, no := range r.Refused {
			refused += 1 + no.More
			which := no.ID
			if no.More > 0 {
				which = fmt.Sprintf("%s and %d more", no.ID, no.More)
			}
			fmt.Fprintf(c.err, "postern: %s: %s\n", printable(which), printable(no.Text))
		}
	}
	word := map[string]string{"retry": "to be tried at once", "hold": "held", "release": "released", "drop": "dropped", "sent": "marked as relayed"}
	if _, err := fmt.Fprintf(c.out, "%d %s %s\n", changed, plural(changed, "message"), word[change.Action]); err != nil {
		return err
	}
	if err := c.warnAccount(ctx, svc, change.Account, changed+refused); err != nil {
		return err
	}
	if refused > 0 {
		return fmt.Errorf("not changed: %d %s", refused, plural(refused, "message"))
	}
	return nil
}

func (c *cli) queueExport() *cobra.Command {
	var dir string
	var q control.QueueQuery
	cmd := &cobra.Command{
		Use:   "export [ID...]",
		Short: "Write messages as .eml files",
		Long: `Writes each message as it came into a file ID.eml that only you can read, after
fields with its envelope (X-Envelope-From, X-Envelope-To). No file is replaced.
--all, --account and --state leave out what has no text any more. Of a message
that is damaged what can be read goes into ID.damaged.eml.`,
		Example: "  postern queue export 06ab3c9d0e1f2g3h --to /tmp",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := checkSelection(cmd, q, ids); err != nil {
				return err
			}
			if len(ids) > 0 {
				return c.export(cmd.Context(), dir, ids)
			}
			if !q.All && q.Account == "" && q.State == "" {
				return usageError{errWhich(cmd)}
			}
			return c.exportSelected(cmd.Context(), dir, q)
		},
	}
	selectFlags(cmd, &q, "all whose text is kept")
	cmd.Flags().StringVar(&dir, "to", ".", "the `FOLDER` for the files")
	return cmd
}

// export writes the files. They are made before the queue is opened: on a stopped daemon root puts on the identity of the
// folder's owner then, who may not write where root may.
func (c *cli) export(ctx context.Context, dir string, ids []string) (err error) {
	files := make([]*os.File, len(ids))
	tried := 0
	defer func() {
		for _, f := range files[tried:] {
			if f != nil {
				err = errors.Join(err, discard(f, unexported))
			}
		}
	}()
	for i, id := range ids { // which can be names: they were checked
		if files[i], err = newFile(filepath.Join(dir, id+".eml")); err != nil {
			return err
		}
	}
	if err := bridge.SyncFolder(dir); err != nil {
		return err
	}
	svc, done, err := c.service(ctx)
	if err != nil {
		return err
	}
	defer done()
	damaged := 0
	for i, id := range ids {
		tried++
		whole, err := c.exportOne(ctx, svc, id, files[i])
		if err != nil {
			return err
		}
		if !whole {
			damaged++
		}
	}
	return errDamaged(damaged)
}

func errDamaged(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d damaged %s cannot be read back whole", n, plural(n, "message"))
}

// exportSelected writes what q selects and has a text still.
func (c *cli) exportSelected(ctx context.Context, dir string, q control.QueueQuery) error {
	svc, done, err := c.service(ctx)
	if err != nil {
		return err
	}
	defer done()
	matched, written, damaged := 0, 0, 0
	pages := queuePrinter{}
	err = pages.each(ctx, svc, q, func(r control.QueueRow) error {
		matched++
		d, err := svc.QueueShow(ctx, r.ID)
		if err != nil || !d.HasBody {
			return err
		}
		written++
		f, err := newFile(filepath.Join(dir, r.ID+".eml"))
		if err != nil {
			return err
		}
		whole, err := c.exportOne(ctx, svc, r.ID, f)
		if !whole {
			damaged++
		}
		return err
	})
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w; beside a stopped daemon the files are made by data_dir's owner: start it, or name IDs", err)
	case err != nil:
		return err
	case written == 0:
		fmt.Fprintln(c.out, "no messages")
	}
	return errors.Join(bridge.SyncFolder(dir), c.warnAccount(ctx, svc, q.Account, matched), errDamaged(damaged))
}

// unexported stands in a file that is no message, where it cannot be removed.
const unexported = "postern: this message was not exported\n"

// exportOne writes one message into its file, and closes that. Of a damaged one the file is called so; any other that is not
// whole does not stay.
func (c *cli) exportOne(ctx context.Context, svc control.Service, id string, f *os.File) (whole bool, err error) {
	name := f.Name()
	err = svc.QueueExport(ctx, id, f)
	var damaged *control.Damaged
	if errors.As(err, &damaged) {
		err = nil
	}
	if err = errors.Join(err, f.Sync()); err == nil { // often it is dropped then
		err = f.Close()
	}
	if err != nil {
		return false, errors.Join(err, discard(f, unexported))
	}
	if damaged == nil {
		_, err = fmt.Fprintln(c.out, name)
		return true, err
	}
	_, err = fmt.Fprintf(c.err, "postern: %s; what can be read of it is in %s\n", printable(damaged.Text), nameDamaged(name))
	return false, err
}

// nameDamaged renames a file of a damaged message, and returns its name. It keeps the one that it has where there is such a
// file, or where who we are by now may make none.
func nameDamaged(name string) string {
	to := strings.TrimSuffix(name, ".eml") + ".damaged.eml"
	f, err := newFile(to)
	if err == nil {
		err = errors.Join(f.Close(), os.Rename(name, to))
	}
	if err != nil {
		return name
	}
	return to
}
