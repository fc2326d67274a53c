package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrRefused is wrapped where the tables do not take a message that was accepted.
var ErrRefused = errors.New("an accepted message is not one that the queue takes")

// refusal is a message that the tables do not take. It is put aside for a person, so that nobody else is kept waiting by it:
// its text in a file, and who it is for in the report that the next Open tells.
type refusal struct {
	record *record
	why    error
	file   string
}

// loss names the message.
func (f *refusal) loss() Loss {
	var to []string
	for _, rc := range f.record.recipients {
		to = append(to, rc.address)
	}
	return f.record.loss(fmt.Errorf("%w; it is for %s, and lies in %s: %w", ErrRefused, strings.Join(to, ", "), filepath.Base(f.file), f.why))
}

// told is what a person hears at once.
func (f *refusal) told() error {
	l := f.loss()
	return fmt.Errorf("%s of user %q, account %q: %w", l.ID, l.User, l.Account, l.Err)
}

// putAside writes the files, durably, and adds to the report, within the transaction that leaves the messages out.
func (t *tx) putAside(path string, all []*refusal) error {
	var losses []Loss
	for _, f := range all {
		f.file = fmt.Sprintf("%s.refused-%s.eml", path, f.record.id)
		if err := writeFile(f.file, f.record.data); err != nil {
			return err
		}
		losses = append(losses, f.loss())
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	var text string
	if err := t.conn.QueryRowContext(context.Background(), "SELECT coalesce(max(value), '') FROM notes WHERE key = ?", salvageNote).Scan(&text); err != nil {
		return err
	}
	r := writtenSalvage{Why: ErrRefused.Error()}
	_ = json.Unmarshal([]byte(text), &r) // one that cannot be read is written anew
	r.Lost = append(r.Lost, writtenLosses(losses)...)
	b, err := json.Marshal(r)
	if err == nil {
		_, err = t.exec(t.setNote, salvageNote, string(b))
	}
	return err
}

// takeBack removes the files of messages whose transaction was undone: they are tried again.
func takeBack(all []*refusal) {
	for _, f := range all {
		if f.file != "" {
			_ = remove(f.file) // at worst it is there beside the message
		}
	}
}

func writeFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
