package intake_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/bridge/queue/intake"
)

const (
	block = 4096 // octets
	tag   = 16   // octets at its end
	part  = block - tag
	head  = 52 // octets before the text of a frame
	mark  = "postern\x01"
)

var logID = intake.ID{0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func made() error { return nil }

// newLog returns a log that is closed at the end of the test, and the path of its file.
func newLog(tb testing.TB, seq uint64) (*intake.Log, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "queue.db.intake")
	return openLog(tb, path, seq), path
}

func openLog(tb testing.TB, path string, seq uint64) *intake.Log {
	tb.Helper()
	l := intake.New(intake.Options{Path: path, ID: logID, Seq: seq, Made: made})
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// mustAppend writes a frame, and holds its number to the one that is wanted.
func mustAppend(tb testing.TB, l *intake.Log, want uint64, records ...[]byte) {
	tb.Helper()
	if seq, err := l.Append(records); seq != want || err != nil {
		tb.Fatalf("Append = %d, %v; want %d, nil", seq, err, want)
	}
}

func mustRead(tb testing.TB, path string) []intake.Frame {
	tb.Helper()
	frames, bad, err := intake.Read(path, logID)
	if bad != nil || err != nil {
		tb.Fatalf("Read = %v, %v; want all of the file", bad, err)
	}
	return frames
}

func scan(text []byte) []intake.Frame {
	frames, _ := intake.Scan(text, logID)
	return frames
}

// place is where an octet of a frame lies in its blocks.
func place(octet int) int { return octet/part*block + octet%part }

func mustReadFile(tb testing.TB, path string) []byte {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// filling is a record that makes a frame of so many blocks, to the last octet.
func filling(blocks int, with byte) []byte {
	return bytes.Repeat([]byte{with}, blocks*part-head-intake.RecordHead)
}

func sameRecords(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// seqs are the numbers of the frames, in their order.
func seqs(frames []intake.Frame) (all []uint64) {
	for _, f := range frames {
		all = append(all, f.Seq)
	}
	return all
}

func TestRecordsComeBackAsWritten(t *testing.T) {
	for _, tc := range []struct {
		name    string
		records [][]byte
		blocks  int
	}{
		{"one record", [][]byte{[]byte("one")}, 1},
		{"several in a frame", [][]byte{[]byte("one"), []byte("two"), bytes.Repeat([]byte("three"), 2000)}, 3},
		{"one of no octets", [][]byte{{}}, 1},
		{"those of no octets among others", [][]byte{{}, []byte("two"), {}}, 1},
		{"no record at all", [][]byte{}, 1},
		{"what looks like padding", [][]byte{make([]byte, 100), make([]byte, 9000)}, 3},
		{"a frame of one octet less than a block", [][]byte{filling(1, 'x')[1:]}, 1},
		{"a frame of a block", [][]byte{filling(1, 'x')}, 1},
		{"a frame of one octet more than a block", [][]byte{append(filling(1, 'x'), 'y')}, 2},
		{"a frame of several blocks", [][]byte{filling(7, 'x')}, 7},
		{"as much as a frame may hold", [][]byte{bytes.Repeat([]byte("x"), intake.MaxText-intake.RecordHead)}, 129},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 0)
			mustAppend(t, l, 1, tc.records...)
			mustAppend(t, l, 2, []byte("next"))
			frames := mustRead(t, path)
			if len(frames) != 2 {
				t.Fatalf("%d frames were read; want 2", len(frames))
			}
			f := frames[0]
			if f.ID != logID || f.Seq != 1 || !f.Whole || !sameRecords(f.Records, tc.records) {
				t.Errorf("frame %d of %s, whole: %t, has %d records; want frame 1 of %s with the %d that were written", f.Seq, f.ID, f.Whole, len(f.Records), logID, len(tc.records))
			}
			if !bytes.HasPrefix(mustReadFile(t, path)[tc.blocks*block:], []byte(mark)) {
				t.Errorf("the next frame does not begin after %d blocks", tc.blocks)
			}
		})
	}
}

