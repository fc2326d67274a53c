package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Salvage says what became of a store that was damaged.
type Salvage struct {
	Why   error  // what was found
	Aside string // where the damaged file lies now; a person may look into it, and deletes it
	Saved int    // messages that are in the new store whole, finished ones included
	Held  []Loss // messages that are in the new store, held: without their body, or not known to be whole
	Lost  []Loss // messages of which nothing, or next to nothing, could be read
}

// Loss names a message. What could not be read is empty.
type Loss struct {
	Number  int64 // of its row
	ID      string
	User    string
	Account string
	Err     error
}

// Salvaged returns what Open had to save, or a former Open whose process did not come to say so; nil where the store was
// in order. Call SalvageTold once somebody has heard of it.
func (s *Store) Salvaged() *Salvage { return s.salvaged }

// SalvageTold forgets the report: the next Open has none.
func (s *Store) SalvageTold(ctx context.Context) error {
	if s.salvaged == nil {
		return nil
	}
	return s.SetNote(ctx, salvageNote, "")
}

// salvageNote is the key of the note with the report, which the new store has from its beginning: whoever dies between the
// salvage and the telling leaves it to the next.
const salvageNote = "salvage"

// writtenSalvage is a Salvage as the note has it.
type writtenSalvage struct {
	Why   string        `json:"why"`
	Aside string        `json:"aside"`
	Saved int           `json:"saved"`
	Held  []writtenLoss `json:"held,omitempty"`
	Lost  []writtenLoss `json:"lost,omitempty"`
}

type writtenLoss struct {
	Number  int64  `json:"number"`
	ID      string `json:"id,omitempty"`
	User    string `json:"user,omitempty"`
	Account string `json:"account,omitempty"`
	Err     string `json:"err"`
}

func writtenLosses(all []Loss) (list []writtenLoss) {
	for _, l := range all {
		list = append(list, writtenLoss{l.Number, l.ID, l.User, l.Account, l.Err.Error()})
	}
	return list
}

func readLosses(all []writtenLoss) (list []Loss) {
	for _, l := range all {
		list = append(list, Loss{l.Number, l.ID, l.User, l.Account, errors.New(l.Err)})
	}
	return list
}

func (s *Store) noteSalvage(ctx context.Context, r *Salvage) error {
	return s.writer.apply(ctx, 0, func(t *tx) error { return t.setReport(r) })
}

func (t *tx) setReport(r *Salvage) error {
	text, err := json.Marshal(writtenSalvage{r.Why.Error(), r.Aside, r.Saved, writtenLosses(r.Held), writtenLosses(r.Lost)})
	if err == nil {
		_, err = t.exec(t.setNote, salvageNote, string(text))
	}
	return err
}

// readSalvage finds the report that nobody was told of. One that cannot be read is told as that.
func (s *Store) readSalvage(ctx context.Context) error {
	notes, err := s.Notes(ctx, salvageNote)
	if err != nil || notes[salvageNote] == "" {
		return err
	}
	var r writtenSalvage
	if err := json.Unmarshal([]byte(notes[salvageNote]), &r); err != nil {
		r.Why = fmt.Sprintf("the report of the salvage cannot be read: %v", err)
	}
	s.salvaged = &Salvage{Why: errors.New(r.Why), Aside: r.Aside, Saved: r.Saved, Held: readLosses(r.Held), Lost: readLosses(r.Lost)}
	return nil
}
