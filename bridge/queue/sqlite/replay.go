package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/bridge/queue"
	"postern/bridge/queue/intake"
)

// intakeNote is the key of the note with the intake's ID and the number of the last frame that is in the tables. It is
// written with what it tells of, in one transaction.
const intakeNote = "intake"

// intakeFile is the intake of the store at path.
func intakeFile(path string) string { return path + ".intake" }

func intakeMark(id intake.ID, seq uint64) string { return fmt.Sprintf("%s %d", id, seq) }

func parseIntakeMark(text string) (id intake.ID, seq uint64, err error) {
	name, number, _ := strings.Cut(text, " ")
	if id, err = intake.ParseID(name); err == nil {
		seq, err = strconv.ParseUint(number, 10, 64)
	}
	return id, seq, err
}

// move writes what waited in front of the tables.
func (t *tx) move(frames []kept, id intake.ID, done uint64) error {
	for _, k := range frames {
		for _, r := range k.records {
			if err := r.write(t); err != nil {
				return err
			}
		}
	}
	_, err := t.exec(t.setNote, intakeNote, intakeMark(id, done))
	return err
}

// leftIntake is what a process that is gone had kept and not moved.
type leftIntake struct {
	path   string
	id     intake.ID
	fresh  bool           // the ID is new: the store has no mark yet
	seq    uint64         // of the last frame that is in the tables
	last   uint64         // of the last frame that was begun
	frames []intake.Frame // what the tables need, in order

	// Frames that this store knows nothing of: the tables are older than the intake, because they were put back from a
	// copy, or their mark was damaged.
	strange []intake.Frame
	gone    []uint64 // frames that were kept and cannot be read
	err     error    // why nothing can be read; nil where it can
}

// findIntake reads what lies before the tables, and makes the front.
func (s *Store) findIntake(ctx context.Context) (*leftIntake, error) {
	l := &leftIntake{path: intakeFile(s.path)}
	var text, newest string
	err := s.read.QueryRowContext(ctx, "SELECT coalesce(max(value), '') FROM notes WHERE key = ?", intakeNote).Scan(&text)
	if err == nil {
		err = s.read.QueryRowContext(ctx, "SELECT coalesce(max(id), '') FROM messages").Scan(&newest)
	}
	if err != nil {
		return nil, foreign(err)
	}
	if l.id, l.seq, err = parseIntakeMark(text); err != nil {
		l.id, l.seq, l.fresh = intake.NewID(), 0, true
	}
	frames, err := intake.Read(l.path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	l.err = err
	l.sort(frames)
	id, seq := l.id, l.last
	if l.foul() {
		id, seq = intake.NewID(), 0
	}
	s.front = newFront(intake.New(l.path, id, seq, func() error { return syncFolder(filepath.Dir(s.path)) }), newest)
	return l, nil
}

// foul reports whether the file cannot be used on: the next frame begins another one.
func (l *leftIntake) foul() bool { return l.err != nil || len(l.strange)+len(l.gone) > 0 }

// sort finds out what each frame is.
func (l *leftIntake) sort(frames []intake.Frame) {
	slices.SortFunc(frames, func(a, b intake.Frame) int { return cmp.Compare(a.Seq, b.Seq) })
	l.last = l.seq
	var own []intake.Frame
	for _, f := range frames {
		switch {
		case f.ID != l.id:
			if f.Records != nil {
				l.strange = append(l.strange, f)
			}
		case f.Seq > l.seq:
			own = append(own, f)
			l.last = f.Seq
		}
	}
	if len(own) > 0 && own[0].Seq != l.seq+1 {
		l.strange = append(l.strange, own...)
		return
	}
	next := l.seq + 1
	for _, f := range own {
		for ; next < f.Seq; next++ {
			l.gone = append(l.gone, next)
		}
		next = f.Seq + 1
		switch {
		case f.Records != nil:
			l.frames = append(l.frames, f)
		case f.Seq < l.last: // the last one was cut before anybody was told
			l.gone = append(l.gone, f.Seq)
		}
	}
}

// takeIntake moves what was left into the tables. What is not certain is held, and what is not whole is named.
func (s *Store) takeIntake(ctx context.Context, l *leftIntake) error {
	r := &Salvage{}
	if err := s.moveLeft(ctx, l, r); err != nil {
		return err
	}
	if err := s.moveStrange(ctx, l, r); err != nil {
		return err
	}
	for _, seq := range l.gone {
		r.Lost = append(r.Lost, Loss{Err: fmt.Errorf("some accepted messages lay in frame %d of the intake, which cannot be read", seq)})
	}
	if l.err != nil {
		r.Lost = append(r.Lost, Loss{Err: fmt.Errorf("what was accepted last cannot be read: %w", l.err)})
	}
	if len(r.Held)+len(r.Lost) > 0 {
		if err := s.tellIntake(ctx, l, r); err != nil {
			return err
		}
	}
	if id, last := s.front.log.ID(), l.last; l.foul() || l.fresh || l.last > l.seq {
		if l.foul() {
			last = 0
		}
		if err := s.SetNote(ctx, intakeNote, intakeMark(id, last)); err != nil {
			return err
		}
	}
	if !l.foul() {
		return nil // written over by the next frame
	}
	if err := remove(l.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(l.path))
}

// moveLeft moves the frames that the tables lack.
func (s *Store) moveLeft(ctx context.Context, l *leftIntake, report *Salvage) error {
	for _, f := range l.frames {
		var all []*record
		for _, text := range f.Records {
			r, err := decodeRecord(text)
			if err != nil {
				report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("an accepted message in frame %d of the intake: %w", f.Seq, err)})
				continue
			}
			all = append(all, r)
		}
		if err := s.insertMissing(ctx, all, report); err != nil {
			return err
		}
	}
	return nil
}