// TestFileGrows: it doubles while nothing is released, and no frame of it is lost. Once it is full nothing is written until
// there is room.
func TestFileGrows(t *testing.T) {
	l, path := newLog(t, 0)
	var want []uint64
	for n := range 16 {
		mustAppend(t, l, uint64(n+1), filling(64, byte(n)))
		want = append(want, uint64(n+1))
		size := 256 << 10
		for size < (n+1)*64*block {
			size *= 2
		}
		if info, err := os.Stat(path); err != nil || info.Size() != int64(size) {
			t.Fatalf("after %d frames of 256 KB: %v, %v; want %d octets", n+1, info.Size(), err, size)
		}
	}
	full := mustReadFile(t, path)
	if len(full) != intake.MaxSize {
		t.Fatalf("the full file has %d octets; want %d", len(full), intake.MaxSize)
	}
	for range 2 {
		if seq, err := l.Append([][]byte{{}}); seq != 16 || !errors.Is(err, intake.ErrNoRoom) || errors.Is(err, intake.ErrDead) {
			t.Fatalf("Append to a full file = %d, %v; want 16, %v", seq, err, intake.ErrNoRoom)
		}
	}
	if !bytes.Equal(mustReadFile(t, path), full) {
		t.Fatal("a frame without room was written")
	}
	l.Release(1)
	mustAppend(t, l, 17, []byte("again"))
	frames := mustRead(t, path)
	if want[0] = 17; !slices.Equal(seqs(frames), want) {
		t.Fatalf("frames %d were read; want %d", seqs(frames), want)
	}
	for _, f := range frames[1:] {
		if !sameRecords(f.Records, [][]byte{filling(64, byte(f.Seq-1))}) {
			t.Errorf("frame %d did not come back as written", f.Seq)
		}
	}
}

// TestNoRoomForEver: what is larger than the file may be finds no room, and is no harm to what comes after it.
func TestNoRoomForEver(t *testing.T) {
	l, path := newLog(t, 0)
	if seq, err := l.Append([][]byte{make([]byte, intake.MaxSize)}); seq != 0 || !errors.Is(err, intake.ErrNoRoom) {
		t.Fatalf("Append = %d, %v; want 0, %v", seq, err, intake.ErrNoRoom)
	}
	mustAppend(t, l, 1, []byte("small"))
	if got := mustRead(t, path); len(got) != 1 || !sameRecords(got[0].Records, [][]byte{[]byte("small")}) {
		t.Errorf("read %v; want the small one", got)
	}
}

func TestRing(t *testing.T) {
	for _, tc := range []struct {
		name     string
		blocks   []int // of the frames
		released []int // after each of them, up to which
		want     []uint64
		size     int
	}{
		{"what is released at the end of the file is written over from its begin", []int{20, 20, 20, 19}, []int{0, 0, 2, 2}, []uint64{4, 2, 3}, 64},
		{"a frame may end with the file", []int{20, 20, 24, 19}, []int{0, 0, 2, 2}, []uint64{4, 2, 3}, 64},
		{"what does not fit before the oldest makes the file longer", []int{20, 20, 20, 30}, []int{0, 0, 1, 1}, []uint64{1, 2, 3, 4}, 128},
		{"once all is released the begin is used again", []int{20, 20, 5}, []int{0, 2, 2}, []uint64{3, 2}, 64},
		{"a frame of the whole file", []int{64, 64}, []int{1, 1}, []uint64{2}, 64},
		{"several frames in the gap before the oldest", []int{30, 30, 9, 10, 10}, []int{0, 1, 1, 1, 1}, []uint64{3, 4, 5, 2}, 64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 0)
			for i, n := range tc.blocks {
				mustAppend(t, l, uint64(i+1), filling(n, byte(i+1)))
				l.Release(uint64(tc.released[i]))
			}
			frames := mustRead(t, path)
			if !slices.Equal(seqs(frames), tc.want) {
				t.Errorf("frames %d lie in the file; want %d", seqs(frames), tc.want)
			}
			for _, f := range frames {
				if f.Seq > uint64(tc.released[len(tc.released)-1]) && !sameRecords(f.Records, [][]byte{filling(tc.blocks[f.Seq-1], byte(f.Seq))}) {
					t.Errorf("frame %d did not come back as written", f.Seq)
				}
			}
			if size := len(mustReadFile(t, path)); size != tc.size*block {
				t.Errorf("the file has %d blocks; want %d", size/block, tc.size)
			}
		})
	}
}

