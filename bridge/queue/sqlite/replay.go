package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
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
	doubt   uint64   // that of them of which nobody knows whether it was promised; 0 for none
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
	frames, bad, err := intake.Read(l.path, l.id)
	if err != nil {
		return fmt.Errorf("what was accepted last: %w", err)
	}
	if l.bad = bad; s.died && !l.fresh && !there(l.path) {
		l.bad = errors.New("the file is missing")
	}
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
		case f.Seq == l.last && f.Cut && l.bad == nil: // before anybody was told
		default:
			l.gone = append(l.gone, f.Seq)
			l.frames = append(l.frames, f)
			if f.Seq == l.last {
				l.doubt = f.Seq
			}
		}
	}
}

// takeLeft moves what was left into the tables, of which SQLite has found no damage. What is not certain is held, what is
// not whole is named, and the report of both is written with them: who dies amid it leaves it to the next.
func (s *Store) takeLeft(ctx context.Context) error {
	l := s.left
	if l == nil {
		return nil
	}
	aside, err := s.moveLeft(ctx, l)
	if errors.Is(err, queue.ErrFull) {
		return fmt.Errorf("what was accepted last has no room in the queue: %w", err)
	}
	if err == nil && aside != "" {
		if err = rename(l.path, aside); err == nil {
			err = syncFolder(filepath.Dir(l.path))
		}
	}
	if err == nil && !there(l.path) { // before the mark: where that is and no file, somebody has removed it
		err = makeEmpty(l.path)
	}
	if err == nil && (l.foul() || l.fresh || l.last > l.seq) {
		seq := l.last
		if l.foul() {
			seq = 0 // of the file that the next frame begins
		}
		err = s.SetNote(ctx, intakeNote, intakeMark(s.front.log.ID(), seq))
	}
	if err == nil && l.foul() {
		err = makeEmpty(l.path)
	} // else it is written over by the next frame
	if err == nil {
		s.left = nil
	}
	return err
}

// makeEmpty makes an empty file, durably.
func makeEmpty(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), syncFolder(filepath.Dir(path)))
}

// moveLeft writes, in one transaction, the frames that the tables lack, what they know nothing of, and the report. aside is
// how the file is to be called, which has more than what is in the tables then; "" where it has not.
func (s *Store) moveLeft(ctx context.Context, l *leftIntake) (aside string, err error) {
	if len(l.frames) == 0 && !l.foul() {
		return "", nil
	}
	var report *Salvage
	err = s.writer.apply(ctx, 0, func(t *tx) error {
		r := &Salvage{}
		if err := t.insertOwn(l, r); err != nil {
			return err
		}
		passed, err := t.insertStrange(l, r)
		if err != nil {
			return err
		}
		l.addGone(r)
		if len(r.Held)+len(r.Lost)+passed == 0 {
			report, aside = nil, ""
			return nil
		}
		if aside, err = l.explain(r, passed); err != nil {
			return err
		}
		report = s.salvaged.with(r)
		return t.setReport(report)
	})
	if err == nil && report != nil {
		s.salvaged = report
	}
	return aside, err
}

// insertOwn writes what the tables do not have: a process may have died between the writing and the mark.
func (t *tx) insertOwn(l *leftIntake, report *Salvage) error {
	for _, f := range l.frames {
		for _, text := range f.Records {
			r, err := decodeRecord(text)
			if err == nil && f.Seq == l.doubt {
				err = r.hold(errDoubt.Error())
			}
			if err != nil {
				report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("an accepted message in frame %d of the intake: %w", f.Seq, err)})
				continue
			}
			there, refused, err := t.insertMissing(r)
			switch {
			case err != nil:
				return err
			case refused != nil:
				report.Lost = append(report.Lost, r.loss(refused))
			case !there && f.Seq == l.doubt:
				report.Held = append(report.Held, r.loss(errDoubt))
			}
		}
	}
	return nil
}

var errDoubt = errors.New("what was written with it is damaged, and perhaps nobody was told that it is accepted: it may come again")

