package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/bridge/envelope"
	"postern/bridge/event"
	"postern/bridge/message"
	"postern/bridge/queue"
	"postern/bridge/queue/queuetest"
	"postern/bridge/reply"
)

// nobodyRelays is a Relayer that is never asked to relay.
type nobodyRelays struct{}

func (nobodyRelays) Gate(string, time.Time) queue.Gate { return queue.Gate{} }

func (nobodyRelays) Relay(context.Context, message.Outgoing) reply.Outcome { return reply.Outcome{} }

// holdings counts how often everything was held.
type holdings int

func (h *holdings) Handle(_ context.Context, e event.Event) {
	if e.Kind == event.QueueHeld {
		*h++
	}
}

func TestForeignStore(t *testing.T) {
	here := origin{Machine: "m1", Starts: 7}
	for _, tc := range []struct {
		name    string
		inside  origin
		beside  origin
		missing bool
		machine string
		want    string // part of the reason, "" for none
	}{
		{"a new store is ours", origin{}, origin{}, true, "m1", ""},
		{"a store without notes, of an older version, is ours", origin{}, here, false, "m1", ""},
		{"as it was left", here, here, false, "m1", ""},
		{"a crash between the two notes", origin{Machine: "m1", Starts: 8}, here, false, "m1", ""},
		{"a backup", origin{Backup: true}, here, false, "m1", "restored from a backup"},
		{"another machine", here, here, false, "m2", "written on another machine"},
		{"a machine without an id, as in a container", here, here, false, "", ""},
		{"a machine that got an id", origin{Starts: 7}, here, false, "m1", ""},
		{"the file alone was put here", here, origin{}, true, "m1", "without the note of its last start"},
		{"an old copy was put back", origin{Machine: "m1", Starts: 5}, here, false, "m1", "older than the last start"},
		{"a damaged note", origin{damaged: true}, here, false, "m1", "is damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := foreign(tc.inside, tc.beside, tc.missing, tc.machine)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("foreign = %q; want %q", got, tc.want)
			}
		})
	}
}

