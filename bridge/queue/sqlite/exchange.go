package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/bridge/queue"
)

// A salvage may end at any moment, and nothing of the damaged file may be lost by that. So the new store is made beside
// it, under another name, and they change places only when it is whole:
//
//	queue.db  queue.db.damaged                                  found; the mark says what, and how the file will be called
//	queue.db  queue.db.damaged  queue.db.salvaging              the new store fills; it is begun anew after an end here
//	          queue.db.damaged  queue.db.salvaging  the file aside     brought back after an end here, and salvaged again
//	queue.db  queue.db.damaged                      the file aside     the new store; only the mark is still to be removed
//	queue.db                                        the file aside     the report lies in the new store until it was told

// markFile is there while a store is known to be damaged and was not salvaged yet.
func markFile(path string) string { return path + ".damaged" }

// freshFile is the new store while it fills.
func freshFile(path string) string { return path + ".salvaging" }

// asideLine begins the mark's line with the name that the damaged file gets.
const asideLine = "aside: "

const foundBefore = "found by the former run"

// errMarked is what a mark says.
func errMarked(text string) error {
	why, _, _ := strings.Cut(text, "\n")
	if why == "" {
		return fmt.Errorf("%w: %s", queue.ErrDamaged, foundBefore)
	}
	for _, said := range []string{queue.ErrDamaged.Error() + ": ", foundBefore + ": "} {
		why = strings.TrimPrefix(why, said)
	}
	return fmt.Errorf("%w: %s: %s", queue.ErrDamaged, foundBefore, why)
}

// marked returns what a mark says, nil where there is none.
func marked(path string) error {
	text, err := os.ReadFile(markFile(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return errMarked(string(text))
}

// mark writes down that the store is damaged, durably.
func mark(path, text string) error {
	f, err := os.OpenFile(markFile(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text + "\n"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// salvage makes a new store of what can be read, and lets it and the damaged one change places.
func salvage(ctx context.Context, path string, why error) (*Store, error) {
	aside := fmt.Sprintf("%s.damaged-%s", path, time.Now().UTC().Format("20060102T150405.000"))
	if err := mark(path, strings.ReplaceAll(why.Error(), "\n", " ")+"\n"+asideLine+filepath.Base(aside)); err != nil {
		return nil, fmt.Errorf("mark the damaged store: %w", err)
	}
	reached(ctx, "marked", nil)
	if err := refill(ctx, path, &Salvage{Why: why, Aside: aside}); err != nil {
		return nil, fmt.Errorf("salvage: %w", errors.Join(err, removeStore(freshFile(path))))
	}
	if err := exchange(ctx, path, aside); err != nil {
		return nil, fmt.Errorf("put the damaged store aside: %w", err)
	}
	return openWhole(ctx, path)
}

// refill makes the new store, with the report in it, in one file that is on the disk when it returns.
func refill(ctx context.Context, path string, report *Salvage) error {
	fresh := freshFile(path)
	if err := removeStore(fresh); err != nil { // of a salvage that was interrupted
		return err
	}
	s, err := openSound(ctx, fresh)
	if err != nil {
		return err
	}
	s.finding.path = path
	reached(ctx, "begun", s)
	err = s.copyFrom(ctx, path, report)
	if err == nil {
		err = s.readSalvage(ctx) // what the damaged store still had to tell came with its notes
	}
	if err == nil {
		both := s.salvaged.with(report)
		both.Saved = report.Saved
		err = s.noteSalvage(ctx, both)
	}
	if err == nil {
		reached(ctx, "copied", s)
		_, err = s.foldWAL(ctx) // Close does it again
	}
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if log, err := os.Stat(fresh + "-wal"); err == nil && log.Size() > 0 {
		return errors.New("the log of the new store cannot be copied into it")
	}
	f, err := os.OpenFile(fresh, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// exchange puts the file aside with its log, which belongs to it, and the new store in its place.
func exchange(ctx context.Context, path, aside string) error {
	reached(ctx, "whole", nil)
	if err := rename(path+"-wal", aside+"-wal"); err != nil {
		return err
	}
	reached(ctx, "log aside", nil)
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	reached(ctx, "aside", nil)
	if err := remove(path + "-shm"); err != nil { // SQLite makes it anew
		return err
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Rename(freshFile(path), path); err != nil {
		return err
	}
	reached(ctx, "in place", nil)
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := removeStore(freshFile(path)); err != nil { // its index, where SQLite has left one
		return err
	}
	reached(ctx, "synced", nil)
	return unmark(path)
}

// unmark ends a salvage.
func unmark(path string) error {
	if err := remove(markFile(path)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// resume brings a store whose salvage was interrupted to one of two states: the damaged file where it was, marked, so that
// the salvage begins anew; or the new one in its place, without a mark. A folder that has a damaged file aside and no
// store at all is a person's to look at: an empty queue there would hide what he wants to have back.
func resume(path string) error {
	text, err := os.ReadFile(markFile(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if aside := asideOf(path, string(text)); aside != "" {
		if there(aside) && there(path) { // it was renamed after everything else was on the disk
			if err := removeStore(freshFile(path)); err != nil {
				return err
			}
			return unmark(path)
		}
		if err := rename(aside+"-wal", path+"-wal"); err != nil {
			return err
		}
		if err := rename(aside, path); err != nil {
			return err
		}
		if err := syncFolder(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if there(path) {
		return nil
	}
	if list, err := asides(path); err != nil || len(list) > 0 {
		return errors.Join(err, errNoStore(path, list))
	}
	return unmark(path) // of a store that somebody has removed
}

// asideOf returns the name that a mark tells of, "" where it tells of none.
func asideOf(path, text string) string {
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), asideLine)
		if ok && name == filepath.Base(name) && strings.HasPrefix(name, filepath.Base(path)+".damaged-") {
			return filepath.Join(filepath.Dir(path), name)
		}
	}
	return ""
}

// asides are the damaged files that lie beside the store.
func asides(path string) (names []string, err error) {
	list, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".damaged-") && !strings.HasSuffix(e.Name(), "-wal") && !strings.HasSuffix(e.Name(), "-shm") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func errNoStore(path string, asides []string) error {
	if len(asides) == 0 {
		return nil
	}
	name, last := filepath.Base(path), asides[len(asides)-1]
	return fmt.Errorf("it is missing, and a damaged one lies beside it: %s; rename that to %s (and %s-wal to %s-wal, where there is one), and "+
		"what can be read of it goes on; or move it elsewhere to begin with an empty queue", last, name, last, name)
}

// Kept reports whether there is a store at path, or what is left of one: its log, or what a salvage has not given back yet.
func Kept(path string) (bool, error) {
	if there(path) || there(path+"-wal") || there(markFile(path)) {
		return true, nil
	}
	list, err := asides(path)
	return len(list) > 0, err
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// rename renames what is there.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remove removes what is there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeStore removes a file and what SQLite keeps beside it.
func removeStore(path string) error {
	return errors.Join(remove(path), remove(path+"-wal"), remove(path+"-shm"))
}

// stepsKey is the context's key of the function that a test has called at each step of a salvage.
type stepsKey struct{}

func reached(ctx context.Context, step string, s *Store) {
	if at, ok := ctx.Value(stepsKey{}).(func(string, *Store)); ok {
		at(step, s)
	}
}
