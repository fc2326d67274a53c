package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
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

// intakeMark is the note's text. It has a sum: a wrong bit in the number would have mail left out, or sent twice.
func intakeMark(id intake.ID, seq uint64) string {
	text := fmt.Sprintf("%s %d", id, seq)
	return fmt.Sprintf("%s %08x", text, crc32.Checksum([]byte(text), castagnoli))
}

func parseIntakeMark(text string) (id intake.ID, seq uint64, err error) {
	parts := strings.Fields(text)
	if len(parts) != 3 {
		return id, 0, fmt.Errorf("%.80q does not say where the intake is", text)
	}
	if id, err = intake.ParseID(parts[0]); err == nil {
		seq, err = strconv.ParseUint(parts[1], 10, 64)
	}
	if err == nil && text != intakeMark(id, seq) {
		err = fmt.Errorf("%.80q has a wrong sum", text)
	}
	return id, seq, err
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
	// copy, or have lost what was written last.
	strange []intake.Frame
	missing string   // what may have been between them and the tables; "" for nothing
	gone    []uint64 // frames that were kept and cannot be read, or not all of them
	bad     error    // what of the file cannot be read
}

// findIntake reads what lies in front of the tables, and makes the front.
func (s *Store) findIntake(ctx context.Context) error {
	l := &leftIntake{path: intakeFile(s.path)}
	var text, newest string
	err := s.read.QueryRowContext(ctx, "SELECT coalesce(max(value), '') FROM notes WHERE key = ?", intakeNote).Scan(&text)
	if err == nil {
		err = s.read.QueryRowContext(ctx, "SELECT coalesce(max(id), '') FROM messages").Scan(&newest)
	}
	if err != nil {
		return foreign(err)
	}
	if l.id, l.seq, err = parseIntakeMark(text); err != nil {
		l.id, l.seq, l.fresh = intake.NewID(), 0, true
	}
	frames, bad, err := intake.Read(l.path)
	if err != nil {
		return fmt.Errorf("what was accepted last: %w", err)
	}
	l.bad = bad
	l.sort(frames)
	id, seq := l.id, l.last
	if l.foul() {
		id, seq = intake.NewID(), 0
	}
	log := intake.New(intake.Options{Path: l.path, ID: id, Seq: seq, Made: func() error { return syncFolder(filepath.Dir(s.path)) }, Roomy: s.roomy})
	s.left, s.front = l, newFront(log, newest, s.finding.tell)
	return nil
}

// foul reports whether the file cannot be used on: the next frame begins another one.
func (l *leftIntake) foul() bool { return l.bad != nil || len(l.strange)+len(l.gone) > 0 }

// sort finds out what each frame is.
func (l *leftIntake) sort(frames []intake.Frame) {
	slices.SortFunc(frames, func(a, b intake.Frame) int { return cmp.Compare(a.Seq, b.Seq) })
	l.last = l.seq
	var own []intake.Frame
	older := false // than the frames: one was written when others were released that the tables do not have
	for _, f := range frames {
		switch {
		case f.ID != l.id:
			l.strange = append(l.strange, f)
		case f.Seq > l.seq:
			own = append(own, f)
			l.last = f.Seq
			older = older || f.Released > l.seq
		}
	}
	if len(own) > 0 && (older || own[0].Seq != l.seq+1) {
		l.strange = append(l.strange, own...)
		l.missing = fmt.Sprintf("frames %d to %d", l.seq+1, max(own[0].Seq, own[len(own)-1].Released+1)-1)
		return
	}
	next := l.seq + 1
	for _, f := range own {
		for ; next < f.Seq; next++ {
			l.gone = append(l.gone, next)
		}
		next = f.Seq + 1
		switch {
		case f.Whole:
			l.frames = append(l.frames, f)
		case f.Seq < l.last, l.bad != nil:
			l.gone = append(l.gone, f.Seq)
			l.frames = append(l.frames, f)
		} // and the last one was cut before anybody was told
	}
}

// takeLeft moves what was left into the tables, of which SQLite has found no damage. What is not certain is held, and what is
// not whole is named.
func (s *Store) takeLeft(ctx context.Context) error {
	l := s.left
	if l == nil {
		return nil
	}
	r := &Salvage{}
	if err := s.moveLeft(ctx, l, r); err != nil {
		return err
	}
	passed, err := s.moveStrange(ctx, l, r)
	if err != nil {
		return err
	}
	for _, seq := range l.gone {
		r.Lost = append(r.Lost, Loss{Err: fmt.Errorf("of the messages in frame %d of the intake some cannot be read, or all", seq)})
	}
	if l.bad != nil {
		r.Lost = append(r.Lost, Loss{Err: fmt.Errorf("of the intake some cannot be read: %w", l.bad)})
	}
	if len(r.Held)+len(r.Lost)+passed > 0 {
		if err := s.tellIntake(ctx, l, r, passed); err != nil {
			return err
		}
	}
	if l.foul() || l.fresh || l.last > l.seq {
		seq := l.last
		if l.foul() {
			seq = 0 // of the file that the next frame begins
		}
		if err := s.SetNote(ctx, intakeNote, intakeMark(s.front.log.ID(), seq)); err != nil {
			return err
		}
	}
	s.left = nil
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
	var all []*record
	for _, f := range l.frames {
		for _, text := range f.Records {
			r, err := decodeRecord(text)
			if err != nil {
				report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("an accepted message in frame %d of the intake: %w", f.Seq, err)})
				continue
			}
			all = append(all, r)
		}
	}
	_, err := s.insertMissing(ctx, all, report)
	return err
}

