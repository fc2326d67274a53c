package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestCopyWhole: whatever a copy is cut off at, by a failure or because the program dies, what lies there is no archive.
func TestCopyWhole(t *testing.T) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, name := range []string{"queue.db", "vault"} {
		body := bytes.Repeat([]byte(name), 300)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(body))}), second(w.Write(body))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := archive.Bytes()
	for _, piece := range []int{1, 100, 512, 513, len(whole)} {
		path := filepath.Join(t.TempDir(), "copy.tar")
		f, err := newFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		err = copyWhole(f, func(to io.Writer) error {
			for rest := whole; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				if n, err := to.Write(rest[:min(piece, len(rest))]); err != nil || n != min(piece, len(rest)) {
					t.Fatalf("Write = %d, %v", n, err)
				}
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tar.NewReader(bytes.NewReader(b)).Next(); err == nil || err == io.EOF {
					t.Fatalf("in pieces of %d, with %d octets to come, it reads as an archive: %v", piece, len(rest), err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, whole) {
			t.Errorf("in pieces of %d: %d octets of %d, %v", piece, len(b), len(whole), err)
		}
	}
}

func second(_ int, err error) error { return err }
