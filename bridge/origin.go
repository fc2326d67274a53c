package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"postern/bridge/event"
	"postern/bridge/queue"
)

const (
	originKey  = "origin"     // of the store's note
	originFile = "last-start" // beside the store
)

// origin says where and when a store was last opened. It stands in the store, and without Backup beside it.
type origin struct {
	Machine string `json:"machine,omitempty"` // a hash of the machine's id; "" where it has none
	Starts  int64  `json:"starts"`            // grows with each start and each stop
	Backup  bool   `json:"backup,omitempty"`  // it is a copy that `postern backup` made
}

// claimStore holds all mail of a store that is a copy, or that may have another copy: nobody knows what that one has
// sent meanwhile, and yesterday's invoices must not go out again (design.md section 1). Then it notes that the store was
// opened here.
func claimStore(ctx context.Context, store queue.Store, q *queue.Queue, dataDir, machine string, events *event.Bus) error {
	notes, err := store.Notes(ctx, originKey)
	if err != nil {
		return fmt.Errorf("where the queue comes from: %w", err)
	}
	var inside, beside origin
	if text := notes[originKey]; text != "" {
		if err := json.Unmarshal([]byte(text), &inside); err != nil {
			return fmt.Errorf("where the queue comes from: %w", err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dataDir, originFile))
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil {
		err = json.Unmarshal(text, &beside)
	}
	if err != nil && !missing {
		return fmt.Errorf("the note of the last start, %s in data_dir, cannot be read: %w; remove it, and all mail is held until it is released", originFile, err)
	}
	if why := foreign(inside, beside, missing, machine); why != "" {
		n, err := q.HoldEverything(ctx, why)
		if err != nil {
			return fmt.Errorf("hold all mail, because %s: %w", why, err)
		}
		if n > 0 {
			events.Emit(ctx, slog.LevelError, event.QueueHeld, slog.Int("messages", n), slog.String("err", why),
				slog.String("remedy", "see whether the mail was sent meanwhile (postern queue list --state held), then let it go: postern queue release --all"))
		}
	}
	return noteOrigin(ctx, store, dataDir, origin{Machine: machine, Starts: max(inside.Starts, beside.Starts) + 1})
}

// foreign says why nobody can know what has become of the store's mail, "" where all is as it was left.
func foreign(inside, beside origin, missing bool, machine string) string {
	switch {
	case inside == (origin{}):
		return "" // new, or of a version that took no notes
	case inside.Backup:
		return "this queue was restored from a backup"
	case inside.Machine != "" && machine != "" && inside.Machine != machine:
		return "this queue was written on another machine"
	case missing:
		return "this queue was put here without the note of its last start"
	case beside.Starts > inside.Starts:
		return "this queue is older than the last start here: it was put back from a copy"
	}
	return ""
}

// noteOrigin writes both notes, the store's first: one that is newer than the file is no old copy.
func noteOrigin(ctx context.Context, store queue.Store, dataDir string, o origin) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := store.SetNote(ctx, originKey, string(text)); err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	if err := replaceFile(filepath.Join(dataDir, originFile), append(text, '\n')); err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	return nil
}

// noteStop makes a copy that was taken while the process ran older than what is here.
func noteStop(ctx context.Context, store queue.Store, dataDir, machine string) error {
	notes, err := store.Notes(ctx, originKey)
	if err != nil {
		return err
	}
	var o origin
	if err := json.Unmarshal([]byte(notes[originKey]), &o); err != nil {
		return err
	}
	return noteOrigin(ctx, store, dataDir, origin{Machine: machine, Starts: o.Starts + 1})
}

// hashMachine makes of the machine's id what may stand in a file (machine-id(5): the id itself is confidential). A
// container without one gets "": its name changes with each start, and mail would be held each time.
func hashMachine(id string) string {
	if id == "" || id == "uninitialized" {
		return ""
	}
	sum := sha256.Sum256([]byte("postern queue " + id))
	return hex.EncodeToString(sum[:16])
}
