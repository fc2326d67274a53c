//go:build amd64 || arm64

package intake_test

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"postern/bridge/queue/intake"
)

// onBadDisk calls f where no block that begins at one of these octets of a file can be read: the kernel answers with an I/O
// error, as it does for a sector that the disk gave up.
func onBadDisk(t *testing.T, f func(), at ...int) {
	t.Helper()
	rules := []unix.SockFilter{load(number), skipUnless(unix.SYS_PREAD64, uint8(1+2*len(at))), load(offset)}
	for _, octet := range at {
		rules = append(rules, skipUnless(uint32(octet), 1), answer(unix.SECCOMP_RET_ERRNO|uint32(syscall.EIO)))
	}
	underRules(t, f, append(rules, answer(unix.SECCOMP_RET_ALLOW)))
}

// The octets of struct seccomp_data that the rules look at.
const number, offset = 0, 16 + 3*8 // of the call, and of the low half of its fourth argument

func load(from uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: from}
}

func answer(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

func skipUnless(k uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
}

// underRules calls f on a thread whose calls the kernel answers by these rules.
func underRules(t *testing.T, f func(), rules []unix.SockFilter) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine: nobody else runs on it
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			program := unix.SockFprog{Len: uint16(len(rules)), Filter: &rules[0]}
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
			runtime.KeepAlive(rules)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the kernel takes no filter: %v", err)
		}
		t.Skipf("the kernel takes no filter: %v", err)
	}
}

// TestBadBlocks: what the disk cannot read costs its block, and no other.
func TestBadBlocks(t *testing.T) {
	three := [][]byte{[]byte("one"), bytes.Repeat([]byte("2"), 2*block), []byte("three")} // as frame 2, in the blocks 1 to 3
	for _, tc := range []struct {
		name   string
		bad    []int    // blocks
		want   []uint64 // frames
		second []int    // which records of frame 2
	}{
		{"a block of nothing", []int{63}, []uint64{1, 2, 3}, []int{0, 1, 2}},
		{"the block of a frame", []int{0}, []uint64{2, 3}, []int{0, 1, 2}},
		{"the block of the last frame", []int{4}, []uint64{1, 2}, []int{0, 1, 2}},
		{"the block where a frame of some begins", []int{1}, []uint64{1, 3}, nil},
		{"one in the middle of it", []int{2}, []uint64{1, 2, 3}, []int{0, 2}},
		{"the one where it ends", []int{3}, []uint64{1, 2, 3}, []int{0}},
		{"several", []int{0, 3, 40, 41}, []uint64{2, 3}, []int{0}},
		{"all that are in use", []int{0, 1, 2, 3, 4}, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 0)
			mustAppend(t, l, 1, []byte("one"))
			mustAppend(t, l, 2, three...)
			mustAppend(t, l, 3, []byte("three"))
			var at []int
			for _, n := range tc.bad {
				at = append(at, n*block)
			}
			var frames []intake.Frame
			var bad, err error
			onBadDisk(t, func() { frames, bad, err = intake.Read(path, logID) }, at...)
			if err != nil || !errors.Is(bad, syscall.EIO) || strings.Count(bad.Error(), syscall.EIO.Error()) != len(at) {
				t.Errorf("Read = %v, %v; want an I/O error for each of %d blocks", bad, err, len(at))
			}
			if !slices.Equal(seqs(frames), tc.want) {
				t.Errorf("frames %d were read; want %d", seqs(frames), tc.want)
			}
			for _, f := range frames {
				want := map[uint64][]int{1: {0}, 2: tc.second, 3: {2}}[f.Seq]
				var records [][]byte
				for _, n := range want {
					records = append(records, three[n])
				}
				if f.Whole != (f.Seq != 2 || len(want) == len(three)) || !sameRecords(f.Records, records) {
					t.Errorf("frame %d, whole: %t, has %d records; want those of %d", f.Seq, f.Whole, len(f.Records), want)
				}
			}
			mustRead(t, path) // the disk is as good as before
		})
	}
}

// TestRefusedIsNotKept: what the disk takes and does not sync is refused, and comes again. It must not come back from the file
// of a process that dies then, beside what was kept.
func TestRefusedIsNotKept(t *testing.T) {
	for _, tc := range []struct {
		name    string
		records [][]byte
	}{
		{"a frame of a block", [][]byte{[]byte("two")}},
		{"a frame of several", [][]byte{filling(3, 'x'), []byte("more")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, path := newLog(t, 0)
			mustAppend(t, l, 1, []byte("one"))
			underRules(t, func() {
				if seq, err := l.Append(tc.records); seq != 2 || !errors.Is(err, intake.ErrDead) || !errors.Is(err, syscall.EIO) {
					t.Errorf("Append = %d, %v; want 2, %v", seq, err, intake.ErrDead)
				}
			}, []unix.SockFilter{load(number), skipUnless(unix.SYS_FDATASYNC, 1), answer(unix.SECCOMP_RET_ERRNO | uint32(syscall.EIO)),
				answer(unix.SECCOMP_RET_ALLOW)})
			if frames := mustRead(t, path); !slices.Equal(seqs(frames), []uint64{1}) || !frames[0].Whole {
				t.Errorf("frames %d were read; want 1 alone", seqs(frames))
			}
		})
	}
}
