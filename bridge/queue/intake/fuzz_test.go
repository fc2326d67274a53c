package intake_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"postern/bridge/queue/intake"
)

// FuzzScan reads any file, as it is and with heads that look right: no panic, and never more records than there are octets.
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
		binary.BigEndian.PutUint32(long[32:], length)
		f.Add(long)
	}
	nested := make([]byte, 4*block) // a frame over all, with one at each block of its record
	binary.BigEndian.PutUint32(nested[32:], 4*block-head)
	binary.BigEndian.PutUint32(nested[head:], 4*block-head-4)
	f.Add(nested)
	f.Fuzz(func(t *testing.T, text []byte) {
		checkScan(t, text)
		checkScan(t, withHeads(text))
	})
}

func checkScan(t *testing.T, text []byte) {
	t.Helper()
	frames := intake.Scan(text)
	octets := 0
	for _, f := range frames {
		octets += head
		for _, r := range f.Records {
			octets += 4 + len(r)
		}
	}
	if octets > len(text) {
		t.Fatalf("%d frames of %d octets were found in %d", len(frames), octets, len(text))
	}
}

// withHeads makes each block begin with a head whose sums are right, where its length lets them be.
func withHeads(text []byte) []byte {
	text = slices.Clone(text)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for at := (len(text) - head) / block * block; at >= 0 && at+head <= len(text); at -= block {
		h, rest := text[at:at+head], text[at+head:]
		copy(h, mark)
		if length := int64(binary.BigEndian.Uint32(h[32:])); length <= int64(len(rest)) {
			binary.BigEndian.PutUint32(h[36:], crc32.Checksum(rest[:length], castagnoli))
		}
		binary.BigEndian.PutUint32(h[40:], crc32.Checksum(h[:40], castagnoli))
	}
	return text
}
