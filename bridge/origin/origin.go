// Package origin finds out whether a store may have a copy elsewhere that has sent its mail meanwhile: a restored backup,
// a cloned machine, yesterday's file put back. It notes each start and each stop, and each hour between them, in the store,
// beside it and, where there is such a place, outside of the folder that a person copies; where these do not fit it has all
// mail held, because yesterday's invoices must not go out again (design.md section 1). It must not know what mail is. The hall
// calls it at each start and stop, lets it run, and calls it for a command that opens the store while nobody runs. A damaged
// note in the store has all mail held too; one beside it that cannot be read, and a store that gives none, are an error, and
// then nothing may be sent. What it cannot tell: a copy that was put back as a whole within the hour, and one of a store that
// has no place outside.
package origin

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
	"runtime"
	"time"

	"postern/bridge/event"
)

const (
	key  = "origin"     // of the store's note
	file = "last-start" // beside the store
)

// Store keeps notes; the queue's store is one.
type Store interface {
	SetNote(ctx context.Context, key, value string) error
	// Notes returns those whose keys begin with prefix.
	Notes(ctx context.Context, prefix string) (map[string]string, error)
}

// Holder is the queue.
type Holder interface {
	// HoldEverything keeps all mail back until a person releases it, and returns how much that is.
	HoldEverything(ctx context.Context, why string) (int, error)
}

// Place is where a store lies.
type Place struct {
	DataDir string
	Machine string // from Machine
	Store   Store
	Events  *event.Bus

	// Elsewhere is a folder outside of DataDir: a DataDir that is put back as a whole brings the note beside the store
	// along. "" where there is none. What cannot be read or written there is passed over.
	Elsewhere string

	// Full reports whether an error says that the disk is full: a start goes on without its note then, for the mail that
	// goes makes room. nil: no error does.
	Full func(error) bool
}

// BackupNotes are the notes of a copy that knows that it is one.
func BackupNotes() (map[string]string, error) {
	text, err := json.Marshal(origin{Backup: true})
	return map[string]string{key: string(text)}, err
}

// origin says where and when a store was last opened. It stands in the store, and without Backup beside it.
type origin struct {
	Machine string `json:"machine,omitempty"` // a hash of the machine's id; "" where it has none
	Starts  int64  `json:"starts"`            // grows with each start, each stop and each hour
	Backup  bool   `json:"backup,omitempty"`  // it is a copy that `postern backup` made
	Held    held   `json:"held,omitzero"`     // since the last start, by a command
	damaged bool   // it says nothing that can be read
}

// held says that all mail was held.
type held struct {
	Messages int       `json:"messages"`
	Why      string    `json:"why"`
	Since    time.Time `json:"since"`
}

// Claim is a start's: it holds all mail of a store that is a copy, or that may have another copy, because nobody knows what
// that one has sent meanwhile. Then it notes that the store was opened here.
func (p Place) Claim(ctx context.Context, q Holder) error {
	f, err := p.find(ctx)
	if err != nil {
		return err
	}
	if f.inside == (origin{}) && f.starts() > 0 {
		// Who removed the queue wants a new one; everybody else must hear that it is gone.
		p.Events.Emit(ctx, slog.LevelError, event.QueueFailed, slog.Any("err", errors.New("the queue that ran here is gone, or what it noted of its starts")),
			slog.String("remedy", "nothing, where somebody has removed it; otherwise stop postern, look for queue.db and put it back, or put a backup back: what waits in it is then held, to be looked at"))
	}
	if h := f.inside.Held; h.Messages > 0 {
		p.tell(ctx, h.Messages, fmt.Sprintf("%s; a command has held it since %s", h.Why, h.Since.Format(time.RFC3339)))
	}
	if why := f.foreign(p.Machine); why != "" {
		if _, err := p.hold(ctx, q, why); err != nil {
			return err
		}
	}
	return p.note(ctx, origin{Machine: p.Machine, Starts: f.starts() + 1})
}

// Visit is for a command that opens the store while nobody runs on it. It holds as Claim does, but is no start: one that
// raised the number would hide from the next start, with each command a bit more, that the store is older than a note which
// the command cannot see. Where all was held it notes just that: the next command must not hold again what a person has
// released, and the next start says in its log what so far a terminal alone may have seen.
func (p Place) Visit(ctx context.Context, q Holder) error {
	f, err := p.find(ctx)
	if err != nil {
		return err
	}
	why := f.foreign(p.Machine)
	if why == "" {
		return nil
	}
	n, err := p.hold(ctx, q, why)
	if err != nil {
		return err
	}
	p.Elsewhere = "" // what stands there is no newer than what is noted now
	return p.note(ctx, origin{Machine: p.Machine, Starts: max(f.starts(), 1), Held: held{n, why, time.Now().UTC().Truncate(time.Second)}})
}

// found is what the notes say.
type found struct {
	inside, beside, outside origin
	missing                 bool // there is none beside the store
}

func (p Place) find(ctx context.Context) (f found, err error) {
	if f.inside, err = p.inside(ctx); err != nil {
		return f, err
	}
	f.beside, err = p.beside()
	f.missing = errors.Is(err, fs.ErrNotExist)
	if err != nil && !f.missing {
		return f, fmt.Errorf("the note of the last start, %s in data_dir, cannot be read: %w; remove it, and all mail is held until it is released", file, err)
	}
	f.outside = p.outside()
	return f, nil
}

