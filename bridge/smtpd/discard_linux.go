package smtpd

import (
	"os"
	"reflect"
	"syscall"
)

// discard gives the pages that lie wholly within b back to the system; they read as zero after that. Where it cannot, as with
// locked memory, b stays as it is.
func discard(b []byte) {
	page := os.Getpagesize()
	skip := -int(reflect.ValueOf(b).Pointer()) & (page - 1) // to the first page that begins within b
	if whole := (len(b) - skip) &^ (page - 1); whole > 0 {
		syscall.Madvise(b[skip:skip+whole], syscall.MADV_DONTNEED)
	}
}
