package intake_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"postern/bridge/queue/intake"
)

// TestTornWrites cuts the power within the write of the last frame, so that any of its blocks are on the disk and any
// are not. The frames before it are read back whole, and the last one is whole, cut or absent: it never looks damaged.
func TestTornWrites(t *testing.T) {
	for _, tc := range []struct {
		name     string
		blocks   []int // of the frames
		released []int // after each of them, up to which
		at       int   // the block where the last one begins
	}{
		{"the first frame of all", []int{6}, []int{0}, 0},
		{"a frame of a block after others", []int{2, 1, 1}, []int{0, 0, 0}, 3},
		{"a frame of some blocks after others", []int{2, 1, 8}, []int{0, 0, 0}, 3},
		{"a large frame after others", []int{2, 1, 129}, []int{0, 0, 0}, 3},
		{"a frame over a larger one", []int{9, 4}, []int{1, 1}, 0},
		{"a frame over a small one and a part of a larger one", []int{3, 9, 8}, []int{0, 2, 2}, 0},
		{"a frame over many small ones", []int{1, 1, 2, 1, 1, 2, 9}, []int{0, 0, 0, 0, 0, 6, 6}, 0},
		{"a frame of the second round, close to the oldest that is needed", []int{2, 3, 5, 20, 30, 9}, []int{0, 0, 0, 0, 3, 3}, 0},
		{"a frame of the second round, between older and newer ones", []int{2, 3, 1, 6, 20, 28, 2, 5, 6}, []int{0, 0, 0, 0, 0, 4, 4, 4, 4}, 5},
		{"a frame over one whose records lay where its own do", []int{6, 6}, []int{1, 1}, 0},
		{"a large frame of the second round", []int{60, 60, 5, 100}, []int{0, 0, 2, 2}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 0)
			written := map[uint64]writing{}
			released := uint64(0)
			var before []byte
			for i, n := range tc.blocks {
				if i > 0 {
					before = mustReadFile(t, path)
				}
				seq := uint64(i + 1)
				written[seq] = writing{pieces(n, byte(seq)), released}
				mustAppend(t, l, seq, written[seq].records...)
				released = uint64(tc.released[i])
				l.Release(released)
			}
			after := mustReadFile(t, path)
			before = append(before, make([]byte, len(after)-len(before))...) // it grows before anything is written
			last := uint64(len(tc.blocks))
			if at := firstChange(before, after); at != tc.at {
				t.Fatalf("the last frame begins at block %d; the test wants it at %d", at, tc.at)
			}
			tears := tornWrites(before, after)
			whole, text := 0, make([]byte, len(after))
			for _, tear := range tears {
				copy(text, after)
				for _, m := range tear.missing {
					copy(text[m[0]:m[1]], before[m[0]:m[1]])
				}
				frames, noise := intake.Scan(text, logID)
				if noise > 0 || slices.ContainsFunc(frames, func(f intake.Frame) bool { return f.Seq > released && !f.Whole && !f.Cut }) {
					t.Errorf("%s: it looks like damage: %d blocks of noise", tear.name, noise)
				}
				checkFrames(t, tear.name, frames, written, released, last-1)
				if slices.ContainsFunc(frames, func(f intake.Frame) bool { return f.Seq == last && f.Whole }) {
					whole++
				}
			}
			if whole != 1 {
				t.Errorf("the last frame was whole %d times of %d; want once, with all that was written", whole, len(tears))
			}
		})
	}
}

// pieces are records that make a frame of so many blocks, to the last octet. From the third one on the head of each lies in
// another block.
func pieces(blocks int, with byte) [][]byte {
	text := filling(blocks, with)
	records := [][]byte{text[:700], {}}
	text = text[700+2*intake.RecordHead:]
	for len(text) > block {
		records = append(records, text[:block-intake.RecordHead-1])
		text = text[block-1:]
	}
	return append(records, text)
}

