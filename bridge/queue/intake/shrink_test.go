package intake_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"postern/bridge/queue/intake"
)

// checkLive reads the file, which may be cut meanwhile behind what is needed: each of those frames is there, whole.
func checkLive(t *testing.T, path string, first, last uint64) {
	t.Helper()
	frames, _, err := intake.Read(path, logID)
	if err != nil {
		t.Fatal(err)
	}
	whole := map[uint64]bool{}
	for _, f := range frames {
		whole[f.Seq] = f.Whole
	}
	for seq := first; seq <= last; seq++ {
		if !whole[seq] {
			t.Fatalf("frame %d of %d to %d is not there", seq, first, last)
		}
	}
}

// TestShrinkGivesBack: the room behind the frames that are needed, and all of it where none is.
func TestShrinkGivesBack(t *testing.T) {
	l, path := newLog(t, 0)
	size := func() int64 {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	if err := l.Shrink(); err != nil {
		t.Errorf("Shrink before there is a file: %v", err)
	}
	mustAppend(t, l, 1, []byte("one"))
	mustAppend(t, l, 2, []byte("two"))
	for _, step := range []struct {
		release uint64
		want    int64
	}{{0, 2 * block}, {1, 2 * block}, {2, 0}} {
		l.Release(step.release)
		if err := l.Shrink(); err != nil || size() != step.want {
			t.Errorf("after the release of %d: %d octets, %v; want %d", step.release, size(), err, step.want)
		}
	}
	mustAppend(t, l, 3, []byte("three"))
	checkLive(t, path, 3, 3)
}

// TestGrowsToMaxSizeFromAnywhere: from the odd size that a Shrink leaves it grows to MaxSize and not beyond, where nothing
// would be read.
func TestGrowsToMaxSizeFromAnywhere(t *testing.T) {
	l, path := newLog(t, 0)
	last := uint64(0)
	fill := func(most int) {
		for range most {
			seq, err := l.Append([][]byte{make([]byte, 9*block)})
			if errors.Is(err, intake.ErrNoRoom) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			last = seq
		}
	}
	fill(11)
	if err := l.Shrink(); err != nil {
		t.Fatal(err)
	}
	fill(1000)
	if st, err := os.Stat(path); err != nil || st.Size() != intake.MaxSize {
		t.Errorf("it has %d octets, %v; want %d", st.Size(), err, intake.MaxSize)
	}
	checkLive(t, path, 1, last)
}

// TestShrinkBesideAppend: what is written or needed is never cut off.
func TestShrinkBesideAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "intake")
	l := intake.New(intake.Options{Path: path, ID: logID, Made: func() error { return nil }})
	defer l.Close()
	var all sync.WaitGroup
	stop := make(chan struct{})
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := l.Shrink(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	random := rand.New(rand.NewPCG(3, 4))
	var done, last uint64
	for n := range 300 {
		seq, err := l.Append([][]byte{make([]byte, random.IntN(20_000))})
		switch {
		case errors.Is(err, intake.ErrNoRoom):
			done = last
			l.Release(done)
		case err != nil:
			t.Fatal(err)
		default:
			last = seq
		}
		if random.IntN(3) == 0 && last > 5 {
			done = max(done, last-uint64(random.IntN(6)))
			l.Release(done)
		}
		if n%20 == 0 {
			checkLive(t, path, done+1, last)
		}
	}
	close(stop)
	all.Wait()
}