// strangeAge is how much older than the newest message of the tables one may be that they do not know: messages are not
// numbered exactly in the order of their acceptance. What is older was there once, and is finished and forgotten.
const strangeAge = time.Minute

var errStrange = errors.New("it was accepted by a queue that this one has taken the place of, and perhaps relayed there")

// insertStrange holds what this store knows nothing of. passed is how many it passes over for their age.
func (t *tx) insertStrange(l *leftIntake, report *Salvage) (passed int, err error) {
	if len(l.strange) == 0 {
		return 0, nil
	}
	var newest int64
	err = t.conn.QueryRowContext(context.Background(), "SELECT coalesce((SELECT accepted FROM messages ORDER BY seq DESC LIMIT 1), 0)").Scan(&newest)
	if err != nil {
		return 0, err
	}
	last := map[intake.ID]uint64{}
	for _, f := range l.strange {
		last[f.ID] = max(last[f.ID], f.Seq)
	}
	for _, f := range l.strange {
		if !f.Whole && (!f.Cut || f.Seq < last[f.ID] || l.bad != nil) {
			report.Lost = append(report.Lost, lostOf(f.Seq))
		}
		for _, text := range f.Records {
			r, err := decodeRecord(text)
			if err == nil {
				err = r.hold(errStrange.Error())
			}
			if err != nil {
				report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("an accepted message in frame %d of the intake: %w", f.Seq, err)})
				continue
			}
			if r.accepted < newest-strangeAge.Microseconds() {
				there, err := t.has(r.id)
				if err != nil {
					return 0, err
				}
				if !there {
					passed++
				}
				continue
			}
			there, refused, err := t.insertMissing(r)
			switch {
			case err != nil:
				return 0, err
			case refused != nil:
				report.Lost = append(report.Lost, r.loss(refused))
			case !there:
				report.Held = append(report.Held, r.loss(errStrange))
			}
		}
	}
	return passed, nil
}

func lostOf(frame uint64) Loss {
	return Loss{Err: fmt.Errorf("frame %d of the intake is damaged: some of its messages may be lost, or all", frame)}
}

func (l *leftIntake) addGone(report *Salvage) {
	for _, seq := range l.gone {
		report.Lost = append(report.Lost, lostOf(seq))
	}
	if l.bad != nil {
		report.Lost = append(report.Lost, Loss{Err: fmt.Errorf("of the intake some cannot be read: %w", l.bad)})
	}
}

func (r *record) loss(err error) Loss {
	return Loss{ID: r.id, User: r.user, Account: r.account, Err: err}
}

// explain says in a report why it is made, and how the file will be called where it is kept.
func (l *leftIntake) explain(r *Salvage, passed int) (aside string, err error) {
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
	if len(r.Lost)+passed == 0 {
		return "", nil
	}
	st, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	r.Aside = fmt.Sprintf("%s-damaged-%s", l.path, st.ModTime().UTC().Format("20060102T150405.000")) // the same at the next try
	return r.Aside, nil
}

// with returns a report that has both.
func (s *Salvage) with(r *Salvage) *Salvage {
	if s == nil {
		return r
	}
	both := &Salvage{Why: errors.Join(s.Why, r.Why), Aside: cmp.Or(s.Aside, r.Aside), Saved: s.Saved, Held: s.Held, Lost: s.Lost}
	if s.Why.Error() == r.Why.Error() || strings.Contains(s.Why.Error(), r.Why.Error()) {
		both.Why = s.Why // told before by one that died amid it
	}
	if s.Aside != "" && r.Aside != "" && s.Aside != r.Aside {
		both.Why = fmt.Errorf("%w (kept as %s)", both.Why, filepath.Base(r.Aside))
	}
	both.Held, both.Lost = addLosses(s.Held, r.Held), addLosses(s.Lost, r.Lost)
	return both
}

// addLosses adds those that are not there yet.
func addLosses(all, more []Loss) []Loss {
	for _, l := range more {
		if !slices.ContainsFunc(all, func(had Loss) bool { return had.ID == l.ID && had.Err.Error() == l.Err.Error() }) {
			all = append(all, l)
		}
	}
	return all
}
