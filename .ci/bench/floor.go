package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// floor is how long this disk takes for the least that keeps a message: one write of its size into a file that has the
// room already, and one fsync. Nobody who syncs before the 250 gives one sender more than one of it at a time.
func floor(dir string) (each time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const writes = 400
	message := bytes.Repeat([]byte{'x'}, messageSize)
	for range writes {
		if _, err := f.Write(message); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var all []time.Duration
	for i := range writes {
		start := time.Now()
		if _, err := f.WriteAt(message, int64(i)*messageSize); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(start))
	}
	return slices.Sorted(slices.Values(all))[writes/2], nil
}
