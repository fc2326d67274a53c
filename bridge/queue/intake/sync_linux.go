package intake

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes what was written durable, and leaves out the times of the file: on a file system with a journal those
// alone cost a second write.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return os.NewSyscallError("fdatasync", err)
	}
}
