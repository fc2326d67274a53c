// Package intake is a file that makes small records durable with one write and one sync, whoever reads them later: the
// store writes each accepted message here, says that it is kept, and moves it into its tables in larger strokes. It knows
// nothing of messages, and nothing of what became of a record: the store remembers the number of the last frame that it
// does not need any more, in the same transaction that made it so.
//
// The file is a ring of blocks. A frame holds the records of all who came while the one before was synced; it begins at a
// block, so that no write ever touches a sector of another frame:
//
//	head  mark, the log's ID, number, number of the last frame that was released, length and sum of the text, sum of the head
//	text  length, sum, record; length, sum, record; ... and nothing to the end of the block
//
// In each of its blocks the last octets are a tag that is no part of either: number, the block's place in the frame, sum. It
// tells a frame that was cut, which is what a crash leaves, from one that is damaged.
//
// Numbers rise by one and are never used again. So a reader needs no other order than theirs: a frame below the number
// that the store remembers is old, and one that is missing between others was lost. The ID is random and known to the
// store alone, so that no message can contain what looks like a frame. Should somebody know it from a copy of the store:
// the reader passes over all the blocks of a frame whose head is whole. No newer frame begins among them, for the ring is
// written from its first block on each time round, and so an older head was written over before the blocks behind it.
//
// Failure looks like this: after a write or a sync that failed nobody knows what the disk has, so the log takes nothing
// more (ErrDead), and clears the first block of that frame where it can.
//
// A process that dies within a write leaves the frame without its last blocks, and a power cut without any of them. That frame
// is the last one, nobody was told that its records are kept, and whoever sent them sends them again: it is nothing to tell of
// (Frame.Cut). It has a block whose tag is another one, or nothing. Where all tags are right and a sum is not, all was written,
// and is damaged; so is a frame whose first block has its tag and no head, and a file with a block that has octets but no tag.
// What this cannot tell: whether a frame that is damaged was synced, and its records promised, before that; and that a whole
// block of the last frame is lost, or its tag is wrong and another octet too, which looks like a cut. A disk that cuts within a
// block, and not from its begin on, makes a cut look like damage. No frame tells that one after it is gone with all its blocks.
package intake

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
)

// Bounds. A frame must leave room for the ones that are written while its records are on their way into the tables.
const (
	block     = 4096      // octets; a disk writes no smaller piece in one go
	firstSize = 256 << 10 // octets of a new file: it doubles up to MaxSize when there is no room
	MaxSize   = 4 << 20   // octets of the file at most
	MaxText   = 512 << 10 // octets of the records of one frame, with RecordHead for each
	headSize  = 52
	tagSize   = 16
	part      = block - tagSize // octets of a frame in a block

	RecordHead = 8 // octets before a record
)