// stateAtStart is what becomes of a message when the store is opened at that place.
func stateAtStart(t *testing.T, p Place, store queue.Store, id envelope.ID) queue.State {
	t.Helper()
	q := queue.New(queue.Options{Store: store, Relayer: nobodyRelays{}, Accounts: []queue.Account{{Name: "erp"}}})
	if err := p.Claim(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	r, err := q.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r.State
}

// TestStoreOnAnotherMachineIsHeld: with its whole folder, notes and all, it is held once; then it is that machine's.
func TestStoreOnAnotherMachineIsHeld(t *testing.T) {
	dir, store, told := t.TempDir(), queuetest.NewMemory(), new(holdings)
	place := func(machine string) Place {
		return Place{DataDir: dir, Machine: machine, Store: store, Events: event.NewBus(told)}
	}
	item, m := queuetest.NewMessage("erp", time.Now())
	if err := store.Add(t.Context(), item, m, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	start := func(machine string) queue.State { return stateAtStart(t, place(machine), store, item.ID) }
	release := func() {
		t.Helper()
		q := queue.New(queue.Options{Store: store, Relayer: nobodyRelays{}, Accounts: []queue.Account{{Name: "erp"}}})
		if n, _, err := q.ChangeAll(t.Context(), queue.Filter{}, queue.Order{Action: queue.Release, By: "root"}); err != nil || n != 1 {
			t.Fatalf("release = %d, %v", n, err)
		}
	}
	for _, step := range []struct {
		machine string
		want    queue.State
	}{{"m1", queue.Queued}, {"m1", queue.Queued}, {"m2", queue.Held}, {"m2", queue.Queued}, {"m1", queue.Held}} {
		if got := start(step.machine); got != step.want {
			t.Errorf("on %s it is %s; want %s", step.machine, got, step.want)
		}
		if step.want == queue.Held {
			release()
		}
	}
	if *told != 2 {
		t.Errorf("it was said %d times that everything is held; want 2", *told)
	}
	if fi, err := os.Stat(filepath.Join(dir, file)); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 {
		t.Errorf("the note beside the store: %v, %v", fi, err)
	}
	// A note that cannot be read stops the start, and says what to do.
	if err := os.WriteFile(filepath.Join(dir, file), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	q := queue.New(queue.Options{Store: store, Relayer: nobodyRelays{}})
	if err := place("m1").Claim(t.Context(), q); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("Claim with a damaged note = %v", err)
	}
}

// TestDamagedNoteInTheStore: a wrong bit in any octet of it does not keep the store shut. Where it says nothing any more all is
// held, once; then it is written anew.
func TestDamagedNoteInTheStore(t *testing.T) {
	const note = `{"machine":"m1","starts":7}`
	damaged := 0
	for at := range note {
		store, told := queuetest.NewMemory(), new(holdings)
		p := Place{DataDir: t.TempDir(), Machine: "m1", Store: store, Events: event.NewBus(told)}
		item, m := queuetest.NewMessage("erp", time.Now())
		text := []byte(note)
		text[at] ^= 1
		err := errors.Join(store.Add(t.Context(), item, m, strings.NewReader("x")), store.SetNote(t.Context(), key, string(text)),
			replaceFile(filepath.Join(p.DataDir, file), []byte(note)))
		if err != nil {
			t.Fatal(err)
		}
		got := stateAtStart(t, p, store, item.ID)
		if !json.Valid(text) {
			if damaged++; got != queue.Held || *told != 1 {
				t.Errorf("with %s it is %s; want it held, and said once", text, got)
			}
		}
		before := *told
		stateAtStart(t, p, store, item.ID)
		if notes, err := store.Notes(t.Context(), key); err != nil || *told != before || notes[key] != `{"machine":"m1","starts":9}` {
			t.Errorf("with %s, at the next start: held again %v, the note is %s, %v", text, *told != before, notes[key], err)
		}
	}
	if damaged == 0 {
		t.Error("no note was damaged; the test proves nothing")
	}
}

// errs are the errors that were told of the queue.
type errs []string

func (l *errs) Handle(_ context.Context, e event.Event) {
	for _, a := range e.Attrs {
		if e.Kind == event.QueueFailed && a.Key == "err" {
			*l = append(*l, a.Value.String())
		}
	}
}

// TestQueueThatIsGone: a new queue does not begin without a word where there was one, and begins.
func TestQueueThatIsGone(t *testing.T) {
	for _, tc := range []struct {
		name string
		lost string // what went with the queue
	}{
		{"the note beside it is left", ""},
		{"the folder went with it, and the note outside is left", file},
	} {
		t.Run(tc.name, func(t *testing.T) {
			told := new(errs)
			p := Place{DataDir: t.TempDir(), Machine: "m1", Events: event.NewBus(told), Elsewhere: t.TempDir()}
			start := func() {
				t.Helper()
				if err := p.Claim(t.Context(), queue.New(queue.Options{Store: p.Store.(queue.Store), Relayer: nobodyRelays{}})); err != nil {
					t.Fatal(err)
				}
			}
			p.Store = queuetest.NewMemory()
			start()
			start()
			if len(*told) != 0 {
				t.Fatalf("told of a queue that is there: %q", *told)
			}
			p.Store = queuetest.NewMemory()
			if tc.lost != "" {
				if err := os.Remove(filepath.Join(p.DataDir, tc.lost)); err != nil {
					t.Fatal(err)
				}
			}
			start()
			start()
			if len(*told) != 1 || !strings.Contains((*told)[0], "is gone") {
				t.Errorf("told: %q; want it once", *told)
			}
		})
	}
}

// fullStore has no room for a note.
type fullStore struct {
	*queuetest.Memory
	err error
}

func (s fullStore) SetNote(context.Context, string, string) error { return s.err }

// TestStartOnAFullDisk: a start goes on without its note, and what was noted before holds; another error ends it.
func TestStartOnAFullDisk(t *testing.T) {
	dir, store, told := t.TempDir(), queuetest.NewMemory(), new(errs)
	claim := func(s Store) error {
		p := Place{DataDir: dir, Machine: "m1", Store: s, Events: event.NewBus(told), Full: func(err error) bool { return errors.Is(err, queue.ErrFull) }}
		return p.Claim(t.Context(), queue.New(queue.Options{Store: store, Relayer: nobodyRelays{}}))
	}
	if err := claim(store); err != nil {
		t.Fatal(err)
	}
	if err := claim(fullStore{store, fmt.Errorf("note: %w", queue.ErrFull)}); err != nil || len(*told) != 1 {
		t.Errorf("Claim on a full disk = %v, told %q; want none, and once", err, *told)
	}
	if err := claim(fullStore{store, queue.ErrClosed}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("Claim = %v; want the store's error", err)
	}
	if err := claim(store); err != nil || len(*told) != 1 {
		t.Errorf("with room: %v, told %q", err, *told)
	}
}

// claim is a start on a store.
func claim(t *testing.T, p Place, store queue.Store) {
	t.Helper()
	if err := p.Claim(t.Context(), queue.New(queue.Options{Store: store, Relayer: nobodyRelays{}, Accounts: []queue.Account{{Name: "erp"}}})); err != nil {
		t.Fatal(err)
	}
}

// TestFirstStartOnAFullDisk: there is no note yet. It is made once there is room, and nothing is held for want of it.
func TestFirstStartOnAFullDisk(t *testing.T) {
	full := fmt.Errorf("note: %w", queue.ErrFull)
	for _, tc := range []struct {
		name   string
		store  error // what the store answers while the disk is full
		file   bool  // it takes no new file either
		before int64 // starts of a queue that ran here before
	}{
		{"that takes nothing", full, true, 0},
		{"that has no room in the store", full, false, 0},
		{"that has no room in the store, where another queue was removed", full, false, 7},
		{"that takes no new file", nil, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store, held := queuetest.NewMemory(), new(holdings)
			item, m := queuetest.NewMessage("erp", time.Now())
			if err := store.Add(t.Context(), item, m, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			p := Place{DataDir: filepath.Join(t.TempDir(), "data"), Machine: "m1", Events: event.NewBus(held), Elsewhere: t.TempDir()}
			p.Full = func(err error) bool { return errors.Is(err, queue.ErrFull) || errors.Is(err, fs.ErrNotExist) } // no folder for a file
			room := func() {
				if err := os.MkdirAll(p.DataDir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if !tc.file {
				room()
			}
			if tc.before > 0 {
				if err := replaceFile(filepath.Join(p.DataDir, file), fmt.Appendf(nil, `{"machine":"m1","starts":%d}`, tc.before)); err != nil {
					t.Fatal(err)
				}
			}
			if p.Store = store; tc.store != nil {
				p.Store = fullStore{store, tc.store}
			}
			claim(t, p, store)
			if err := p.Note(t.Context()); err != nil {
				t.Errorf("Note on a full disk = %v", err)
			}
			room()
			claim(t, p, store)
			p.Store = store
			if err := p.Note(t.Context()); err != nil {
				t.Errorf("Note once there is room = %v", err)
			}
			inside, err := p.inside(t.Context())
			beside, missing := p.beside()
			if err != nil || missing != nil || inside != beside || inside.Starts <= tc.before {
				t.Errorf("noted %+v, %v and %+v, %v; want the same, after %d", inside, err, beside, missing, tc.before)
			}
			claim(t, p, store)
			if *held > 0 {
				t.Error("all mail was held")
			}
		})
	}
}

// TestFolderPutBackAsAWhole: the note beside the store comes back with it; the one outside does not.
func TestFolderPutBackAsAWhole(t *testing.T) {
	for _, tc := range []struct {
		name      string
		elsewhere string
		damage    bool // of the note outside
		want      queue.State
	}{
		{"a note outside knows of a later start", t.TempDir(), false, queue.Held},
		{"a note outside that cannot be read is none", t.TempDir(), true, queue.Queued},
		{"a folder outside that is gone is none", filepath.Join(t.TempDir(), "gone"), false, queue.Queued},
		{"no such place", "", false, queue.Queued},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, store := t.TempDir(), queuetest.NewMemory()
			p := Place{DataDir: dir, Machine: "m1", Store: store, Events: event.NewBus(), Elsewhere: tc.elsewhere}
			item, m := queuetest.NewMessage("erp", time.Now())
			if err := store.Add(t.Context(), item, m, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
			state := func() queue.State { return stateAtStart(t, p, store, item.ID) }
			state()
			notes, err := store.Notes(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			beside, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if got := state(); got != queue.Queued {
				t.Fatalf("at the next start it is %s", got)
			}
			if err := store.SetNote(t.Context(), key, notes[key]); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), beside, 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.damage {
				if err := os.WriteFile(p.elsewhere(), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := state(); got != tc.want {
				t.Errorf("put back as a whole it is %s; want %s", got, tc.want)
			}
		})
	}
}

// TestNightlyCopyPutBack: it was taken while the process ran, which then crashed: nobody noted a stop.
func TestNightlyCopyPutBack(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		item, m := queuetest.NewMessage("erp", time.Now())
		place := func(store queue.Store) Place {
			return Place{DataDir: dir, Machine: "m1", Store: store, Events: event.NewBus(), Elsewhere: outside}
		}
		start := func(store queue.Store) queue.State { return stateAtStart(t, place(store), store, item.ID) }
		run := func(store queue.Store, hours int) {
			ctx, crash := context.WithTimeout(t.Context(), time.Duration(hours)*time.Hour+time.Minute)
			defer crash()
			_ = place(store).Run(ctx) // it ends so
		}
		add := func(store queue.Store) {
			if err := store.Add(t.Context(), item, m, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
		}
		store := queuetest.NewMemory()
		add(store)
		start(store)
		run(store, 9)
		if got := start(store); got != queue.Queued {
			t.Errorf("after a crash it is %s", got)
		}
		notes, err := store.Notes(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		beside, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		run(store, 1)
		copied := queuetest.NewMemory()
		add(copied)
		for k, v := range notes {
			if err := copied.SetNote(t.Context(), k, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, file), beside, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := start(copied); got != queue.Held {
			t.Errorf("the copy that was put back is %s", got)
		}
	})
}

// life is a store and its notes in the order of what is done with them.
type life struct {
	t                *testing.T
	p                Place
	store            *queuetest.Memory
	q                *queue.Queue
	inside, beside   string   // of the copy
	told             holdings // by the latest start
	outsideForVisits bool
}

func (l *life) do(step string) {
	l.t.Helper()
	path, ctx := filepath.Join(l.p.DataDir, file), l.t.Context()
	var err error
	switch step {
	case "start":
		l.told = 0
		err = l.p.Claim(ctx, l.q)
	case "stop":
		err = l.p.Note(ctx)
	case "command":
		p := l.p
		if p.Events = event.NewBus(); !l.outsideForVisits {
			p.Elsewhere = ""
		}
		err = p.Visit(ctx, l.q)
	case "release":
		_, _, err = l.q.ChangeAll(ctx, queue.Filter{}, queue.Order{Action: queue.Release, By: "root"})
	case "copy":
		notes, noNotes := l.store.Notes(ctx, key)
		text, noFile := os.ReadFile(path)
		l.inside, l.beside, err = notes[key], string(text), errors.Join(noNotes, noFile)
	case "folder back":
		err = errors.Join(l.store.SetNote(ctx, key, l.inside), os.WriteFile(path, []byte(l.beside), 0o600))
	case "file back":
		err = l.store.SetNote(ctx, key, l.inside)
	case "backup back":
		err = errors.Join(l.store.SetNote(ctx, key, `{"starts":0,"backup":true}`), os.Remove(path))
	default:
		l.t.Fatalf("what is %q?", step)
	}
	if err != nil {
		l.t.Fatalf("%s: %v", step, err)
	}
}

// TestCommandsBeforeTheStart: whatever commands open the queue while nobody runs, they hide nothing from the next start; and
// what a person releases between them is not held again for what a command has seen.
func TestCommandsBeforeTheStart(t *testing.T) {
	const before = "start, stop, copy, start, stop, "
	for _, tc := range []struct {
		name, steps string
		want        queue.State
		told        holdings // lines of the last start
		onlySeen    bool     // commands must see the note outside
	}{
		{"nothing was put back", before + "command, command, start", queue.Queued, 0, false},
		{"the folder", before + "folder back, command, command, command, command, start", queue.Held, 1, false},
		{"the folder, after other commands", before + "command, command, folder back, command, start", queue.Held, 1, false},
		{"the folder, after the copy was looked at", "start, stop, command, copy, command, start, stop, folder back, command, start", queue.Held, 1, false},
		{"the folder, twice", before + "folder back, command, start, stop, release, folder back, command, start", queue.Held, 1, false},
		{"the folder, released after the start", before + "folder back, command, start, release, stop, command, start", queue.Queued, 0, false},
		{"the file", before + "file back, command", queue.Held, 0, false},
		{"the file, started", before + "file back, command, command, start", queue.Held, 1, false},
		{"the file, released before the start", before + "file back, command, release, command, start", queue.Queued, 1, false},
		{"the file, twice", before + "file back, command, release, file back, command, start", queue.Held, 1, false},
		{"the file, started again", before + "file back, command, release, start, stop, command, start", queue.Queued, 0, false},
		{"a backup", before + "backup back, command, command, start", queue.Held, 1, false},
		{"a backup, released before the start", before + "backup back, command, release, command, start", queue.Queued, 1, true},
	} {
		for _, sees := range []bool{false, true} {
			if tc.onlySeen && !sees {
				continue
			}
			t.Run(fmt.Sprintf("%s, the note outside is seen %v", tc.name, sees), func(t *testing.T) {
				store := queuetest.NewMemory()
				l := &life{t: t, store: store, outsideForVisits: sees}
				l.q = queue.New(queue.Options{Store: store, Relayer: nobodyRelays{}, Accounts: []queue.Account{{Name: "erp"}}})
				l.p = Place{DataDir: t.TempDir(), Machine: "m1", Store: store, Events: event.NewBus(&l.told), Elsewhere: t.TempDir()}
				item, m := queuetest.NewMessage("erp", time.Now())
				if err := store.Add(t.Context(), item, m, strings.NewReader("x")); err != nil {
					t.Fatal(err)
				}
				for step := range strings.SplitSeq(tc.steps, ", ") {
					l.do(step)
				}
				if r, err := l.q.Show(t.Context(), item.ID); err != nil || r.State != tc.want || l.told != tc.told {
					t.Errorf("it is %s, %v, and the start said so %d times; want %s, %d", r.State, err, l.told, tc.want, tc.told)
				}
			})
		}
	}
}