// TestGapThatIsTooSmall: the second time round the oldest frame that is needed is not written over, and a longer file would not
// help: the frames would not follow one another in it.
func TestGapThatIsTooSmall(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    int
		want error
	}{
		{"a frame that leaves a block has room", 9, nil},
		{"one block too many has none", 11, intake.ErrNoRoom},
		{"nor has a frame of more than the file", 70, intake.ErrNoRoom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 0)
			written := map[uint64]writing{}
			for i, n := range []int{20, 40, 10} { // the last one lies at the begin, with ten blocks behind it
				seq := uint64(i + 1)
				written[seq] = writing{[][]byte{filling(n, byte(seq))}, seq / 3}
				mustAppend(t, l, seq, written[seq].records...)
				if seq == 2 {
					l.Release(1)
				}
			}
			seq, err := l.Append([][]byte{filling(tc.n, 4)})
			if !errors.Is(err, tc.want) {
				t.Fatalf("Append = %d, %v; want %v", seq, err, tc.want)
			}
			written[4] = writing{[][]byte{filling(tc.n, 4)}, 1}
			checkFrames(t, "after it", mustRead(t, path), written, 1, seq)
			if size := len(mustReadFile(t, path)); size != 64*block {
				t.Errorf("the file has %d blocks; want 64", size/block)
			}
		})
	}
}

// TestNumbersGoOn: another process writes on from the number that the store remembers, into an empty file.
func TestNumbersGoOn(t *testing.T) {
	first, path := newLog(t, 0)
	mustAppend(t, first, 1, filling(60, 1))
	mustAppend(t, first, 2, filling(60, 2))
	mustAppend(t, first, 3, filling(5, 3))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openLog(t, path, 3)
	if got := seqs(mustRead(t, path)); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Fatalf("frames %d lie in the file before another is written; want 1, 2 and 3", got)
	}
	mustAppend(t, second, 4, []byte("four"))
	if got := seqs(mustRead(t, path)); !slices.Equal(got, []uint64{4}) {
		t.Errorf("frames %d lie in the file; want 4 alone", got)
	}
	if size := len(mustReadFile(t, path)); size != 64*block {
		t.Errorf("the file has %d blocks; want 64", size/block)
	}
	second.Release(3) // of the first process: none of them is here
	mustAppend(t, second, 5, []byte("five"))
	if got := seqs(mustRead(t, path)); !slices.Equal(got, []uint64{4, 5}) {
		t.Errorf("frames %d lie in the file; want 4 and 5", got)
	}
}

