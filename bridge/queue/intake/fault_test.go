package intake_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postern/bridge/queue/intake"
)

func noRoom(t *testing.T, l *intake.Log, want uint64, records ...[]byte) {
	t.Helper()
	if seq, err := l.Append(records); seq != want || !errors.Is(err, intake.ErrNoRoom) || errors.Is(err, intake.ErrDead) {
		t.Fatalf("Append = %d, %v; want %d, %v", seq, err, want, intake.ErrNoRoom)
	}
}

func dead(t *testing.T, l *intake.Log, want uint64) {
	t.Helper()
	for range 2 {
		if seq, err := l.Append([][]byte{[]byte("late")}); seq != want || !errors.Is(err, intake.ErrDead) || errors.Is(err, intake.ErrNoRoom) {
			t.Fatalf("Append = %d, %v; want %d, %v", seq, err, want, intake.ErrDead)
		}
	}
}

// TestFileThatCannotBeMade: there is no room until it can.
func TestFileThatCannotBeMade(t *testing.T) {
	for _, tc := range []struct {
		name        string
		spoil, mend func(folder string) error
	}{
		{"the folder is gone", os.Remove, func(folder string) error { return os.Mkdir(folder, 0o700) }},
		{"the folder is a file", func(folder string) error {
			return errors.Join(os.Remove(folder), os.WriteFile(folder, nil, 0o600))
		}, func(folder string) error {
			return errors.Join(os.Remove(folder), os.Mkdir(folder, 0o700))
		}},
		{"a folder has its name", func(folder string) error {
			return os.Mkdir(filepath.Join(folder, "intake"), 0o700)
		}, func(folder string) error {
			return os.Remove(filepath.Join(folder, "intake"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "intake")
			l := openLog(t, path, 6)
			if err := tc.spoil(folder); err != nil {
				t.Fatal(err)
			}
			noRoom(t, l, 6, []byte("early"))
			noRoom(t, l, 6, []byte("early"))
			if err := tc.mend(folder); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, 7, []byte("seven"))
			if frames := mustRead(t, path); len(frames) != 1 || !sameRecords(frames[0].Records, [][]byte{[]byte("seven")}) {
				t.Errorf("frames %d were read; want 7 alone", seqs(frames))
			}
		})
	}
}

// TestNameIsMadeDurable: once, with the first frame, and no frame is written before it is.
func TestNameIsMadeDurable(t *testing.T) {
	calls, fails := 0, errors.New("the folder cannot be synced")
	path := filepath.Join(t.TempDir(), "intake")
	l := intake.New(intake.Options{Path: path, ID: logID, Made: func() error {
		if calls++; calls < 3 {
			return fails
		}
		return nil
	}})
	defer l.Close()
	if calls > 0 {
		t.Error("it is made durable before it is there")
	}
	for range 2 {
		if _, err := l.Append([][]byte{{}}); !errors.Is(err, intake.ErrNoRoom) || !errors.Is(err, fails) {
			t.Fatalf("Append = %v; want %v and %v", err, intake.ErrNoRoom, fails)
		}
		if text := mustReadFile(t, path); len(text) > 0 {
			t.Errorf("the file keeps %d octets", len(text))
		}
	}
	for n := range uint64(8) { // it grows twice
		mustAppend(t, l, n+1, filling(20, 'x'))
	}
	if calls != 3 {
		t.Errorf("it was made durable %d times; want 3", calls)
	}
}

// TestDiskWithoutPlenty: the file is not made, and not made longer, until the disk has room to spare. What fits into the file as
// it is is written all the same.
func TestDiskWithoutPlenty(t *testing.T) {
	plenty := false
	var asked []int64
	path := filepath.Join(t.TempDir(), "intake")
	l := intake.New(intake.Options{Path: path, ID: logID, Made: made, Roomy: func(octets int64) bool {
		asked = append(asked, octets)
		return plenty
	}})
	defer l.Close()
	wantAsked := func(want ...int64) {
		t.Helper()
		if !slices.Equal(asked, want) {
			t.Errorf("the disk was asked for %d octets; want %d", asked, want)
		}
		asked = nil
	}

	noRoom(t, l, 0, []byte("early"))
	noRoom(t, l, 0, []byte("early"))
	wantAsked(256<<10, 256<<10)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
	plenty = true
	mustAppend(t, l, 1, filling(30, 1))
	wantAsked(256 << 10)

	plenty = false
	before := mustReadFile(t, path)
	noRoom(t, l, 1, filling(40, 2))
	noRoom(t, l, 1, filling(40, 2))
	wantAsked(256<<10, 256<<10)
	if !bytes.Equal(mustReadFile(t, path), before) {
		t.Error("a frame without room was written")
	}
	mustAppend(t, l, 2, filling(34, 2))
	l.Release(1)
	mustAppend(t, l, 3, filling(29, 3))
	wantAsked()
	noRoom(t, l, 3, []byte("late"))
	wantAsked() // a longer file would be of no use
	l.Release(2)
	mustAppend(t, l, 4, filling(35, 4)) // to the end of the file
	l.Release(3)
	mustAppend(t, l, 5, filling(20, 5))

	plenty = true
	l.Release(5)
	mustAppend(t, l, 6, filling(64, 6))
	wantAsked()
	mustAppend(t, l, 7, filling(65, 7))
	wantAsked(256<<10, 512<<10)
	if got := mustRead(t, path); !slices.Equal(seqs(got), []uint64{6, 7}) || !sameRecords(got[1].Records, [][]byte{filling(65, 7)}) {
		t.Errorf("frames %d were read; want 6 and 7", seqs(got))
	}
}

func TestClosed(t *testing.T) {
	t.Run("after a frame nothing more is taken", func(t *testing.T) {
		l, path := newLog(t, 0)
		mustAppend(t, l, 1, []byte("one"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		dead(t, l, 1)
		if got := mustRead(t, path); len(got) != 1 {
			t.Errorf("frames %d were read; want 1 alone", seqs(got))
		}
		l.Release(1)
	})
	t.Run("before a frame as well, and no file is made", func(t *testing.T) {
		l, path := newLog(t, 3)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		dead(t, l, 3)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is a file: %v", err)
		}
	})
}