func firstChange(before, after []byte) int {
	at := 0
	for before[at] == after[at] {
		at++
	}
	return at / block
}

// tear is a write that has reached the disk in part.
type tear struct {
	name    string
	missing [][2]int // octets from and to
}

// tornWrites returns what a power cut may make of the write that made after of before: each subset of its blocks where they are
// few, else its begins, its ends, and all but one or two. Then each begin in sectors of 512 octets. The last is the whole.
func tornWrites(before, after []byte) (all []tear) {
	var blocks [][2]int
	for at := 0; at < len(after); at += block {
		if !bytes.Equal(before[at:at+block], after[at:at+block]) {
			blocks = append(blocks, [2]int{at, at + block})
		}
	}
	add := func(name string, missing [][2]int) {
		all = append(all, tear{name, missing})
	}
	n := len(blocks)
	if n <= 9 {
		for set := 1; set < 1<<n; set++ {
			var missing [][2]int
			for i, b := range blocks {
				if set>>i&1 == 1 {
					missing = append(missing, b)
				}
			}
			add(fmt.Sprintf("without the blocks %b", set), missing)
		}
	} else {
		for i := range n {
			add(fmt.Sprintf("without block %d", i), blocks[i:i+1])
			add(fmt.Sprintf("without block %d and the third after it", i), slices.Concat(blocks[i:i+1], blocks[(i+3)%n:(i+3)%n+1]))
			add(fmt.Sprintf("cut before block %d", i), blocks[i:])
			if i > 0 {
				add(fmt.Sprintf("without what is before block %d", i), blocks[:i])
			}
		}
	}
	end := blocks[n-1][1]
	for at := blocks[0][0] + 512; at < end; at += 512 {
		if at < blocks[0][0]+8*block || at > end-2*block {
			add(fmt.Sprintf("cut after %d octets", at-blocks[0][0]), [][2]int{{at, end}})
		}
	}
	add("whole", nil)
	return all
}

// TestFlippedBit: whichever single bit of the file is another one, no record is read that was not written, and no frame but
// the one where it lies is touched.
func TestFlippedBit(t *testing.T) {
	l, path := newLog(t, 0)
	written := map[uint64]writing{
		1: {records: [][]byte{[]byte("one"), {}, []byte("two")}},
		2: {records: [][]byte{bytes.Repeat([]byte("three"), 1000)}},
	}
	mustAppend(t, l, 1, written[1].records...)
	mustAppend(t, l, 2, written[2].records...)
	text := mustReadFile(t, path)[:3*block]
	untouched, damaged, saved := 0, 0, 0
	for bit := range len(text) * 8 {
		text[bit/8] ^= 1 << (bit % 8)
		frames := scan(text)
		text[bit/8] ^= 1 << (bit % 8)
		hit := uint64(1)
		if bit >= block*8 {
			hit = 2
		}
		sound := 3 - hit
		checkFrames(t, fmt.Sprintf("bit %d", bit), frames, written, sound-1, sound)
		switch i := slices.IndexFunc(frames, func(f intake.Frame) bool { return f.Seq == hit }); {
		case i < 0 || frames[i].Cut:
			t.Fatalf("bit %d: the frame looks as if it had never been written", bit)
		case frames[i].Whole:
			untouched++
		default:
			damaged++
			saved += len(frames[i].Records)
		}
	}
	octets := 2*head + 4*intake.RecordHead + 6 + 5000
	if damaged != octets*8 || untouched != (3*block-octets)*8 {
		t.Errorf("%d bits damaged a frame and %d did not; want those of the heads and the texts, %d", damaged, untouched, octets*8)
	}
	// A wrong sum or octet costs its record of the three, a wrong length those behind it too, but for the bit that makes the first
	// one end where the second does.
	// Without a head all are found.
	if want := ((3*4+6)*2+4*(0+1+2)+head*(3+1))*8 + 1; saved != want {
		t.Errorf("%d records were read from the frame where a bit was wrong; want %d", saved, want)
	}
}
