package intake_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"postern/bridge/queue/intake"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FuzzScan reads any file, as it is and with heads and records that look right: no panic, and never more records than there
// are octets.
func FuzzScan(f *testing.F) {
	l, path := newLog(f, 0)
	mustAppend(f, l, 1, []byte("one"), nil, []byte("two"))
	mustAppend(f, l, 2, bytes.Repeat([]byte("three"), 1000))
	mustAppend(f, l, 3)
	text := mustReadFile(f, path)[:4*block]
	f.Add(text)
	f.Add(text[:2*block+100])
	f.Add(text[:head])
	for _, length := range []uint32{0, 5, 2 * block, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		long := slices.Clone(text)
		binary.BigEndian.PutUint32(long[40:], length)
		f.Add(long)
	}
	nested := make([]byte, 4*block) // a frame over all, with one at each block of its record
	binary.BigEndian.PutUint32(nested[40:], 4*block-head)
	binary.BigEndian.PutUint32(nested[head:], 4*block-head-intake.RecordHead)
	f.Add(nested)
	f.Fuzz(func(t *testing.T, text []byte) {
		checkScan(t, text)
		if text = withHeads(text); len(text) >= head {
			checkFirst(t, text)
		}
		checkScan(t, text)
	})
}

func checkScan(t *testing.T, text []byte) {
	t.Helper()
	frames := scan(text)
	octets := 0
	for _, f := range frames {
		octets += head
		for _, r := range f.Records {
			octets += intake.RecordHead + len(r)
		}
	}
	if octets > len(text) {
		t.Fatalf("%d frames of %d octets were found in %d", len(frames), octets, len(text))
	}
}

// checkFirst wants the first frame to be found as its head and its lengths say.
func checkFirst(t *testing.T, text []byte) {
	t.Helper()
	own := octetsOf(text)
	length, rest := int64(binary.BigEndian.Uint32(own[40:])), own[head:]
	whole := length <= int64(len(rest))
	rest = rest[:min(length, int64(len(rest)))]
	var records [][]byte
	for len(rest) >= intake.RecordHead {
		n := int64(binary.BigEndian.Uint32(rest))
		if rest = rest[intake.RecordHead:]; n > int64(len(rest)) {
			break
		}
		records, rest = append(records, rest[:n]), rest[n:]
	}
	frames := scan(text)
	if len(frames) == 0 {
		t.Fatal("the first frame was not found")
	}
	if f := frames[0]; f.Whole != whole || f.Whole && f.Cut || !sameRecords(f.Records, records) {
		t.Fatalf("the first frame, whole: %t, has %d records; want %t and %d", f.Whole, len(f.Records), whole, len(records))
	}
}

// octetsOf returns what the blocks have beside their tags.
func octetsOf(text []byte) (own []byte) {
	for b := range slices.Chunk(text, block) {
		own = append(own, b[:min(part, len(b))]...)
	}
	return own
}

// withHeads makes each block begin with a head whose sums are right, where its length lets them be, and gives the records
// behind it theirs, and every other block a tag. What the later blocks have may be spoilt again for the sake of the first.
func withHeads(text []byte) []byte {
	text = slices.Clone(text)
	for at := (len(text) - head) / block * block; at >= 0 && at+head <= len(text); at -= block {
		own := octetsOf(text[at:])
		h, rest := own[:head], own[head:]
		copy(h, mark)
		length := int64(binary.BigEndian.Uint32(h[40:]))
		sumRecords(rest[:min(length, int64(len(rest)))], h[8:32])
		if length <= int64(len(rest)) {
			binary.BigEndian.PutUint32(h[44:], crc32.Checksum(rest[:length], castagnoli))
		}
		binary.BigEndian.PutUint32(h[48:], crc32.Checksum(h[:48], castagnoli))
		for to := at; to < len(text); to += block {
			own = own[copy(text[to:min(to+part, len(text))], own):]
		}
		if tail := text[at:]; len(tail) >= block && at/block%2 == 1 {
			binary.BigEndian.PutUint32(tail[block-4:], crc32.Checksum(tail[part:block-4], castagnoli))
		}
	}
	return text
}

// sumRecords writes the sums of the records of a text, which go on from that of the ID and the number in the head.
func sumRecords(text, own []byte) {
	for len(text) >= intake.RecordHead {
		n := int64(binary.BigEndian.Uint32(text))
		if n > int64(len(text)-intake.RecordHead) {
			return
		}
		record := text[intake.RecordHead:][:n]
		binary.BigEndian.PutUint32(text[4:], crc32.Checksum(slices.Concat(own, text[:4], record), castagnoli))
		text = text[intake.RecordHead+n:]
	}
}
