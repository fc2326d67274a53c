package intake_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"postern/bridge/queue/intake"
)

// writing is what a frame must have.
type writing struct {
	records  [][]byte
	released uint64 // by then
}

// model is what a log must have.
type model struct {
	t        *testing.T
	path     string
	log      *intake.Log
	random   *rand.Rand
	noise    []byte             // records are pieces of it
	written  map[uint64]writing // by the number of the frame
	released uint64
	newest   uint64
	noRoom   int
	size     int // octets of a record at most
}

// TestModel appends and releases at random. After each step every frame that is still needed is found whole, once, and
// none is missing between two; whatever else lies in the file is old, and is what was written or known to be damaged.
func TestModel(t *testing.T) {
	for seed, tc := range []struct {
		name  string
		size  int
		keep  int // frames that are needed at a time, about
		steps int
	}{
		{"small frames", 9000, 6, 150},
		{"frames of a tenth of a small file", 25000, 4, 150},
		{"large frames until the file is full", 450 << 10, 12, 60},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &model{t: t, random: rand.New(rand.NewPCG(1, uint64(seed))), size: tc.size, noise: make([]byte, 1<<20)}
			for i := range m.noise {
				m.noise[i] = byte(m.random.Uint32())
			}
			m.log, m.path = newLog(t, 0)
			m.written = map[uint64]writing{}
			for step := range tc.steps {
				m.step(tc.keep)
				m.check(fmt.Sprintf("step %d", step))
			}
			if tc.size > 100<<10 && m.noRoom == 0 {
				t.Error("there was always room; the test proves less than it says")
			}
		})
	}
}

func (m *model) step(keep int) {
	switch n := m.random.IntN(100); {
	case n < 3: // another process
		m.reopen()
	case n < 6:
		m.release(m.newest)
	case n < 10 || m.newest-m.released >= uint64(keep) && n < 70:
		m.release(m.released + m.random.Uint64N(m.newest-m.released+1))
	default:
		m.append()
	}
}

func (m *model) append() {
	records := make([][]byte, 1+m.random.IntN(3))
	for i := range records {
		size := m.random.IntN(m.size)
		at := m.random.IntN(len(m.noise) - size)
		records[i] = m.noise[at : at+size]
	}
	seq, err := m.log.Append(records)
	if errors.Is(err, intake.ErrNoRoom) && m.released < m.newest {
		if m.noRoom++; seq != m.newest {
			m.t.Fatalf("Append without room = %d; want %d", seq, m.newest)
		}
		m.check("no room")
		m.release(m.newest)
		seq, err = m.log.Append(records)
	}
	if err != nil || seq != m.newest+1 {
		m.t.Fatalf("Append = %d, %v; want %d", seq, err, m.newest+1)
	}
	m.newest, m.written[seq] = seq, writing{records, m.released}
}

func (m *model) release(seq uint64) {
	m.log.Release(seq)
	m.released = max(m.released, seq)
}

// reopen moves all into the tables, as the store does when it is opened, and begins a file.
func (m *model) reopen() {
	if err := m.log.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.released = m.newest
	m.log = openLog(m.t, m.path, m.newest)
}

func (m *model) check(when string) {
	m.t.Helper()
	frames := mustRead(m.t, m.path)
	checkFrames(m.t, when, frames, m.written, m.released, m.newest)
}

// checkFrames holds what was read to what was written: the frames above released up to newest are there whole, and
// the others are as they were, or damaged, with a part of their records.
func checkFrames(t *testing.T, when string, frames []intake.Frame, written map[uint64]writing, released, newest uint64) {
	t.Helper()
	found := map[uint64]bool{}
	for _, f := range frames {
		w, ok := written[f.Seq]
		switch {
		case f.ID != logID || !ok:
			t.Fatalf("%s: frame %d of %s was never written", when, f.Seq, f.ID)
		case f.Released != w.released:
			t.Fatalf("%s: frame %d says that %d were released; want %d", when, f.Seq, f.Released, w.released)
		case f.Whole && !sameRecords(f.Records, w.records):
			t.Fatalf("%s: frame %d is whole, but not what was written", when, f.Seq)
		case !f.Whole && !partOf(f.Records, w.records) && !sameRecords(f.Records, w.records):
			t.Fatalf("%s: frame %d is damaged, and its %d records are not some of the %d that were written", when, f.Seq, len(f.Records), len(w.records))
		case f.Seq > released && found[f.Seq]:
			t.Fatalf("%s: frame %d lies twice in the file", when, f.Seq)
		case f.Seq > released && f.Seq <= newest && !f.Whole:
			t.Fatalf("%s: frame %d is still needed and damaged", when, f.Seq)
		}
		found[f.Seq] = true
	}
	for seq := released + 1; seq <= newest; seq++ {
		if !found[seq] {
			t.Fatalf("%s: frame %d is still needed and not there", when, seq)
		}
	}
}

// partOf reports whether some of the records are missing, and the others are what and in the order that they were.
func partOf(some, records [][]byte) bool {
	if len(some) >= len(records) {
		return false
	}
	for _, r := range records {
		if len(some) > 0 && bytes.Equal(some[0], r) {
			some = some[1:]
		}
	}
	return len(some) == 0
}