// starts is the latest number.
func (f found) starts() int64 { return max(f.inside.Starts, f.beside.Starts, f.outside.Starts) }

// foreign says why nobody can know what has become of the store's mail, "" where all is as it was left.
func (f found) foreign(machine string) string {
	why := foreign(f.inside, f.beside, f.missing, machine)
	if why == "" && f.inside != (origin{}) && f.outside.Starts > f.inside.Starts {
		why = older
	}
	return why
}

// hold holds all mail, and returns how much that was.
func (p Place) hold(ctx context.Context, q Holder, why string) (int, error) {
	n, err := q.HoldEverything(ctx, why)
	if err != nil {
		return n, fmt.Errorf("hold all mail, because %s: %w", why, err)
	}
	if n > 0 {
		p.tell(ctx, n, why)
	}
	return n, nil
}

func (p Place) tell(ctx context.Context, n int, why string) {
	p.Events.Emit(ctx, slog.LevelError, event.QueueHeld, slog.Int("messages", n), slog.String("err", why),
		slog.String("remedy", "see whether the mail was sent meanwhile (postern queue list --state held), then let it go: postern queue release --all"))
}

const older = "this queue is older than the last start here: it was put back from a copy"

// foreign says why nobody can know what has become of the store's mail, "" where all is as it was left.
func foreign(inside, beside origin, missing bool, machine string) string {
	switch {
	case inside == (origin{}):
		return "" // new, or of a version that took no notes
	case inside.damaged:
		return "the note of the starts of this queue is damaged"
	case inside.Backup:
		return "this queue was restored from a backup"
	case inside.Machine != "" && machine != "" && inside.Machine != machine:
		return "this queue was written on another machine"
	case missing:
		return "this queue was put here without the note of its last start"
	case beside.Starts > inside.Starts:
		return older
	}
	return ""
}

// noteEvery is how long a copy may be as good as what is here.
const noteEvery = time.Hour

// Run keeps making the copies that are taken older than what is here, until ctx ends: after a crash nobody notes a stop, and
// nightly copies are taken while the process runs.
func (p Place) Run(ctx context.Context) error {
	t := time.NewTicker(noteEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := p.Note(ctx); err != nil && ctx.Err() == nil {
				p.Events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.Any("err", err))
			}
		}
	}
}

// Note makes each copy that was taken so far older than what is here.
func (p Place) Note(ctx context.Context) error {
	inside, err := p.inside(ctx)
	if err != nil {
		return err
	}
	beside, _ := p.beside() // one that cannot be read is written anew, as outside
	return p.note(ctx, origin{Machine: p.Machine, Starts: max(inside.Starts, beside.Starts, p.outside().Starts) + 1})
}

// note writes the notes, unless the disk is full: then the former ones stand, and tell of older copies alone.
func (p Place) note(ctx context.Context, o origin) error {
	err := p.write(ctx, o)
	if err != nil && p.Full != nil && p.Full(err) {
		p.Events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.Any("err", err), slog.String("remedy", "make room on the disk of data_dir"))
		return nil
	}
	return err
}

// write writes the store's note first: one that is newer than the files, because the process died here, is no old copy. But
// a store with a note and without the file beside it looks like one that was put here, and a disk may be too full for the file
// alone: where there is none it is made before.
func (p Place) write(ctx context.Context, o origin) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	path := filepath.Join(p.DataDir, file)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := replaceFile(path, []byte("{}\n")); err != nil {
			return fmt.Errorf("note the start: %w", err)
		}
	}
	if err := p.Store.SetNote(ctx, key, string(text)); err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("note the start: %w", err)
	}
	if path := p.elsewhere(); path != "" {
		if err := replaceFile(path, append(text, '\n')); err != nil {
			p.Events.Emit(ctx, slog.LevelWarn, event.QueueFailed, slog.Any("err", fmt.Errorf("note the start outside of data_dir: %w", err)))
		}
	}
	return nil
}

// elsewhere is the file of the note outside of DataDir, "" where there is none. Other bridges may keep theirs there.
func (p Place) elsewhere() string {
	if p.Elsewhere == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(p.DataDir))
	return filepath.Join(p.Elsewhere, "postern-"+file+"-"+hex.EncodeToString(sum[:4]))
}

// inside reads the store's note. A new store has none, and one whose disk has been full from its first start on. One with a
// wrong bit must not keep the store shut.
func (p Place) inside(ctx context.Context) (o origin, err error) {
	notes, err := p.Store.Notes(ctx, key)
	if err != nil {
		return o, fmt.Errorf("where the queue comes from: %w", err)
	}
	if text := notes[key]; text != "" && json.Unmarshal([]byte(text), &o) != nil {
		return origin{damaged: true}, nil
	}
	return o, nil
}

// beside reads the note beside the store.
func (p Place) beside() (o origin, err error) {
	text, err := os.ReadFile(filepath.Join(p.DataDir, file))
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	return o, err
}

// outside reads the note outside of DataDir.
func (p Place) outside() (o origin) {
	path := p.elsewhere()
	if path == "" {
		return o
	}
	if text, err := os.ReadFile(path); err != nil || json.Unmarshal(text, &o) != nil {
		return origin{} // somebody cleaned up: the next start writes it again
	}
	return o
}

// replaceFile writes a small file so that after a power cut it is the old one or the new one.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil || runtime.GOOS == "windows" {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // the file is in its place; the folder's name for it will be synced with the next
	}
	defer folder.Close()
	return folder.Sync()
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