// insertMissing writes those records whose IDs the tables do not have: a process may have died between the writing and
// the mark.
func (s *Store) insertMissing(ctx context.Context, all []*record, report *Salvage) error {
	for _, r := range all {
		if _, err := s.insertOne(ctx, r, report); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) insertOne(ctx context.Context, r *record, report *Salvage) (written bool, err error) {
	there, err := s.known(ctx, r.id)
	if err != nil || there {
		return false, s.named(err)
	}
	err = s.writer.apply(ctx, len(r.data), r.write)
	if rowsFault(err) {
		report.Lost = append(report.Lost, r.loss(err))
		return false, nil
	}
	return err == nil, err
}

func (r *record) loss(err error) Loss {
	return Loss{ID: r.id, User: r.user, Account: r.account, Err: err}
}

// strangeAge is how much older than the newest message of the tables one may be that they do not know: messages are not
// numbered exactly in the order of their acceptance. What is older was there once and is finished.
const strangeAge = time.Minute

var errStrange = errors.New("it was accepted by a queue that this one has taken the place of, and perhaps relayed there")

// moveStrange holds what this store knows nothing of.
func (s *Store) moveStrange(ctx context.Context, l *leftIntake, report *Salvage) error {
	if len(l.strange) == 0 {
		return nil
	}
	var newest int64
	if err := s.read.QueryRowContext(ctx, "SELECT coalesce((SELECT accepted FROM messages ORDER BY seq DESC LIMIT 1), 0)").Scan(&newest); err != nil {
		return s.named(err)
	}
	for _, f := range l.strange {
		for _, text := range f.Records {
			r, err := decodeRecord(text)
			if err != nil || r.accepted < newest-strangeAge.Microseconds() {
				continue
			}
			if err := r.hold(errStrange.Error()); err != nil {
				return err
			}
			written, err := s.insertOne(ctx, r, report)
			if err != nil {
				return err
			}
			if written {
				report.Held = append(report.Held, r.loss(errStrange))
			}
		}
	}
	return nil
}

// tellIntake adds to the report of a salvage, or makes one. A file that cannot be read is kept.
func (s *Store) tellIntake(ctx context.Context, l *leftIntake, r *Salvage) error {
	switch {
	case len(r.Lost) > 0:
		r.Why = fmt.Errorf("%w: the file of what was accepted last, %s", queue.ErrDamaged, filepath.Base(l.path))
		r.Aside = fmt.Sprintf("%s-damaged-%s", l.path, time.Now().UTC().Format("20060102T150405.000"))
		if err := os.Rename(l.path, r.Aside); err != nil {
			return err
		}
	default:
		r.Why = fmt.Errorf("the file of what was accepted last, %s, is not of this queue", filepath.Base(l.path))
	}
	if was := s.salvaged; was != nil {
		r.Why, r.Saved = errors.Join(was.Why, r.Why), was.Saved
		r.Aside = cmp.Or(was.Aside, r.Aside)
		r.Held, r.Lost = append(was.Held, r.Held...), append(was.Lost, r.Lost...)
	}
	s.salvaged = r
	return s.noteSalvage(ctx, r)
}
