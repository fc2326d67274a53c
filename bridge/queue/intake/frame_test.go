package intake_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"postern/bridge/queue/intake"
)

// TestReleased: each frame tells what was released when it was written, whatever was released later.
func TestReleased(t *testing.T) {
	l, path := newLog(t, 5)
	want := map[uint64]uint64{}
	for _, tc := range []struct{ release, seq, want uint64 }{
		{0, 6, 5}, // what an earlier process wrote is in the tables
		{0, 7, 5},
		{6, 8, 6},
		{4, 9, 6}, // it does not go back
		{8, 10, 8},
		{8, 11, 8},
		{11, 12, 11},
	} {
		l.Release(tc.release)
		mustAppend(t, l, tc.seq, filling(2, byte(tc.seq)))
		want[tc.seq] = tc.want
		for _, f := range mustRead(t, path) {
			if f.Released != want[f.Seq] {
				t.Errorf("after frame %d: frame %d says that %d were released; want %d", tc.seq, f.Seq, f.Released, want[f.Seq])
			}
		}
	}
	if got := seqs(mustRead(t, path)); !slices.Equal(got, []uint64{12, 7, 8, 9, 10, 11}) {
		t.Errorf("frames %d were read; want 12, and 7 to 11", got)
	}
}

// TestDamagedFrame: the records that are as they were are read, and no others.
func TestDamagedFrame(t *testing.T) {
	records := [][]byte{[]byte("zero"), bytes.Repeat([]byte("one"), 2000), {}, bytes.Repeat([]byte("three"), 1000), []byte("four")}
	var at []int // of the heads of the records in the file
	end := head
	for _, r := range records {
		at = append(at, place(end))
		end += intake.RecordHead + len(r)
	}
	end = place(end-1) + 1
	for _, tc := range []struct {
		name string
		harm func(text []byte)
		want []int
	}{
		{"an octet of the first record", func(text []byte) { text[at[0]+8] ^= 1 }, []int{1, 2, 3, 4}},
		{"an octet of one in the middle", func(text []byte) { text[at[3]+8+4000] ^= 0x80 }, []int{0, 1, 2, 4}},
		{"the last octet of the last one", func(text []byte) { text[end-1] ^= 4 }, []int{0, 1, 2, 3}},
		{"two records", func(text []byte) { text[at[1]+8] ^= 1; text[at[4]+8] ^= 1 }, []int{0, 2, 3}},
		{"each but the one of no octets", func(text []byte) {
			for _, n := range []int{0, 1, 3, 4} {
				text[at[n]+8] ^= 1
			}
		}, []int{2}},
		{"the sum of a record", func(text []byte) { text[at[1]+4] ^= 1 }, []int{0, 2, 3, 4}},
		{"the sum of one of no octets", func(text []byte) { text[at[2]+7] ^= 1 }, []int{0, 1, 3, 4}},
		{"a length that is too great", func(text []byte) { text[at[1]] ^= 0x80 }, []int{0}},
		{"a length that is one too small", func(text []byte) { text[at[3]+3]-- }, []int{0, 1, 2}},
		{"a length that takes the next record in", func(text []byte) {
			binary.BigEndian.PutUint32(text[at[1]:], uint32(len(records[1])+intake.RecordHead+len(records[2])))
		}, []int{0, 3, 4}},
		{"two records in the place of each other", func(text []byte) {
			copy(text[at[0]+8:], "four")
			copy(text[at[4]+8:], "zero")
		}, []int{1, 2, 3}},
		{"nothing where a part of a record was", func(text []byte) { clear(text[block+500 : block+1500]) }, []int{0, 2, 3, 4}},
		{"nothing where two of them meet", func(text []byte) { clear(text[at[3]-10 : at[3]+100]) }, []int{0}},
		{"nothing but the head of the frame, and the tags", func(text []byte) {
			clear(text[head:part])
			for at := block; at < len(text); at += block {
				clear(text[at:][:part])
			}
		}, nil},
		{"an octet of the head", func(text []byte) { text[33] ^= 1 }, []int{0, 1, 2, 3, 4}},
		{"octets of the head and of a record", func(text []byte) { text[3] ^= 1; text[at[1]+8] ^= 1 }, []int{0, 2, 3, 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 2)
			mustAppend(t, l, 3, records...)
			next := (end + block - 1) / block * block
			mustAppend(t, l, 4, []byte("next"))
			text := mustReadFile(t, path)
			tc.harm(text[:next])
			var want [][]byte
			for _, n := range tc.want {
				want = append(want, records[n])
			}
			frames := scan(text)
			if !slices.Equal(seqs(frames), []uint64{3, 4}) {
				t.Fatalf("frames %d were read; want 3 and 4", seqs(frames))
			}
			released := uint64(2)
			if strings.Contains(tc.name, "of the head") {
				released = 0 // only the head tells
			}
			if f := frames[0]; f.Whole || f.Cut || f.ID != logID || f.Released != released || !sameRecords(f.Records, want) {
				t.Errorf("frame 3, whole: %t, cut: %t, has %d records; want it to be damaged and to have those of %d", f.Whole, f.Cut, len(f.Records), tc.want)
			}
			if f := frames[1]; !f.Whole || !sameRecords(f.Records, [][]byte{[]byte("next")}) {
				t.Error("frame 4 did not come back as written")
			}
		})
	}
}

// TestFileThatIsCut: one that ends within a frame has the records in front of its end. No crash makes such a file.
func TestFileThatIsCut(t *testing.T) {
	records := [][]byte{[]byte("one"), {}, []byte("three")}
	l, path := newLog(t, 0)
	mustAppend(t, l, 1, records...)
	ends := []int{head + 8 + 3, head + 8 + 3 + 8, head + 8 + 3 + 8 + 8 + 5}
	text := mustReadFile(t, path)
	for size := head; size <= ends[2]; size++ {
		n := 0
		for n < len(ends) && ends[n] <= size {
			n++
		}
		frames := scan(text[:size])
		if len(frames) != 1 || frames[0].Cut || frames[0].Whole != (n == len(ends)) || !sameRecords(frames[0].Records, records[:n]) {
			t.Fatalf("of %d octets frames %v were read; want one with %d records", size, frames, n)
		}
	}
}

// TestRecordThatLooksLikeARecord: where the length of a record is damaged, the reader goes on within it. What is there must
// not be taken for a record, be it made up or a copy out of another frame.
func TestRecordThatLooksLikeARecord(t *testing.T) {
	l, path := newLog(t, 0)
	mustAppend(t, l, 1, []byte("forged"))
	old := mustReadFile(t, path)[head:][:intake.RecordHead+len("forged")]
	forged := binary.BigEndian.AppendUint32(nil, 6)
	forged = binary.BigEndian.AppendUint32(forged, crc32.Checksum([]byte("forged"), castagnoli))
	forged = append(forged, "forged"...)
	for _, tc := range []struct {
		name string
		text []byte
	}{
		{"made up", forged},
		{"a record of no octets", make([]byte, intake.RecordHead)},
		{"out of another frame", old},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 1)
			mustAppend(t, l, 2, slices.Concat([]byte("0123"), tc.text, []byte("456789")))
			text := mustReadFile(t, path)
			binary.BigEndian.PutUint32(text[head:], 4)
			if frames := scan(text); len(frames) != 1 || frames[0].Whole || len(frames[0].Records) > 0 {
				t.Errorf("frames %v were read; want one without records", frames)
			}
		})
	}
}