// insertMissing writes those records whose IDs the tables do not have, in one transaction: a process may have died between
// the writing and the mark.
func (s *Store) insertMissing(ctx context.Context, all []*record, report *Salvage) (written []*record, err error) {
	if len(all) == 0 {
		return nil, nil
	}
	var lost []Loss
	err = s.writer.apply(ctx, 0, func(t *tx) error {
		written, lost = nil, nil
		for _, r := range all {
			there, refused, err := t.insertMissing(r)
			switch {
			case err != nil:
				return err
			case refused != nil:
				lost = append(lost, r.loss(refused))
			case !there:
				written = append(written, r)
			}
		}
		return nil
	})
	report.Lost = append(report.Lost, lost...)
	return written, err
}

func (r *record) loss(err error) Loss {
	return Loss{ID: r.id, User: r.user, Account: r.account, Err: err}
}

// strangeAge is how much older than the newest message of the tables one may be that they do not know: messages are not
// numbered exactly in the order of their acceptance. What is older was there once, and is finished and forgotten.
const strangeAge = time.Minute

var errStrange = errors.New("it was accepted by a queue that this one has taken the place of, and perhaps relayed there")

// moveStrange holds what this store knows nothing of. passed is how many it passes over for their age.
func (s *Store) moveStrange(ctx context.Context, l *leftIntake, report *Salvage) (passed int, err error) {
	if len(l.strange) == 0 {
		return 0, nil
	}
	var newest int64
	if err := s.read.QueryRowContext(ctx, "SELECT coalesce((SELECT accepted FROM messages ORDER BY seq DESC LIMIT 1), 0)").Scan(&newest); err != nil {
		return 0, s.named(err)
	}
	var all []*record
	for _, f := range l.strange {
		for _, text := range f.Records {
			r, err := decodeRecord(text)
			if err == nil {
				err = r.hold(errStrange.Error())
			}
			if err != nil {
				report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("an accepted message in frame %d of the intake: %w", f.Seq, err)})
				continue
			}
			there, err := s.known(ctx, r.id)
			switch {
			case err != nil:
				return 0, s.named(err)
			case there:
			case r.accepted < newest-strangeAge.Microseconds():
				passed++
			default:
				all = append(all, r)
			}
		}
	}
	written, err := s.insertMissing(ctx, all, report)
	for _, r := range written {
		report.Held = append(report.Held, r.loss(errStrange))
	}
	return passed, err
}

// tellIntake adds to the report of a salvage, or makes one. A file that has more than what is in the tables now is kept.
func (s *Store) tellIntake(ctx context.Context, l *leftIntake, r *Salvage, passed int) error {
	name := filepath.Base(l.path)
	switch {
	case len(r.Lost) > 0:
		r.Why = fmt.Errorf("%w: the file of what was accepted last, %s", queue.ErrDamaged, name)
	case l.missing != "":
		r.Why = fmt.Errorf("the file of what was accepted last, %s, does not go on where this queue ends: what came between (%s) is "+
			"in the queue that this one has taken the place of, or lost", name, l.missing)
	default:
		r.Why = fmt.Errorf("the file of what was accepted last, %s, is not of this queue", name)
	}
	if passed > 0 {
		r.Why = fmt.Errorf("%w; %d messages in it are older than the newest here, and were passed over", r.Why, passed)
	}
	aside := ""
	if len(r.Lost)+passed > 0 {
		aside = fmt.Sprintf("%s-damaged-%s", l.path, time.Now().UTC().Format("20060102T150405.000"))
		r.Aside = aside
	}
	if was := s.salvaged; was != nil {
		r.Why, r.Saved = errors.Join(was.Why, r.Why), was.Saved
		r.Aside = cmp.Or(was.Aside, r.Aside)
		r.Held, r.Lost = append(was.Held, r.Held...), append(was.Lost, r.Lost...)
	}
	s.salvaged = r
	if err := s.noteSalvage(ctx, r); err != nil || aside == "" {
		return err
	}
	return rename(l.path, aside) // only now: without the file nobody would know that there is something to tell
}