// TestRecordThatLooksLikeAFrame: who knows the log's ID, from an old copy of the queue, must not have messages replayed that
// nobody accepted, as whomever he likes.
func TestRecordThatLooksLikeAFrame(t *testing.T) {
	l, path := newLog(t, 8)
	mustAppend(t, l, 9, []byte("forged"))
	forged := mustReadFile(t, path)[:head+intake.RecordHead+len("forged")]
	l.Release(9)
	sent := append(make([]byte, part-head-intake.RecordHead), forged...)
	mustAppend(t, l, 10, sent)
	text := mustReadFile(t, path)
	if !bytes.HasPrefix(text[block:], []byte(mark)) {
		t.Fatal("the forged frame does not begin at a block; the test proves nothing")
	}
	if frames := scan(text); len(frames) != 1 || !sameRecords(frames[0].Records, [][]byte{sent}) {
		t.Errorf("frames %d were read; want 10 alone", seqs(frames))
	}
	text[part-1] ^= 1
	if frames := scan(text); len(frames) != 1 || frames[0].Whole || len(frames[0].Records) > 0 {
		t.Errorf("frames %d were read where it is damaged; want 10 alone", seqs(frames))
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if frames, bad, err := intake.Read(filepath.Join(dir, "none"), logID); frames != nil || bad != nil || err != nil {
		t.Errorf("Read where there is no file = %v, %v, %v; want none", frames, bad, err)
	}
	if frames, bad, err := intake.Read(dir, logID); frames != nil || bad != nil || err == nil {
		t.Errorf("Read of a folder = %v, %v, %v; want an error", frames, bad, err)
	}
	l, path := newLog(t, 0)
	mustAppend(t, l, 1, []byte("one"))
	text := mustReadFile(t, path)
	for _, tc := range []struct {
		name string
		text []byte
		want int
		bad  bool
	}{
		{"an empty file has none", nil, 0, false},
		{"a file that ends in the head has none, and that is told", text[:head-1], 0, true},
		{"so is it of a frame that begins not at a block", append(make([]byte, 512), text...), 0, true},
		{"a file that ends in a block of nothing has all that was written", text[:20*block+100], 1, false},
		{"a block that nobody wrote is told", slices.Concat(text[:block], []byte("noise"), text[block+5:]), 1, true},
		{"what lies behind the greatest size is not read, and that is told", append(make([]byte, intake.MaxSize), text...), 0, true},
		{"what lies in front of it is", append(make([]byte, intake.MaxSize-block), text...), 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "intake")
			if err := os.WriteFile(path, tc.text, 0o600); err != nil {
				t.Fatal(err)
			}
			if frames, bad, err := intake.Read(path, logID); len(frames) != tc.want || (bad != nil) != tc.bad || err != nil {
				t.Errorf("%d frames were read, %v, %v; want %d", len(frames), bad, err, tc.want)
			}
		})
	}
}

func TestParseID(t *testing.T) {
	if got := logID.String(); got != "fe0102030405060708090a0b0c0d0e0f" {
		t.Errorf("String = %s", got)
	}
	for _, id := range []intake.ID{{}, logID, intake.NewID()} {
		if got, err := intake.ParseID(id.String()); got != id || err != nil {
			t.Errorf("ParseID(%s) = %s, %v", id, got, err)
		}
	}
	if a, b := intake.NewID(), intake.NewID(); a == b {
		t.Errorf("NewID returned %s twice", a)
	}
	for _, text := range []string{"", "fe", logID.String()[1:], logID.String() + "00", logID.String() + " ", "g" + logID.String()[1:], strings.Repeat("x", 1000)} {
		id, err := intake.ParseID(text)
		if err == nil || id != (intake.ID{}) || len(err.Error()) > 80 {
			t.Errorf("ParseID(%.40q) = %s, %v; want an error of one line", text, id, err)
		}
	}
}

// TestReleaseBesideAppend is for the race detector: who moves the records releases them while others come.
func TestReleaseBesideAppend(t *testing.T) {
	l, path := newLog(t, 0)
	kept := make(chan uint64, 2) // three frames are needed at most: of four the newest may lie right before the oldest
	done := make(chan struct{})
	go func() {
		defer close(done)
		for seq := range kept {
			l.Release(seq)
		}
	}()
	const frames = 60 // of 11 blocks: the ring is gone round several times
	for n := range uint64(frames) {
		mustAppend(t, l, n+1, filling(11, byte(n)))
		kept <- n + 1
	}
	close(kept)
	<-done
	for _, f := range mustRead(t, path) {
		if f.Seq == frames && sameRecords(f.Records, [][]byte{filling(11, frames-1)}) {
			return
		}
	}
	t.Errorf("frame %d did not come back as written", frames)
}

// BenchmarkAppend makes records of 12 KB durable, each by a frame of its own.
func BenchmarkAppend(b *testing.B) {
	l, _ := newLog(b, 0)
	records := [][]byte{bytes.Repeat([]byte("0123456789abcde\n"), 12<<10/16)}
	b.SetBytes(12 << 10)
	for b.Loop() {
		seq, err := l.Append(records)
		if err != nil {
			b.Fatal(err)
		}
		if seq%16 == 0 { // what is on its way into the tables
			l.Release(seq)
		}
	}
}
