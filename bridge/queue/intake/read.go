package intake

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

// Frame is what one write made durable.
type Frame struct {
	ID       ID
	Seq      uint64
	Released uint64   // the last frame that had been released when this one was written
	Records  [][]byte // those that are as they were written
	Whole    bool     // all of them are; otherwise it is damaged, or
	Cut      bool     // some of its blocks were not written, as far as can be told
}

// Read returns the frames that lie in the file, in the order of the blocks; none where there is no file. Old ones are
// among them. A frame without a head is taken for one of that log. bad says what could not be read of the file, or was
// never written: the frames are those that lie elsewhere in it.
func Read(path string, id ID) (frames []Frame, bad, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if st.IsDir() {
		return nil, nil, fmt.Errorf("%s is a folder", path)
	}
	if st.Size() > MaxSize {
		bad = fmt.Errorf("%s has %d octets, and may have %d", path, st.Size(), MaxSize)
	}
	text := make([]byte, min(st.Size(), MaxSize))
	for at := 0; at < len(text); at += block { // a bad sector takes its block with it, and no other
		piece := text[at:min(at+block, len(text))]
		if _, err := f.ReadAt(piece, int64(at)); err != nil {
			clear(piece)
			bad = errors.Join(bad, err)
		}
	}
	frames, noise := Scan(text, id)
	if noise > 0 {
		bad = errors.Join(bad, fmt.Errorf("%s has %d blocks that were not written so", path, noise))
	}
	return frames, bad, nil
}

// Scan finds the frames in the text of a file; id is as for Read. noise is how many blocks have octets and are none of a
// frame.
func Scan(text []byte, id ID) (frames []Frame, noise int) {
	for len(text) > 0 {
		f, blocks, ok := scanFrame(text, id)
		if ok {
			frames = append(frames, f)
		} else if _, ok := tagOf(text, 0); !ok && !empty(text[:min(block, len(text))]) {
			noise++
		}
		text = text[min(blocks*block, int64(len(text))):]
	}
	return frames, noise
}

// scanFrame reads the frame that begins with the text, and says how many blocks are to be passed over.
func scanFrame(text []byte, id ID) (f Frame, blocks int64, ok bool) {
	f, length, sum, ok := scanHead(text)
	if !ok {
		return scanHeadless(text, id)
	}
	blocks = (headSize + length + part - 1) / part
	own := partsOf(text, headSize+length)[headSize:]
	f.Whole = length == int64(len(own)) && crc32.Checksum(own, castagnoli) == sum
	f.Records = split(own, ownSum(f.ID, f.Seq))
	for i := int64(0); i < blocks && !f.Whole && i*block < int64(len(text)); i++ {
		if tag, ok := tagOf(text, i); !ok || tag != (tagged{f.Seq, i}) {
			// A file that ends too early is damage: it has its size before a frame is written.
			f.Cut = f.Cut || (i+1)*block <= int64(len(text))
		}
	}
	return f, blocks, true
}

// scanHeadless reads a frame whose first block was written, and has no head any more.
func scanHeadless(text []byte, id ID) (f Frame, blocks int64, ok bool) {
	first, ok := tagOf(text, 0)
	if !ok || first.place > 0 {
		return f, 1, false
	}
	for tag := first; ok && tag == (tagged{first.seq, blocks}); tag, ok = tagOf(text, blocks) {
		blocks++
	}
	own := partsOf(text, blocks*part)[headSize:]
	return Frame{ID: id, Seq: first.seq, Records: split(own, ownSum(id, first.seq))}, blocks, true
}

// scanHead reads a head; where there is none, ok is false.
func scanHead(text []byte) (f Frame, length int64, sum uint32, ok bool) {
	if len(text) < headSize {
		return f, 0, 0, false
	}
	head := text[:headSize]
	if [8]byte(head) != mark || crc32.Checksum(head[:48], castagnoli) != binary.BigEndian.Uint32(head[48:]) {
		return f, 0, 0, false
	}
	f = Frame{ID: ID(head[8:24]), Seq: binary.BigEndian.Uint64(head[24:]), Released: binary.BigEndian.Uint64(head[32:])}
	return f, int64(binary.BigEndian.Uint32(head[40:])), binary.BigEndian.Uint32(head[44:]), true
}

// tagged is what the tag of a block says.
type tagged struct {
	seq   uint64
	place int64
}

// tagOf reads the tag of the n-th block of the text; where it has none that is right, ok is false.
func tagOf(text []byte, n int64) (t tagged, ok bool) {
	if (n+1)*block > int64(len(text)) {
		return t, false
	}
	tag := text[n*block+part : (n+1)*block]
	if crc32.Checksum(tag[:12], castagnoli) != binary.BigEndian.Uint32(tag[12:]) {
		return t, false
	}
	return tagged{binary.BigEndian.Uint64(tag), int64(binary.BigEndian.Uint32(tag[8:]))}, true
}

// empty reports whether there is nothing in a block.
func empty(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// partsOf returns so many octets of a frame that begins with the text, without its tags; fewer where the text ends.
func partsOf(text []byte, length int64) []byte {
	t := make([]byte, 0, min(length, int64(len(text))))
	for at := int64(0); at < int64(len(text)) && int64(len(t)) < length; at += block {
		t = append(t, text[at:min(at+part, at+length-int64(len(t)), int64(len(text)))]...)
	}
	return t
}

// split returns the records of a text whose sums are right.
func split(text []byte, own uint32) (records [][]byte) {
	for len(text) >= RecordHead {
		length, sum := text[:4], binary.BigEndian.Uint32(text[4:])
		n := int64(binary.BigEndian.Uint32(length))
		if text = text[RecordHead:]; n > int64(len(text)) {
			return records
		}
		if sumRecord(own, length, text[:n]) == sum {
			records = append(records, text[:n:n])
		}
		text = text[n:]
	}
	return records
}

// ownSum is the sum from which those of a frame's records go on: where a frame was cut, neither what an older one left there
// nor octets of nothing are a record of this one.
func ownSum(id ID, seq uint64) uint32 {
	return crc32.Checksum(binary.BigEndian.AppendUint64(id[:], seq), castagnoli)
}

func sumRecord(own uint32, length, record []byte) uint32 {
	return crc32.Update(crc32.Update(own, castagnoli, length), castagnoli, record)
}