var (
	mark       = [8]byte{'p', 'o', 's', 't', 'e', 'r', 'n', 1}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

var (
	// ErrNoRoom is wrapped where the frames that are still needed fill the file, or the disk is full. Nothing was written.
	ErrNoRoom = errors.New("the intake has no room")

	// ErrDead is wrapped by every error after which the log takes nothing more.
	ErrDead = errors.New("the intake cannot be written")
)

// ID names a log.
type ID [16]byte

// NewID returns one that nobody can guess.
func NewID() (id ID) {
	rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// String is 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String wrote.
func ParseID(text string) (id ID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%.40q is not the ID of an intake", text)
	}
	return ID(b), nil
}

// Log is the writer's side. Append is for one goroutine at a time; Release and Shrink may be called beside it.
type Log struct {
	o    Options
	seq  uint64 // of the newest frame
	dead error

	mu     sync.Mutex // guards what follows
	file   *os.File   // nil before the first frame
	blocks int64      // of the file
	next   int64      // the block after the newest frame
	done   uint64     // the last frame that was released
	live   []extent   // frames that are still needed, the oldest first
}

// extent is where a frame lies: up to where the next one begins.
type extent struct {
	seq  uint64
	from int64 // block
}

// Options are what a log is made of.
type Options struct {
	Path  string                  // of the file; it is made with the first frame
	ID    ID                      //
	Seq   uint64                  // frames are numbered from the next one on
	Made  func() error            // makes the name of a new file durable
	Roomy func(octets int64) bool // whether the disk has so much to spare; nil where nobody knows
}

// New returns a log. What the file has so far must not be needed any more.
func New(o Options) *Log { return &Log{o: o, seq: o.Seq, done: o.Seq} }

// Append writes the records as one frame and syncs it; it returns the frame's number. With ErrNoRoom nothing was
// written, and after a Release there may be room. After any other error the records may come back from Read, or not,
// under the number that it returns.
func (l *Log) Append(records [][]byte) (seq uint64, err error) {
	if l.dead != nil {
		return l.seq, l.dead
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	*buffer = l.encode((*buffer)[:0], records)
	from, err := l.place(int64(len(*buffer)) / block)
	if err != nil {
		return l.seq, err
	}
	l.seq++
	if _, err = l.file.WriteAt(*buffer, from*block); err == nil {
		err = syncData(l.file)
	}
	if err != nil {
		// Its records are refused, and come again: a process that dies now should not have kept them.
		_, _ = l.file.WriteAt(make([]byte, block), from*block)
		l.dead = fmt.Errorf("%w: %w", ErrDead, err)
		return l.seq, l.dead
	}
	return l.seq, nil
}

// buffers are for frames; in times without mail their memory goes back.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// encode appends the next frame's octets, up to the end of its last block, to t, which is empty.
func (l *Log) encode(t []byte, records [][]byte) []byte {
	t = append(t, make([]byte, headSize)...)
	own := ownSum(l.o.ID, l.seq+1)
	for _, r := range records {
		t = binary.BigEndian.AppendUint32(t, uint32(len(r)))
		t = binary.BigEndian.AppendUint32(t, sumRecord(own, t[len(t)-4:], r))
		t = append(t, r...)
	}
	length := len(t) - headSize
	head := append(t[:0], mark[:]...)
	head = append(head, l.o.ID[:]...)
	head = binary.BigEndian.AppendUint64(head, l.seq+1)
	head = binary.BigEndian.AppendUint64(head, l.released())
	head = binary.BigEndian.AppendUint32(head, uint32(length))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(t[headSize:], castagnoli))
	binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	return lay(t, l.seq+1)
}

// lay makes of a frame's octets the blocks that are written.
func lay(t []byte, seq uint64) []byte {
	end := len(t)
	n := (end + part - 1) / part
	t = append(t, make([]byte, n*block-end)...)
	for i := n - 1; i >= 0; i-- { // each goes back by the tags before it
		b := t[i*block : (i+1)*block]
		clear(b[copy(b[:part], t[i*part:min((i+1)*part, end)]):])
		tag := b[part:]
		binary.BigEndian.PutUint64(tag, seq)
		binary.BigEndian.PutUint32(tag[8:], uint32(i))
		binary.BigEndian.PutUint32(tag[12:], crc32.Checksum(tag[:12], castagnoli))
	}
	return t
}

// place finds n blocks for the next frame, and takes them.
func (l *Log) place(n int64) (from int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.live) == 0 {
		l.next = 0 // the fewest blocks in use: what lies in them is soon written over
	}
	for {
		from, ok := l.find(n)
		if ok {
			l.next = from + n
			l.live = append(l.live, extent{l.seq + 1, from})
			return from, nil
		}
		if err := l.grow(); err != nil {
			return 0, err
		}
	}
}

// find looks for n blocks in the file as it is.
func (l *Log) find(n int64) (from int64, ok bool) {
	if len(l.live) == 0 || l.next > l.live[0].from { // in use is one piece, or nothing
		if l.next+n <= l.blocks {
			return l.next, true
		}
		return 0, len(l.live) > 0 && n < l.live[0].from // not all of it: next would be where the oldest begins
	}
	return l.next, l.next+n < l.live[0].from
}

// grow makes the file longer, with octets that are on the disk: a frame must not need room that is gone by then.
func (l *Log) grow() error {
	if l.blocks*block >= MaxSize || len(l.live) > 0 && l.next <= l.live[0].from {
		return ErrNoRoom
	}
	was, size := l.blocks*block, min(MaxSize, max(firstSize, 2*l.blocks*block))
	if l.o.Roomy != nil && !l.o.Roomy(size-was) {
		return ErrNoRoom
	}
	err := l.extend(was, size)
	if err == nil && was == 0 {
		err = l.o.Made()
	}
	if err != nil {
		if l.file != nil {
			err = errors.Join(err, l.file.Truncate(was)) // others may need what room there is
		}
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	l.blocks = size / block
	return nil
}

func (l *Log) extend(was, size int64) error {
	if l.file == nil {
		f, err := os.OpenFile(l.o.Path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		l.file = f
	}
	if _, err := l.file.WriteAt(make([]byte, size-was), was); err != nil {
		return err
	}
	return l.file.Sync()
}

// Release says that the frames up to that number are not needed any more.
func (l *Log) Release(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.live) && l.live[n].seq <= seq {
		n++
	}
	l.live = append(l.live[:0], l.live[n:]...)
	l.done = max(l.done, seq)
}

func (l *Log) released() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// Shrink gives back the room behind the frames that are still needed: others need it more. The file grows again.
func (l *Log) Shrink() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.next
	switch {
	case len(l.live) == 0:
		end = 0
	case l.next <= l.live[0].from: // they lie at both ends
		return nil
	}
	if l.file == nil || end >= l.blocks {
		return nil
	}
	if err := l.file.Truncate(end * block); err != nil {
		return err
	}
	l.blocks = end
	return nil
}

// ID returns the log's.
func (l *Log) ID() ID { return l.o.ID }

// Close gives the file back. Append must have returned.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.file
	l.file, l.dead = nil, fmt.Errorf("%w: it is closed", ErrDead)
	if f == nil {
		return nil
	}
	return f.Close()
}
