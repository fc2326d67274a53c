package intake_test

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"postern/bridge/queue/intake"
)

// limitFiles lets no file of this process become longer, as a full disk does, but also for root. The returned function takes
// the limit away.
func limitFiles(t *testing.T, size uint64) (lift func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: size, Max: was.Max})
	t.Cleanup(func() { set(was) })
	return func() { set(was) }
}

// TestFullDisk: what the disk did not give in whole is given back, the frames stay readable, and what is released has room.
func TestFullDisk(t *testing.T) {
	t.Run("there is no room for a file", func(t *testing.T) {
		l, path := newLog(t, 0)
		lift := limitFiles(t, 100<<10)
		noRoom(t, l, 0, []byte("early"))
		if text := mustReadFile(t, path); len(text) > 0 {
			t.Errorf("the file keeps %d octets of the disk", len(text))
		}
		lift()
		mustAppend(t, l, 1, []byte("one"))
	})
	t.Run("there is none when it is synced", func(t *testing.T) {
		l := openLog(t, os.DevNull, 0) // which takes what is written, and cannot be synced
		noRoom(t, l, 0, []byte("early"))
		noRoom(t, l, 0, []byte("early"))
	})
	t.Run("there is no room for a longer one", func(t *testing.T) {
		l, path := newLog(t, 0)
		for n := range uint64(3) {
			mustAppend(t, l, n+1, filling(20, byte(n+1)))
		}
		lift := limitFiles(t, 300<<10)
		noRoom(t, l, 3, filling(20, 4))
		if text := mustReadFile(t, path); len(text) != 256<<10 {
			t.Errorf("the file has %d octets; want what it had, %d", len(text), 256<<10)
		}
		checkFrames(t, "full", mustRead(t, path), map[uint64]writing{
			1: {records: [][]byte{filling(20, 1)}}, 2: {records: [][]byte{filling(20, 2)}}, 3: {records: [][]byte{filling(20, 3)}},
		}, 0, 3)
		l.Release(2)
		mustAppend(t, l, 4, filling(20, 4))
		lift()
		l.Release(3)
		mustAppend(t, l, 5, filling(40, 5))
		mustAppend(t, l, 6, filling(40, 6))
		if got := seqs(mustRead(t, path)); !slices.Equal(got, []uint64{4, 5, 6}) {
			t.Errorf("frames %d were read; want 4, 5 and 6", got)
		}
	})
}

// TestFailedWrite: nobody knows what the disk has, so nothing more is taken, even where it could be.
func TestFailedWrite(t *testing.T) {
	l, path := newLog(t, 0)
	mustAppend(t, l, 1, []byte("one"))
	lift := limitFiles(t, block)
	if seq, err := l.Append([][]byte{[]byte("two")}); seq != 2 || !errors.Is(err, intake.ErrDead) || !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("Append = %d, %v; want 2, %v with the cause", seq, err, intake.ErrDead)
	}
	lift()
	dead(t, l, 2)
	l.Release(2)
	dead(t, l, 2)
	if frames := mustRead(t, path); !slices.Equal(seqs(frames), []uint64{1}) {
		t.Errorf("frames %d were read; want 1 alone", seqs(frames))
	}
}

// TestFailedSync: the same where the write went well. The file that stands in takes what is written, and cannot be synced.
func TestFailedSync(t *testing.T) {
	l, path := newLog(t, 0)
	mustAppend(t, l, 1, []byte("one"))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file := l.Exchange(null)
	if seq, err := l.Append([][]byte{[]byte("two")}); seq != 2 || !errors.Is(err, intake.ErrDead) || !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("Append = %d, %v; want 2, %v with the cause", seq, err, intake.ErrDead)
	}
	l.Exchange(file)
	dead(t, l, 2)
	if frames := mustRead(t, path); !slices.Equal(seqs(frames), []uint64{1}) {
		t.Errorf("frames %d were read; want 1 alone", seqs(frames))
	}
}
