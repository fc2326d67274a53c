package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"postern/bridge/queue"
)

// Of the write-ahead log. https://www.sqlite.org/fileformat.html, section 4, read in November 2026.
const (
	logHeader   = 32
	frameHeader = 24
	frameSize   = frameHeader + pageSize
)

// frame is a page in the log, as it lies there.
type frame [frameSize]byte

func (f *frame) page() uint32   { return binary.BigEndian.Uint32(f[:]) }
func (f *frame) commit() uint32 { return binary.BigEndian.Uint32(f[4:]) } // pages of the store, in the last of a transaction; else 0
func (f *frame) salt() [8]byte  { return [8]byte(f[8:]) }
func (f *frame) sum() [2]uint32 { return sumAt(f[16:]) }
func (f *frame) text() []byte   { return f[frameHeader:] }

func sumAt(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// logKey is how the frames of a log are known: they have its salt, and each a sum of itself and all before it.
type logKey struct {
	order binary.ByteOrder
	salt  [8]byte
	sum   [2]uint32 // of what came before
}

func (k *logKey) fits(f *frame) bool {
	return f.salt() == k.salt && checksum(k.order, checksum(k.order, k.sum, f[:8]), f.text()) == f.sum()
}

// checksum is that of the log (section 4.2).
func checksum(order binary.ByteOrder, sum [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		sum[0] += order.Uint32(b) + sum[1]
		sum[1] += order.Uint32(b[4:]) + sum[0]
	}
	return sum
}

// readLog finds what the log has of whole transactions. SQLite takes what stands before the first frame that is not this
// log's, or not as it was written. The last transaction ends so where the machine stopped amid it, and nobody was told that it
// is kept. But where more than one ends from there on, one upon the other, the log is damaged; then all its frames count that
// are as they were written, for each has the sum of the one before it.
func (p *pages) readLog(size int64) {
	key, ok := p.logKey(size)
	if !ok {
		return
	}
	var f frame
	open := map[uint32]int64{} // of a transaction whose end has not been seen
	for at := int64(logHeader); at+frameSize <= size; at += frameSize {
		fits := p.whole(p.log, f[:], at) && key.fits(&f)
		if !fits && !p.broken {
			if p.commits(key, at, size) < 2 {
				return
			}
			p.broken = true
		}
		key.sum = f.sum()
		if !fits {
			continue
		}
		open[f.page()] = at + frameHeader
		if f.commit() != 0 {
			for n, at := range open {
				p.logged[n] = at
			}
			clear(open)
			p.count = f.commit()
		}
	}
}

// logKey reads the log's header. Where that is damaged two frames tell of which the second has the sum of the first.
func (p *pages) logKey(size int64) (key logKey, ok bool) {
	var h [logHeader]byte
	if size < logHeader+frameSize || !p.whole(p.log, h[:], 0) {
		return key, false
	}
	orders := map[uint32]binary.ByteOrder{0x377f0682: binary.LittleEndian, 0x377f0683: binary.BigEndian}
	key = logKey{order: orders[binary.BigEndian.Uint32(h[:])], salt: [8]byte(h[16:]), sum: sumAt(h[24:])}
	if key.order != nil && checksum(key.order, [2]uint32{}, h[:24]) == key.sum {
		return key, binary.BigEndian.Uint32(h[8:]) == pageSize
	}
	var one, next frame
	for at := int64(logHeader); at+2*frameSize <= size; at += frameSize {
		if !p.whole(p.log, one[:], at) || !p.whole(p.log, next[:], at+frameSize) {
			continue
		}
		for _, order := range orders {
			if k := (logKey{order, one.salt(), one.sum()}); k.fits(&next) && p.commits(k, at, size) > 0 {
				p.broken = true
				return logKey{order, k.salt, key.sum}, true
			}
		}
	}
	return key, false
}

// commits returns how many transactions end, one upon the other, from there on: each frame has the sum of the one before it.
// What was torn, or left by commits that failed, has one end at most before another begins that was written over it.
func (p *pages) commits(key logKey, from, size int64) (most int) {
	var f frame
	n := 0
	for at := from; at+frameSize <= size; at += frameSize {
		if !p.whole(p.log, f[:], at) || !key.fits(&f) {
			n = 0
		}
		if f.salt() == key.salt && f.commit() != 0 {
			n++
		}
		most = max(most, n)
		key.sum = f.sum()
	}
	return most
}

// checkLog finds damage of the log before SQLite leaves out what is behind it, and writes over that. The log is synced
// before: who was killed between a commit's write and its sync left it to the system's memory, and were another put behind
// it, a power cut could take the one and leave the other, as damage does.
func checkLog(path string) error {
	f, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return err
	}
	p, err := openPages(path)
	if err != nil {
		return err
	}
	defer p.close()
	if p.broken {
		return fmt.Errorf("%w: its log is, and more was committed behind that place", queue.ErrDamaged)
	}
	return nil
}

// errBroken is why a message of a store with a damaged log is held.
var errBroken = errors.New("what was noted of it last may be lost, also that it was relayed")
