package intake

import "os"

// Exchange has the log write into another file from now on, and returns the one that it had.
func (l *Log) Exchange(f *os.File) *os.File {
	f, l.file = l.file, f
	return f
}
