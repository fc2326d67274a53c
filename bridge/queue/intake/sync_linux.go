package intake

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written durable, and leaves out the times of the file: on a file system with a journal those
// alone cost a second write.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return os.NewSyscallError("fdatasync", err)
	}
}
